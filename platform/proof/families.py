"""Families: chains, diamonds and batches of jobs, enqueued by a producer of their own."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from sqlalchemy.orm import Session

from jobplatform.models import RunIf
from jobplatform.proof.plan import Order
from jobplatform.proof.workload import HOPELESS, tasks
from jobplatform.queue import Edge, Enqueued, NewJob, chain, close_batch, enqueue_jobs, get_batch, open_batch

#: The share of jobs that fail for certain, and of those that somebody cancels.
FAILING, CANCELLED = 0.06, 0.03


class Families:
    """Orders of jobs that wait for each other, or belong together. A batch is often filled and closed later."""

    def __init__(self, seed: str, *, workspaces: list[uuid.UUID], jobs: int) -> None:
        self._draw = random.Random(seed)
        self._workspaces = workspaces
        self._total = jobs
        self._made = 0
        self._later: list[Order] = []
        self._known: list[NewJob] = []
        self._shapes = self._endless()

    @property
    def done(self) -> bool:
        return self._made >= self._total and not self._later

    @property
    def share_done(self) -> float:
        return min(1.0, self._made / self._total)

    def next_order(self) -> Order:
        if self._later and (self._made >= self._total or self._draw.random() < 0.5):
            return self._later.pop(0)
        order = next(self._shapes)
        self._made += len(order.jobs)
        return order

    def _endless(self) -> Iterator[Order]:
        while True:
            shapes = [self._chain, self._diamond, self._follower, self._batch, self._batch, self._batch]
            self._draw.shuffle(shapes)
            yield from (shape(self._draw.choice(self._workspaces)) for shape in shapes)

    def _chain(self, workspace: uuid.UUID) -> Order:
        return self._order(chain(*(self._job(workspace) for _ in range(self._draw.randint(2, 5)))))

    def _diamond(self, workspace: uuid.UUID) -> Order:
        arms = [self._job(workspace) for _ in range(self._draw.randint(2, 4))]
        made = chain(self._job(workspace), arms)
        run_if = self._draw.choice(list(RunIf))
        last = self._job(workspace, after=[Edge(arm.id, run_if) for arm in arms])
        return self._order([*made, last])

    def _follower(self, workspace: uuid.UUID) -> Order:
        """Waits for a job of an earlier order, which may have ended by now."""
        if not self._known:
            return self._chain(workspace)
        first = self._draw.choice(self._known)
        run_if = self._draw.choice(list(RunIf))
        return self._order([self._job(first.workspace_id, after=[Edge(first.id, run_if)])])

    def _batch(self, workspace: uuid.UUID) -> Order:
        """Half of them are filled and closed in one transaction, the others in two."""
        batch_id = uuid.UUID(int=self._draw.getrandbits(128), version=4)
        callbacks = [
            tasks["noop"].new_job({}, workspace_id=workspace, after=[Edge(batch_id, run_if, of_batch=True)])
            for run_if in RunIf
        ]
        members = [self._job(workspace, batch_id=batch_id) for _ in range(self._draw.randint(0, 12))]
        now = members if self._draw.random() < 0.5 else members[: len(members) // 2]
        later = members[len(now) :]
        doomed = self._doomed(members)
        begin = partial(_open, workspace, batch_id, callbacks, now, close=not later)
        if later:
            self._made += len(later)
            self._later.append(
                Order(later, [job for job in later if job in doomed], work=partial(_add, workspace, batch_id, later))
            )
        return Order([*callbacks, *now], [job for job in now if job in doomed], work=begin)

    def _order(self, jobs: list[NewJob]) -> Order:
        self._known = [*self._known[-20:], jobs[0]]
        return Order(jobs, self._doomed(jobs))

    def _doomed(self, jobs: list[NewJob]) -> list[NewJob]:
        return [job for job in jobs if self._draw.random() < CANCELLED]

    def _job(self, workspace: uuid.UUID, **related: object) -> NewJob:
        draw = self._draw.random()
        task = HOPELESS if draw < FAILING else self._draw.choice(("noop", "noop", "nap", "flaky", "ledger"))
        job = tasks[task].new_job({"seconds": self._draw.uniform(0.01, 0.2)}, workspace_id=workspace)
        return replace(job, **related)  # type: ignore[arg-type]  # options of a job


def _open(
    workspace: uuid.UUID,
    batch_id: uuid.UUID,
    callbacks: list[NewJob],
    members: list[NewJob],
    session: Session,
    *,
    close: bool,
) -> list[Enqueued]:
    if get_batch(session, workspace, batch_id) is not None:
        # Its commit had counted after all.
        return [Enqueued(job.id, created=True) for job in (*callbacks, *members)]
    open_batch(session, workspace, batch_id=batch_id)
    answers = enqueue_jobs(session, [*callbacks, *members])
    if close:
        close_batch(session, workspace, batch_id)
    return answers


def _add(workspace: uuid.UUID, batch_id: uuid.UUID, members: list[NewJob], session: Session) -> list[Enqueued]:
    batch = get_batch(session, workspace, batch_id)
    if batch is None or batch.closed_at is not None:
        return [Enqueued(job.id, created=True) for job in members]
    answers = enqueue_jobs(session, members)
    close_batch(session, workspace, batch_id)
    return answers
