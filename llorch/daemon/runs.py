"""All answers of a worker: who runs, who waits, and the checks before either."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from llorch.core.forecast import PRIOR_SECONDS, moving_average
from llorch.core.slots import SlotLine
from llorch.core.types import Finished, GenerateRequest, StopReason, TaskRequest
from llorch.daemon.run import Run
from llorch.engine.protocol import Engine, EngineFacts
from llorch.errors import Conflict, ContextLengthExceeded, LlorchError
from llorch.net.exchange import JSON, Exchange
from llorch.net.metrics import WorkerMetrics
from llorch.wire import sse
from llorch.wire.answers import Renderer, Start
from llorch.wire.tasks import SEEDS, SPECIAL_TOKENS, Attempt


@dataclass(frozen=True, slots=True)
class Ask:
    """A validated request of a client. renderer: makes the answer's renderer from the prompt."""

    request: TaskRequest
    attempt: Attempt
    renderer: Callable[[str], Renderer]


class Runs:
    """The runs of one loaded engine. `on_change` is called when one that did not come through an
    orchestrator takes or frees a slot."""

    def __init__(
        self, engine: Engine, facts: EngineFacts, worker_id: str, model: str, line_bound: int
    ) -> None:
        self.engine = engine
        self.facts = facts
        self.model = model
        self.line = SlotLine(facts.slots, line_bound)
        self.metrics = WorkerMetrics(self.line)
        self.tokens_per_second: float | None = None
        self.on_change: Callable[[], None] = lambda: None
        self._worker_id = worker_id
        self._runs: dict[str, Run] = {}
        self._service_seconds = PRIOR_SECONDS
        self._closed: LlorchError | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def slots_elsewhere(self) -> int:
        """Slots that clients of our own use, past the orchestrator."""
        runs = self._runs
        return sum(not runs[i].dispatched for i in self.line.running if i in runs)

    async def serve(self, ask: Ask, exchange: Exchange) -> None:
        """Answer a request: a stream if it asks for one, else whole. Raises every error that can
        be told before the answer begins."""
        prompt = await self._prepare(ask.request)
        if self._closed is not None:
            raise self._closed
        run = self._new_run(ask, prompt)
        run_id = _run_id(ask.attempt.task_id, ask.attempt.number)
        if self.line.enter(run_id) is None:
            run.turn.set()
        self._runs[run_id] = run
        self._idle.clear()
        deadline = asyncio.get_running_loop().call_later(
            ask.request.deadline_ms / 1000, run.stop, StopReason.DEADLINE
        )
        exchange.over.add_done_callback(lambda _: run.stop(StopReason.CANCELLED))
        try:
            self._note_change(run)
            await (self._stream if ask.request.stream else self._whole)(run, exchange)
        finally:
            deadline.cancel()
            self._remove(run_id)

    def cancel(self, task_id: str) -> bool:
        """Stop whatever runs or waits of a task; False where nothing does."""
        found = [run for run in self._runs.values() if run.start.task_id == task_id]
        for run in found:
            run.stop(StopReason.CANCELLED)
        return bool(found)

    def stop_all(self, error: LlorchError) -> None:
        """End every run with an error, and take none any more."""
        self._closed = error
        for run in list(self._runs.values()):
            run.stop(error)

    async def wait_idle(self) -> None:
        """Return when nothing runs or waits."""
        await self._idle.wait()

    async def count_tokens(self, request: TaskRequest) -> int:
        """How many tokens the prompt of a request has."""
        return len(await self.engine.tokenize(await self._prompt(request)))

    # -- before the answer ----------------------------------------------------------------------

    async def _prompt(self, request: TaskRequest) -> str:
        if request.prompt is not None:
            return request.prompt
        return await self.engine.render_chat(request.messages)

    async def _prepare(self, request: TaskRequest) -> str:
        """The templated prompt. Raises ContextLengthExceeded; a prompt with fewer bytes than the
        context has tokens surely fits, so most are not counted."""
        prompt = await self._prompt(request)
        ctx = self.facts.ctx
        if len(prompt.encode()) + SPECIAL_TOKENS >= ctx:
            count = len(await self.engine.tokenize(prompt))
            if count >= ctx:
                raise ContextLengthExceeded.of(count, ctx)
        return prompt

    def _new_run(self, ask: Ask, prompt: str) -> Run:
        request, attempt = ask.request, ask.attempt
        if _run_id(attempt.task_id, attempt.number) in self._runs:
            raise Conflict(f"the task {attempt.task_id} is already running here")
        seed = request.sampling.seed
        seed = random.randrange(SEEDS) if seed is None else seed
        start = Start(
            task_id=attempt.task_id,
            worker=self._worker_id,
            model=self.model,
            attempt=attempt.number,
            seed=seed,
            queue_wait_ms=attempt.queue_wait_ms,
            created=int(time.time()),
        )
        generate = GenerateRequest(prompt, request.max_tokens, request.sampling, seed, request.stop)
        dispatched = attempt.number > 0
        return Run(start, generate, ask.renderer(prompt), dispatched, write=lambda _: None)

    # -- the answer -----------------------------------------------------------------------------

    async def _stream(self, run: Run, exchange: Exchange) -> None:
        out = exchange.stream(200, sse.HEADERS)

        def write(data: bytes) -> None:
            out.write(data)  # looked up each time: it changes when the client leaves

        run.write = write
        self._announce_places()
        try:
            self._count(await run.serve(self.engine))
        except Exception as error:
            told = error if isinstance(error, LlorchError) else LlorchError("internal error")
            self.metrics.failed(told)
            out.write(run.renderer.failed(told))
            if told is not error:
                raise  # a bug: the server logs it
        finally:
            out.end()

    async def _whole(self, run: Run, exchange: Exchange) -> None:
        pieces: list[bytes] = []
        run.write = pieces.append
        try:
            self._count(await run.serve(self.engine))
        except LlorchError as error:
            self.metrics.failed(error)
            raise
        exchange.respond(200, b"".join(pieces), [JSON])

    def _count(self, finished: Finished) -> None:
        self.metrics.finished(finished)
        seconds = (finished.prefill_ms + finished.decode_ms) / 1000
        self._service_seconds = moving_average(self._service_seconds, seconds)
        if finished.tokens_out > 1 and finished.decode_ms > 0:
            speed = 1000 * finished.tokens_out / finished.decode_ms
            self.tokens_per_second = moving_average(self.tokens_per_second, speed)

    # -- the line -------------------------------------------------------------------------------

    def _remove(self, run_id: str) -> None:
        """Give the slot on, and tell those who still wait their new place."""
        gone = self._runs.pop(run_id)
        for admitted in self.line.leave(run_id):
            self._runs[admitted].turn.set()
        self._announce_places()
        if not self._runs:
            self._idle.set()
        self._note_change(gone)

    def _announce_places(self) -> None:
        """Tell those who wait how many are before them, where that is news."""
        for place, run_id in enumerate(self.line.waiting):
            run = self._runs[run_id]
            if run.place != place:
                run.place = place
                wait_seconds = (place + 1) * self._service_seconds / self.line.slots
                run.write(run.renderer.queued(place, int(1000 * wait_seconds)))

    def _note_change(self, run: Run) -> None:
        """An orchestrator knows of the slots that it gave out, not of the others."""
        if not run.dispatched:
            self.on_change()


def _run_id(task_id: str, attempt: int) -> str:
    """What a run is known by here: an earlier attempt of the same task may not be gone yet."""
    return f"{task_id}/{attempt}"
