from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from llorch.errors import BindFailed, Conflict, StoreFailed, WorkerNotFound
from llorch.store import workers
from llorch.store.paths import logs_dir, state_dir
from llorch.store.workers import Reservation, WorkerRecord
from tests.store.processes import finish, kill, start, until

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def sleeper():
    """A real process that lives until its standard input closes."""
    child = start("sys.stdin.read()")
    yield child
    kill(child)


def record_of(place: Reservation, pid: int, started: str | None = None) -> WorkerRecord:
    return WorkerRecord(
        id=place.id,
        pid=pid,
        process_started=started or workers.process_start(pid) or "",
        host=place.host,
        port=place.port,
        model="smollm2-135m",
        backend="cpu",
        device=None,
        command=("llorch", "serve-worker"),
        log_path=str(place.log_path),
        started_at=1.5,
    )


def test_a_record_is_read_back_and_forgotten() -> None:
    record = record_of(workers.reserve("cpu"), os.getpid())
    workers.add(record)
    assert workers.records() == (record,)
    assert workers.find(record.id) == record
    workers.remove(record.id)
    workers.remove(record.id)
    assert workers.records() == ()


def test_records_are_private() -> None:
    workers.add(record_of(workers.reserve("cpu"), os.getpid()))
    assert stat.S_IMODE((state_dir() / "workers.json").stat().st_mode) == 0o600


def test_an_unknown_worker_gets_near_matches() -> None:
    with pytest.raises(WorkerNotFound) as caught:
        workers.find("cpu-1")
    assert "worker list" in caught.value.hint
    place = workers.reserve("cpu")
    workers.add(record_of(place, os.getpid()))
    with pytest.raises(WorkerNotFound) as caught:
        workers.find(place.id[:-1])
    assert place.id in caught.value.hint


def test_the_id_says_backend_and_port() -> None:
    place = workers.reserve("cuda")
    assert place.id == f"cuda-{place.port}"
    assert place.port >= 8001
    assert place.log_path.parent == logs_dir()
    assert place.id in place.log_path.name


def test_a_reserved_port_is_not_given_twice_and_comes_back() -> None:
    first, second = workers.reserve("cpu"), workers.reserve("cpu")
    assert first.port < second.port
    with pytest.raises(BindFailed, match="about to be taken"):
        workers.reserve("cpu", port=first.port)
    workers.release(first)
    assert workers.reserve("cpu").port == first.port


def test_a_port_in_use_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(workers, "FIRST_PORT", port)
        monkeypatch.setattr(workers, "LAST_PORT", port)
        with pytest.raises(BindFailed, match=f"no port from {port} to {port} is free"):
            workers.reserve("cpu")
        monkeypatch.setattr(workers, "LAST_PORT", port + 50)
        assert workers.reserve("cpu").port > port
        with pytest.raises(BindFailed, match=f"127.0.0.1:{port}") as caught:
            workers.reserve("cpu", port=port)
    assert "--port" in caught.value.hint


@pytest.mark.parametrize("host, port", [("192.0.2.1", 8001), ("127.0.0.1", 70000)])
def test_an_address_that_cannot_be_bound_is_told(host: str, port: int) -> None:
    with pytest.raises(BindFailed, match=f"{host}:{port}"):
        workers.reserve("cpu", host=host, port=port)


def test_the_port_of_a_live_worker_is_not_given_away(sleeper) -> None:
    place = workers.reserve("cpu")
    workers.add(record_of(place, sleeper.pid))  # it has not bound its port yet
    assert workers.reserve("cpu").port != place.port


def test_the_reservation_of_a_dead_process_ends() -> None:
    code = "from llorch.store import workers; print(workers.reserve('cpu').port)"
    first = finish(start(code))
    assert finish(start(code)) == first


def test_processes_that_reserve_at_once_get_different_ports() -> None:
    code = (
        "from llorch.store import workers\n"
        "print(workers.reserve('cpu').port, flush=True); sys.stdin.read()"
    )
    children = [start(code) for _ in range(6)]
    ports = [child.stdout.readline() for child in children if child.stdout]
    for child in children:
        finish(child)
    assert len(set(ports)) == 6


def test_processes_that_record_at_once_lose_nothing() -> None:
    code = (
        "import os; from llorch.store import workers\n"
        "from llorch.store.workers import WorkerRecord\n"
        "for _ in range(3):\n"
        "    p = workers.reserve('cpu')\n"
        "    workers.add(WorkerRecord(p.id, os.getpid(), workers.process_start(os.getpid()),\n"
        "        p.host, p.port, 'm', 'cpu', None, (), str(p.log_path), 0.0))\n"
        "print('done', flush=True); sys.stdin.read()"
    )
    children = [start(code) for _ in range(4)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "done\n"
    assert len(workers.records()) == 12
    assert len({record.port for record in workers.records()}) == 12
    for child in children:
        finish(child)


def test_a_live_process_is_alive_and_a_dead_one_is_not(sleeper) -> None:
    record = record_of(workers.reserve("cpu"), sleeper.pid)
    assert workers.is_alive(record)
    kill(sleeper)
    assert not workers.is_alive(record)


def test_a_reused_pid_is_not_taken_for_the_worker(sleeper) -> None:
    record = record_of(workers.reserve("cpu"), sleeper.pid)
    assert not workers.is_alive(replace(record, process_started="another start"))
    assert not workers.is_alive(replace(record, pid=os.getpid()))


def test_a_zombie_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = workers.process_start(child.pid)
    assert started
    child.kill()
    until(lambda: workers.process_start(child.pid) is None)  # ended, but nobody has waited for it
    child.communicate()


def test_a_name_full_of_brackets_does_not_confuse_the_start_time(tmp_path: Path) -> None:
    odd = tmp_path / "a) Z (b"
    odd.symlink_to("/bin/sh")
    child = subprocess.Popen([str(odd), "-c", "read line"], stdin=subprocess.PIPE)
    try:
        assert workers.process_start(child.pid)
    finally:
        child.communicate(b"\n")


@pytest.mark.parametrize("pid", [0, -1, 2**22 + 1])
def test_no_such_process_has_no_start(pid: int) -> None:
    assert workers.process_start(pid) is None


def test_cleaning_up_forgets_the_dead_with_their_logs_and_keeps_the_living(sleeper) -> None:
    live, dead = workers.reserve("cpu"), workers.reserve("cpu")
    for place in (live, dead):
        place.log_path.write_text("log")
    workers.add(record_of(live, sleeper.pid))
    gone = record_of(dead, sleeper.pid, started="another start")
    workers.add(gone)
    assert workers.clean_up() == (gone,)
    assert [record.id for record in workers.records()] == [live.id]
    assert live.log_path.exists()
    assert not dead.log_path.exists()
    assert workers.clean_up() == ()


def test_cleaning_up_deletes_no_file_outside_the_log_folder(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("x")
    place = workers.reserve("cpu")
    workers.add(record_of(replace(place, log_path=precious), os.getpid(), started="no"))
    assert len(workers.clean_up()) == 1
    assert precious.exists()


def test_a_dead_workers_id_can_be_used_again() -> None:
    place = workers.reserve("cpu")
    place.log_path.write_text("the old log")
    workers.add(record_of(place, os.getpid(), started="another start"))
    again = workers.reserve("cpu", port=place.port)
    assert again.id == place.id
    assert workers.records() == ()


def test_a_second_live_worker_of_the_same_id_is_refused(sleeper) -> None:
    record = record_of(workers.reserve("cpu"), sleeper.pid)
    workers.add(record)
    workers.add(record)
    with pytest.raises(Conflict, match=str(sleeper.pid)):
        workers.add(replace(record, pid=os.getpid()))


@pytest.mark.parametrize(
    "content",
    [
        "{",
        '{"version": 9}',
        '{"version": 1, "workers": 1}',
        '{"version": 1, "workers": [{"id": "a"}]}',
        '{"version": 1, "reserved": {"8001": {}}}',
    ],
)
def test_damaged_or_newer_records_are_refused_and_left(content: str) -> None:
    path = state_dir() / "workers.json"
    path.write_text(content)
    for act in (workers.records, workers.clean_up, lambda: workers.reserve("cpu")):
        with pytest.raises(StoreFailed):
            act()
    assert path.read_text() == content
