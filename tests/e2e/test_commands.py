"""Every line of the README's tour, against daemons of the built file."""

from __future__ import annotations

import json
import re
import subprocess

from tests.e2e.client import Stream
from tests.e2e.conftest import Fleet
from tests.e2e.home import Home, one_json_line_each

PROMPT = ("--prompt", "Hello world", "--max-tokens", "30")


def test_curl_gets_the_events_of_a_task_from_the_orchestrator(fleet: Fleet) -> None:
    body = '{"model":"smollm2-135m","prompt":"Hello","max_tokens":30,"stream":true}'
    url = f"{fleet.orchestrator.url}/v2/tasks"
    curl = ["curl", "-sSN", "-H", "Content-Type: application/json", "-d", body, url]
    done = subprocess.run(curl, capture_output=True, timeout=60, check=True)
    names = re.findall(r"^event: (\w+)$", done.stdout.decode(), re.MULTILINE)
    assert [n for i, n in enumerate(names) if n != names[i - 1] or i == 0] in (
        ["queued", "started", "token", "end"],
        ["queued", "started", "progress", "token", "end"],
    )
    assert done.stdout.endswith(b"\n\n")


def test_infer_asks_the_orchestrator(fleet: Fleet) -> None:
    done = fleet.home.run("infer", "--orchestrator", fleet.orchestrator.url, *PROMPT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert re.match(r"\d+ tokens, .* stop reason: (length|eos)\n$", done.stderr)


def test_infer_asks_a_worker_under_the_name_localhost(fleet: Fleet) -> None:
    worker = f"localhost:{fleet.worker.port}"
    done = fleet.home.run("infer", "--worker", worker, *PROMPT, "--json")
    assert done.returncode == 0, done.stderr
    events = one_json_line_each(done.stdout)
    text = "".join(event["t"] for event in events if event["event"] == "token")
    assert text
    assert events[-1]["event"] == "end"
    assert done.stderr == ""


def test_both_give_the_same_answer_at_temperature_0(fleet: Fleet) -> None:
    greedy = ("infer", *PROMPT, "--temperature", "0")
    asked = [("--worker", fleet.worker.address), ("--orchestrator", fleet.orchestrator.url)]
    first, second = (fleet.home.ok(*greedy, *place) for place in asked)
    assert first == second


def test_the_fleet_is_shown_as_it_is(fleet: Fleet) -> None:
    (worker,) = fleet.orchestrator.get("/v2/workers").json["workers"]
    facts = {"model": "smollm2-135m", "backend": "cpu", "engine": "llamacpp", "status": "ready"}
    assert worker | facts == worker
    assert (worker["slots"], worker["slots_free"], worker["ctx"]) == (4, 4, 8192)
    assert worker["url"] == fleet.worker.url
    (model,) = fleet.orchestrator.get("/v2/models").json["models"]
    assert model["id"] == "smollm2-135m"
    assert fleet.orchestrator.health()["status"] == "ok"


def test_a_task_that_was_accepted_is_followed_later(fleet: Fleet) -> None:
    body = {"model": "smollm2-135m", "prompt": "The capital of France is", "temperature": 0}
    accepted = fleet.orchestrator.post("/v2/tasks", body | {"max_tokens": 12})
    assert accepted.status == 202
    events_url = accepted.json["events_url"]
    whole = fleet.orchestrator.stream(events_url).rest()
    assert whole.text.startswith(" Paris")
    assert whole.end["tokens_out"] == 12
    assert _from(fleet, events_url, whole, 5) == whole.raw.split(whole.named("token")[5].raw)[1]
    shown = fleet.orchestrator.get(f"/v2/tasks/{accepted.json['task_id']}").json
    assert shown["text"] == whole.text
    assert accepted.headers["location"].endswith(accepted.json["task_id"])


def _from(fleet: Fleet, events_url: str, whole: Stream, place: int) -> bytes:
    """What is sent to a client that has the tokens up to a place."""
    last = whole.named("token")[place].event_id
    return fleet.orchestrator.stream(events_url, last_event_id=last).rest().raw


def test_workers_are_spawned_listed_used_and_stopped(home: Home) -> None:
    spawned = home.run("pool", "worker", "spawn", "cpu", "--model", "smollm2-135m", "--slots", "1")
    assert spawned.returncode == 0, spawned.stderr
    worker_id, url, _, pid = spawned.stdout.split()
    (listed,) = json.loads(home.ok("pool", "worker", "list", "--json"))
    assert (listed["id"], listed["url"], str(listed["pid"])) == (worker_id, url, pid)
    assert (listed["status"], listed["model"], listed["backend"]) == (
        "ready",
        "smollm2-135m",
        "cpu",
    )
    asked = ("infer", "--worker", url, "--prompt", "The capital of France is", "--temperature", "0")
    assert home.ok(*asked).startswith(" Paris")
    assert "ready" in home.ok("pool", "worker", "logs", worker_id)
    assert home.ok("pool", "worker", "stop-all").split() == [worker_id, "stopped"]
    home.is_still()
    assert json.loads(home.ok("pool", "worker", "list", "--json")) == []
    assert home.run("pool", "worker", "stop-all").returncode == 0


def test_the_pool_tells_what_this_machine_has(home: Home) -> None:
    (model,) = json.loads(home.ok("pool", "models", "list", "--json"))
    assert model["id"] == "smollm2-135m"
    known = json.loads(home.ok("pool", "models", "catalog", "--json"))
    assert {"smollm2-135m", "qwen-0.5b", "tinyllama", "phi3", "mistral"} == {m["id"] for m in known}
    assert "cpu" in home.ok("pool", "backends")
    assert "smollm2-135m" in home.ok("pool", "status")
    home.ok("pool", "models", "register", "mine", "--path", model["path"])
    answer = home.ok("infer", "--model", "mine", "--prompt", "The capital of France is", "-n", "3")
    assert answer.strip()
    home.ok("pool", "models", "unregister", "mine")
    home.ok("pool", "models", "remove", "smollm2-135m", "--yes")
    assert json.loads(home.ok("pool", "models", "list", "--json")) == []
