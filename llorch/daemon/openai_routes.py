"""The orchestrator's OpenAI dialect: the client's body goes to a worker, the answer comes back."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

from llorch.core import events as on
from llorch.core.fleet import Worker
from llorch.daemon.preflight import refuse_overlong
from llorch.daemon.record import TaskRecord
from llorch.daemon.shell import Shell
from llorch.errors import ModelNotFound
from llorch.net.exchange import JSON, Request
from llorch.net.router import Router
from llorch.wire.fields import decode_object
from llorch.wire.openai_answers import model_list, model_object
from llorch.wire.openai_requests import OpenAIRequest, parse_chat, parse_completion


class OpenAIRoutes:
    """One method per address."""

    def __init__(self, shell: Shell, started: int) -> None:
        self._shell = shell
        self._started = started

    def add_to(self, router: Router) -> None:
        """Serve these addresses, with and without the /v1 that most clients put in front."""
        for prefix in ("/v1", ""):
            router.add("GET", f"{prefix}/models", self.models)
            router.add("GET", f"{prefix}/models/{{model*}}", self.model)
            for name, parse in (
                ("chat/completions", parse_chat),
                ("completions", parse_completion),
            ):
                router.add("POST", f"{prefix}/{name}", partial(self.answer, f"/v1/{name}", parse))

    async def answer(
        self, path: str, parse: Callable[[dict[str, Any]], OpenAIRequest], request: Request
    ) -> None:
        """POST /v1/chat/completions and /v1/completions."""
        values = decode_object(request.body)
        asked = parse(values)
        await refuse_overlong(asked.task, self._shell.scheduler.fleet)
        record = self._shell.submit(
            asked.task,
            path,
            values,
            task_id=uuid.uuid4().hex,
            correlation_id=request.correlation_id,
            idempotency_key=None,
        )
        leaving = request.exchange.over
        leaving.add_done_callback(lambda _: self._left(record))
        either: list[asyncio.Future[Any]] = [record.opened, leaving]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not record.opened.done():
            return  # the client has left
        worker_id = record.opened.result()
        headers = [
            (b"x-llorch-task", record.task_id.encode()),
            (b"x-llorch-worker", worker_id.encode()),
            (b"x-llorch-queue-ms", str(record.queue_wait_ms).encode()),
        ]
        if record.streams:
            self._shell.stream(record, request.exchange, 0, headers)
        else:
            await self._send_whole(record, request, headers)

    async def _send_whole(
        self, record: TaskRecord, request: Request, headers: list[tuple[bytes, bytes]]
    ) -> None:
        await record.settled.wait()
        if record.refusal is not None:
            raise record.refusal
        request.exchange.respond(200, bytes(record.whole), [JSON, *headers])

    def _left(self, record: TaskRecord) -> None:
        """The client has its answer, or does not wait for it any more."""
        self._shell.tell(on.ClientLeft(record.task_id))
        record.abandon()

    async def models(self, request: Request) -> None:
        """GET /v1/models: what the live workers serve."""
        request.exchange.respond_json(model_list([self._object(n, w) for n, w in self._served()]))

    async def model(self, request: Request) -> None:
        """GET /v1/models/{id}."""
        wanted = request.parts["model"]
        for name, workers in self._served():
            if name == wanted:
                request.exchange.respond_json(self._object(name, workers))
                return
        raise ModelNotFound(f"no worker serves the model {wanted!r}")

    def _served(self) -> list[tuple[str, list[Worker]]]:
        fleet = self._shell.scheduler.fleet
        names = sorted({w.report.model for w in fleet.workers.values() if w.hopeful})
        return [(name, [w for w in fleet.serving(name) if w.hopeful]) for name in names]

    def _object(self, name: str, workers: list[Worker]) -> dict[str, Any]:
        meta = {"n_ctx": max(w.report.ctx for w in workers)}
        return model_object(name, self._started, meta=meta)
