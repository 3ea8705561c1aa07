"""Random histories: whatever happens in whatever order, the invariants of `history.World` hold.

A history is made by a seeded generator, so that a failure names the seed that shows it again. The
weights keep the fleet alive most of the time: histories in which every task is refused show little.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import ClassVar

import pytest

from llorch.core import events as on
from llorch.core.fleet import WorkerStatus
from llorch.core.task import State
from llorch.core.types import Priority
from llorch.errors import InvalidRequest, WorkerBusy
from tests.core.driven import report, spec
from tests.core.history import OUTCOMES, World

STEPS = 120
TROUBLE = (WorkerStatus.LOADING, WorkerStatus.DRAINING, WorkerStatus.FAILED)


class History:
    """Facts in any order, late and hostile ones among them."""

    WEIGHTS: ClassVar = {
        "worker_reports": 14,
        "client_submits": 22,
        "attempt_reports": 22,
        "time_passes": 12,
        "client_cancels": 5,
        "client_leaves_or_returns": 6,
        "shell_reports_what_it_severed": 4,
        "somebody_reports_nonsense": 6,
        "worker_leaves": 2,
        "worker_drains": 1,
    }

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.world = World()
        self.submitted = 0

    def run(self) -> World:
        """A whole history: steps, maybe a shutdown in the midst of them, and then silence."""
        self.world.tell(on.WorkerReported(report("w1", slots=2)))
        names, weights = list(self.WEIGHTS), list(self.WEIGHTS.values())
        shutdown_at = self.chance.choice([None, None, STEPS // 2, STEPS - 10])
        for step in range(STEPS):
            getattr(self, self.chance.choices(names, weights)[0])()
            self.check_that_no_slot_is_wasted()
            if step == shutdown_at:
                self.world.tell(on.ShutdownRequested())
        if self.chance.random() < 0.3:
            self.world.tell(on.GraceEnded())
        self.world.let_time_pass()
        return self.world

    def pick(self, *choices):
        return self.chance.choice(choices)

    def some_task(self) -> str:
        """A recent task, in any state, or one that was never heard of."""
        recent = [f"t{n}" for n in range(max(0, self.submitted - 8), self.submitted)]
        return str(self.pick("unknown", *recent))

    # -- workers --------------------------------------------------------------------------------

    def worker_reports(self) -> None:
        status = self.pick(*TROUBLE) if self.chance.random() < 0.15 else WorkerStatus.READY
        said = report(
            self.pick("w1", "w2", "w3"),
            model=self.pick("m", "m", "m", "n"),
            slots=self.chance.randint(1, 4),
            status=status,
            slots_elsewhere=self.pick(0, 0, 0, 1, 9),
            backend=self.pick("cpu", "cuda"),
        )
        self.world.tell(on.WorkerReported(said))

    def worker_leaves(self) -> None:
        worker_id = self.pick("w1", "w2", "w3", "stranger")
        for _ in range(self.pick(1, 2)):
            self.world.tell(on.WorkerLeft(worker_id))

    def worker_drains(self) -> None:
        self.world.tell(on.DrainRequested(self.pick("w1", "w2", "stranger")))

    # -- clients --------------------------------------------------------------------------------

    def client_submits(self) -> None:
        task_id, self.submitted = f"t{self.submitted}", self.submitted + 1
        asked = spec(
            task_id,
            self.world.now,
            model=self.pick("m", "m", "m", "n"),
            seconds=self.pick(1.0, 20.0, 600.0, 600.0),
            priority=self.pick(*Priority),
            leave_grace_seconds=self.pick(None, 0.0, 10.0),
            worker=self.pick(None, None, None, None, "w1", "w2"),
            avoid=self.pick((), (), (), ("w1",)),
            backend=self.pick(None, None, None, "cuda"),
        )
        self.world.tell(on.TaskSubmitted(asked))

    def client_cancels(self) -> None:
        self.world.tell(on.CancelRequested(self.some_task()))

    def client_leaves_or_returns(self) -> None:
        self.world.tell(self.pick(on.ClientLeft, on.ClientReturned)(self.some_task()))

    # -- attempts -------------------------------------------------------------------------------

    def report_on(self, task_id: str, attempt: int) -> None:
        self.world.tell(
            self.pick(
                on.AttemptEnded(task_id, attempt, self.pick(*OUTCOMES)),
                on.AttemptRefused(task_id, attempt, WorkerBusy("busy")),
                on.AttemptRefused(task_id, attempt, InvalidRequest("bad")),
                on.AttemptLost(task_id, attempt, "it broke", delivered=False),
                on.AttemptLost(task_id, attempt, "it broke", delivered=True),
            )
        )

    def attempt_reports(self) -> None:
        if self.world.attempts:
            self.report_on(*self.chance.choice(sorted(self.world.attempts)))

    def somebody_reports_nonsense(self) -> None:
        self.report_on(self.some_task(), self.chance.randint(0, 4))

    def shell_reports_what_it_severed(self) -> None:
        self.world.report_everything_severed()

    # -- time -----------------------------------------------------------------------------------

    def time_passes(self) -> None:
        self.world.now += self.pick(0.0, 0.5, 0.5, 2.0, 6.0, 16.0, 130.0, 400.0)
        self.world.tell(on.Ticked())

    def check_that_no_slot_is_wasted(self) -> None:
        """Nothing waits while a slot is free that it may have."""
        scheduler = self.world.scheduler
        for model in scheduler.queue.models():
            workers = [w for w in scheduler.fleet.serving(model) if w.open]
            for wish in (task.spec for task in scheduler.queue.line(model)):
                for worker in workers:
                    pinned_elsewhere = wish.worker not in (None, worker.worker_id)
                    other_backend = wish.backend not in (None, worker.report.backend)
                    assert pinned_elsewhere or other_backend or worker.worker_id in wish.avoid


@pytest.mark.parametrize("block", range(10))
def test_the_invariants_hold_in_every_history(block):
    for seed in range(60 * block, 60 * block + 60):
        try:
            History(seed).run()
        except Exception as error:
            raise AssertionError(f"the history of seed {seed} breaks a rule") from error


def test_the_histories_reach_every_kind_of_end_and_third_attempts():
    """A generator that only ever has tasks refused would prove nothing."""
    states: Counter[State] = Counter()
    attempts: Counter[int] = Counter()
    for seed in range(20):
        world = History(seed).run()
        states.update(world.final_states.values())
        attempts.update(world.dispatches.values())
    assert min(states[s] for s in (State.FINISHED, State.CANCELLED, State.FAILED)) >= 10
    assert set(attempts) == {1, 2, 3}
