"""The worker's HTTP face: its own /execute, and the OpenAI dialect, so that it is useful alone."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from llorch import __version__
from llorch.core.fleet import WorkerStatus
from llorch.core.types import TaskRequest
from llorch.daemon.runs import Ask, Runs
from llorch.errors import ModelNotFound, TaskNotFound
from llorch.net.exchange import Request
from llorch.net.metrics import CONTENT_TYPE
from llorch.net.router import Router
from llorch.wire.answers import Renderer, TaskRenderer
from llorch.wire.fields import Fields, decode_object
from llorch.wire.openai_answers import (
    OpenAIStreamRenderer,
    OpenAIWholeRenderer,
    model_list,
    model_object,
)
from llorch.wire.openai_requests import OpenAIRequest, parse_chat, parse_completion
from llorch.wire.tasks import parse_attempt, parse_task


class WorkerView(Protocol):
    """What the routes need of the worker daemon."""

    worker_id: str
    pool: str
    model: str
    status: WorkerStatus
    reason: str
    started: int
    loaded: Runs | None

    def runs(self) -> Runs:
        """The runs, if the worker takes requests. Raises why it does not."""

    def drain(self) -> None:
        """Take nothing new from now on."""


def worker_router(worker: WorkerView) -> Router:
    """The routes of a worker."""
    router = Router()
    routes = WorkerRoutes(worker)
    router.add("POST", "/execute", routes.execute)
    router.add("POST", "/cancel", routes.cancel)
    router.add("POST", "/drain", routes.drain)
    router.add("GET", "/health", routes.health)
    router.add("GET", "/metrics", routes.metrics)
    router.add("POST", "/tokenize", routes.tokenize)
    for prefix in ("/v1", ""):
        router.add("GET", f"{prefix}/models", routes.models)
        router.add("GET", f"{prefix}/models/{{model*}}", routes.model)
        chat = partial(routes.openai, parse_chat)
        router.add("POST", f"{prefix}/chat/completions", chat)
        router.add("POST", f"{prefix}/completions", partial(routes.openai, parse_completion))
    return router


class WorkerRoutes:
    """One method per address."""

    def __init__(self, worker: WorkerView) -> None:
        self._worker = worker

    async def execute(self, request: Request) -> None:
        """POST /execute: run a task and stream its events."""
        values = decode_object(request.body)
        task = replace(self._mine(parse_task(values)), stream=True)
        attempt = parse_attempt(values, str(uuid.uuid4()))
        ask = Ask(task, attempt, lambda _prompt: TaskRenderer(attempt.number))
        await self._worker.runs().serve(ask, request.exchange)

    async def openai(
        self, parse: Callable[[dict[str, Any]], OpenAIRequest], request: Request
    ) -> None:
        """POST /v1/chat/completions and /v1/completions."""
        values = decode_object(request.body)
        asked = parse(values)
        self._mine(asked.task)
        attempt = parse_attempt(values, uuid.uuid4().hex)
        ask = Ask(asked.task, attempt, partial(_openai_renderer, asked))
        await self._worker.runs().serve(ask, request.exchange)

    async def cancel(self, request: Request) -> None:
        """POST /cancel: stop a task in whatever state it is here."""
        fields = Fields(decode_object(request.body))
        task_id = fields.text("task_id", longest=128)
        if task_id is None and not fields.faults:
            fields.fault("task_id", "required", "task_id is required")
        fields.check()
        loaded = self._worker.loaded
        if loaded is None or not loaded.cancel(task_id or ""):
            raise TaskNotFound(f"no task {task_id!r} runs or waits here")
        request.exchange.respond_json({"task_id": task_id, "status": "cancelling"}, 202)

    async def drain(self, request: Request) -> None:
        """POST /drain: take nothing new, finish what runs."""
        self._worker.drain()
        request.exchange.respond_json({"status": self._worker.status.value}, 202)

    async def health(self, request: Request) -> None:
        """GET /health: 200 when ready, else 503 in the shape that probes of llama-server know."""
        worker = self._worker
        body = health_object(worker)
        if worker.status is WorkerStatus.READY:
            request.exchange.respond_json(body)
            return
        message = {"loading": "Loading model"}.get(worker.status.value, worker.reason)
        error = {"code": 503, "message": message, "type": "unavailable_error"}
        request.exchange.respond_json(body | {"error": error}, 503)

    async def metrics(self, request: Request) -> None:
        """GET /metrics: Prometheus text, empty of counts while the model loads."""
        loaded = self._worker.loaded
        text = loaded.metrics.text() if loaded is not None else b""
        request.exchange.respond(200, text, [CONTENT_TYPE])

    async def tokenize(self, request: Request) -> None:
        """POST /tokenize {prompt | messages}: how many tokens a prompt has, and what fits."""
        values = {"model": self._worker.model, **decode_object(request.body)}
        task = self._mine(parse_task(values))
        runs = self._worker.runs()
        count = await runs.count_tokens(task)
        request.exchange.respond_json({"n_prompt_tokens": count, "n_ctx": runs.facts.ctx})

    async def models(self, request: Request) -> None:
        """GET /v1/models."""
        request.exchange.respond_json(model_list([self._model_object()]))

    async def model(self, request: Request) -> None:
        """GET /v1/models/{id}."""
        if request.parts["model"] != self._worker.model:
            raise _unknown(request.parts["model"], self._worker.model)
        request.exchange.respond_json(self._model_object())

    def _model_object(self) -> dict[str, Any]:
        loaded = self._worker.loaded
        meta = {"n_ctx": loaded.facts.ctx} if loaded is not None else {}
        return model_object(self._worker.model, self._worker.started, meta=meta)

    def _mine(self, task: TaskRequest) -> TaskRequest:
        """The task, if it is for this worker's model. Raises ModelNotFound."""
        if task.model != self._worker.model:
            raise _unknown(task.model, self._worker.model)
        return task


def _openai_renderer(asked: OpenAIRequest, prompt: str) -> Renderer:
    if asked.task.stream:
        return OpenAIStreamRenderer(asked, prompt)
    return OpenAIWholeRenderer(asked, prompt)


def _unknown(name: str, served: str) -> ModelNotFound:
    return ModelNotFound(
        f"this worker does not serve the model {name!r}", hint=f"it serves {served!r}"
    )


def health_object(worker: WorkerView) -> dict[str, Any]:
    """The body of GET /health."""
    body: dict[str, Any] = {
        "status": worker.status.value,
        "worker_id": worker.worker_id,
        "pid": os.getpid(),
        "pool": worker.pool,
        "model": worker.model,
        "version": __version__,
        "started": worker.started,
    }
    if worker.reason:
        body["reason"] = worker.reason
    runs = worker.loaded
    if runs is not None:
        facts = runs.facts
        body |= {
            "engine": facts.engine,
            "engine_version": facts.version,
            "backend": facts.backend,
            "device": facts.device,
            "threads": facts.threads,
            "batch": facts.batch,
            "slots": facts.slots,
            "slots_free": runs.line.slots_free,
            "slots_elsewhere": runs.slots_elsewhere,
            "waiting": len(runs.line.waiting),
            "ctx": facts.ctx,
            "memory": facts.memory_bytes,
            "tokens_per_second": runs.tokens_per_second,
        }
    return body
