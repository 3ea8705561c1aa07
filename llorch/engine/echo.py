"""The echo engine: a deterministic fake that ships, for trying llorch out and for measuring it.

It keeps every rule of `protocol` that the real engines keep, and computes nothing: tokens and the
rule of its answers are in `echo_text`. With no speeds set it costs next to nothing, so what is
measured in front of it is llorch itself.
"""

from __future__ import annotations

import asyncio
import codecs
import time
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llorch.core.types import (
    EngineEvent,
    Finished,
    GenerateRequest,
    Message,
    PromptRead,
    StopReason,
    TextMade,
)
from llorch.engine import echo_text
from llorch.engine.protocol import EngineFacts
from llorch.engine.stop import StopCutter
from llorch.errors import ContextLengthExceeded, EngineFailed, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence

# An answer without a speed gives way to others this often.
TOKENS_WITHOUT_A_PAUSE = 64


@dataclass(frozen=True, slots=True)
class EchoOptions:
    """How slow to be. 0 is as fast as it can; rates are of one stream.

    periods_before_eos: end by itself after so many periods of the text (prompt included); 0 never.
    """

    tokens_per_second: float = 0.0
    prefill_tokens_per_second: float = 0.0
    load_seconds: float = 0.0
    periods_before_eos: int = 0


class EchoEngine:
    """`protocol.Engine` that repeats the prompt."""

    def __init__(
        self,
        options: EchoOptions | None = None,
        slots: int = 4,
        ctx: int = 4096,
        batch: int = 64,
    ) -> None:
        """slots: callers served at once, others wait. ctx: tokens of prompt and answer."""
        self._options = options or EchoOptions()
        self._slots = slots
        self._ctx = ctx
        self._batch = batch
        self._free: asyncio.Semaphore | None = None
        self._dead: asyncio.Future[str] | None = None

    async def load(self) -> EngineFacts:
        """Take `load_seconds`."""
        await asyncio.sleep(self._options.load_seconds)
        self._free = asyncio.Semaphore(self._slots)
        self._dead = asyncio.get_running_loop().create_future()
        return EngineFacts("echo", "cpu", "cpu", self._slots, self._ctx, 1, self._batch, "1", 0)

    def die(self, reason: str) -> None:
        """Fail as a crashed engine does: running answers end with EngineFailed."""
        dead = self._loaded()
        if not dead.done():
            dead.set_result(reason)

    def _loaded(self) -> asyncio.Future[str]:
        if self._dead is None:
            raise EngineFailed("the echo engine is not loaded")
        return self._dead

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[EngineEvent, None]:
        """Events of one answer, see `protocol`."""
        self._check_alive()
        prompt = self._prompt(request)
        assert self._free is not None
        async with self._free:
            started = time.monotonic()
            async with aclosing(self._read(len(prompt))) as read:
                async for progress in read:
                    yield progress
            answer = self._answer(request, prompt, (time.monotonic() - started) * 1000)
            while answer.finished is None:
                for piece in answer.step():
                    yield piece
                await self._pace(answer)
            yield answer.finished

    def _prompt(self, request: GenerateRequest) -> list[int]:
        given = request.prompt
        if request.max_tokens is not None and request.max_tokens < 1:
            raise InvalidRequest("max_tokens must be at least 1")
        prompt = echo_text.to_ids(given) if isinstance(given, str) else list(given)
        if not prompt:
            raise InvalidRequest("the prompt is empty", hint="send at least one word")
        if not all(map(echo_text.is_token, prompt)):
            raise InvalidRequest("the prompt has token ids that the engine does not know")
        if len(prompt) >= self._ctx:
            raise ContextLengthExceeded.of(len(prompt), self._ctx)
        return prompt

    async def _read(self, total: int) -> AsyncGenerator[PromptRead, None]:
        """Read the prompt batch by batch, at the speed that was set."""
        rate, done = self._options.prefill_tokens_per_second, 0
        while done < total:
            step = min(self._batch, total - done)
            await asyncio.sleep(step / rate if rate else 0)
            self._check_alive()
            done += step
            yield PromptRead(done, total)

    def _answer(self, request: GenerateRequest, prompt: list[int], prefill_ms: float) -> _Answer:
        room = self._ctx - len(prompt)
        limit = room if request.max_tokens is None else min(room, request.max_tokens)
        if request.sampling.temperature > 0:
            return _Answer(
                echo_text.drawn(prompt, request.seed), limit, None, request, prompt, prefill_ms
            )
        periods = self._options.periods_before_eos
        eos = periods * echo_text.smallest_period(prompt) - len(prompt) if periods else None
        return _Answer(echo_text.greedy(prompt), limit, eos, request, prompt, prefill_ms)

    async def _pace(self, answer: _Answer) -> None:
        """Wait for the time of the next token; without a speed only let others run."""
        rate = self._options.tokens_per_second
        if rate:
            await asyncio.sleep(max(0.0, answer.started + answer.count / rate - time.monotonic()))
        elif answer.count % TOKENS_WITHOUT_A_PAUSE == 0:
            await asyncio.sleep(0)
        self._check_alive()

    def _check_alive(self) -> None:
        dead = self._loaded()
        if dead.done():
            raise EngineFailed(dead.result(), hint="start the worker again")

    async def tokenize(self, text: str) -> list[int]:
        """Token ids of a text, by the rule of `echo_text`."""
        return echo_text.to_ids(text)

    async def render_chat(self, messages: Sequence[Message]) -> str:
        """One line `role: text` for each message."""
        return "\n".join(f"{message.role}: {message.content}" for message in messages)

    async def wait_dead(self) -> str:
        """The reason given to `die`; never returns before."""
        return await asyncio.shield(self._loaded())

    async def close(self) -> None:
        """Nothing is held."""


class _Answer:
    """One answer as it grows: tokens become text, text is cut at stop strings and limits."""

    def __init__(
        self,
        tokens: Iterator[int],
        limit: int,
        eos_at: int | None,
        request: GenerateRequest,
        prompt: Sequence[int],
        prefill_ms: float,
    ) -> None:
        self.count = 0
        self.finished: Finished | None = None
        self.started = time.monotonic()
        self._tokens = tokens
        self._limit = limit
        self._eos_at = eos_at
        self._cutter = StopCutter(request.stop)
        self._prompt_tokens = len(prompt)
        self._prefill_ms = prefill_ms
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._open_text, self._open_ids = "", list[int]()

    def step(self) -> list[TextMade]:
        """Make one more token, or end. Returns the text that may go out."""
        if self._eos_at is not None and self.count >= self._eos_at:
            return self._end(StopReason.EOS)
        if self.count >= self._limit:
            return self._end(StopReason.LENGTH)
        piece = self._piece(next(self._tokens))
        released = [] if piece is None else self._cutter.push(piece)
        if self._cutter.found is not None:
            self._finish(StopReason.STOP, self._cutter.found)
        return released

    def _piece(self, token: int) -> TextMade | None:
        """The text up to this token, None while it ends inside a character."""
        self.count += 1
        self._open_ids.append(token)
        self._open_text += self._decoder.decode(echo_text.to_bytes(token))
        if self._decoder.getstate()[0]:
            return None
        ids = tuple(self._open_ids)
        piece = TextMade(self._open_text, ids, self.count - len(ids))
        self._open_text, self._open_ids = "", []
        return piece

    def _end(self, reason: StopReason) -> list[TextMade]:
        self._finish(reason, None)
        return self._cutter.rest()

    def _finish(self, reason: StopReason, stop: str | None) -> None:
        decode_ms = (time.monotonic() - self.started) * 1000
        self.finished = Finished(
            reason, self.count, self._prompt_tokens, 0, self._prefill_ms, decode_ms, stop
        )
