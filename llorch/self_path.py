"""How to start this very program again, whatever it was started as.

Children (background workers, the same command on this machine with other arguments) are ordinary
processes of the same file: nothing is found by searching PATH, so an old copy elsewhere is never
started by mistake. Standard library only: the daemons' start-up reads it.
"""

import sys
from pathlib import Path


def pyz_path() -> Path | None:
    """Return the absolute path of the llorch.pyz that this process runs from, or None.

    The boot code of the pyz made the path absolute before anything could change the current
    folder, and keeps it in its own module.
    """
    boot = sys.modules.get("llorch_boot")
    path: str | None = getattr(boot, "PYZ", None)
    return Path(path) if path else None


def own_command() -> list[str]:
    """Return the argv prefix that starts this program again: append the llorch arguments to it.

    1. from llorch.pyz: `[python, /abs/llorch.pyz]`
    2. from a checkout: `[python, /abs/llorch.py]`
    3. installed as a package: `[python, -m, llorch]`

    All paths are absolute, so the current folder may have changed since the start.
    """
    pyz = pyz_path()
    if pyz is not None:
        return [sys.executable, str(pyz)]
    script = Path(__file__).resolve().parent.parent / "llorch.py"
    if script.is_file():
        return [sys.executable, str(script)]
    return [sys.executable, "-m", "llorch"]
