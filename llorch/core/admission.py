"""Whether a valid request becomes a task. First rule that applies wins:

1. shutting down                       ShuttingDown (503)
2. no worker at all                    PoolUnavailable (503)
3. nobody serves the model             ModelNotFound (404)
4. pinned to a worker that is not here WorkerNotFound (404)
5. no worker that may take it is hopeful (all draining, failed or lost)
                                       PoolUnavailable (503)
6. the queue is full, and no slot is free for it
                                       AdmissionReject (429)
otherwise it is accepted.
"""

from __future__ import annotations

from llorch.core.fleet import Fleet, Worker
from llorch.core.forecast import Forecast
from llorch.core.placement import allowed, candidates
from llorch.core.queue import TaskQueue
from llorch.core.task import TaskSpec
from llorch.errors import (
    AdmissionReject,
    LlorchError,
    ModelNotFound,
    PoolUnavailable,
    ShuttingDown,
    WorkerNotFound,
)

START_A_WORKER = "start one: llorch serve-worker --model MODEL --orchestrator URL"


def refusal(
    spec: TaskSpec, fleet: Fleet, queue: TaskQueue, forecast: Forecast, *, leaving: bool
) -> LlorchError | None:
    """The reason not to take the task, or None."""
    if leaving:
        return ShuttingDown("the orchestrator is shutting down", retry_after_ms=5000)
    serving = fleet.serving(spec.model)
    return _nobody_can(spec, fleet, serving) or _no_room(spec, queue, serving, forecast)


def _nobody_can(spec: TaskSpec, fleet: Fleet, serving: list[Worker]) -> LlorchError | None:
    if not fleet.workers:
        return PoolUnavailable("no worker is known", hint=START_A_WORKER, retry_after_ms=5000)
    if not serving:
        models = ", ".join(sorted({w.report.model for w in fleet.workers.values()}))
        return ModelNotFound(f"no worker serves the model {spec.model!r}", hint=f"one of: {models}")
    if spec.worker is not None and spec.worker not in fleet.workers:
        ids = ", ".join(sorted(fleet.workers))
        return WorkerNotFound(f"there is no worker {spec.worker!r}", hint=f"one of: {ids}")
    if not any(w.hopeful and allowed(spec, w) for w in serving):
        return PoolUnavailable(
            f"no live worker may take the task for {spec.model!r}: "
            + "; ".join(f"{w.worker_id} is {_why_not(spec, w)}" for w in serving),
            retry_after_ms=5000,
        )
    return None


def _why_not(spec: TaskSpec, worker: Worker) -> str:
    return worker.status.value if allowed(spec, worker) else "excluded by the task's placement"


def _no_room(
    spec: TaskSpec, queue: TaskQueue, serving: list[Worker], forecast: Forecast
) -> LlorchError | None:
    if not queue.full or candidates(spec, serving):
        return None
    slots = sum(w.report.slots for w in serving if w.hopeful)
    one_place_ms = 1000 * forecast.service_seconds(spec.model) / max(1, slots)
    return AdmissionReject(
        f"the queue is full ({queue.capacity} tasks wait)", retry_after_ms=max(1, int(one_place_ms))
    )
