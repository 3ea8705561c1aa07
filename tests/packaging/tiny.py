"""A llorch.pyz that is small enough to be built and unpacked hundreds of times.

Everything of it is real (boot code, manifest, entry point) but the wheels, which hold a package
`tinydep`, and the commands, which are three lines that the tests need.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import archive
import llorch_boot

ROOT = Path(__file__).resolve().parents[2]

CLI = """
import json, sys

def main():
    import tinydep
    from llorch.self_path import own_command, pyz_path
    if sys.argv[1:] == ["hold"]:
        print("ready", flush=True)
        sys.stdin.read()
    if sys.argv[1:] == ["facts"]:
        print(json.dumps({
            "path": sys.path, "argv": sys.argv, "tinydep": tinydep.__file__,
            "own_command": own_command(), "pyz": str(pyz_path()),
            "host_modules": [m for m in sys.modules if m.startswith("hostmodule")],
        }))
    return int(sys.argv[2]) if sys.argv[1:2] == ["exit"] else 0
"""


def make_app(folder: Path, version: str = "0.1.0") -> Path:
    """Make a checkout in `folder` with the real entry point and a command line of three lines."""
    package = folder / "llorch"
    (package / "cli").mkdir(parents=True)
    for name in ("__main__.py", "self_path.py"):
        shutil.copy(ROOT / "llorch" / name, package / name)
    (package / "__init__.py").write_text(f'"""Tiny."""\n\n__version__ = "{version}"\n')
    (package / "cli" / "__init__.py").write_text(CLI)
    return folder


def tiny_wheel(name: str = "tinydep", files: int = 1, size: int = 10) -> archive.Part:
    """Return a wheel with a package `name` of `files` modules of about `size` bytes each."""
    info = f"{name}-1.0.dist-info"
    entries = [(f"{name}/m{i}.py", b"#" * size + b"\n") for i in range(files)]
    entries += [
        (f"{name}/__init__.py", b'"""From the pyz."""\n'),
        (f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode()),
        (f"{info}/RECORD", b""),
    ]
    return archive.Part(f"{name}-1.0-py3-none-any.whl", archive.zip_bytes(entries), "0" * 64)


def tiny_pyz(
    folder: Path,
    wheels: Iterable[archive.Part] = (),
    version: str = "0.1.0",
    target: str | None = None,
) -> Path:
    """Build a file in `folder` for this very Python, or for `target`, and return its path."""
    app = make_app(folder / f"app-{version}", version)
    parts = [archive.app_wheel(app, version), *(list(wheels) or [tiny_wheel()])]
    output = folder / f"llorch-{version}.pyz"
    archive.write_pyz(output, version, {target or llorch_boot.target(): parts})
    return output


def environment(cache: Path, **extra: str) -> dict[str, str]:
    """Return an environment whose only cache is `cache`."""
    return {**os.environ, "LLORCH_CACHE": str(cache), **extra}


def run(
    pyz: Path, *arguments: str, cache: Path, python: str = sys.executable, **extra: str
) -> subprocess.CompletedProcess[str]:
    """Run the file to its end and return what it printed and how it ended."""
    return subprocess.run(
        [python, str(pyz), *arguments],
        env=environment(cache, **extra),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def releases(cache: Path) -> list[str]:
    """Return the names of all folders among the unpacked releases."""
    folder = cache / "pyz"
    return sorted(os.listdir(folder)) if folder.exists() else []
