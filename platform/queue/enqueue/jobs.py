"""Enqueue: a job appears exactly when the caller's own transaction does.

One statement writes both halves of every job. One job is the common case and has a statement of its own that answers
with nothing but how many rows it wrote; whatever that cannot say (a duplicate, a quota) and every bulk is asked of the
statement for many. The uniqueness guard is a unique index over live rows only, so it covers every unfinished state and
frees itself; Python only repeats the question when two transactions raced for the same key.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy.orm import Session

from jobplatform.models import reaching
from jobplatform.queue.doorbell import ring_for_jobs
from jobplatform.queue.enqueue.edges import hold_what_they_wait_for, link
from jobplatform.queue.enqueue.given import require_jobs, require_session
from jobplatform.queue.enqueue.happenings import note_enqueued
from jobplatform.queue.enqueue.many import enqueue_many, enqueue_unasked
from jobplatform.queue.enqueue.new_job import NewJob
from jobplatform.queue.enqueue.parent import adopted, parent_of, traced
from jobplatform.queue.enqueue.periods import Recent, begin_periods, look_at_periods, without_recent
from jobplatform.queue.enqueue.replace import enqueue_newest
from jobplatform.queue.enqueue.statements import ENQUEUE_ONE
from jobplatform.queue.enqueue.unseen import run_for
from jobplatform.queue.enqueue.values import parameters_of
from jobplatform.queue.opening import open_with
from jobplatform.queue.statement import one_transaction, quick_maker
from jobplatform.queue.vault import seal_payloads, wants_sealing
from jobplatform.tracing import is_traced, sending


class Enqueued(NamedTuple):
    """What became of a request: ``created``, or the id of the unfinished job that holds its uniqueness guard.

    ``replaced``: that job waited, and is what was asked for now. ``unique_until``: that job was made so recently that
    until then no other is made, by the ``unique_for`` of the request, and it may have completed; ``retry_after`` are
    the seconds until then.
    """

    job_id: uuid.UUID
    created: bool

    @property
    def replaced(self) -> bool:
        return False

    @property
    def unique_until(self) -> datetime.datetime | None:
        return None

    @property
    def retry_after(self) -> int | None:
        return None


_enqueued = quick_maker(Enqueued)


class Replaced(Enqueued):
    """The request took the place of one that waited, under the id of that."""

    __slots__ = ()

    @property
    def replaced(self) -> bool:
        return True


class MadeRecently(Enqueued):
    """A job of the key was made within the ``unique_for`` of the request: this one, which may have completed."""

    _recent: Recent

    @classmethod
    def of(cls, recent: Recent) -> MadeRecently:
        made = cls(recent.job_id, False)
        made._recent = recent
        return made

    @property
    def unique_until(self) -> datetime.datetime:
        return self._recent.until

    @property
    def retry_after(self) -> int:
        return self._recent.seconds


def enqueue_job(session: Session, job: NewJob) -> Enqueued:
    """Enqueue one job in the caller's transaction. See :func:`enqueue_jobs`."""
    return enqueue_jobs(session, [job])[0]


def enqueue_jobs(session: Session, jobs: Sequence[NewJob]) -> list[Enqueued]:
    """Enqueue jobs in the caller's transaction; the answers come in the same order. Never commits.

    After the commit idle workers are woken (a rollback wakes nobody). Rows are written sorted by workspace and key,
    so two bulk enqueues of the same keys cannot deadlock. Raises :class:`InvalidPayloadError` for a payload that
    JSON or PostgreSQL cannot hold, :class:`QuotaExceededError` when a workspace's quota has no room for all of them
    (then none was enqueued, and the transaction can go on), :class:`KeyMissingError` when payloads are to be sealed
    and this process has no key for that, :class:`InvalidJobError` for a batch or a predecessor that the workspace has
    not, and :class:`EnqueueConflictError` (see there) under REPEATABLE READ.
    """
    require_session(session)
    jobs = require_jobs(jobs)
    if is_traced():
        with sending((job.queue for job in jobs), [job.id for job in jobs]) as trace_parent:
            return _enqueue_jobs(session, traced(jobs, trace_parent))
    return _enqueue_jobs(session, jobs)


def _enqueue_jobs(session: Session, jobs: Sequence[NewJob]) -> list[Enqueued]:
    if (parent := parent_of(session)) is not None:
        jobs = adopted(parent, jobs)
    # By number: hashing a UUID is a call into Python.
    asked = list({job.id.int: job for job in jobs}.values())
    existing: dict[int, uuid.UUID] = {}
    replaced: set[int] = set()
    recent: Mapping[int, Recent] = {}
    with reaching(session, (job.workspace_id for job in asked)):
        if wants_sealing(asked):
            asked = seal_payloads(session, asked)
        wanted = asked
        if not (len(asked) == 1 and _stands_alone(asked[0]) and _enqueue_one(session, asked[0])):
            wanted, existing, replaced, recent = _enqueue_together(session, asked)
    _wake_workers(session, (job for job in wanted if job.id.int not in existing or job.id.int in replaced))
    note_enqueued(session, asked, existing, replaced)
    if not existing:
        return [_enqueued((job.id, True)) for job in jobs]
    return [_answer(job, existing, replaced, recent) for job in jobs]


class _Together(NamedTuple):
    """What many came to: those without a recent one, whom the others' keys belong to, and whose place was taken."""

    wanted: list[NewJob]
    existing: dict[int, uuid.UUID]
    replaced: set[int]
    recent: Mapping[int, Recent]


def _enqueue_together(session: Session, asked: list[NewJob]) -> _Together:
    replaced: set[int] = set()
    with one_transaction(session):
        periods = look_at_periods(session, asked)
        wanted = without_recent(asked, periods)
        related = any(map(_is_related, wanted))
        if related:
            wanted = hold_what_they_wait_for(session, wanted)
        existing = enqueue_many(session, [job for job in wanted if not _replaces(job)])
        if related:
            link(session, wanted, existing)
        if any(map(_replaces, wanted)):
            replaced = _enqueue_newest(session, wanted, existing)
        begin_periods(session, periods, wanted, existing)
    existing.update((number, recent.job_id) for number, recent in periods.recent.items())
    return _Together(wanted, existing, replaced, periods.recent)


def enqueue_of_ours(session: Session, jobs: Sequence[NewJob]) -> int:
    """Enqueue what the platform itself has to do for a workspace, in the caller's transaction. Says how many are new.

    No quota is asked: it is not the workspace that wants it, and what asks may be busy with others' jobs too. Payloads
    are written as they are: they hold nothing that does not stand in the open elsewhere.
    """
    if not jobs:
        return 0
    with reaching(session, {job.workspace_id for job in jobs}):
        new = enqueue_unasked(session, jobs)
    _wake_workers(session, jobs)
    return new


def _answer(
    job: NewJob, existing: Mapping[int, uuid.UUID], replaced: Collection[int], recent: Mapping[int, Recent]
) -> Enqueued:
    number = job.id.int
    if number in recent:
        return MadeRecently.of(recent[number])
    if number in replaced:
        return Replaced(existing[number], False)
    return Enqueued(existing.get(number, job.id), number not in existing)


def _replaces(job: NewJob) -> bool:
    """What is part of something larger takes nobody's place: whoever counts on it would count on another job."""
    return job.if_active == "replace" and job.unique_key is not None and not _is_related(job)


def _enqueue_newest(session: Session, jobs: Sequence[NewJob], existing: dict[int, uuid.UUID]) -> set[int]:
    """Enqueue those that replace what waits, one after the other in one order for all; tell which did."""
    replaced: set[int] = set()
    for job in sorted(filter(_replaces, jobs), key=lambda job: (job.workspace_id.int, job.unique_key or "")):
        job_id, was_there = enqueue_newest(session, job)
        if was_there:
            existing[job.id.int] = job_id
            replaced.update([job.id.int] if job_id != job.id else [])
    return replaced


def _stands_alone(job: NewJob) -> bool:
    """The statement for one job knows nothing of what others have to do with it."""
    return (
        not _is_related(job)
        and not job.blocked
        and not job.followed
        and job.if_active != "replace"
        and job.unique_for is None
    )


def _is_related(job: NewJob) -> bool:
    return bool(job.after) or job.batch_id is not None


def _enqueue_one(session: Session, job: NewJob) -> bool:
    """Whether the job was created. If not, there is more to know: it may exist, or its workspace has a quota."""
    parameters = parameters_of(job)
    count = open_with(session, ENQUEUE_ONE, parameters)
    return (run_for(session, [job], ENQUEUE_ONE, **parameters).rowcount if count is None else count) == 1


def _wake_workers(session: Session, created: Iterable[NewJob]) -> None:
    """Only for jobs that may run at once: a later one is found by whoever promotes it."""
    ready = [job for job in created if job.run_after is None and not job.delay and not job.blocked]
    if ready:
        # By number, once more.
        workspaces = {job.workspace_id.int: job.workspace_id for job in ready}
        ring_for_jobs(session, {job.queue for job in ready}, workspaces.values())
