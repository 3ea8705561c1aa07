from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.store.hub import Hub
from tests.store.web import Web

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything that llorch or the hub's library keeps goes below tmp_path."""
    for name in list(os.environ):
        if name.startswith(("LLORCH_", "HF_", "HUGGING", "XDG_", "TRANSFORMERS_")):
            monkeypatch.delenv(name)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LLORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setattr("llorch.store.transfer.PAUSE_SECONDS", 0.01)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def web() -> Iterator[Web]:
    server = Web()
    yield server
    server.close()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    yield server
    server.close()
