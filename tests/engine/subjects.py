"""The engines that the contract tests run on, each with prompts whose answers are known."""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llorch.core.choice import Choice
from llorch.core.types import Finished, GenerateRequest, PromptRead, Sampling, TextMade
from llorch.engine.echo import EchoEngine, EchoOptions
from llorch.engine.llamacpp import LlamaCppEngine
from tests.engine.http_transport import http_transport
from tests.engine.tiny_model import STORY

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from pathlib import Path

    from llorch.engine.protocol import Engine

CTX = 1024


@dataclass(frozen=True)
class Subject:
    """One engine under test.

    prompt is answered without end by a text that begins with `answer`; `many_bytes` by a text that
    begins with `many_bytes_answer`, which has characters made of several tokens.
    """

    name: str
    make: Callable[[int], Engine]
    prompt: str
    answer: str
    many_bytes: str
    many_bytes_answer: str
    kill: Callable[[Any], None]

    @asynccontextmanager
    async def loaded(self, slots: int = 1) -> AsyncGenerator[Engine, None]:
        engine = self.make(slots)
        await engine.load()
        try:
            yield engine
        finally:
            await engine.close()


def echo_subject() -> Subject:
    return Subject(
        name="echo",
        make=lambda slots: EchoEngine(EchoOptions(), slots, CTX),
        prompt="one two three",
        answer=" one two three" * 9,
        many_bytes="smile 😀 and 👩 ñ €uro",
        many_bytes_answer=" smile 😀 and 👩 ñ €uro smile 😀",
        kill=lambda engine: engine.die("killed by SIGKILL, said the test"),
    )


def llamacpp_subject(model: Path, command: Sequence[str]) -> Subject:
    import os
    import signal

    return Subject(
        name="llamacpp",
        make=lambda slots: LlamaCppEngine(model, tiny_choice(slots), http_transport, command),
        prompt="now one",
        answer=" two three four five six seven eight one" * 3,
        many_bytes="tell",
        many_bytes_answer=STORY,
        kill=lambda engine: os.kill(engine.pid, signal.SIGKILL),
    )


def tiny_choice(slots: int, ctx: int = CTX) -> Choice:
    return Choice("llamacpp", "cpu", "cpu", 0, 2, 64, ctx, slots, 0, False, 0, ())


def ask(prompt: str | tuple[int, ...], **changes: Any) -> GenerateRequest:
    """A greedy request for 12 tokens, but for what the changes say."""
    temperature = changes.pop("temperature", 0.0)
    settings: dict[str, Any] = {"max_tokens": 12, "seed": 1} | changes
    return GenerateRequest(prompt=prompt, sampling=Sampling(temperature=temperature), **settings)


@dataclass(frozen=True)
class Answer:
    """All events of one generation, sorted by kind."""

    progress: tuple[PromptRead, ...]
    pieces: tuple[TextMade, ...]
    finished: Finished

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(token for piece in self.pieces for token in piece.ids)


def check_index(event: TextMade, before: Sequence[TextMade]) -> None:
    """Positions have no gap; only a piece whose ids are unknown does not say how far it reaches."""
    if not before:
        assert event.index == 0
    elif before[-1].ids:
        assert event.index == before[-1].index + len(before[-1].ids)
    else:
        assert event.index > before[-1].index


async def collect(engine: Engine, request: GenerateRequest) -> Answer:
    """Run one generation to its end, checking the ordering rules of `protocol` on the way."""
    progress: list[PromptRead] = []
    pieces: list[TextMade] = []
    finished: list[Finished] = []
    async with aclosing(engine.generate(request)) as events:
        async for event in events:
            assert not finished, "an event after the last"
            if isinstance(event, PromptRead):
                assert not pieces, "the prompt was read after text was made"
                assert event.done >= (progress[-1].done if progress else 0)
                progress.append(event)
            elif isinstance(event, TextMade):
                assert event.text
                check_index(event, pieces)
                pieces.append(event)
            else:
                finished.append(event)
    assert len(finished) == 1
    return Answer(tuple(progress), tuple(pieces), finished[0])
