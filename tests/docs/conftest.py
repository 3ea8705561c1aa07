"""The pages are held against a CLI without the settings of whoever runs the tests."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith("LLORCH_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LLORCH_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
