"""Where llorch keeps its things: the platform's own folders, or all of them below LLORCH_HOME.

    data    catalog and models            state   worker records, logs (private to the user)
    cache   what can be made again        config  llorch.toml

Nothing is computed at import time, so a changed environment counts at the next call. A folder is
made when it is first asked for.
"""

from __future__ import annotations

import os
from pathlib import Path

from llorch.errors import StoreFailed

_APP = "llorch"


def data_dir() -> Path:
    """Folder of the catalog and the models. Raises StoreFailed where it cannot be made."""
    return _folder("data", 0o755)


def state_dir() -> Path:
    """Folder of worker records and logs, mode 0700. Raises StoreFailed."""
    return _folder("state", 0o700)


def cache_dir() -> Path:
    """Folder of what can be made again at any time. Raises StoreFailed."""
    return _folder("cache", 0o755)


def config_dir() -> Path:
    """Folder of `llorch.toml`; it is only read, so it is not made."""
    return _place("config")


def models_dir() -> Path:
    """Folder of the model files that llorch itself keeps, one folder per id. Raises StoreFailed."""
    return _made(data_dir() / "models", 0o755)


def logs_dir() -> Path:
    """Folder of the logs of background workers, mode 0700. Raises StoreFailed."""
    return _made(state_dir() / "logs", 0o700)


def _folder(kind: str, mode: int) -> Path:
    return _made(_place(kind), mode)


def _place(kind: str) -> Path:
    home = os.environ.get("LLORCH_HOME")
    if home:
        return Path(home).expanduser().absolute() / kind
    import platformdirs

    place = {
        "data": platformdirs.user_data_path,
        "state": platformdirs.user_state_path,
        "cache": platformdirs.user_cache_path,
        "config": platformdirs.user_config_path,
    }[kind]
    return place(_APP, appauthor=False)


def _made(folder: Path, mode: int) -> Path:
    if folder.is_dir():
        return folder
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreFailed(
            f"cannot make the folder {folder}: {error.strerror}",
            hint="make it writable, or set LLORCH_HOME to a folder that is",
        ) from error
    return folder
