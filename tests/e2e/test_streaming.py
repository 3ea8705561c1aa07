"""Tokens on their way: one by one, unchanged by the relay, whole characters, several at once."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from tests.e2e.client import Stream
from tests.e2e.conftest import Fleet
from tests.e2e.daemon import Daemon, a_task
from tests.e2e.home import Home, finish, interrupt
from tests.e2e.wait import eventually

MANY_READS = 10
PIPE_BYTES = 64 * 1024
ENDLESS = {"max_tokens": 4000}


def both(fleet: Fleet) -> list[tuple[Daemon, str]]:
    return [(fleet.worker, "/execute"), (fleet.orchestrator, "/v2/tasks")]


def idle(fleet: Fleet) -> None:
    eventually(lambda: fleet.worker.health()["slots_free"] == 4, fleet.worker.health)


@pytest.mark.parametrize("place", [0, 1], ids=["worker", "orchestrator"])
def test_tokens_arrive_while_later_ones_are_not_made_yet(fleet: Fleet, place: int) -> None:
    daemon, path = both(fleet)[place]
    stream = daemon.stream(path, a_task(stream=True, task_id="endless", **ENDLESS))
    stream.sees("token")
    assert fleet.worker.health()["slots_free"] == 3
    texts = {stream.text}
    while len(texts) < MANY_READS:
        stream.read()
        texts.add(stream.text)
    assert not stream.named("end")
    assert fleet.worker.health()["slots_free"] == 3
    fleet.worker.post("/cancel", {"task_id": "endless"})
    assert stream.rest().end["stop_reason"] == "cancelled"
    idle(fleet)


def test_infer_prints_each_token_as_it_comes(fleet: Fleet) -> None:
    place = ("--orchestrator", fleet.orchestrator.url)
    running = fleet.home.start("infer", *place, "--prompt", "Once upon a time", "-n", "4000")
    assert running.stdout is not None
    reads = [os.read(running.stdout.fileno(), 65536) for _ in range(MANY_READS)]
    assert all(reads)
    assert fleet.worker.health()["slots_free"] == 3
    interrupt(running)
    assert finish(running)[0] == 130
    idle(fleet)


def test_an_answer_longer_than_any_pipe_waits_for_a_reader_that_takes_its_time(
    empty_home: Home,
) -> None:
    """The worker is done, and its slot free, before the first byte is read."""
    prompt = " all work and no play"
    with empty_home.daemon("serve-worker", "--engine", "echo", "--ctx", "200000") as worker:
        asked = ("--prompt", prompt[1:], "--max-tokens", "100000", "--temperature", "0")
        running = empty_home.start("infer", "--worker", worker.address, *asked)
        eventually(lambda: b'llorch_tasks_total{outcome="length"} 1.0' in _metrics(worker))
        code, out, errors = finish(running)
    assert code == 0, errors
    assert errors.startswith("100000 tokens")
    assert len(out) > 2 * PIPE_BYTES
    assert out == (prompt * len(out))[: len(out) - 1] + "\n"


def _metrics(daemon: Daemon) -> bytes:
    return daemon.get("/metrics").body


@pytest.mark.parametrize(
    "how", [{"temperature": 0}, {"temperature": 0.9, "seed": 7}], ids=["greedy", "seed"]
)
def test_the_relay_changes_no_byte_of_what_the_worker_says(
    fleet: Fleet, how: dict[str, Any]
) -> None:
    task = a_task("Once upon a time", stream=True, **({"max_tokens": 48} | how))
    fleet.worker.stream("/execute", task).rest()  # from now on the prompt is in the cache
    own = fleet.worker.stream("/execute", task).rest()
    relayed = fleet.orchestrator.stream("/v2/tasks", task).rest()
    assert [f.raw for f in relayed.named("token")] == [f.raw for f in own.named("token")]
    assert relayed.end["tokens_out"] == own.end["tokens_out"]
    if "seed" in how:
        seeds = [s.named("started")[0].json["seed"] for s in (own, relayed)]
        assert seeds == [7, 7]


def test_the_places_and_the_ids_of_tokens_count_without_a_gap(fleet: Fleet) -> None:
    stream = fleet.orchestrator.stream("/v2/tasks", a_task(stream=True, max_tokens=40)).rest()
    index = 0
    for frame in stream.named("token"):
        place, _, ids = frame.event_id.removeprefix("t").partition(":")
        assert int(place) == frame.json["i"] == index
        index += len(ids.split(","))
    assert index == stream.end["tokens_out"]


def test_characters_of_several_tokens_are_never_split(fleet: Fleet) -> None:
    prompt = "<|im_start|>user\nRepeat: 😀👩<|im_end|>\n<|im_start|>assistant\n😀👩 "
    for daemon, path in both(fleet):
        stream = daemon.stream(path, a_task(prompt, stream=True, max_tokens=12)).rest()
        assert "👩" in stream.text
        for frame in stream.named("token"):
            assert "�" not in frame.json["t"]
    asked = ("infer", "--worker", fleet.worker.address, "--temperature", "0", "-n", "12")
    assert fleet.home.ok(*asked, "--prompt", "-", stdin=prompt.encode()) == f"{stream.text}\n"


def test_a_stop_string_ends_the_answer_and_is_not_part_of_it(fleet: Fleet) -> None:
    for daemon, path in both(fleet):
        stream = daemon.stream(path, a_task(stream=True, stop=["nowhere", "ris."])).rest()
        assert stream.text == " Pa"
        assert (stream.end["stop_reason"], stream.end["stop_sequence"]) == ("stop", "ris.")
    asked = ("--prompt", "The capital of France is", "--temperature", "0", "--stop", "ris.")
    assert fleet.home.ok("infer", "--worker", fleet.worker.address, *asked) == " Pa\n"


def test_eight_streams_share_four_slots_and_all_are_right(fleet: Fleet) -> None:
    capitals = {"France": "Paris", "Germany": "Berlin", "Japan": "Tokyo", "Italy": "Rome"}
    prompts = [f"The capital of {country} is" for country in capitals] * 2
    streams: list[Stream | None] = [None] * len(prompts)

    def follow(place: int) -> None:
        task = a_task(prompts[place], stream=True, max_tokens=24)
        streams[place] = fleet.orchestrator.stream("/v2/tasks", task).rest()

    threads = [threading.Thread(target=follow, args=(i,)) for i in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for stream, city in zip(streams, [*capitals.values()] * 2, strict=True):
        assert stream is not None
        assert stream.end["tokens_out"] == 24
        assert city in stream.text, stream.text
    idle(fleet)
