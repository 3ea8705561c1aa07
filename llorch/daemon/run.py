"""One answer of a worker, from its place in the line to its last frame.

Theory of operation. A `Run` waits for its slot, iterates over the engine's events and writes a
frame for each. Whoever wants it to end earlier calls `stop`, with the reason that the last frame
shall give (a cancel, the deadline, a client that left) or with an error (the daemon leaves). That
cancels the iteration, which closes the engine's connection and so frees the slot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from llorch.core.types import Finished, GenerateRequest, PromptRead, StopReason, TextMade
from llorch.engine.protocol import Engine
from llorch.errors import LlorchError
from llorch.wire.answers import Renderer, Start


@dataclass(slots=True)
class Progress:
    """What is known of an answer that is not finished. Times in the loop's seconds."""

    began: float | None = None
    first_text: float | None = None
    tokens_out: int = 0
    prompt_tokens: int = 0

    def take(self, event: PromptRead | TextMade, clock: Callable[[], float]) -> None:
        """Count an event."""
        if isinstance(event, PromptRead):
            self.prompt_tokens = event.total
            return
        if self.first_text is None:
            self.first_text = clock()
        self.tokens_out = event.index + max(1, len(event.ids))

    def cut_off(self, reason: StopReason, now: float) -> Finished:
        """The end of an answer that was stopped here."""
        text_began = now if self.first_text is None else self.first_text
        began = now if self.began is None else self.began
        return Finished(
            stop_reason=reason,
            tokens_out=self.tokens_out,
            prompt_tokens=self.prompt_tokens,
            cached_tokens=0,
            prefill_ms=1000 * (text_began - began),
            decode_ms=1000 * (now - text_began),
        )


@dataclass(slots=True)
class Run:
    """A running or waiting answer. dispatched: it came through an orchestrator. place: where in
    the line its client last heard that it is."""

    start: Start
    request: GenerateRequest
    renderer: Renderer
    dispatched: bool
    write: Callable[[bytes], None]
    turn: asyncio.Event = field(default_factory=asyncio.Event)
    place: int | None = None
    progress: Progress = field(default_factory=Progress)
    finished: Finished | None = None
    _stopped: StopReason | LlorchError | None = None
    _pump: asyncio.Task[None] | None = None

    def stop(self, why: StopReason | LlorchError) -> None:
        """End the answer; the first reason counts."""
        if self._stopped is None and self.finished is None:
            self._stopped = why
            if self._pump is not None:
                self._pump.cancel()

    async def serve(self, engine: Engine) -> Finished:
        """Wait for the slot and write the whole answer. Raises what the engine raises, or the
        error that the run was stopped with."""
        self._pump = asyncio.ensure_future(self._generate(engine))
        if self._stopped is not None:  # while the request was being prepared
            self._pump.cancel()
        try:
            await asyncio.wait([self._pump])
        finally:
            self._pump.cancel()
        if self._pump.cancelled() or (self._stopped is not None and self.finished is None):
            self._cut_off()
        else:
            self._pump.result()
        assert self.finished is not None
        return self.finished

    def _cut_off(self) -> None:
        if isinstance(self._stopped, LlorchError):
            raise self._stopped
        reason = self._stopped or StopReason.CANCELLED
        if self.progress.began is None:
            self.renderer.refuse_unbegun(reason)
        self._finish(self.progress.cut_off(reason, asyncio.get_running_loop().time()))

    async def _generate(self, engine: Engine) -> None:
        loop = asyncio.get_running_loop()
        arrived = loop.time()
        await self.turn.wait()
        self.progress.began = loop.time()
        waited_ms = self.start.queue_wait_ms + int(1000 * (self.progress.began - arrived))
        self.start = replace(self.start, queue_wait_ms=waited_ms)
        self.write(self.renderer.started(self.start))
        async with aclosing(engine.generate(self.request)) as events:
            async for event in events:
                if isinstance(event, Finished):
                    self._finish(event)
                    return
                self.progress.take(event, loop.time)
                if isinstance(event, TextMade):
                    self.write(self.renderer.text(event))
                else:
                    self.write(self.renderer.progress(event))

    def _finish(self, event: Finished) -> None:
        self.finished = event
        self.write(self.renderer.finished(event))
