"""What the producers enqueue: a mix of jobs drawn from the seed."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy.orm import Session

from jobplatform.proof.workload import POISON, tasks
from jobplatform.queue import Enqueued, NewJob, enqueue_jobs

#: Shares of the tasks in the mix, out of a thousand.
MIX = {"noop": 500, "nap": 250, "ledger": 130, "pager": 20, "flaky": 60, "chatty": 34, "overdue": 3, "deaf": 3}

#: Shares of the queues.
QUEUE_SHARES = (0.97, 0.03)

#: Shares of what is asked for beside the task, out of one.
UNIQUE, LATER, CANCELLED, ROLLED_BACK = 0.06, 0.05, 0.02, 0.02


@dataclass(slots=True)
class Order:
    """Jobs to enqueue in one transaction; ``doomed`` are cancelled afterwards, ``taken_back`` means a rollback."""

    jobs: list[NewJob]
    doomed: list[NewJob] = field(default_factory=list)
    taken_back: bool = False
    work: Callable[[Session], list[Enqueued]] | None = None
    """How they are enqueued, where that takes more than one call."""

    def enqueue(self, session: Session) -> list[Enqueued]:
        return enqueue_jobs(session, self.jobs) if self.work is None else self.work(session)


class Plan:
    """The orders of one producer. ``long_naps`` is the share of naps that only heartbeats can keep."""

    def __init__(
        self,
        seed: str,
        *,
        workspaces: list[uuid.UUID],
        jobs: int,
        poison: int,
        longest_nap: float,
        long_naps: float,
        queues: Sequence[str] = ("default",),
    ) -> None:
        self._draw = random.Random(seed)
        self._workspaces = workspaces
        self._longest_nap = longest_nap
        self._long_naps = long_naps
        self._queues = queues
        self._made = 0
        self._total = jobs
        self._poison_at = sorted(self._draw.sample(range(jobs), poison), reverse=True)

    @property
    def done(self) -> bool:
        return self._made >= self._total

    @property
    def share_done(self) -> float:
        return self._made / self._total

    def next_order(self) -> Order:
        """Half of the orders are single jobs, the other half come in bulk."""
        size = 1 if self._draw.random() < 0.5 else self._draw.randint(2, 30)
        jobs = [self._job() for _ in range(min(size, self._total - self._made))]
        taken_back = self._draw.random() < ROLLED_BACK
        doomed = [job for job in jobs if self._draw.random() < CANCELLED and job.task != POISON]
        return Order(jobs, [] if taken_back else doomed, taken_back)

    def _job(self) -> NewJob:
        self._made += 1
        workspace = self._draw.choice(self._workspaces)
        if self._poison_at and self._made > self._poison_at[-1]:
            self._poison_at.pop()
            return tasks[POISON].new_job({}, workspace_id=workspace, priority=self._draw.randint(0, 3))
        task = self._draw.choices(list(MIX), list(MIX.values()))[0]
        unique = task in ("noop", "nap") and self._draw.random() < UNIQUE * 1.3
        return tasks[task].new_job(
            {"seconds": self._seconds(task)},
            workspace_id=workspace,
            priority=self._draw.randint(-1, 1),
            delay=timedelta(seconds=self._draw.uniform(0.2, 3)) if self._draw.random() < LATER else None,
            queue=self._draw.choices(self._queues, QUEUE_SHARES[: len(self._queues)])[0],
            unique_key=f"only:{self._draw.randrange(3)}" if unique else None,
        )

    def _seconds(self, task: str) -> float:
        if task == "nap" and self._draw.random() < self._long_naps:
            return self._draw.uniform(0.3, 1) * self._longest_nap
        return self._draw.uniform(0.01, 0.4 if task == "nap" else 0.1)
