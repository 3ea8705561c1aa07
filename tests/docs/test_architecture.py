"""The house, the life of a task and the dependencies are as ARCHITECTURE.md says."""

from __future__ import annotations

import ast
import re
import sys

from llorch.core.task import TRANSITIONS
from tests.docs.pages import (
    ARCHITECTURE,
    ROOT,
    coded,
    rows,
    section,
)


def test_the_life_of_a_task_is_the_table_of_transitions():
    table = {
        (coded(row[0])[0], coded(row[1])[0]): coded(row[2])[0]
        for row in rows(section(ARCHITECTURE, "The life of a task"))
    }
    assert table == {(s.value, f.value): to.value for (s, f), to in TRANSITIONS.items()}


def test_every_folder_of_the_house_is_told():
    told = {c for row in rows(section(ARCHITECTURE, "The house")) for c in coded(row[0])}
    here = {f"llorch/{p.parent.name}" for p in (ROOT / "llorch").glob("*/__init__.py")}
    assert {name for name in told if name.startswith("llorch/")} == here


def imported() -> dict[str, set[str]]:
    """Third-party packages that the code imports, and the folders that do."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "llorch").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                top = name.partition(".")[0]
                if top not in {"llorch", "tomllib"} and top not in sys.stdlib_module_names:
                    folder = path.relative_to(ROOT / "llorch").parts[0]
                    found.setdefault(top.replace("_", "-"), set()).add(folder)
    return found


def required(file: str) -> set[str]:
    lines = (ROOT / "packaging" / file).read_text().splitlines()
    names = (re.match(r"[\w-]+", line) for line in lines if not line.startswith(("#", "-r")))
    return {name[0].replace("_", "-") for name in names if name}


def test_every_package_is_listed_with_its_folder_and_a_reason():
    table = {
        row[0].replace("_", "-"): row[1]
        for row in rows(section(ARCHITECTURE, "Dependencies"))
        if len(row) == 3 and row[2]
    }
    assert set(table) == required("requirements.in")
    assert {name: ", ".join(sorted(folders)) for name, folders in imported().items()} == {
        name: folder for name, folder in table.items() if folder != "nowhere yet"
    }


def test_every_package_for_development_is_listed_with_a_reason():
    text = section(ARCHITECTURE, "Dependencies").partition("For development only")[2]
    told = {name for row in rows(text) if row[1] for name in row[0].split(", ")}
    assert told == required("requirements-dev.in")
