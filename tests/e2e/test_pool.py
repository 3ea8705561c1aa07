"""Background workers with the real model: at the same time, without a terminal, dead."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest

from tests.e2e.daemon import is_free
from tests.e2e.home import Home, finish
from tests.e2e.wait import eventually

SPAWN = ("pool", "worker", "spawn", "cpu", "--model", "smollm2-135m", "--slots", "1", "--json")


@pytest.fixture
def pool(home: Home) -> Iterator[Home]:
    """A home whose background workers are stopped after the test."""
    yield home
    home.run("pool", "worker", "stop-all", "--grace", "0")


def listed(home: Home) -> list[dict]:
    return list(json.loads(home.ok("pool", "worker", "list", "--json")))


def test_two_spawns_at_once_give_two_workers(pool: Home) -> None:
    running = [pool.start(*SPAWN) for _ in range(2)]
    ended = [finish(process) for process in running]
    assert [code for code, _, _ in ended] == [0, 0], ended
    spawned = [json.loads(out) for _, out, _ in ended]
    assert len({worker["url"] for worker in spawned}) == 2
    assert sorted(w["id"] for w in listed(pool)) == sorted(w["id"] for w in spawned)
    assert {w["status"] for w in listed(pool)} == {"ready"}
    asked = ("--prompt", "The capital of France is", "--temperature", "0", "-n", "4")
    for worker in spawned:
        assert pool.ok("infer", "--worker", worker["url"], *asked).startswith(" Paris")
        assert os.getsid(worker["pid"]) == worker["pid"]  # no terminal's hangup reaches it
    stopped = pool.ok("pool", "worker", "stop-all").splitlines()
    assert sorted(stopped) == sorted(f"{w['id']}  stopped" for w in spawned)
    assert all(is_free(int(w["url"].rpartition(":")[2])) for w in spawned)
    pool.is_still()


def test_a_spawned_worker_joins_an_orchestrator_and_leaves_it(pool: Home) -> None:
    with pool.daemon("serve-orchestrator") as orchestrator:
        worker = json.loads(pool.ok(*SPAWN, "--orchestrator", orchestrator.url))

        def workers() -> list[str]:
            return [w["url"] for w in orchestrator.get("/v2/workers").json["workers"]]

        eventually(lambda: workers() == [worker["url"]], workers)
        asked = ("--prompt", "The capital of France is", "--temperature", "0", "-n", "4")
        answer = pool.ok("infer", "--orchestrator", orchestrator.url, *asked)
        assert answer.startswith(" Paris")
        assert pool.ok("pool", "worker", "stop", worker["id"]).split()[1] == "stopped"
        assert workers() == []


def test_a_killed_worker_is_shown_as_dead_and_cleaned_up(pool: Home) -> None:
    worker = json.loads(pool.ok(*SPAWN))
    os.kill(worker["pid"], signal.SIGKILL)
    pool.is_still()
    assert [w["status"] for w in listed(pool)] == ["dead"]
    assert pool.ok("pool", "worker", "cleanup").split()[:2] == [worker["id"], "forgotten"]
    assert listed(pool) == []


def test_a_worker_that_cannot_load_says_why_and_leaves_no_record(pool: Home) -> None:
    broken = pool.folder / "broken.gguf"
    broken.write_bytes(b"GGUF\x03\x00\x00\x00")
    failed = pool.run("pool", "worker", "spawn", "cpu", "--model", str(broken))
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "cut off" in failed.stderr or "truncated" in failed.stderr, failed.stderr
    assert "read the whole log" in failed.stderr
    assert listed(pool) == []
    pool.is_still()
