"""What every engine promises: see the ordering rules of `llorch.engine.protocol`."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from llorch.core.types import (
    EngineEvent,
    GenerateRequest,
    Message,
    PromptRead,
    Sampling,
    StopReason,
    TextMade,
)
from llorch.errors import ContextLengthExceeded, EngineFailed, InvalidRequest
from tests.engine.subjects import CTX, Subject, ask, collect, echo_subject, llamacpp_subject

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from llorch.engine.protocol import Engine


@pytest.fixture(params=["echo", "llamacpp"])
def subject(request: pytest.FixtureRequest, tiny_model: Path, engine_command: list[str]) -> Subject:
    if request.param == "echo":
        return echo_subject()
    return llamacpp_subject(tiny_model, engine_command)


async def prompt_of_tokens(engine: Engine, count: int) -> tuple[int, ...]:
    ids = await engine.tokenize("now one one one")
    return (*ids, *([ids[-1]] * (count - len(ids))))


async def read_out(events: AsyncIterator[EngineEvent]) -> None:
    async for _ in events:
        continue


def test_events_come_in_order_and_the_last_one_counts_tokens(subject: Subject) -> None:
    async def run() -> None:
        async with subject.loaded() as engine:
            answer = await collect(engine, ask(subject.prompt))
            assert subject.answer.startswith(answer.text)
            assert answer.finished.stop_reason is StopReason.LENGTH
            assert answer.finished.tokens_out == 12 == len(answer.ids)
            prompt = await engine.tokenize(subject.prompt)
            assert answer.finished.prompt_tokens == len(prompt)
            assert answer.progress[-1] == PromptRead(len(prompt), len(prompt))

    asyncio.run(run())


def test_the_facts_tell_what_was_loaded(subject: Subject) -> None:
    async def run() -> None:
        engine = subject.make(3)
        facts = await engine.load()
        await engine.close()
        assert (facts.engine, facts.slots, facts.ctx) == (subject.name, 3, CTX)
        assert facts.version

    asyncio.run(run())


def test_a_character_of_several_tokens_is_never_split(subject: Subject) -> None:
    async def run() -> None:
        async with subject.loaded() as engine:
            answer = await collect(engine, ask(subject.many_bytes, max_tokens=25))
            assert answer.text.startswith(subject.many_bytes_answer) or (
                subject.many_bytes_answer.startswith(answer.text)
            )
            assert "😀" in answer.text
            assert "�" not in answer.text
            assert any(len(piece.ids) > 1 for piece in answer.pieces)

    asyncio.run(run())


def test_an_answer_goes_on_from_any_piece_with_the_same_text(subject: Subject) -> None:
    async def run() -> None:
        async with subject.loaded() as engine:
            prompt = tuple(await engine.tokenize(subject.many_bytes))
            whole = await collect(engine, ask(prompt, max_tokens=20))
            for cut in range(1, len(whole.pieces)):
                done = tuple(token for piece in whole.pieces[:cut] for token in piece.ids)
                rest = await collect(engine, ask(prompt + done, max_tokens=20 - len(done)))
                assert rest.text == "".join(piece.text for piece in whole.pieces[cut:])

    asyncio.run(run())


def test_a_stop_string_across_tokens_ends_the_answer_before_it(subject: Subject) -> None:
    async def run() -> None:
        stop = subject.answer[2:8]
        async with subject.loaded() as engine:
            answer = await collect(engine, ask(subject.prompt, stop=("never said", stop)))
            assert answer.text == subject.answer[:2]
            assert answer.finished.stop_reason is StopReason.STOP
            assert answer.finished.stop_sequence == stop
            assert 0 < answer.finished.tokens_out < 12
            assert answer.finished.prompt_tokens > 0

    asyncio.run(run())


def test_text_held_back_for_a_stop_string_is_not_lost_at_the_length_limit(
    subject: Subject,
) -> None:
    async def run() -> None:
        async with subject.loaded() as engine:
            free = await collect(engine, ask(subject.prompt))
            held = await collect(engine, ask(subject.prompt, stop=(free.text[-4:] + "\0",)))
            assert held.text == free.text
            assert held.ids == free.ids
            assert held.finished.stop_reason is StopReason.LENGTH

    asyncio.run(run())


def test_one_seed_gives_one_text_and_other_seeds_give_others(subject: Subject) -> None:
    async def run() -> None:
        async with subject.loaded() as engine:
            texts = [
                (await collect(engine, ask(subject.prompt, seed=seed, temperature=1.5))).text
                for seed in (0, 0, 1, 2, 2**32 - 2)
            ]
            assert texts[0] == texts[1]
            assert len(set(texts)) > 1

    asyncio.run(run())


def test_all_slots_answer_at_once(subject: Subject) -> None:
    async def run() -> None:
        async with subject.loaded(slots=4) as engine:
            request = ask(subject.prompt, max_tokens=None)
            streams = [engine.generate(request) for _ in range(4)]
            # Every stream has begun before any of them is read on: so all have a slot.
            for stream in streams:
                while not isinstance(await anext(stream), TextMade):
                    continue
            for stream in streams:
                await stream.aclose()
            answers = await asyncio.gather(
                *(collect(engine, ask(subject.prompt)) for _ in range(4))
            )
            assert len({answer.text for answer in answers}) == 1

    asyncio.run(run())


def test_a_cancelled_answer_frees_its_slot(subject: Subject) -> None:
    async def run() -> None:
        async with subject.loaded(slots=1) as engine:
            async with aclosing(engine.generate(ask(subject.prompt, max_tokens=None))) as events:
                async for event in events:
                    if isinstance(event, TextMade) and event.index > 2:
                        break
            answer = await collect(engine, ask(subject.prompt))
            assert subject.answer.startswith(answer.text)

    asyncio.run(run())


def test_a_cancelled_prompt_frees_its_slot(subject: Subject) -> None:
    async def run() -> None:
        async with subject.loaded(slots=1) as engine:
            prompt = await prompt_of_tokens(engine, CTX - 100)
            async with aclosing(engine.generate(ask(prompt))) as events:
                first = await anext(events)
            assert isinstance(first, PromptRead)
            assert first.done < first.total
            answer = await collect(engine, ask(subject.prompt))
            assert subject.answer.startswith(answer.text)

    asyncio.run(run())


def test_cancelling_the_task_that_generates_frees_the_slot(subject: Subject) -> None:
    async def run() -> None:
        async with subject.loaded(slots=1) as engine:
            begun = asyncio.Event()
            prompt = await prompt_of_tokens(engine, CTX - 100)

            async def generate(request: GenerateRequest) -> None:
                async with aclosing(engine.generate(request)) as events:
                    async for _ in events:
                        begun.set()
                        await asyncio.sleep(0)

            task = asyncio.create_task(generate(ask(prompt, max_tokens=None)))
            await begun.wait()
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert (await collect(engine, ask(subject.prompt))).text

    asyncio.run(run())


def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers(subject: Subject) -> None:
    async def run() -> None:
        async with subject.loaded() as engine:
            prompt = await prompt_of_tokens(engine, CTX + 5)
            with pytest.raises(ContextLengthExceeded) as caught:
                await collect(engine, ask(prompt))
            assert caught.value.extra == {"n_prompt_tokens": CTX + 5, "n_ctx": CTX}

    asyncio.run(run())


def test_an_answer_without_a_limit_ends_with_the_context(subject: Subject) -> None:
    async def run() -> None:
        async with subject.loaded() as engine:
            prompt = await prompt_of_tokens(engine, CTX - 9)
            answer = await collect(engine, ask(prompt, max_tokens=None))
            assert answer.finished.stop_reason is StopReason.LENGTH
            assert answer.finished.tokens_out == 9

    asyncio.run(run())


@pytest.mark.parametrize("prompt", [(), (2**31,)], ids=["no tokens", "no token of the model"])
def test_a_prompt_of_impossible_ids_is_refused(subject: Subject, prompt: tuple[int, ...]) -> None:
    async def run() -> None:
        async with subject.loaded() as engine:
            with pytest.raises(InvalidRequest):
                await collect(engine, ask(prompt))
            with pytest.raises(InvalidRequest):
                await collect(engine, ask("now", max_tokens=0))

    asyncio.run(run())


def test_all_sampling_fields_are_taken(subject: Subject) -> None:
    sampling = Sampling(
        temperature=0.8, top_p=0.9, top_k=40, min_p=0.05, repetition_penalty=1.1, seed=5
    )

    async def run() -> None:
        async with subject.loaded() as engine:
            request = GenerateRequest(subject.prompt, 8, sampling, seed=5)
            first, second = await collect(engine, request), await collect(engine, request)
            assert first.text == second.text

    asyncio.run(run())


def test_a_chat_becomes_a_prompt_that_has_all_messages(subject: Subject) -> None:
    async def run() -> None:
        async with subject.loaded() as engine:
            prompt = await engine.render_chat(
                [Message("system", "be brief"), Message("user", "hello")]
            )
            assert prompt.index("be brief") < prompt.index("hello")

    asyncio.run(run())


def test_a_dead_engine_says_why_in_running_and_later_answers(subject: Subject) -> None:
    async def run() -> None:
        async with subject.loaded(slots=2) as engine:
            death = asyncio.create_task(engine.wait_dead())
            events = engine.generate(ask(subject.prompt, max_tokens=None))
            while not isinstance(await anext(events), TextMade):
                continue
            assert not death.done()
            subject.kill(engine)
            with pytest.raises(EngineFailed, match="SIGKILL"):
                await read_out(events)
            assert "SIGKILL" in await death
            with pytest.raises(EngineFailed, match="SIGKILL"):
                await collect(engine, ask(subject.prompt))

    asyncio.run(run())
