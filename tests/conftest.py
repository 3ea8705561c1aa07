"""Fixtures that tests of more than one folder use."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 400 kB that llama.cpp really loads, and whose answers are known (tiny_model)."""
    from tests.engine.tiny_model import write_tiny_model

    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny-story.gguf")


@pytest.fixture(scope="session")
def engine_command() -> list[str]:
    """How an engine starts its process in tests: `engine-process` is added to it."""
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from llorch.engine.process import main\nsys.exit(main())"
    )
    return [sys.executable, "-c", program]


@pytest.fixture(scope="session")
def real_model() -> Path:
    """SmolLM2-135M-Instruct Q4_1, the default model.

    LLORCH_TEST_MODEL may name the file. Otherwise llorch's own downloader fetches it, once, into
    this user's cache folder; a file there that is damaged is fetched again.
    """
    named = os.environ.get("LLORCH_TEST_MODEL")
    if named:
        return Path(named).resolve(strict=True)
    import platformdirs

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLORCH_HOME", str(platformdirs.user_cache_path("llorch-tests")))
        return _whole_default_model()


def _whole_default_model() -> Path:
    from llorch.store import catalog, models
    from llorch.store.progress import Quiet

    wanted = models.resolve(catalog.DEFAULT_MODEL)
    if models.verify(wanted.entry, Quiet()).verdict is models.Verdict.DAMAGED:
        models.remove(catalog.DEFAULT_MODEL)
    return models.fetch(wanted, Quiet())
