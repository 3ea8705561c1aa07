"""Which worker gets a task. Only workers that have its model, may take it and have a free slot are
candidates; a policy picks one of them. A policy is a function of the candidates alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from llorch.core.fleet import Fleet, Worker
from llorch.core.task import TaskSpec

Policy = Callable[[Sequence[Worker]], Worker]


def allowed(spec: TaskSpec, worker: Worker) -> bool:
    """True when the task's pins and avoid list permit the worker."""
    if spec.worker is not None and worker.worker_id != spec.worker:
        return False
    if spec.pool is not None and worker.report.pool != spec.pool:
        return False
    if spec.backend is not None and worker.report.backend != spec.backend:
        return False
    return worker.worker_id not in spec.avoid


def pin_is_closed(spec: TaskSpec, fleet: Fleet) -> bool:
    """True when the task is pinned and no worker that it is pinned to will be given more."""
    if (spec.worker, spec.pool, spec.backend) == (None, None, None):
        return False
    return all(w.closed for w in fleet.serving(spec.model) if allowed(spec, w))


def candidates(spec: TaskSpec, workers: Iterable[Worker]) -> list[Worker]:
    """The workers that could be given the task now, ordered by id."""
    fit = (w for w in workers if w.report.model == spec.model and w.open and allowed(spec, w))
    return sorted(fit, key=lambda w: w.worker_id)


def least_loaded(workers: Sequence[Worker]) -> Worker:
    """The worker with the smallest share of its slots in use, then the one with more free slots."""
    return min(
        workers, key=lambda w: (1 - w.slots_free / w.report.slots, -w.slots_free, w.worker_id)
    )
