"""Finds prompts that no worker's context can hold, before they are accepted.

A prompt with fewer bytes than a context has tokens surely fits. Only for a longer one is a worker
asked to count, so the usual request costs nothing here. If none can be asked, the task is accepted:
its worker will say the same, only later.
"""

from __future__ import annotations

import json
from typing import Any

from llorch.core.fleet import Fleet, Worker
from llorch.core.types import TaskRequest
from llorch.errors import ContextLengthExceeded, LlorchError
from llorch.net.client import ask
from llorch.wire import sse
from llorch.wire.tasks import SPECIAL_TOKENS

TEMPLATE_TOKENS = 64  # what a chat template may add for each message


async def refuse_overlong(request: TaskRequest, fleet: Fleet) -> None:
    """Raise ContextLengthExceeded when no worker of the model could take the prompt."""
    workers = [w for w in fleet.serving(request.model) if w.hopeful and w.report.ctx > 0]
    if not workers:
        return
    widest = max(workers, key=lambda w: w.report.ctx)
    if _most_tokens(request) < widest.report.ctx:
        return
    count = await _count(request, widest)
    if count is not None and count >= widest.report.ctx:
        raise ContextLengthExceeded.of(count, widest.report.ctx)


def _most_tokens(request: TaskRequest) -> int:
    """An upper bound: a token has at least one byte."""
    if request.prompt is not None:
        return len(request.prompt.encode()) + SPECIAL_TOKENS
    return sum(len(m.content.encode()) + TEMPLATE_TOKENS for m in request.messages) + 256


async def _count(request: TaskRequest, worker: Worker) -> int | None:
    body: dict[str, Any] = {"model": request.model}
    if request.prompt is not None:
        body["prompt"] = request.prompt
    else:
        body["messages"] = [{"role": m.role, "content": m.content} for m in request.messages]
    try:
        status, answer = await ask("POST", f"{worker.report.url}/tokenize", body=sse.encode(body))
        values = json.loads(answer)
    except (LlorchError, ValueError):
        return None
    count = values.get("n_prompt_tokens") if status == 200 else None
    return count if isinstance(count, int) else None
