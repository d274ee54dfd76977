"""The platform's users: producers enqueue all along, an operator cancels and retries, and an intruder writes with
leases that ended. Each is a thread, and what it was promised is kept in :class:`Promises`.
"""

from __future__ import annotations

import contextlib
import random
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from jobplatform.errors import LeaseLostError, QuotaExceededError
from jobplatform.models import Role
from jobplatform.proof.client import Client
from jobplatform.proof.families import Families
from jobplatform.proof.part import Part
from jobplatform.proof.plan import Order, Plan
from jobplatform.proof.terrain import Floods
from jobplatform.queue import (
    CancelAnswer,
    Completion,
    Failure,
    Lease,
    LogLine,
    NewJob,
    ProgressReport,
    Release,
    RetryKind,
    append_log_lines,
    cancel_job,
    complete_jobs,
    fail_jobs,
    release_jobs,
    report_progress,
    retry_job,
)
from jobplatform.queue.attempts.save_step import save_step


@dataclass(slots=True)
class Promises:
    """What clients asked for and were told. Ids are text, as the history has them."""

    asked: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    taken_back: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    duplicates: int = 0
    families: int = 0
    cancels: dict[str, CancelAnswer] = field(default_factory=dict)
    cancels_begun: set[str] = field(default_factory=set)
    retries_begun: set[str] = field(default_factory=set)
    stale_writes: Counter[str] = field(default_factory=Counter)
    stale_accepted: list[tuple[str, str]] = field(default_factory=list)

    def stale_write(self, kind: str, lease: Lease, *, accepted: bool) -> None:
        self.stale_writes[kind] += 1
        if accepted:
            self.stale_accepted.append((lease.job_id, f"{kind} with epoch {lease.epoch}"))


class ClientThread(Part):
    """A client of the platform until it is told to stop. Most ask about many workspaces, as an operator may."""

    role = Role.OPERATOR

    def __init__(
        self, name: str, url: str, promises: Promises, stop: threading.Event, *, patience: threading.Event | None = None
    ) -> None:
        """``patience`` ends later than ``stop``, for one that has to finish what it began."""
        super().__init__(name, stop)
        self.client = Client(url, name, patience or stop, self.role)
        self.promises = promises

    def leave(self) -> None:
        self.client.engine.dispose()


class Producer(ClientThread):
    """Enqueues its plan evenly over ``seconds``. What a quota refuses is not asked for again."""

    def __init__(
        self, *setup: Any, plan: Plan | Floods | Families, seconds: float, doomed: SimpleQueue[NewJob]
    ) -> None:
        super().__init__(*setup)
        self.plan = plan
        self.seconds = seconds
        self.doomed = doomed

    def live(self) -> None:
        while not self.plan.done and not self.stop.is_set():
            before = self.plan.share_done
            self.place(self.plan.next_order())
            self.stop.wait(self.seconds * (self.plan.share_done - before))

    def place(self, order: Order) -> None:
        ids = {str(job.id) for job in order.jobs}
        self.promises.asked |= ids
        if order.taken_back:
            self.promises.taken_back |= ids
        try:
            answers = self.client.transact(order.enqueue, commit=not order.taken_back)
        except QuotaExceededError:
            self.promises.refused |= ids
            return
        self.promises.families += isinstance(self.plan, Families)
        if answers is not None and not order.taken_back:
            self.promises.acknowledged |= {str(answer.job_id) for answer in answers}
            self.promises.duplicates += sum(not answer.created for answer in answers)
            self.cancel_later(order, {str(answer.job_id) for answer in answers if answer.created})

    def cancel_later(self, order: Order, created: set[str]) -> None:
        for job in order.doomed:
            if str(job.id) in created:
                self.doomed.put(job)


class Operator(ClientThread):
    """Cancels what it is told to, and retries some jobs that failed by themselves."""

    def __init__(self, *setup: Any, draw: random.Random, doomed: SimpleQueue[NewJob], most_retries: int) -> None:
        super().__init__(*setup)
        self.draw = draw
        self.doomed = doomed
        self.most_retries = most_retries

    def live(self) -> None:
        while not self.stop.is_set():
            try:
                # Some are still waiting when the cancel comes, some run, some have ended.
                self.cancel(self.doomed.get(timeout=0.3))
            except Empty:
                self.retry_one()

    def cancel(self, job: NewJob) -> None:
        self.promises.cancels_begun.add(str(job.id))
        answer = self.client.transact(lambda session: cancel_job(session, job.workspace_id, job.id))
        if answer is not None:
            self.promises.cancels[str(job.id)] = answer

    def retry_one(self) -> None:
        if len(self.promises.retries_begun) >= self.most_retries:
            return
        failed = self.client.transact(failed_by_themselves) or []
        if failed:
            workspace_id, job_id = self.draw.choice(failed)
            self.promises.retries_begun.add(str(job_id))
            with contextlib.suppress(QuotaExceededError):
                self.client.transact(lambda session: _retry(session, workspace_id, job_id))


class Intruder(ClientThread):
    """Writes with leases that ended: of jobs that wait again, run again, or are finished. None may be accepted."""

    role = Role.WORKER

    def __init__(self, *setup: Any, pause: float) -> None:
        super().__init__(*setup)
        self.pause = pause

    def live(self) -> None:
        while not self.stop.wait(self.pause):
            for lease, completed in self.client.transact(stale_leases) or []:
                # The attempt that completed its job may still say what it had said before.
                self.try_all(lease, STALE_WRITES.keys() - {"log"} if completed else STALE_WRITES.keys())

    def try_all(self, lease: Lease, kinds: Collection[str]) -> None:
        for kind in sorted(kinds):
            write = STALE_WRITES[kind]
            # Steps are a handler's to write, everything else is its worker's.
            as_handler_of = lease.workspace_id if kind == "step" else None
            accepted = self.client.transact(partial(write, lease), as_handler_of=as_handler_of)
            if accepted is not None:
                self.promises.stale_write(kind, lease, accepted=bool(accepted))


def _stale_step(lease: Lease, session: Session) -> bool:
    try:
        save_step(session, lease, f"stale {lease.epoch}", "null")
    except LeaseLostError:
        return False
    return True


STALE_WRITES: dict[str, Callable[[Lease, Session], object]] = {
    "progress": lambda lease, session: report_progress(session, [ProgressReport(lease, '{"message": "stale"}')]),
    "log": lambda lease, session: append_log_lines(session, [LogLine(lease, 999, "info", "stale")]),
    "step": _stale_step,
    "complete": lambda lease, session: complete_jobs(session, [Completion(lease, '{"fence": "stale"}')]),
    "fail": lambda lease, session: fail_jobs(session, [Failure(lease, "error", "Stale", "stale")]),
    "release": lambda lease, session: release_jobs(session, [Release(lease)]),
}

STALE_LEASES = """
(
    select workspace_id::text, id::text, case when state = 2 then epoch - 1 else epoch end, false
    from jobplatform.job_queue
    where state = 2 and epoch > 1 or state < 2 and epoch > 0
    order by random()
    limit 4
)
union all
(
    select workspace_id::text, id::text, epoch, status = 3
    from jobplatform.job_records
    where status is not null and epoch > 0
    order by completed_at desc
    limit 1
)
"""

FAILED = (
    "select workspace_id, id from jobplatform.job_records where status = 4 and task in ('flaky', 'hopeless') limit 50"
)


def stale_leases(session: Session) -> list[tuple[Lease, bool]]:
    """Leases that are certain to have ended: the epoch of a waiting job, the one before of a running job. With each,
    whether it ended by completing the job."""
    return [(Lease(*row[:3]), row[3]) for row in session.execute(text(STALE_LEASES))]


def failed_by_themselves(session: Session) -> list[tuple[uuid.UUID, uuid.UUID]]:
    return [(row[0], row[1]) for row in session.execute(text(FAILED))]


def _retry(session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID) -> RetryKind:
    return retry_job(session, workspace_id, job_id).kind
