"""The llamacpp engine on SmolLM2-135M-Instruct."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from llorch.core.choice import Wishes
from llorch.core.types import Message, PromptRead, StopReason
from llorch.engine.factory import choose_for
from llorch.engine.llamacpp import LlamaCppEngine
from llorch.errors import ContextLengthExceeded
from tests.engine.http_transport import http_transport
from tests.engine.subjects import ask, collect

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = pytest.mark.e2e


@asynccontextmanager
async def loaded(
    model: Path, command: list[str], slots: int = 2, ctx: int = 2048
) -> AsyncGenerator[LlamaCppEngine, None]:
    choice = choose_for(model, Wishes(slots=slots, ctx=ctx))
    engine = LlamaCppEngine(model, choice, http_transport, command)
    facts = await engine.load()
    assert facts.ctx == ctx
    assert facts.memory_bytes is not None
    try:
        yield engine
    finally:
        await engine.close()


def test_it_knows_the_capital_of_france(real_model: Path, engine_command: list[str]) -> None:
    async def run() -> None:
        async with loaded(real_model, engine_command) as engine:
            answer = await collect(engine, ask("The capital of France is"))
            assert answer.text.startswith(" Paris")
            assert len(answer.pieces) == answer.finished.tokens_out
            stopped = await collect(engine, ask("The capital of France is", stop=("ris.",)))
            assert stopped.text == " Pa"
            assert stopped.finished.stop_reason is StopReason.STOP

    asyncio.run(run())


def test_a_chat_is_answered_to_its_end(real_model: Path, engine_command: list[str]) -> None:
    async def run() -> None:
        async with loaded(real_model, engine_command) as engine:
            prompt = await engine.render_chat([Message("user", "Say hello.")])
            assert "<|im_start|>user\nSay hello.<|im_end|>" in prompt
            answer = await collect(engine, ask(prompt, max_tokens=None))
            assert answer.finished.stop_reason is StopReason.EOS
            assert "<|im_end|>" not in answer.text

    asyncio.run(run())


def test_an_answer_goes_on_from_the_ids_so_far(real_model: Path, engine_command: list[str]) -> None:
    async def run() -> None:
        async with loaded(real_model, engine_command) as engine:
            prompt = tuple(await engine.tokenize("Once upon a time"))
            whole = await collect(engine, ask(prompt, max_tokens=24))
            rest = await collect(engine, ask(prompt + whole.ids[:10], max_tokens=14))
            assert rest.ids == whole.ids[10:]
            assert await engine.detokenize(whole.ids) == whole.text

    asyncio.run(run())


def test_characters_of_several_tokens_are_whole_and_known(
    real_model: Path, engine_command: list[str]
) -> None:
    prompt = "<|im_start|>user\nRepeat: 😀👩<|im_end|>\n<|im_start|>assistant\n😀👩 "

    async def run() -> None:
        async with loaded(real_model, engine_command) as engine:
            answer = await collect(engine, ask(prompt, max_tokens=12))
            assert "👩" in answer.text
            assert "�" not in answer.text
            assert await engine.detokenize(answer.ids) == answer.text

    asyncio.run(run())


def test_a_long_prompt_that_is_cancelled_leaves_the_slot_at_once(
    real_model: Path, engine_command: list[str]
) -> None:
    async def run() -> None:
        async with loaded(real_model, engine_command, slots=1, ctx=8192) as engine:
            async with aclosing(engine.generate(ask("word " * 6000))) as events:
                async for event in events:
                    assert isinstance(event, PromptRead)
                    if event.done:
                        break
            answer = await collect(engine, ask("The capital of France is"))
            assert answer.text.startswith(" Paris")
            with pytest.raises(ContextLengthExceeded):
                await collect(engine, ask("word " * 9000))

    asyncio.run(run())
