"""Get the locked wheels, from the build cache or with pip, and never any other bytes.

The cache keeps each wheel under its SHA-256, so a second build asks no index at all and works
without a network. pip reads its own configuration (a mirror, a certificate): the hashes in the
lock make sure that it cannot change what is built.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from targets import Pin, Target, pip_arguments


class BuildFailed(Exception):
    """The build cannot go on; `hint` says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        """Take one line each, without a full stop."""
        super().__init__(message)
        self.hint = hint


def cache_folder() -> Path:
    """Return the folder that builds keep downloads in."""
    override = os.environ.get("LLORCH_BUILD_CACHE")
    if override:
        return Path(override).absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "llorch-build"


def progress(line: str) -> None:
    """Say on stderr what the build does."""
    print(line, file=sys.stderr, flush=True)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def wheels_for(target: Target, pins: Sequence[Pin], cache: Path) -> list[Path]:
    """Return the wheel of every pin, checked against its hash.

    Raises:
        BuildFailed: pip could not get one, or got another one.
    """
    missing = [pin for pin in pins if _cached(pin, cache) is None]
    if missing:
        progress(f"{target.name}: downloading {len(missing)} wheels")
        download(target, missing, cache)
    found = [_cached(pin, cache) for pin in pins]
    lost = [pin.name for pin, path in zip(pins, found, strict=True) if path is None]
    if lost:
        raise BuildFailed(
            f"{target.name}: no wheel of {', '.join(lost)}", "relock: CONTRIBUTING.md"
        )
    return [path for path in found if path is not None]


def download(target: Target, pins: Iterable[Pin], cache: Path) -> list[Path]:
    """Fetch `pins` for `target` with pip into the cache and return where they lie now."""
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text("".join(pin.line() + "\n" for pin in pins))
        run_pip(
            [
                "download",
                "-qq",
                "--require-hashes",
                "--no-deps",
                "--only-binary",
                ":all:",
                *pip_arguments(target),
                "--dest",
                folder,
                "--requirement",
                str(requirements),
            ]
        )
        return [_keep(wheel, cache) for wheel in sorted(Path(folder).glob("*.whl"))]


def run_pip(arguments: list[str]) -> None:
    """Run this Python's pip; raise BuildFailed, after pip's own words, when it fails."""
    command = [sys.executable, "-m", "pip", *arguments]
    done = subprocess.run(command, stdout=sys.stderr, check=False)
    if done.returncode != 0:
        raise BuildFailed(
            f"{sys.executable} -m pip {arguments[0]} failed",
            "read pip's message above; a Python without pip needs python3-pip, or set PYTHON",
        )


def _cached(pin: Pin, cache: Path) -> Path | None:
    """Return the wheel of `pin`; a file that has rotted in the cache is removed."""
    for path in (cache / "wheels" / pin.sha256).glob("*.whl"):
        if sha256_of(path) == pin.sha256:
            return path
        path.unlink()
    return None


def _keep(wheel: Path, cache: Path) -> Path:
    home = cache / "wheels" / sha256_of(wheel)
    home.mkdir(parents=True, exist_ok=True)
    return Path(shutil.move(wheel, home / wheel.name))
