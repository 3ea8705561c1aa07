from __future__ import annotations

import asyncio
import itertools
import random
import time
from typing import TYPE_CHECKING

import pytest

from llorch.core.choice import Wishes
from llorch.core.types import Finished, PromptRead, StopReason
from llorch.engine import echo_text
from llorch.engine.echo import EchoEngine, EchoOptions
from llorch.engine.factory import choose_for, make_engine
from llorch.engine.llamacpp import LlamaCppEngine
from llorch.errors import EngineFailed, EngineUnavailable, ModelFileInvalid
from tests.engine.http_transport import http_transport
from tests.engine.subjects import Answer, ask, collect

if TYPE_CHECKING:
    from pathlib import Path


def answer_of(options: EchoOptions, prompt: str, max_tokens: int | None = 20) -> Answer:
    async def run() -> Answer:
        engine = EchoEngine(options, slots=1, ctx=1000)
        await engine.load()
        return await collect(engine, ask(prompt, max_tokens=max_tokens))

    return asyncio.run(run())


@pytest.mark.parametrize(
    "text", ["", "a", "Hello world", " two  spaces ", "😀ñ€👩\n\tx", "漢字かな"]
)
def test_tokens_become_their_text_again(text: str) -> None:
    ids = echo_text.to_ids(text)
    assert echo_text.to_text(ids) == text
    assert all(map(echo_text.is_token, ids))


@pytest.mark.parametrize("number", [-1, 0, 1, 2 << 24, 2**40])
def test_other_numbers_are_no_tokens(number: int) -> None:
    assert not echo_text.is_token(number)


def test_the_smallest_period_is_found() -> None:
    draw = random.Random(1)
    for _ in range(500):
        ids = draw.choices([1, 2], k=draw.randint(1, 12))
        slow = next(
            p
            for p in range(1, len(ids) + 1)
            if all(ids[i] == ids[i - p] for i in range(p, len(ids)))
        )
        assert echo_text.smallest_period(ids) == slow


def test_an_answer_goes_on_from_any_token() -> None:
    prompt = echo_text.to_ids("an echo 😀 repeats, an echo")
    whole = list(itertools.islice(echo_text.greedy(prompt), 40))
    for cut in range(40):
        rest = echo_text.greedy([*prompt, *whole[:cut]])
        assert list(itertools.islice(rest, 40 - cut)) == whole[cut:]


def test_it_ends_by_itself_after_the_periods_it_was_told() -> None:
    answer = answer_of(EchoOptions(periods_before_eos=3), "one two", max_tokens=None)
    assert answer.text == " one two one two"
    assert answer.finished.stop_reason is StopReason.EOS


def test_a_prompt_is_read_in_batches() -> None:
    answer = answer_of(EchoOptions(), ("word " * 70).strip())
    assert [progress.done for progress in answer.progress] == [64, 128, 140]
    assert answer.progress[-1] == PromptRead(140, 140)


def test_it_is_as_slow_as_it_is_told() -> None:
    started = time.monotonic()
    options = EchoOptions(tokens_per_second=200, prefill_tokens_per_second=1000, load_seconds=0.05)
    answer = answer_of(options, "word " * 50)
    assert time.monotonic() - started >= 0.05 + 0.1 + 19 / 200
    assert answer.finished.decode_ms >= 19 / 200 * 1000
    assert answer.finished.prefill_ms >= 100


def test_without_a_speed_others_still_run() -> None:
    async def run() -> int:
        engine = EchoEngine(slots=1, ctx=100_000)
        await engine.load()
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                beats += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(beat())
        await collect(engine, ask("a b c", max_tokens=5000))
        task.cancel()
        return beats

    assert asyncio.run(run()) > 50


def test_more_callers_than_slots_wait_as_they_do_in_llama_cpp() -> None:
    async def run() -> None:
        engine = EchoEngine(slots=1, ctx=1000)
        await engine.load()
        first = engine.generate(ask("a", max_tokens=None))
        await anext(first)
        second = asyncio.create_task(collect(engine, ask("a")))
        await asyncio.sleep(0)
        assert not second.done()
        await first.aclose()
        assert isinstance((await second).finished, Finished)

    asyncio.run(run())


def test_an_engine_that_is_not_loaded_says_so() -> None:
    async def run() -> None:
        with pytest.raises(EngineFailed, match="not loaded"):
            await collect(EchoEngine(), ask("a"))

    asyncio.run(run())


def test_the_factory_makes_what_was_chosen(tiny_model: Path, engine_command: list[str]) -> None:
    for wishes, model, kind in (
        (Wishes(engine="echo", slots=2), None, EchoEngine),
        (Wishes(ctx=512, slots=1), tiny_model, LlamaCppEngine),
    ):
        choice = choose_for(model, wishes)
        assert isinstance(make_engine(choice, model, http_transport, engine_command), kind)


def test_the_factory_reads_the_header_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(ModelFileInvalid, match="No such file"):
        choose_for(tmp_path / "absent.gguf", Wishes())
    with pytest.raises(EngineUnavailable, match="needs a model file"):
        choose_for(None, Wishes())
