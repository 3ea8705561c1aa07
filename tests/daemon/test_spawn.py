"""Background workers as real processes: started, waited for, stopped, and what is left of them."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from llorch.daemon import spawn
from llorch.daemon.spawn import SpawnRequest, Stopped
from llorch.errors import BindFailed, EngineFailed, LlorchError, WorkerNotFound
from llorch.store import worker_logs, workers

ECHO = SpawnRequest(model="echo", backend="cpu", arguments=("--engine", "echo"))
STUBBORN = """
import json, os, signal, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
signal.signal(signal.SIGTERM, signal.SIG_IGN)
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"status": "ready", "pid": os.getpid()}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
host, _, port = sys.argv[-1].rpartition(":")
HTTPServer((host, int(port)), Handler).serve_forever()
"""

# Another program takes the port in the moment before its first start can.
ROBBED = (
    """
import os, sys
flag = __file__ + ".robbed"
if not os.path.exists(flag):
    host, _, port = sys.argv[-1].rpartition(":")
    ready, tell = os.pipe()
    if os.fork() == 0:
        import socket
        os.setsid()
        server = socket.create_server((host, int(port)))
        with open(flag, "w") as file:
            file.write(str(os.getpid()))
        os.close(tell)
        body = b'{"status": "ready", "pid": 1}'
        while True:
            peer, _ = server.accept()
            peer.recv(65536)
            peer.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-length: %d\\r\\n\\r\\n" % len(body) + body)
            peer.close()
    os.close(tell)
    os.read(ready, 1)
    sys.exit("in use")
"""
    + STUBBORN
)


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    """A home of its own, and no worker left after the test."""
    for name in [name for name in os.environ if name.startswith("LLORCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LLORCH_HOME", str(tmp_path))
    yield
    for record in workers.records():
        spawn.stop(record, 0)


@pytest.fixture
def program(monkeypatch, tmp_path):
    """Let another program be started in place of llorch."""

    def use(source: str) -> None:
        script = tmp_path / "program.py"
        script.write_text(source)
        monkeypatch.setattr(spawn, "own_command", lambda: [sys.executable, str(script)])

    return use


def test_a_started_worker_is_ready_recorded_and_writes_its_log():
    record = spawn.start(ECHO, 60)
    assert spawn.health(record)["status"] == "ready"
    assert workers.records() == (record,)
    assert "ready" in Path(record.log_path).read_text()


def test_a_started_worker_has_left_our_session_and_our_folder():
    record = spawn.start(ECHO, 60)
    assert os.getsid(record.pid) == record.pid
    if Path("/proc").is_dir():
        assert os.readlink(f"/proc/{record.pid}/cwd") == "/"
        assert os.readlink(f"/proc/{record.pid}/fd/0") == os.devnull


def test_a_stopped_worker_is_gone_and_forgotten():
    record = spawn.start(ECHO, 60)
    assert spawn.stop(record, 30) is Stopped.STOPPED
    assert not workers.is_alive(record)
    assert workers.records() == ()


def test_two_starts_at_once_get_two_ports_and_two_records():
    found = []
    threads = [threading.Thread(target=lambda: found.append(spawn.start(ECHO, 60))) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({record.port for record in found}) == 2
    assert {record.id for record in workers.records()} == {record.id for record in found}


def test_a_worker_that_dies_at_its_start_says_its_own_error_and_leaves_no_record(program):
    program("import sys; print('line one'); sys.exit('Error: no such device')")
    with pytest.raises(EngineFailed) as failed:
        spawn.start(ECHO, 60)
    assert failed.value.message == "the worker ended with exit code 1: no such device"
    assert workers.records() == ()
    log = Path(failed.value.hint.partition(": ")[2])
    assert "line one" in log.read_text()


def test_what_a_dead_worker_told_to_try_is_told_on(program):
    program("import sys; sys.exit('Error: no such device\\nTry: another')")
    with pytest.raises(EngineFailed) as failed:
        spawn.start(ECHO, 60)
    assert failed.value.message.endswith(": no such device")
    assert failed.value.hint.startswith("another; or read the whole log: /")


def test_a_worker_that_dies_without_an_error_of_ours_shows_its_last_words(program):
    program("import sys; print('line one'); sys.exit('line two')")
    with pytest.raises(EngineFailed, match="exit code 1; its last words:\n  line one\n  line two"):
        spawn.start(ECHO, 60)


def test_a_worker_that_a_signal_killed_says_which(program):
    program("import os; os.kill(os.getpid(), 4)")
    with pytest.raises(EngineFailed, match="SIGILL"):
        spawn.start(ECHO, 60)


def test_a_worker_that_is_never_ready_is_ended_and_leaves_no_record(program, tmp_path):
    pid = tmp_path / "pid"
    program(f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(600)")
    with pytest.raises(EngineFailed, match="not ready after 1 s"):
        spawn.start(ECHO, 1)
    assert workers.records() == ()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_start_whose_port_another_program_took_uses_the_next_one(program, tmp_path):
    program(ROBBED)
    try:
        record = spawn.start(ECHO, 60)
        assert spawn.health(record) == {"status": "ready", "pid": record.pid}
        assert [r.id for r in workers.records()] == [record.id]
    finally:
        os.kill(int((tmp_path / "program.py.robbed").read_text()), signal.SIGKILL)


def test_a_port_that_is_taken_is_refused_before_anything_starts():
    record = spawn.start(ECHO, 60)
    with pytest.raises(BindFailed):
        spawn.start(replace(ECHO, port=record.port), 60)
    assert workers.records() == (record,)


def test_a_worker_that_does_not_heed_sigterm_is_killed_after_the_grace(program):
    program(STUBBORN)
    record = spawn.start(ECHO, 60)
    assert spawn.stop(record, 0.2) is Stopped.KILLED
    assert not workers.is_alive(record)
    assert workers.records() == ()


def test_several_workers_have_one_grace_together(program):
    program(STUBBORN)
    records = [spawn.start(ECHO, 60) for _ in range(3)]
    ended = list(spawn.stop_many(records, 0.2))
    assert ended == [(record, Stopped.KILLED) for record in records]
    assert workers.records() == ()


def test_a_worker_of_another_user_is_an_error_that_does_not_hinder_the_others(monkeypatch):
    foreign, ours = spawn.start(ECHO, 60), spawn.start(ECHO, 60)
    kill = os.kill

    def refuse(pid, number):
        if pid == foreign.pid:
            raise PermissionError
        kill(pid, number)

    monkeypatch.setattr(os, "kill", refuse)
    (_, first), (_, second) = spawn.stop_many([foreign, ours], 30)
    monkeypatch.setattr(os, "kill", kill)
    assert isinstance(first, LlorchError)
    assert "another user" in first.message
    assert second is Stopped.STOPPED


def test_stopping_a_dead_worker_forgets_it():
    record = spawn.start(ECHO, 60)
    os.kill(record.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while workers.is_alive(record):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert spawn.stop(record, 30) is Stopped.DEAD_BEFORE
    assert workers.records() == ()


def test_a_process_that_took_over_the_pid_is_left_alone():
    ours = workers.WorkerRecord(
        id="cpu-1",
        pid=os.getpid(),
        process_started="another time",
        host="127.0.0.1",
        port=1,
        model="m",
        backend="cpu",
        device=None,
        command=(),
        log_path="",
        started_at=0.0,
    )
    workers.add(ours)
    assert spawn.stop(ours, 0) is Stopped.DEAD_BEFORE  # and this very test is still running


def test_ids_are_looked_up_before_anything_is_done():
    record = spawn.start(ECHO, 60)
    assert spawn.find([record.id, record.id]) == [record]
    with pytest.raises(WorkerNotFound):
        spawn.find([record.id, "nobody"])


def test_the_health_of_something_that_does_not_answer_is_empty():
    record = replace(spawn.start(ECHO, 60), port=1)
    assert spawn.health(record) == {}


def test_the_last_lines_of_a_long_log_are_found(tmp_path):
    log = tmp_path / "log"
    log.write_text("".join(f"line {number}\n" for number in range(10_000)))
    assert worker_logs.last_lines(log, 2) == ["line 9998", "line 9999"]
    assert worker_logs.last_lines(tmp_path / "none", 2) == []


def test_old_logs_of_stopped_workers_are_deleted_and_those_of_live_ones_kept():
    stopped, living = spawn.start(ECHO, 60), spawn.start(ECHO, 60)
    spawn.stop(stopped, 30)
    assert worker_logs.delete_old_logs(3600) == []
    for record in (stopped, living):
        os.utime(record.log_path, (0, 0))
    assert worker_logs.delete_old_logs(3600) == [Path(stopped.log_path)]
    assert Path(living.log_path).exists()
