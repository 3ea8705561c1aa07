"""One and the same file on every supported Python of this machine."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.e2e.home import Home

SUPPORTED = ("3.10", "3.11", "3.12", "3.13")


def interpreters() -> list[str]:
    """This Python first, then the others that are installed here, each once.

    Links are followed, so an environment and the Python it was made of are one, and a name on PATH
    that is only a script which chooses a Python is none.
    """
    found = [Path(sys.executable)]
    found += sorted(Path.home().glob(".pyenv/versions/*/bin/python3.1?"))
    named = [shutil.which(f"python{version}") for version in SUPPORTED]
    found += [Path(name) for name in (*named, "/usr/bin/python3") if name and Path(name).exists()]
    real = dict.fromkeys(path.resolve() for path in found)
    return [str(path) for path in real if _is_supported(path)]


def _is_supported(python: Path) -> bool:
    with python.open("rb") as program:
        is_script = program.read(2) == b"#!"
    return not is_script and python.name.removeprefix("python") in SUPPORTED


@pytest.mark.parametrize("python", interpreters())
def test_the_file_does_its_work_on(python: str, home: Home) -> None:
    home.command[0] = python
    assert re.fullmatch(r"llorch \d+\.\d+\.\d+\S*\n", home.ok("--version"))
    assert "serve-orchestrator" in home.ok("--help")
    echo = home.ok("infer", "--engine", "echo", "--prompt", "one two ", "--max-tokens", "4")
    assert echo.strip()
    asked = ("infer", "--prompt", "The capital of France is", "--temperature", "0")
    done = home.run(*asked, variables={"PYTHONWARNINGS": "default"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(" Paris")
    assert "Warning" not in done.stderr
    home.is_still()


def test_this_python_is_among_them() -> None:
    assert str(Path(sys.executable).resolve()) in interpreters()
