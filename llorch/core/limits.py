"""What an orchestrator is bounded by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the scheduler: seconds, tasks and tries, as the names say."""

    queue_capacity: int = 100
    promote_after_seconds: float = 300.0
    lease_seconds: float = 15.0
    max_attempts: int = 3
    cancel_seconds: float = 5.0
    deadline_slack_seconds: float = 5.0
    retention_seconds: float = 3600.0
    max_retained: int = 2_000
