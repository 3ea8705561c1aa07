"""The built file, homes with and without the model, and daemons that tests share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.daemon import Daemon
from tests.e2e.home import Home

ROOT = Path(__file__).resolve().parents[2]
PYZ = ROOT / "dist" / "llorch.pyz"
SOURCES = ("llorch.py", "llorch/**/*", "packaging/*.py", "packaging/boot/*.py", "packaging/locks/*")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


def _newest_source() -> Path:
    found = [path for pattern in SOURCES for path in ROOT.glob(pattern)]
    files = [p for p in found if p.is_file() and "__pycache__" not in p.parts]
    return max(files, key=lambda path: path.stat().st_mtime)


@pytest.fixture(scope="session")
def pyz() -> Path:
    """The built file, of these very sources."""
    if not PYZ.exists():
        pytest.fail("dist/llorch.pyz is not there: run ./build_pyz.sh")
    newest = _newest_source()
    if newest.stat().st_mtime > PYZ.stat().st_mtime:
        pytest.fail(f"dist/llorch.pyz is older than {newest.name}: run ./build_pyz.sh")
    return PYZ


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the built file unpacks itself: once for all tests, but for those of unpacking."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def empty_home(tmp_path: Path, pyz: Path, cache: Path) -> Iterator[Home]:
    """A machine without any model. Whatever a test leaves running there fails it."""
    home = Home(tmp_path, pyz, cache)
    yield home
    left = home.end_all()
    assert not left, f"left running: {left}"


@pytest.fixture
def home(empty_home: Home, real_model: Path) -> Home:
    """A machine on which the default model has been downloaded."""
    empty_home.give(real_model)
    return empty_home


@dataclass
class Fleet:
    """An orchestrator and a worker of four slots with 8,192 tokens each, which tests share: each
    leaves both idle."""

    home: Home
    orchestrator: Daemon
    worker: Daemon


@pytest.fixture(scope="session")
def fleet(
    tmp_path_factory: pytest.TempPathFactory, pyz: Path, cache: Path, real_model: Path
) -> Iterator[Fleet]:
    home = Home(tmp_path_factory.mktemp("fleet"), pyz, cache, real_model)
    sizes = ("--slots", "4", "--ctx", "8192")
    with (
        home.daemon("serve-orchestrator") as orchestrator,
        home.daemon(
            *("serve-worker", "--backend", "cpu", "--model", "smollm2-135m", *sizes),
            *("--orchestrator", orchestrator.url),
        ) as worker,
    ):
        worker.says("registered")
        yield Fleet(home, orchestrator, worker)
    home.end_all()
