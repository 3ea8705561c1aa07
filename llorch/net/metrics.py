"""Metrics in Prometheus text (https://prometheus.io/docs/instrumenting/exposition_formats/).

Values that exist anyway (slots, queue, workers) are read when somebody asks, so that they cannot
disagree with the truth; only what would be gone by then is counted as it happens. Labels have few
values and never an id of a task.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from llorch import __version__
from llorch.core.fleet import WorkerStatus
from llorch.core.types import Finished
from llorch.errors import LlorchError

if TYPE_CHECKING:
    from llorch.core.scheduler import Scheduler
    from llorch.core.slots import SlotLine

CONTENT_TYPE = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """A registry of a daemon's own, with the build's version in it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.tasks = Counter(
            "llorch_tasks", "Tasks that ended, by outcome.", ["outcome"], registry=self.registry
        )
        self.registry.register(_Version())

    def text(self) -> bytes:
        """The page that Prometheus reads."""
        return generate_latest(self.registry)


class _Version(Collector):
    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily("llorch_build_info", "The version.", labels=["version"])
        family.add_metric([__version__], 1)
        yield family


class WorkerMetrics(Metrics):
    """What a worker counts."""

    def __init__(self, line: SlotLine) -> None:
        super().__init__()
        registry = self.registry
        self._prompt_tokens = Counter(
            "llorch_prompt_tokens", "Prompt tokens taken in.", registry=registry
        )
        self._generated = Counter("llorch_generated_tokens", "Tokens made.", registry=registry)
        self._cached = Counter(
            "llorch_prefix_hit_tokens", "Prompt tokens that were in the cache.", registry=registry
        )
        self._first = Histogram(
            "llorch_time_to_first_token_seconds",
            "From the start of the prompt to the first text.",
            buckets=SECONDS,
            registry=registry,
        )
        self._decode = Histogram(
            "llorch_inter_token_latency_seconds",
            "Mean time per token of an answer.",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1),
            registry=registry,
        )
        registry.register(_Slots(line))

    def finished(self, event: Finished) -> None:
        """Count an answer that came to its end."""
        self.tasks.labels(event.stop_reason.value).inc()
        self._prompt_tokens.inc(event.prompt_tokens)
        self._cached.inc(event.cached_tokens)
        self._generated.inc(event.tokens_out)
        if event.tokens_out:
            self._first.observe(event.prefill_ms / 1000)
            self._decode.observe(event.decode_ms / 1000 / event.tokens_out)

    def failed(self, error: LlorchError) -> None:
        """Count an answer that broke off."""
        self.tasks.labels(error.code.lower()).inc()


class _Slots(Collector):
    def __init__(self, line: SlotLine) -> None:
        self._line = line

    def collect(self) -> Iterator[Metric]:
        slots = GaugeMetricFamily("llorch_worker_slots", "Slots by state.", labels=["state"])
        slots.add_metric(["busy"], len(self._line.running))
        slots.add_metric(["free"], self._line.slots_free)
        yield slots
        yield GaugeMetricFamily(
            "llorch_queue_depth", "Requests that wait for a slot.", len(self._line.waiting)
        )


class OrchestratorMetrics(Metrics):
    """What an orchestrator counts."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()
        self._wait = Histogram(
            "llorch_queue_wait_seconds",
            "From acceptance to dispatch.",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.registry.register(_Fleet(scheduler))

    def dispatched(self, queue_wait_seconds: float) -> None:
        """Count a dispatch."""
        self._wait.observe(queue_wait_seconds)

    def ended(self, outcome: str) -> None:
        """Count an end: a task's final state, or `refused`."""
        self.tasks.labels(outcome).inc()


class _Fleet(Collector):
    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def collect(self) -> Iterator[Metric]:
        yield self._queue()
        running = sum(len(w.leases) for w in self._scheduler.fleet.workers.values())
        yield GaugeMetricFamily("llorch_running_tasks", "Tasks that workers run now.", running)
        up = GaugeMetricFamily(
            "llorch_worker_up", "1 for a worker that can work.", labels=["worker", "model"]
        )
        slots = GaugeMetricFamily(
            "llorch_worker_slots", "Slots by state.", labels=["worker", "model", "state"]
        )
        for worker in self._scheduler.fleet.workers.values():
            names = [worker.worker_id, worker.report.model]
            up.add_metric(names, worker.status in (WorkerStatus.READY, WorkerStatus.BUSY))
            slots.add_metric([*names, "busy"], worker.report.slots - worker.slots_free)
            slots.add_metric([*names, "free"], worker.slots_free)
        yield up
        yield slots

    def _queue(self) -> Metric:
        family = GaugeMetricFamily(
            "llorch_queue_depth", "Tasks that wait, by class.", labels=["priority"]
        )
        for priority, depth in self._scheduler.queue.depths().items():
            family.add_metric([priority.value], depth)
        return family
