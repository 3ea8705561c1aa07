"""Imports point one way: cli -> daemon -> net | engine | store -> wire -> core -> errors.

Every import statement counts, those inside functions and under TYPE_CHECKING too: whoever names
another layer's type depends on it. The three folders in the middle never import each other.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "llorch"
FILES = sorted(ROOT.rglob("*.py"))
BELOW = {"errors", "self_path"}  # below everything, as llorch/__init__.py (the version) is
LAYERS = {
    "core": set(),
    "wire": {"core"},
    "net": {"core", "wire"},
    "engine": {"core", "wire"},
    "store": {"core", "wire"},
    "daemon": {"core", "wire", "net", "engine", "store"},
    "cli": {"core", "wire", "net", "engine", "store", "daemon"},
}
PACKAGES = {
    "net": {"h11", "httpx", "paramiko", "prometheus_client"},
    "engine": {"xllamacpp", "ctransformers"},
    "store": {"huggingface_hub", "platformdirs", "tomli"},
    "cli": {"typer", "rich"},
}
IMPURE = {
    "asyncio", "concurrent", "datetime", "logging", "multiprocessing", "os", "pathlib", "platform",
    "random", "secrets", "select", "shutil", "signal", "socket", "ssl", "subprocess", "sys",
    "tempfile", "threading", "time", "urllib.request", "uuid",
}  # fmt: skip
FOLDERS = {*LAYERS, "web"}
SHAPELESS_NAMES = {"utils", "util", "common", "helpers", "helper", "misc", "shared"}
SHAPELESS_ENDINGS = ("Manager", "Helper", "Util", "Utils", "Service", "Handler")


def place(path: Path) -> str:
    """Name of a file in failures."""
    return str(path.relative_to(ROOT.parent))


def layer(path: Path) -> str:
    """The folder under llorch, or the file's own stem at the top."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that a file imports, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{place(path)}:{node.lineno} has a relative import"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def broken(path: Path, allowed) -> list[str]:
    return [
        f"{place(path)}:{line} imports {name}" for line, name in imports(path) if not allowed(name)
    ]


def test_an_import_is_seen_wherever_it_stands(tmp_path):
    file = tmp_path / "any.py"
    file.write_text(
        "import a.b\nif TYPE_CHECKING:\n    from c import d\ndef f():\n    from e.f import g, h\n"
    )
    assert list(imports(file)) == [(1, "a.b"), (3, "c.d"), (5, "e.f.g"), (5, "e.f.h")]


def test_there_is_a_layer_for_every_folder():
    folders = {p.name for p in ROOT.iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert folders <= FOLDERS
    assert {p.stem for p in ROOT.glob("*.py")} == {"__init__", "__main__", *BELOW}


@pytest.mark.parametrize("path", FILES, ids=place)
def test_imports_point_down(path):
    own = layer(path)

    def allowed(name: str) -> bool:
        head, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        if head != "llorch" or own == "__main__" or target in {"", "__version__"}:
            return True
        if own in BELOW:
            return False
        return target in {own, *BELOW, *LAYERS[own]}

    assert broken(path, allowed) == []


@pytest.mark.parametrize("path", FILES, ids=place)
def test_each_layer_uses_only_its_own_third_party_packages(path):
    known = {"llorch", *sys.stdlib_module_names, *PACKAGES.get(layer(path), ())}
    known.add("tomllib")  # standard since 3.11; where it is missing, its user falls back to tomli
    assert broken(path, lambda name: name.partition(".")[0] in known) == []


@pytest.mark.parametrize("path", [p for p in FILES if layer(p) == "core"], ids=place)
def test_the_core_has_no_clock_no_chance_and_no_world(path):
    def pure(name: str) -> bool:
        return not any(name == taboo or name.startswith(f"{taboo}.") for taboo in IMPURE)

    assert broken(path, pure) == []
    calls = [n for n in ast.walk(ast.parse(path.read_bytes())) if isinstance(n, ast.Call)]
    named = {call.func.id for call in calls if isinstance(call.func, ast.Name)}
    assert named.isdisjoint({"open", "print", "input", "exec", "eval", "__import__"})


@pytest.mark.parametrize("path", FILES, ids=place)
def test_no_name_says_nothing(path):
    parts = {part.removesuffix(".py") for part in path.relative_to(ROOT).parts}
    assert parts.isdisjoint(SHAPELESS_NAMES)
    tree = ast.parse(path.read_bytes())
    names = [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert [name for name in names if name.endswith(SHAPELESS_ENDINGS)] == []


def test_every_folder_of_code_is_a_package():
    folders = {path.parent for path in FILES}
    assert [place(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []
