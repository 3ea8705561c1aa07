from __future__ import annotations

import stat
import sys
from typing import TYPE_CHECKING

import pytest

from llorch.errors import StoreFailed
from llorch.store import paths
from tests.store.processes import ROOT, finish, start

if TYPE_CHECKING:
    from pathlib import Path


def test_llorch_home_moves_every_folder(home: Path) -> None:
    places = (paths.data_dir(), paths.state_dir(), paths.cache_dir(), paths.config_dir())
    assert places == (home / "data", home / "state", home / "cache", home / "config")


def test_the_environment_counts_at_each_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = paths.data_dir()
    monkeypatch.setenv("LLORCH_HOME", str(tmp_path / "elsewhere"))
    assert paths.data_dir() == tmp_path / "elsewhere/data" != before


def test_without_llorch_home_the_platform_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLORCH_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    inside_user = tmp_path / "user"
    expected = tmp_path / "xdg/llorch" if sys.platform == "linux" else inside_user
    assert paths.data_dir() == expected or inside_user in paths.data_dir().parents


def test_importing_makes_and_asks_for_nothing(home: Path) -> None:
    modules = [f"llorch.store.{path.stem}" for path in (ROOT / "llorch/store").glob("[a-z]*.py")]
    finish(start("import importlib\nfor m in sys.argv[1:]: importlib.import_module(m)", *modules))
    assert not home.exists()


def test_state_is_private_to_its_user() -> None:
    assert stat.S_IMODE(paths.state_dir().stat().st_mode) == 0o700
    assert stat.S_IMODE(paths.logs_dir().stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LLORCH_HOME", str(tmp_path / "file"))
    with pytest.raises(StoreFailed, match="file/data") as caught:
        paths.data_dir()
    assert "LLORCH_HOME" in caught.value.hint
