"""`llorch infer` with nothing running: a worker of its own, which never outlives it."""

from __future__ import annotations

import os
import signal
import time

import pytest

ASK = ("infer", "--engine", "echo", "--prompt", "one two three", "--temperature", "0")


def children_of(pid: int) -> list[int]:
    """Processes whose parent is `pid`."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat") as stat:
                if int(stat.read().rpartition(")")[2].split()[1]) == pid:
                    found.append(int(entry))
        except (OSError, IndexError):
            continue
    return found


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(condition, seconds: float = 20.0):
    """What the condition gives once it gives something true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)
    return found


def test_it_answers_with_nothing_running(cli):
    ran = cli(*ASK, "--max-tokens", "5")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip()
    assert "starting a worker for echo" in ran.stderr
    assert "5 tokens" in ran.stderr


def test_it_joins_no_orchestrator_whatever_the_settings_say(cli):
    (cli.home / "llorch.toml").write_text('[serve-worker]\norchestrator = "http://127.0.0.1:1"\n')
    ran = cli(*ASK, "--max-tokens", "5")
    assert ran.returncode == 0, ran.stderr


def test_its_worker_reads_the_settings_file_that_was_named(cli, tmp_path):
    settings = tmp_path / "other.toml"
    settings.write_text("[serve-worker]\necho-load-seconds = -1\n")
    ran = cli("--config", str(settings), *ASK)
    assert ran.returncode != 0
    assert "echo-load-seconds" in ran.stderr


def test_a_worker_that_cannot_start_tells_its_reason_and_leaves_nothing(cli):
    (cli.home / "broken.gguf").write_bytes(b"GGUF" + b"\0" * 100)
    ran = cli("infer", "--model", "./broken.gguf", "--prompt", "x")
    assert ran.returncode == 1
    assert "broken.gguf" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_an_unknown_model_is_told_before_anything_starts(cli):
    ran = cli("infer", "--model", "smollm", "--prompt", "x")
    assert ran.returncode == 1
    assert "smollm2-135m" in ran.stderr
    assert "starting a worker" not in ran.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_no_worker_outlives_the_command(cli, running, number):
    environment = cli.environment | {"LLORCH_SERVE_WORKER_ECHO_TPS": "5"}
    process = cli.start(*ASK, "--max-tokens", "1000", env=environment)
    running.append(process)
    assert process.stdout.read(1)
    (worker,) = children_of(process.pid)
    process.send_signal(number)
    process.wait(30)
    until(lambda: not alive(worker))
    if number == signal.SIGINT:
        assert process.returncode == 130
