from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from llorch.errors import ChecksumMismatch, DownloadFailed, NoSpace
from llorch.store import space, transfer
from llorch.store.part_file import Wanted
from tests.store.recorder import Cancelled, Recorder
from tests.store.web import Fault, Web, sha256

if TYPE_CHECKING:
    from pathlib import Path

DATA = os.urandom(3_000_000)


def fetch(url: str, target: Path, progress: Recorder | None = None, **known: Any) -> str:
    wanted = Wanted("the file", **known)
    return transfer.fetch(lambda: transfer.Address(url), target, wanted, progress or Recorder())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "models" / "x.gguf"


def test_a_file_arrives_whole_with_progress_to_the_last_byte(web: Web, target: Path) -> None:
    progress = Recorder()
    assert fetch(web.serve("/x", DATA), target, progress) == sha256(DATA)
    assert target.read_bytes() == DATA
    assert names(target.parent) == ["x.gguf"]
    assert progress.stretches == [("the file", len(DATA))]
    assert progress.done == len(DATA)
    assert len(progress.moves) > 3


def test_a_broken_connection_is_taken_up_again_in_the_same_run(web: Web, target: Path) -> None:
    url = web.serve("/x", DATA, etag='"v1"')
    web.faults["/x"] = [Fault(cut_after=1_000_000), Fault(cut_after=500_000)]
    progress = Recorder()
    fetch(url, target, progress)
    assert target.read_bytes() == DATA
    assert [request.headers.get("range") for request in web.gets("/x")] == [
        None,
        "bytes=1000000-",
        "bytes=1500000-",
    ]
    assert web.gets("/x")[1].headers["if-range"] == '"v1"'
    assert len(progress.notes) == 2
    assert progress.done == len(DATA)


def test_a_later_run_goes_on_where_the_earlier_one_was_cancelled(web: Web, target: Path) -> None:
    url = web.serve("/x", DATA, etag='"v1"')

    def cancel(done: int) -> None:
        if done > 1_000_000:
            raise Cancelled

    with pytest.raises(Cancelled):
        fetch(url, target, Recorder(cancel))
    assert not target.exists()
    begun = (target.parent / "x.gguf.part").stat().st_size
    assert begun > 1_000_000
    progress = Recorder()
    fetch(url, target, progress)
    assert target.read_bytes() == DATA
    assert web.gets("/x")[-1].headers["range"] == f"bytes={begun}-"
    assert progress.moves[0] == begun
    assert names(target.parent) == ["x.gguf"]


def leave_part(web: Web, target: Path, **known: Any) -> None:
    """An earlier run that ended after a million bytes, for good."""
    web.faults["/x"] = [Fault(cut_after=1_000_000), *[Fault(status=404)] * 1]
    with pytest.raises(DownloadFailed):
        fetch(web.url + "/x", target, **known)
    assert (target.parent / "x.gguf.part").stat().st_size == 1_000_000


def test_a_file_that_changed_meanwhile_is_fetched_anew(web: Web, target: Path) -> None:
    web.serve("/x", os.urandom(2_000_000), etag='"v1"')
    leave_part(web, target)
    fetch(web.serve("/x", DATA, etag='"v2"'), target)
    assert target.read_bytes() == DATA


def test_without_a_validator_two_halves_are_never_joined(web: Web, target: Path) -> None:
    web.serve("/x", os.urandom(2_000_000))
    leave_part(web, target)
    fetch(web.serve("/x", DATA), target)
    assert target.read_bytes() == DATA
    assert "range" not in web.gets("/x")[-1].headers


def test_a_known_hash_is_enough_to_go_on(web: Web, target: Path) -> None:
    web.serve("/x", DATA)
    leave_part(web, target, sha256=sha256(DATA))
    fetch(web.url + "/x", target, sha256=sha256(DATA))
    assert web.gets("/x")[-1].headers["range"] == "bytes=1000000-"
    assert target.read_bytes() == DATA


def test_a_part_that_was_damaged_meanwhile_is_fetched_anew(web: Web, target: Path) -> None:
    web.serve("/x", DATA)
    leave_part(web, target, sha256=sha256(DATA))
    (target.parent / "x.gguf.part").write_bytes(os.urandom(1_000_000))
    progress = Recorder()
    fetch(web.url + "/x", target, progress, sha256=sha256(DATA))
    assert target.read_bytes() == DATA
    assert any("starting over" in note for note in progress.notes)


def test_a_part_longer_than_the_file_is_dropped(web: Web, target: Path) -> None:
    target.parent.mkdir()
    (target.parent / "x.gguf.part").write_bytes(DATA + b"more")
    fetch(web.serve("/x", DATA), target, sha256=sha256(DATA))
    assert target.read_bytes() == DATA


def test_a_server_without_ranges_is_asked_from_the_start(web: Web, target: Path) -> None:
    web.serve("/x", DATA, ranges=False)
    leave_part(web, target, sha256=sha256(DATA))
    progress = Recorder()
    fetch(web.url + "/x", target, progress, sha256=sha256(DATA))
    assert target.read_bytes() == DATA
    assert progress.done == len(DATA)


def test_a_corrupted_file_never_gets_the_final_name(web: Web, target: Path) -> None:
    url = web.serve("/x", DATA)
    web.faults["/x"] = [Fault(corrupt=True)]
    with pytest.raises(ChecksumMismatch, match=sha256(DATA)):
        fetch(url, target, sha256=sha256(DATA))
    assert names(target.parent) == []
    fetch(url, target, sha256=sha256(DATA))
    assert target.read_bytes() == DATA


def test_a_file_of_another_size_is_refused_before_it_is_fetched(web: Web, target: Path) -> None:
    with pytest.raises(DownloadFailed, match="3000000 bytes") as caught:
        fetch(web.serve("/x", DATA), target, size_bytes=5)
    assert "expected 5" in caught.value.message


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_in_trouble_is_asked_again(web: Web, target: Path, status: int) -> None:
    url = web.serve("/x", DATA, etag='"v1"')
    web.faults["/x"] = [Fault(cut_after=1000), Fault(status=status), Fault(status=status)]
    fetch(url, target)
    assert target.read_bytes() == DATA


def test_a_server_that_stays_in_trouble_is_given_up(web: Web, target: Path) -> None:
    url = web.serve("/x", DATA)
    web.faults["/x"] = [Fault(cut_after=1000), *[Fault(status=503)] * 10]
    with pytest.raises(DownloadFailed, match="answered 503") as caught:
        fetch(url, target)
    assert caught.value.retriable
    assert len(web.gets("/x")) < 9


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_told_once_without_the_secret_of_the_url(
    web: Web, target: Path, status: int
) -> None:
    web.serve("/x", DATA)
    web.faults["/x"] = [Fault(status=status)] * 2
    with pytest.raises(DownloadFailed, match=str(status)) as caught:
        fetch(web.url + "/x?signature=secret", target)
    assert "secret" not in caught.value.message
    assert len(web.gets("/x")) == 1


def test_nobody_there_is_one_clear_line(target: Path) -> None:
    with pytest.raises(DownloadFailed, match="refused") as caught:
        fetch("http://127.0.0.1:1/x", target)
    assert "network" in caught.value.hint


def test_a_silent_server_is_left_after_the_timeout(
    web: Web, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "TIMEOUT_SECONDS", 0.2)
    url = web.serve("/x", DATA, etag='"v1"')
    web.faults["/x"] = [Fault(stall_after=1_000_000)]
    progress = Recorder()
    fetch(url, target, progress)
    assert target.read_bytes() == DATA
    assert "no answer in time" in progress.notes[0]


def test_too_little_space_is_told_with_both_numbers_before_the_first_byte(
    web: Web, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space, "MARGIN_BYTES", 10**18)
    with pytest.raises(NoSpace, match=r"are needed .* are free") as caught:
        fetch(web.serve("/x", DATA), target)
    assert caught.value.extra["needed_bytes"] == 10**18 + len(DATA)
    assert 0 < caught.value.extra["free_bytes"] < 10**18
    assert not target.exists()


def test_headers_for_one_host_do_not_follow_a_redirect(web: Web, target: Path) -> None:
    class Redirecting(Web):
        def answer(self, handler) -> None:
            handler.reply(302, {"Location": there}, b"")

    there = web.serve("/x", DATA)
    first = Redirecting()
    try:
        address = transfer.Address(first.url + "/a", {"Authorization": "Bearer secret"})
        transfer.fetch(lambda: address, target, Wanted("x"), Recorder())
    finally:
        first.close()
    assert first.requests[0].headers["authorization"] == "Bearer secret"
    assert "authorization" not in web.requests[0].headers
