"""Import everything that a release carries, from an unpacked release folder, and say what failed.

`python check_imports.py RELEASE`: run with the Python and on the system that the release is for.
It needs nothing but the standard library, and runs under an emulator as it does on a real machine.
"""

import importlib
import importlib.metadata
import sys
from pathlib import Path

MODULES = (
    "typer",
    "rich.console",
    "httpx",
    "h11",
    "paramiko",
    "nacl.signing",
    "bcrypt",
    "cryptography.hazmat.bindings._rust",
    "_cffi_backend",
    "yaml._yaml",
    "huggingface_hub",
    "hf_xet",
    "ctransformers",
    "platformdirs",
    "prometheus_client",
    "xllamacpp",
)


def failure(module: str) -> str | None:
    """Return what importing `module` raised, or None. Any exception at all is a finding."""
    try:
        importlib.import_module(module)
    except Exception as error:
        return f"{module}: {type(error).__name__}: {error}"
    return None


def ctransformers_library(release: Path) -> str | None:
    """Load the library that the ctransformers engine would load; return what went wrong."""
    libraries = sorted((release / "ctransformers" / "lib").glob("basic/*"))
    if not libraries:
        print("ctransformers has no library for this system, as published")
        return None
    llm = importlib.import_module("ctransformers.llm")
    try:
        llm.load_library(str(libraries[0]))
    except OSError as error:
        return f"{libraries[0].name}: {error}"
    return None


def main(release: Path) -> int:
    """Import all of MODULES from `release`; return 1 when one failed."""
    host = [p for p in sys.path if "site-packages" not in p and "dist-packages" not in p]
    sys.path[:] = [str(release), *host]
    failures = [text for text in map(failure, MODULES) if text]
    failures += filter(None, [ctransformers_library(release)])
    names = {dist.metadata["Name"] for dist in importlib.metadata.distributions()}
    print(
        f"Python {sys.version.split()[0]}: {len(MODULES) - len(failures)} of {len(MODULES)} ",
        end="",
    )
    print(f"imports, {len(names)} packages with metadata")
    for text in failures:
        print(f"FAILED {text}")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]).resolve()))
