"""The queue as a state machine: every verb a rule, a small model of what each should do, checks after every step."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule
from sqlalchemy import text
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from jobplatform.errors import InvalidJobError
from jobplatform.queue import (
    CancelAnswer,
    ChangeAnswer,
    Completion,
    Edge,
    Failure,
    JobChange,
    Lease,
    NewJob,
    ProgressReport,
    Release,
    RetryKind,
    begin_jobs,
    cancel_batch,
    cancel_job,
    change_job,
    close_batch,
    complete_jobs,
    deregister_worker,
    end_late_jobs,
    enqueue_job,
    fail_jobs,
    get_batch,
    heartbeat,
    open_batch,
    promote_jobs,
    release_jobs,
    report_progress,
    rescue_jobs,
    retry_job,
    settle_endings,
    succeed_jobs,
)
from jobplatform.testing import Clock
from tests.queue.actors import Worker
from tests.queue.invariants import violations

BEGIN = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
CRASHES = 3
WORKSPACES = (uuid.UUID(int=1), uuid.UUID(int=2))
EMPTY = """
truncate jobplatform.job_records, jobplatform.job_queue, jobplatform.job_attempts, jobplatform.workers,
    jobplatform.job_edges, jobplatform.notices, jobplatform.batches, jobplatform.unique_periods
"""
# What settling must not leave behind: a job that waits, though all it waits for has ended.
LEFT_WAITING = """
select q.id
from jobplatform.job_queue q
where q.state = -1
    and exists (select from jobplatform.job_edges e where e.workspace_id = q.workspace_id and e.job_id = q.id)
    and not exists (
        select
        from jobplatform.job_edges e
        left join jobplatform.job_records r on r.workspace_id = e.workspace_id and r.id = e.after_id
        left join jobplatform.batches b on b.workspace_id = e.workspace_id and b.id = e.after_id
        where e.workspace_id = q.workspace_id and e.job_id = q.id
            and case when e.of_batch then b.ended_at is null else r.status is null end
    )
"""
# Both halves: what is told of a job, and what its row in the queue has while it lives.
FACTS = """
select j.id, j.status, j.attempts, j.crash_count, j.epoch, j.cancel_requested_at is not null, j.queue, j.priority,
    q.queue, q.priority, q.run_after, q.start_by
from jobplatform.jobs j
left join jobplatform.job_queue q on q.workspace_id = j.workspace_id and q.id = j.id
"""

BLOCKED, SCHEDULED, READY, RUNNING = "blocked", "scheduled", "ready", "running"
COMPLETED, FAILED, CANCELLED = "completed", "failed", "cancelled"
WAITING = (BLOCKED, SCHEDULED, READY)
LIVE = (*WAITING, RUNNING)
#: After which ends of what it waits for a job runs.
FITS = {"completed": (COMPLETED,), "failed": (FAILED, CANCELLED), "ended": (COMPLETED, FAILED, CANCELLED)}

DELAYS = st.sampled_from([0, 5, 60])
#: How soon a job has to begin, if at all.
TERMS = st.sampled_from([None, 30, 300])


def seconds_or_none(number: int | None) -> datetime.timedelta | None:
    return None if number is None else datetime.timedelta(seconds=number)


def seconds_of(moment: datetime.datetime | None) -> float | None:
    return None if moment is None else (moment - BEGIN).total_seconds()


@dataclass
class ModelJob:
    """What a job should be."""

    request: NewJob
    state: str
    due: float
    attempts: int = 0
    crashes: int = 0
    epoch: int = 0
    worker_id: int | None = None
    cancel_requested: bool = False
    after: uuid.UUID | None = None
    """A job or a batch that it waits for."""
    run_if: str = ""
    batch: uuid.UUID | None = None
    told: str | None = None
    """How what it waits for had ended, when that was settled last."""
    called_off: bool = False
    recorded_due: float = 0.0
    start_by: float | None = None
    """When it is too late to begin. None: it has begun, waits for others, or need not begin by any moment."""

    @property
    def order(self) -> tuple[int, float, uuid.UUID]:
        return (-self.request.priority, self.due, self.request.id)

    @property
    def status(self) -> str:
        return "pending" if self.state in WAITING else self.state

    @property
    def facts(self) -> tuple[Any, ...]:
        seen = (self.status, self.attempts, self.crashes, self.epoch, self.cancel_requested)
        asked = (self.request.queue, self.request.priority)
        row = (*asked, self.due, self.start_by) if self.state in LIVE else (None,) * 4
        return (*seen, *asked, *row)

    @property
    def term(self) -> float | None:
        within = self.request.start_within
        return None if within is None else self.due + within.total_seconds()

    def wait(self, now: float, delay: float, *, given_back: int) -> None:
        self.state = SCHEDULED if delay else READY
        self.due = now + delay if delay else self.due
        self.attempts -= given_back
        self.worker_id, self.cancel_requested = None, False

    def end(self, state: str) -> None:
        self.state = state
        self.worker_id, self.cancel_requested = None, False


@dataclass
class ModelBatch:
    """What a batch should be."""

    workspace_id: uuid.UUID
    members: list[ModelJob] = dataclasses.field(default_factory=list)
    closed: bool = False
    state: str = READY
    """How it had ended, when that was settled last; something live while it had not."""

    def counts(self) -> tuple[int, ...]:
        states = [job.state for job in self.members]
        return (len(states), *map(states.count, (COMPLETED, FAILED, CANCELLED, RUNNING)))

    def settle(self) -> None:
        states = {job.state for job in self.members}
        ended = self.closed and not states & set(LIVE)
        self.state = READY if not ended else COMPLETED if states <= {COMPLETED} else FAILED


class QueueMachine(RuleBasedStateMachine):
    """The verbs as rules. Leases are never forgotten: whoever held one may come back with it at any time."""

    db: Session

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[uuid.UUID, ModelJob] = {}
        self.batches: dict[uuid.UUID, ModelBatch] = {}
        self.unsettled: set[uuid.UUID] = set()
        """Jobs and batches of which something has happened that nobody has settled."""
        self.periods: dict[tuple[uuid.UUID, str | None], tuple[uuid.UUID, float]] = {}
        """By workspace and key the last job that was made with a period, and when."""
        self.handed_out: set[Lease] = set()
        self.now = 0.0
        self.db.execute(text(EMPTY))
        self.clock = Clock(self.db)
        self.clock.freeze(BEGIN)
        self.workers = [Worker(self.db, position=place / 2) for place in range(2)]

    ids = Bundle("ids")
    leases = Bundle("leases")
    opened = Bundle("opened")

    # Enqueue

    @rule(
        target=ids,
        workspace_id=st.sampled_from(WORKSPACES),
        key=st.sampled_from([None, "a", "b"]),
        priority=st.sampled_from([0, 0, 5]),
        delay=DELAYS,
        max_attempts=st.integers(1, 3),
        within=TERMS,
        period=st.sampled_from([None, 20, 600]),
    )
    def enqueue(
        self,
        workspace_id: uuid.UUID,
        key: str | None,
        priority: int,
        delay: int,
        max_attempts: int,
        within: int | None = None,
        period: int | None = None,
    ) -> uuid.UUID:
        request = NewJob(
            workspace_id=workspace_id,
            task="work",
            unique_key=key,
            priority=priority,
            delay=datetime.timedelta(seconds=delay),
            max_attempts=max_attempts,
            start_within=seconds_or_none(within),
            unique_for=None if key is None else seconds_or_none(period),
        )
        return self._enqueue(request)

    @rule(target=ids, job_id=ids)
    def enqueue_alike(self, job_id: uuid.UUID) -> uuid.UUID:
        """A further request for what one was for, whatever has become of that one."""
        by_itself = {"id": uuid7(), "if_active": "return", "after": (), "batch_id": None}
        return self._enqueue(dataclasses.replace(self.jobs[job_id].request, **by_itself))

    def _enqueue(self, request: NewJob) -> uuid.UUID:
        recent, until = self._recent(request)
        holder = recent or self._holder(request)
        delay = request.delay.total_seconds() if request.delay else 0.0

        answer = enqueue_job(self.db, request)

        assert answer == (holder or request.id, holder is None)
        assert answer.unique_until == until
        if holder is None:
            job = self._made(request, SCHEDULED if delay else READY, self.now + delay)
            job.start_by = job.term
        if holder is None and request.unique_for is not None:
            self.periods[request.workspace_id, request.unique_key] = (request.id, self.now)
        return answer.job_id

    @rule(
        target=ids,
        workspace_id=st.sampled_from(WORKSPACES),
        key=st.sampled_from(["a", "b"]),
        delay=DELAYS,
        max_attempts=st.integers(1, 3),
        within=TERMS,
    )
    def enqueue_newest(
        self, workspace_id: uuid.UUID, key: str, delay: int, max_attempts: int, within: int | None = None
    ) -> uuid.UUID:
        """It replaces what waits, or waits for what runs."""
        request = NewJob(
            workspace_id=workspace_id,
            task="work",
            unique_key=key,
            delay=datetime.timedelta(seconds=delay),
            max_attempts=max_attempts,
            start_within=seconds_or_none(within),
            if_active="replace",
        )
        waits = self._successor(request) or self._holder(request)
        beside = waits is not None and self.jobs[waits].state == RUNNING

        answer = enqueue_job(self.db, request)

        if waits is None or beside:
            assert answer == (request.id, True)
            job = self._made(request, BLOCKED if beside else SCHEDULED if delay else READY, self.now + delay)
            job.start_by = job.term
            return request.id
        assert (*answer, answer.replaced) == (waits, False, True)
        job = self.jobs[waits]
        job.request = dataclasses.replace(request, id=waits)
        job.state = BLOCKED if job.state == BLOCKED else SCHEDULED if delay else READY
        job.due, job.attempts, job.crashes = self.now + delay, 0, 0
        job.start_by = job.term
        return waits

    @rule(target=ids, job_id=ids, run_if=st.sampled_from(sorted(FITS)), delay=DELAYS, within=TERMS)
    def enqueue_after(self, job_id: uuid.UUID, run_if: str, delay: int = 0, within: int | None = None) -> uuid.UUID:
        request = NewJob(
            workspace_id=self.jobs[job_id].request.workspace_id,
            task="work",
            delay=datetime.timedelta(seconds=delay),
            max_attempts=2,
            start_within=seconds_or_none(within),
            after=[Edge(job_id, run_if)],
        )

        assert enqueue_job(self.db, request) == (request.id, True)
        self._waits_for(request, job_id, run_if, self.now + delay)
        return request.id

    # Batches

    @rule(target=opened, workspace_id=st.sampled_from(WORKSPACES))
    def open(self, workspace_id: uuid.UUID) -> uuid.UUID:
        """With a callback of each kind."""
        batch_id = open_batch(self.db, workspace_id)
        self.batches[batch_id] = ModelBatch(workspace_id)
        for run_if in sorted(FITS):
            after = [Edge(batch_id, run_if, of_batch=True)]
            request = NewJob(workspace_id=workspace_id, task="work", max_attempts=2, after=after)
            assert enqueue_job(self.db, request) == (request.id, True)
            self._waits_for(request, batch_id, run_if, self.now)
        return batch_id

    @rule(target=ids, batch_id=opened, delay=DELAYS, max_attempts=st.integers(1, 2))
    def add(self, batch_id: uuid.UUID, delay: int, max_attempts: int) -> Any:
        batch = self.batches[batch_id]
        request = NewJob(
            workspace_id=batch.workspace_id,
            task="work",
            delay=datetime.timedelta(seconds=delay),
            max_attempts=max_attempts,
            batch_id=batch_id,
        )
        if batch.closed:
            with pytest.raises(InvalidJobError, match="closed"):
                enqueue_job(self.db, request)
            return multiple()

        assert enqueue_job(self.db, request) == (request.id, True)
        job = self._made(request, SCHEDULED if delay else READY, self.now + delay)
        job.batch = batch_id
        batch.members.append(job)
        self.unsettled.add(batch_id)
        return request.id

    @rule(batch_id=opened)
    def close(self, batch_id: uuid.UUID) -> None:
        batch = self.batches[batch_id]

        assert close_batch(self.db, batch.workspace_id, batch_id)
        self.unsettled |= set() if batch.closed else {batch_id}
        batch.closed = True

    @rule(batch_id=opened)
    def cancel_all(self, batch_id: uuid.UUID) -> None:
        batch = self.batches[batch_id]
        over = batch.state not in LIVE
        waiting = [] if over else [job for job in batch.members if job.state in WAITING]
        running = [] if over else [job for job in batch.members if job.state == RUNNING]

        answer = cancel_batch(self.db, batch.workspace_id, batch_id)

        assert answer is not None
        assert (answer.cancelled, answer.requested, answer.later) == (len(waiting), len(running), 0)
        for job in waiting:
            self._end(job, CANCELLED)
        for job in running:
            job.cancel_requested = True
        batch.closed = batch.closed or not over
        self.unsettled.add(batch_id)

    @rule(job_id=ids)
    def enqueue_again(self, job_id: uuid.UUID) -> None:
        request = dataclasses.replace(self.jobs[job_id].request, if_active="return")
        if request.batch_id is not None and self.batches[request.batch_id].closed:
            with pytest.raises(InvalidJobError, match="closed"):
                enqueue_job(self.db, request)
            return

        assert enqueue_job(self.db, request) == (job_id, False)

    # What workers do

    @rule(target=leases, number=st.integers(0, 1), limit=st.integers(1, 3))
    def claim(self, number: int, limit: int) -> Any:
        worker = self.workers[number]
        wanted = self._next_of_each_workspace(limit)

        claimed = worker.claim(limit)

        taken = [uuid.UUID(job.lease.job_id) for job in claimed]
        assert len(taken) == min(limit, sum(map(len, wanted.values())))
        for workspace_id, best in wanted.items():
            mine = [job_id for job_id in taken if self.jobs[job_id].request.workspace_id == workspace_id]
            assert mine == best[: len(mine)], "a better job of the workspace was passed over"
        for job in claimed:
            self._hand_out(job.lease, worker.id)
        return multiple(*(job.lease for job in claimed))

    @rule(lease=leases)
    def begin(self, lease: Lease) -> None:
        held = self._held(lease)

        assert begin_jobs(self.db, [lease]) == ({lease} if held else set())
        if held:
            held.start_by = None

    @rule(lease=leases)
    def complete(self, lease: Lease) -> None:
        held = self._held(lease)

        assert complete_jobs(self.db, [Completion(lease)]) == ({lease} if held else set())
        if held:
            self._end(held, COMPLETED)

    @rule(lease=leases, delay=DELAYS, retry=st.booleans(), crash=st.booleans())
    def fail(self, lease: Lease, delay: int, retry: bool, crash: bool) -> None:
        held = self._held(lease)
        expected = self._after_failure(held, delay, retry=retry, crash=crash) if held else None

        failure = Failure(lease, "error", "E", "no", delay=delay, retry=retry, crash=crash)

        assert fail_jobs(self.db, [failure], crash_limit=CRASHES) == ({lease: expected} if held else {})

    @rule(lease=leases, delay=DELAYS)
    def release(self, lease: Lease, delay: int) -> None:
        held = self._held(lease)

        assert release_jobs(self.db, [Release(lease, delay)]) == ({lease} if held else set())
        if held and held.cancel_requested:
            held.attempts -= 1
            self._end(held, CANCELLED)
        elif held:
            self._wait(held, delay, given_back=1)

    @rule(lease=leases)
    def progress(self, lease: Lease) -> None:
        accepted = report_progress(self.db, [ProgressReport(lease, "1")])

        assert accepted == ({lease} if self._held(lease) else set())

    @rule(number=st.integers(0, 1), lease=leases)
    def beat(self, number: int, lease: Lease) -> None:
        worker = self.workers[number]
        held = self._held(lease)
        mine = held if held and held.worker_id == worker.id else None

        answer = heartbeat(self.db, worker.id, [lease])

        assert answer.alive
        assert answer.lost == ([] if mine else [lease])
        assert answer.cancelled == ([lease] if mine and mine.cancel_requested else [])

    @rule(number=st.integers(0, 1))
    def die_and_be_rescued(self, number: int) -> None:
        dead = self.workers[number]
        orphans = {job_id: job for job_id, job in self.jobs.items() if job.worker_id == dead.id}
        deregister_worker(self.db, dead.id)

        # A rescue draws its delay at random; a run that is repeated has to draw the same again.
        self.db.execute(text("select setseed(0.5)"))
        rescued = rescue_jobs(self.db, crash_limit=CRASHES)

        expected = {job_id: self._after_failure(job, 1, retry=True, crash=True) for job_id, job in orphans.items()}
        assert {uuid.UUID(one.lease.job_id): one.status for one in rescued} == expected
        for job in orphans.values():
            job.due = self._due_in_database(job)
        self.workers[number] = Worker(self.db, position=number / 2)

    # What people and time do

    @rule(job_id=ids)
    def cancel(self, job_id: uuid.UUID) -> None:
        job = self.jobs[job_id]
        expected = CancelAnswer.FINISHED
        if job.state == RUNNING:
            job.cancel_requested, expected = True, CancelAnswer.REQUESTED
        elif job.state in LIVE:
            self._end(job, CANCELLED)
            expected = CancelAnswer.CANCELLED

        assert cancel_job(self.db, job.request.workspace_id, job_id) == expected

    @rule(
        job_id=ids,
        priority=st.sampled_from([None, 0, 5]),
        queue=st.sampled_from([None, "default", "aside"]),
        delay=st.sampled_from([None, -1, 0, 60]),
    )
    def change(
        self, job_id: uuid.UUID, priority: int | None = None, queue: str | None = "default", delay: int | None = None
    ) -> None:
        """A ``delay`` of 0 is at once. Nobody claims from the queue ``aside``."""
        if priority is queue is delay is None:
            return
        job, moment = self.jobs[job_id], self.now + (delay or 0)
        run_after = BEGIN + datetime.timedelta(seconds=moment) if delay else None
        wanted = JobChange(priority=priority, queue=queue, run_after=run_after, at_once=delay == 0)
        expected = ChangeAnswer.RUNNING if job.state == RUNNING else ChangeAnswer.FINISHED

        answer = change_job(self.db, job.request.workspace_id, job_id, wanted)

        assert answer == (ChangeAnswer.CHANGED if job.state in WAITING else expected)
        if job.state in WAITING:
            said = {name: value for name, value in (("priority", priority), ("queue", queue)) if value is not None}
            job.request = dataclasses.replace(job.request, **said)
            self._move(job, None if delay is None else moment if delay else min(job.due, self.now))

    def _move(self, job: ModelJob, due: float | None) -> None:
        if due is None:
            return
        job.due, job.recorded_due = due, job.recorded_due if job.attempts else due
        job.start_by = None if job.start_by is None else job.term
        if job.state != BLOCKED:
            job.state = SCHEDULED if due > self.now else READY

    @rule(job_id=ids)
    def retry(self, job_id: uuid.UUID) -> None:
        job = self.jobs[job_id]
        holder = self._holder(job.request)
        expected = self._answer_to_retry(job, holder)

        answer = retry_job(self.db, job.request.workspace_id, job_id)

        assert answer == (expected, holder if expected == RetryKind.DUPLICATE else None)
        if expected == RetryKind.RETRIED:
            waits = job.after is not None and job.told is None
            job.state, job.due, job.attempts, job.crashes = BLOCKED if waits else READY, self.now, 0, 0
            job.recorded_due, job.called_off = self.now, False
            job.start_by = None if waits else job.term
            self.unsettled.add(job_id)

    @rule()
    def settle(self) -> None:
        while settle_endings(self.db).notices:
            pass

        while self.unsettled:
            self._settle_a_round()
        assert self.db.scalars(text(LEFT_WAITING)).all() == []

    @rule()
    def settle_a_round(self) -> None:
        """What is called off, or brought back, is told to those that wait for it in the next one."""
        settle_endings(self.db)
        self._settle_a_round()

    def _settle_a_round(self) -> None:
        events, self.unsettled = self.unsettled, set()
        events = events | {job.batch for job_id in events if (job := self.jobs.get(job_id)) and job.batch}
        for batch_id in events & self.batches.keys():
            self.batches[batch_id].settle()
        told = {job_id: job for job_id, job in self.jobs.items() if job.after in events}
        now = {job_id: self._state_of(job.after) for job_id, job in told.items()}
        for job_id, job in told.items():
            self._settle(job, now[job_id])

    def _state_of(self, place: uuid.UUID | None) -> str:
        assert place is not None
        return (self.batches[place] if place in self.batches else self.jobs[place]).state

    def _settle(self, job: ModelJob, first: str) -> None:
        told = None if first in LIVE else first
        if told == job.told:
            return
        job.told = told
        against = job.told is not None and job.told not in FITS[job.run_if]
        if job.called_off and not against:
            job.state, job.called_off, job.due = BLOCKED, False, max(job.recorded_due, self.now)
            job.start_by = None
            self.unsettled.add(job.request.id)
        if job.state == BLOCKED and against:
            self._end(job, CANCELLED)
            job.called_off = True
        elif job.state == BLOCKED and job.told is not None:
            job.state = SCHEDULED if job.due > self.now else READY
            job.due = max(job.due, self.now)
            job.start_by = job.term

    @rule(seconds=st.sampled_from([1, 5, 60, 1000]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        self.clock.travel(seconds=seconds)
        ended = end_late_jobs(self.db).jobs
        promote_jobs(self.db)
        succeed_jobs(self.db)

        late = [job for job in self.jobs.values() if job.state in WAITING and self._is_late(job)]
        assert ended == len(late)
        for job in late:
            self._end(job, CANCELLED)
        for job in self.jobs.values():
            if job.state == BLOCKED and job.after is None and not self._runs(job.request):
                job.state = READY if job.due <= self.now else SCHEDULED
        for job in self.jobs.values():
            if job.state == SCHEDULED and job.due <= self.now:
                job.state = READY

    # What holds after every step

    @invariant()
    def the_database_agrees_with_the_model(self) -> None:
        rows = self.db.execute(text(FACTS))
        found = {job_id: (*facts, seconds_of(due), seconds_of(by)) for job_id, *facts, due, by in rows}

        assert found == {job_id: job.facts for job_id, job in self.jobs.items()}

    @invariant()
    def every_batch_counts_what_it_has(self) -> None:
        """At every moment, settled or not."""
        for batch_id, batch in self.batches.items():
            seen = get_batch(self.db, batch.workspace_id, batch_id)
            assert seen is not None
            assert (seen.total, seen.completed, seen.failed, seen.cancelled, seen.running) == batch.counts()

    @invariant()
    def the_invariants_hold(self) -> None:
        assert violations(self.db) == []

    # The model's own arithmetic

    def _holder(self, request: NewJob) -> uuid.UUID | None:
        """Whoever has the key; whoever waits for it, while it is free."""
        live = [job for job in self._same(request) if job.state != BLOCKED]
        return live[0].request.id if live else self._successor(request)

    def _successor(self, request: NewJob) -> uuid.UUID | None:
        return next((job.request.id for job in self._same(request) if job.state == BLOCKED), None)

    def _recent(self, request: NewJob) -> tuple[uuid.UUID | None, datetime.datetime | None]:
        """The job that was made too recently, and until when it is."""
        last, began = self.periods.get((request.workspace_id, request.unique_key), (None, 0.0))
        if request.unique_for is None or last is None or self.jobs[last].state in (FAILED, CANCELLED):
            return None, None
        until = BEGIN + datetime.timedelta(seconds=began) + request.unique_for
        return (last, until) if until > BEGIN + datetime.timedelta(seconds=self.now) else (None, None)

    def _is_late(self, job: ModelJob) -> bool:
        return job.start_by is not None and job.start_by <= self.now

    def _runs(self, request: NewJob) -> bool:
        return any(job.state == RUNNING for job in self._same(request))

    def _same(self, request: NewJob) -> list[ModelJob]:
        """The live jobs of its key."""
        if request.unique_key is None:
            return []
        key = (request.workspace_id, request.unique_key)
        live = [job for job in self.jobs.values() if job.state in LIVE]
        return [job for job in live if (job.request.workspace_id, job.request.unique_key) == key]

    def _made(self, request: NewJob, state: str, due: float) -> ModelJob:
        self.jobs[request.id] = ModelJob(request, state, due=due, recorded_due=due)
        return self.jobs[request.id]

    def _waits_for(self, request: NewJob, place: uuid.UUID, run_if: str, due: float) -> None:
        job = self._made(request, BLOCKED, due)
        job.after, job.run_if = place, run_if
        self.unsettled.add(place)

    def _end(self, job: ModelJob, state: str) -> None:
        job.end(state)
        self.unsettled.add(job.request.id)

    def _wait(self, job: ModelJob, delay: float, *, given_back: int) -> None:
        """A job that would wait again is given up when a newer one waits already, or when it can only be late."""
        if self._successor(job.request) or self._is_late(job):
            job.attempts -= given_back
            self._end(job, CANCELLED)
        else:
            job.wait(self.now, delay, given_back=given_back)

    def _next_of_each_workspace(self, limit: int) -> dict[uuid.UUID, list[uuid.UUID]]:
        ready = [job for job in self.jobs.values() if job.state == READY and job.request.queue == "default"]
        lanes = {job.request.workspace_id for job in ready}
        quantum = -(-limit // max(1, len(lanes)))
        return {
            workspace_id: [
                job.request.id
                for job in sorted(ready, key=lambda job: job.order)
                if job.request.workspace_id == workspace_id
            ][:quantum]
            for workspace_id in lanes
        }

    def _hand_out(self, lease: Lease, worker_id: int) -> None:
        job = self.jobs[uuid.UUID(lease.job_id)]
        assert lease not in self.handed_out, f"I2: {lease} was handed out twice"
        self.handed_out.add(lease)
        job.state, job.worker_id = RUNNING, worker_id
        job.attempts, job.epoch = job.attempts + 1, job.epoch + 1
        assert lease.epoch == job.epoch

    def _held(self, lease: Lease) -> ModelJob | None:
        job = self.jobs[uuid.UUID(lease.job_id)]
        return job if job.state == RUNNING and job.epoch == lease.epoch else None

    def _after_failure(self, job: ModelJob, delay: float, *, retry: bool, crash: bool) -> str:
        left = job.crashes + 1 < CRASHES if crash else job.attempts < job.request.max_attempts
        cancelled = job.cancel_requested
        job.crashes += crash
        if retry and left and not cancelled:
            self._wait(job, delay, given_back=int(crash))
        else:
            job.attempts -= int(crash)
            self._end(job, CANCELLED if cancelled else FAILED)
        return job.status

    def _due_in_database(self, job: ModelJob) -> float:
        """Whether a rescue draws the right delay is not this model's question."""
        due = self.db.scalar(text("select run_after from jobplatform.job_queue where id = :id"), {"id": job.request.id})
        found = seconds_of(due)
        return job.due if found is None else found

    def _answer_to_retry(self, job: ModelJob, holder: uuid.UUID | None) -> RetryKind:
        if job.state in LIVE:
            return RetryKind.LIVE
        if job.state == COMPLETED:
            return RetryKind.COMPLETED
        return RetryKind.DUPLICATE if holder else RetryKind.RETRIED
