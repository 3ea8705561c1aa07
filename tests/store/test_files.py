from __future__ import annotations

import errno
import io
import json
import os
import stat
from functools import partial
from pathlib import Path

import pytest

from llorch.errors import NoSpace, StoreFailed
from llorch.store import files
from tests.store.processes import finish, kill, start, until


class FullDisk(io.BytesIO):
    """A stream on a disk that has no room left."""

    def write(self, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    files.update_document(tmp_path / "d.json", 1, lambda body: body.update(a=["ä"]))
    assert files.read_document(tmp_path / "d.json", 1) == {"a": ["ä"]}
    assert json.loads((tmp_path / "d.json").read_text())["version"] == 1


def test_a_missing_document_is_empty(tmp_path: Path) -> None:
    assert files.read_document(tmp_path / "d.json", 1) == {}


def test_files_are_private_unless_said_otherwise(tmp_path: Path) -> None:
    files.write_atomic(tmp_path / "f", b"x")
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b"null", b'{"a": 1}', b'{"version": "x"}', b"\xff"]
)
def test_a_damaged_document_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "d.json"
    path.write_bytes(content)
    with pytest.raises(StoreFailed, match="damaged"):
        files.update_document(path, 1, lambda body: body.update(a=1))
    assert path.read_bytes() == content


def test_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_text('{"version": 7, "a": 1}')
    with pytest.raises(StoreFailed, match="newer llorch"):
        files.update_document(path, 6, lambda body: body.update(a=2))
    assert json.loads(path.read_text()) == {"version": 7, "a": 1}


def test_a_change_that_raises_writes_nothing(tmp_path: Path) -> None:
    def change(body: dict[str, object]) -> None:
        body["a"] = 1
        raise KeyError("no")

    with pytest.raises(KeyError):
        files.update_document(tmp_path / "d.json", 1, change)
    assert not (tmp_path / "d.json").exists()


def test_a_change_of_nothing_does_not_touch_the_file(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    files.update_document(path, 1, lambda body: body.update(a=1))
    before = path.stat().st_ino
    files.update_document(path, 1, lambda body: body.update(a=1))
    assert path.stat().st_ino == before


def test_left_over_temporaries_are_swept_away(tmp_path: Path) -> None:
    (tmp_path / ".f.123.tmp").write_text("half")
    (tmp_path / ".other.123.tmp").write_text("somebody else's")
    files.write_atomic(tmp_path / "f", b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.123.tmp", "f", "f.lock"]


def test_a_full_disk_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write_atomic(tmp_path / "f", b"old")
    monkeypatch.setattr(files, "open_new", lambda path, mode: FullDisk())
    with pytest.raises(NoSpace, match=str(tmp_path / "f")):
        files.write_atomic(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f", "f.lock"]


@pytest.mark.parametrize(
    "number, kind",
    [(errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace), (errno.EACCES, StoreFailed)],
)
def test_system_errors_become_words_with_the_path(number: int, kind: type[StoreFailed]) -> None:
    place = Path("/some/where")
    with (
        pytest.raises(StoreFailed, match=str(place)) as caught,
        files.storage_errors(place, "read"),
    ):
        raise OSError(number, os.strerror(number))
    assert type(caught.value) is kind
    assert caught.value.hint


def test_a_read_only_file_system_is_told(tmp_path: Path) -> None:
    error = files.storage_error(OSError(errno.EROFS, "Read-only file system"), tmp_path, "write")
    assert "read-only" in error.hint


def test_a_lock_keeps_another_process_out_until_it_is_released(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from llorch.store import files\n"
        "with files.locked(Path(sys.argv[1]), on_wait=lambda: print('waiting', flush=True)):\n"
        "    print('in', flush=True)"
    )
    with files.locked(tmp_path / "f"):
        child = start(code, str(tmp_path / "f"))
        assert child.stdout is not None
        assert child.stdout.readline() == "waiting\n"
    assert finish(child) == "in"


def test_a_killed_holder_never_blocks(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from llorch.store import files\n"
        "with files.locked(Path(sys.argv[1])):\n"
        "    print('in', flush=True); sys.stdin.read()"
    )
    child = start(code, str(tmp_path / "f"))
    assert child.stdout is not None
    assert child.stdout.readline() == "in\n"
    kill(child)
    with files.locked(tmp_path / "f"):
        pass


def test_a_wait_can_be_given_up(tmp_path: Path) -> None:
    def give_up() -> None:
        raise KeyboardInterrupt

    path = tmp_path / "f"
    with files.locked(path), pytest.raises(KeyboardInterrupt), files.locked(path, tick=give_up):
        pytest.fail("the lock was held twice")


def written_at(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def changed(path: Path, before: int) -> bool:
    return written_at(path) != before


def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    code = (
        "from pathlib import Path; from llorch.store import files\n"
        "n = 0\n"
        "while True:\n"
        "    n += 1; files.write_atomic(Path(sys.argv[1]), str(n % 10).encode() * 300_000)"
    )
    for _ in range(5):
        child = start(code, str(path))
        before = written_at(path)
        until(partial(changed, path, before))
        kill(child)
        assert len(path.read_bytes()) == 300_000
        assert len(set(path.read_bytes())) == 1
    files.write_atomic(path, b"x")
    assert sorted(place.name for place in tmp_path.iterdir()) == ["f", "f.lock"]
