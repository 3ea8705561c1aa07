"""`llorch pool worker` as a user runs it, with echo workers."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.cli.terminal import in_terminal
from tests.cli.test_private_worker import alive, until

SPAWN = ("pool", "worker", "spawn", "cpu", "--engine", "echo")


@pytest.fixture
def worker(pool):
    """The facts of one running worker."""
    ran = pool(*SPAWN, "--json")
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def listed(cli):
    return json.loads(cli("pool", "worker", "list", "--json").stdout)


def test_spawn_prints_id_url_and_pid_and_the_worker_answers(pool):
    ran = pool(*SPAWN, "--name", "mine", "--slots", "2")
    assert ran.returncode == 0, ran.stderr
    worker_id, url, _, pid = ran.stdout.split()
    (found,) = listed(pool)
    assert (found["id"], found["url"], str(found["pid"])) == (worker_id, url, pid)
    assert (found["status"], found["model"]) == ("ready", "mine")
    asked = pool("infer", "--worker", url, "--prompt", "one two", "--max-tokens", "3")
    assert asked.returncode == 0, asked.stderr


def test_spawn_in_json_is_one_document(worker):
    assert worker["status"] == "ready"
    assert set(worker) == {
        "id", "status", "model", "backend", "device", "pid", "url", "orchestrator", "started_at",
        "log",
    }  # fmt: skip


def test_a_worker_survives_the_closing_of_the_terminal(pool):
    shown = in_terminal(pool, *SPAWN)
    assert "pid" in shown
    (found,) = listed(pool)
    assert found["status"] == "ready"


def test_a_spawn_that_fails_shows_the_last_lines_and_leaves_no_record(pool):
    (pool.home / "broken.gguf").write_bytes(b"GGUF" + b"\0" * 100)
    ran = pool("pool", "worker", "spawn", "cpu", "--model", "./broken.gguf")
    assert ran.returncode == 1
    assert "broken.gguf" in ran.stderr
    assert "Try: " in ran.stderr
    assert "Traceback" not in ran.stderr
    assert listed(pool) == []


@pytest.mark.parametrize("flags", [[], ["--model", "smollm"], ["--model", "./none.gguf"]])
def test_a_model_that_is_not_there_is_told_before_anything_starts(pool, flags):
    ran = pool("pool", "worker", "spawn", "cpu", *flags)
    assert ran.returncode in {1, 2}
    assert ran.stderr.startswith("Error: ")
    assert listed(pool) == []


def test_ctrl_c_while_it_loads_leaves_nothing(pool, running):
    environment = pool.environment | {"LLORCH_SERVE_WORKER_ECHO_LOAD_SECONDS": "600"}
    process = pool.start(*SPAWN, env=environment)
    running.append(process)
    (found,) = until(lambda: [w for w in listed(pool) if w["status"] == "loading"])
    process.send_signal(signal.SIGINT)
    process.wait(30)
    assert process.returncode == 130
    assert listed(pool) == []
    assert not alive(found["pid"])


def test_the_list_fits_a_terminal_of_80_columns(pool, worker):
    for line in in_terminal(pool, "pool", "worker", "list").splitlines():
        assert len(line.replace("\x1b[1m", "").replace("\x1b[0m", "")) <= 80


def test_a_dead_worker_is_shown_as_dead_and_cleaned_up(pool, worker):
    os.kill(worker["pid"], signal.SIGKILL)
    until(lambda: not alive(worker["pid"]))
    assert listed(pool)[0]["status"] == "dead"
    ran = pool("pool", "worker", "cleanup")
    assert worker["id"] in ran.stdout
    assert listed(pool) == []
    assert not os.path.exists(worker["log"])
    assert "nothing to clean up" in pool("pool", "worker", "cleanup").stderr


def test_stop_ends_the_worker_and_forgets_it(pool, worker):
    ran = pool("pool", "worker", "stop", worker["id"])
    assert (ran.returncode, ran.stdout) == (0, f"{worker['id']}  stopped\n")
    assert listed(pool) == []
    assert not alive(worker["pid"])


def test_a_shell_completes_the_ids_of_workers(pool, worker):
    words = {"COMP_WORDS": "llorch pool worker stop cp", "COMP_CWORD": "4"}
    assert pool(_LLORCH_COMPLETE="complete_bash", **words).stdout.split() == [worker["id"]]


def test_stop_of_an_unknown_worker_stops_none(pool, worker):
    ran = pool("pool", "worker", "stop", worker["id"], "nobody")
    assert ran.returncode == 1
    assert "nobody" in ran.stderr
    assert listed(pool)[0]["status"] == "ready"


def test_stop_all_with_none_running_is_a_success(pool):
    ran = pool("pool", "worker", "stop-all")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "no workers are running\n")
    assert json.loads(pool("pool", "worker", "stop-all", "--json").stdout) == []


def test_stop_all_stops_all(pool, worker):
    pool(*SPAWN)
    ran = pool("pool", "worker", "stop-all", "--json")
    assert [w["outcome"] for w in json.loads(ran.stdout)] == ["stopped", "stopped"]
    assert listed(pool) == []


def test_two_spawns_at_once_get_two_ports(pool, running):
    processes = [pool.start(*SPAWN, "--json") for _ in "ab"]
    running += processes
    urls = {json.loads(process.communicate(timeout=60)[0])["url"] for process in processes}
    assert len(urls) == 2
    assert {w["url"] for w in listed(pool)} == urls


def test_logs_shows_the_log_and_follows_it_to_the_workers_end(pool, worker, running):
    shown = pool("pool", "worker", "logs", worker["id"])
    assert "ready" in shown.stdout
    following = pool.start("pool", "worker", "logs", worker["id"], "-f")
    running.append(following)
    assert following.stdout.readline()
    pool("pool", "worker", "stop", worker["id"])
    rest, err = following.communicate(timeout=30)
    assert b"draining" in rest
    assert (following.returncode, err) == (0, b"")


def test_ctrl_c_ends_following(pool, worker, running):
    following = pool.start("pool", "worker", "logs", worker["id"], "--follow")
    running.append(following)
    assert following.stdout.readline()
    following.send_signal(signal.SIGINT)
    following.communicate(timeout=30)
    assert following.returncode == 130
    assert listed(pool)[0]["status"] == "ready"


def test_a_worker_reads_the_settings_file_that_spawn_read(pool):
    (pool.home / "llorch.toml").write_text("[serve-worker]\nslots = 3\n")
    ran = pool(*SPAWN, "--json")
    found = json.loads(ran.stdout)
    with open(found["log"]) as log:
        assert "slots=3" in log.read()


def test_status_shows_workers_models_memory_and_disk(pool, worker):
    facts = json.loads(pool("pool", "status", "--json").stdout)
    assert facts["workers"][0]["id"] == worker["id"]
    assert facts["models"] == []
    assert facts["disk"]["free_bytes"] > 0
    shown = pool("pool", "status").stdout
    assert worker["id"] in shown
    assert "memory" in shown


def test_backends_says_why_and_what_the_machine_is(cli):
    facts = json.loads(cli("pool", "backends", "--json").stdout)
    assert [b["backend"] for b in facts["backends"]] == ["cpu", "cuda", "metal"]
    assert all(b["why"] for b in facts["backends"])
    shown = cli("pool", "backends")
    assert shown.returncode == 0
    assert "BACKEND" in shown.stdout
    assert "memory" in shown.stdout
