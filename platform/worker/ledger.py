"""The attempts this worker holds: waiting here, given to a child, or over and not yet written. Owned by the hub."""

import logging
import random
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from math import inf
from time import monotonic
from typing import Any, Final

from jobplatform.queue import (
    ClaimedJob,
    Completion,
    Lease,
    LogLine,
    ProgressReport,
    Release,
    ResourceNote,
    RetryPolicy,
    Shares,
    note_of,
    quick_maker,
)
from jobplatform.worker import verdicts
from jobplatform.worker.attempt import Attempt
from jobplatform.worker.bodies import decode_happenings, decode_line
from jobplatform.worker.frames import Frame, Reason
from jobplatform.worker.gathering import CallSize, Gathering
from jobplatform.worker.outbox import Flush, Outbox
from jobplatform.worker.pace import Pace
from jobplatform.worker.tally import Tally

# Seconds for which a suspect goes back: long enough for a slot to become free somewhere, different for each.
SUSPECT_PAUSE: Final = (0.2, 2.0)

_completion = quick_maker(Completion)
NOTHING: Final[Mapping[Lease, str]] = {}

logger = logging.getLogger("jobplatform.worker")


class Ledger:
    """`known` has every attempt from its claim to the answer of its last write: heartbeats and reconciling name it."""

    def __init__(self, tally: Tally | None = None) -> None:
        self.tally = tally
        """Where it is counted what happened; nobody counts when nobody can ask."""
        self.ready: deque[Attempt] = deque()
        self.known: dict[Lease, Attempt] = {}
        self.outbox = Outbox()
        self.pace = Pace()
        self.shares = Shares()
        self.retries: dict[str, RetryPolicy] = {}
        self.gathering = Gathering()
        self.apart: frozenset[str] = frozenset()
        """Tasks whose jobs want their process to themselves."""
        self.closed: set[str] = set()
        """Resources that were found closed, or were paused: what waits for them here is to go back."""
        self.late_at = inf
        """Nothing that waits here is too late before this moment."""
        self.taken = 0
        """How many jobs this worker has claimed and did not hand back unstarted."""
        self.claims = 0
        """How many jobs it has claimed at all."""
        self.put_off_until = 0.0
        """When the last of the suspects is ready again that were handed back for a moment, on this machine's clock."""
        self._seq = 0

    def learn_tasks(self, catalogue: Iterable[Mapping[str, Any]]) -> None:
        """Take in what the tasks say of how to run their jobs, and of those that can't report how they ended."""
        catalogue = list(catalogue)
        self.gathering.learn({task["name"]: CallSize(*task["batch"]) for task in catalogue if task["batch"]})
        self.apart = frozenset(task["name"] for task in catalogue if task["isolation"] == "process")
        self.retries = {task["name"]: RetryPolicy.from_dict(task["retry"]) for task in catalogue}

    def know(self, queues: Collection[str], tasks: Collection[str]) -> None:
        """The names that this worker was started for."""
        if self.tally is not None:
            self.tally.know(queues, tasks)

    def retry(self, attempt: Attempt) -> RetryPolicy:
        return self.retries.get(attempt.task, verdicts.DEFAULT_RETRY)

    # -- coming in, going out --------------------------------------------------------------------

    def claimed(
        self,
        jobs: Collection[ClaimedJob],
        *,
        idle: int,
        waiting: Collection[str] = (),
        came_round: bool = False,
        stood_idle: float = 0.0,
        since: float = 0.0,
    ) -> None:
        """Take in what was claimed, `since` some moment at the earliest. `idle` children could start a job at once; the
        rest is for the shares.

        When a worker dies, everything it held is charged with a crash, also what only waited here. So a job that was
        charged before is a suspect and is not held in stock: it starts at once, or as the next one, or goes back for a
        moment. One may always wait as the next: on a worker that is never idle none would ever run otherwise.
        """
        charges = self.shares.claimed(jobs, waiting=waiting, came_round=came_round, stood_idle=stood_idle)
        self.gathering.saw(jobs)
        self.taken += len(jobs)
        self.claims += len(jobs)
        now = monotonic()
        room = max(idle, 1) - sum(attempt.is_suspect for attempt in self.ready)
        for job, charged in zip(jobs, charges, strict=True):
            attempt = Attempt(job)
            attempt.charged = charged
            attempt.runnable_at = now - job.waited
            self.known[attempt.lease] = attempt
            if job.start_within is not None:
                attempt.start_by = since + job.start_within
                self.late_at = min(self.late_at, attempt.start_by)
            if not attempt.is_suspect:
                if not self.gathering.add(attempt, now):
                    self.ready.append(attempt)
            elif room > 0:
                room -= 1
                self.ready.appendleft(attempt)
            else:
                self.taken -= 1
                self.settle(attempt, Release(attempt.lease, random.uniform(*SUSPECT_PAUSE), unstarted=True))

    def refuse(self, jobs: Iterable[ClaimedJob]) -> None:
        """Hand back at once what was claimed for somebody that we are no longer, or too late."""
        for job in jobs:
            attempt = Attempt(job)
            self.settle(attempt, Release(attempt.lease, unstarted=True))

    def next_run(self, most: int, most_bytes: int, *, free: int) -> list[Attempt]:
        """Take jobs from the front for one child, each with a new sequence number.

        Beyond what `free` threads take at once, the run ends before a job of a task whose own run would be shorter: one
        slow job does not go behind 50 fast ones. A suspect (see `claimed`) has a run of its own, and so has a call.
        """
        if together := self.gathering.together(self.ready):
            return self._call(together)
        run: list[Attempt] = []
        size, task, length = 0, "", most
        while self.ready and len(run) < length and size < most_bytes:
            attempt = self.ready[0]
            if run and (attempt.is_suspect or self.gathering.goes_together(attempt)):
                break
            if attempt.task != task:
                task, length = attempt.task, min(most, max(free, self.pace.run_length(attempt.task)))
                continue
            run.append(self.ready.popleft())
            attempt.seq = self._seq = self._seq + 1
            size += len(attempt.job.payload)
            if attempt.is_suspect:
                break
        return run

    def _call(self, attempts: list[Attempt]) -> list[Attempt]:
        """Attempts for one call, which has a sequence number too: it is what a child starts."""
        call = self._seq = self._seq + 1
        for attempt in attempts:
            attempt.call = call
            attempt.seq = self._seq = self._seq + 1
        return attempts

    def release_gathered(self, now: float) -> float:
        """Let those go on that are enough for a call or have waited for others long enough. When to look again."""
        self.ready += self.gathering.take_due(now)
        return self.gathering.due_at

    def release_late(self, now: float) -> float:
        """Hand back what waits here and had to begin before: going back it ends. Answers with when to look again."""
        if now < self.late_at:
            return self.late_at
        waiting = (*self.ready, *self.gathering)
        moments = {attempt: attempt.start_by for attempt in waiting if attempt.start_by is not None}
        late = [attempt for attempt, moment in moments.items() if moment <= now]
        for attempt in late:
            self.forget_waiting(attempt)
        self.release_unstarted(late)
        self.late_at = min((moment for moment in moments.values() if moment > now), default=inf)
        return self.late_at

    @property
    def waiting(self) -> int:
        """How many wait here, for a child or for others."""
        return len(self.ready) + len(self.gathering)

    def put_back(self, attempts: Sequence[Attempt]) -> None:
        """Jobs that were given and not started wait again, before all others and in their order."""
        for attempt in attempts:
            attempt.call = None
            if attempt.start_by is not None:
                self.late_at = min(self.late_at, attempt.start_by)
        self.ready.extendleft(reversed(attempts))

    def forget(self, lease: Lease) -> None:
        self.known.pop(lease, None)

    def flushed(self, flush: Flush, lost: Collection[Lease] = (), statuses: Mapping[Lease, str] = NOTHING) -> None:
        """It is written. ``lost`` are those whose lease was lost, ``statuses`` the jobs' of what went badly."""
        for release in flush.releases:
            if release.unstarted and release.delay:
                self.put_off_until = max(self.put_off_until, monotonic() + release.delay)
        if self.tally is None:
            for lease in flush.endings():
                self.known.pop(lease, None)
        else:
            self._count(self.tally, flush, lost, statuses)

    def _count(self, tally: Tally, flush: Flush, lost: Collection[Lease], statuses: Mapping[Lease, str]) -> None:
        for completion in flush.completions:
            attempt = self.known.pop(completion.lease, None)
            if attempt is not None and completion.lease not in lost:
                tally.finished(attempt.job.queue, attempt.task, completion.outcome)
        for failure in flush.failures:
            attempt = self.known.pop(failure.lease, None)
            status = statuses.get(failure.lease)
            if attempt is not None and status == "pending":
                tally.retried(attempt.job.queue, attempt.task)
            elif attempt is not None and status is not None:
                outcome = "cancelled" if status == "cancelled" else failure.outcome
                tally.finished(attempt.job.queue, attempt.task, outcome)
        for release in flush.releases:
            self.known.pop(release.lease, None)

    def reaped(self, jobs: int) -> None:
        if self.tally is not None:
            self.tally.reaped += jobs

    # -- what children report --------------------------------------------------------------------

    def started(self, attempt: Attempt, frame: Frame) -> None:
        """Told by a child with several threads, and of what has to begin by some moment."""
        attempt.started = frame.started
        if attempt.start_by is not None:
            attempt.start_by = None
            self.outbox.begin(attempt.lease, monotonic())

    def completed(self, attempt: Attempt, frame: Frame) -> None:
        self.pace.took(attempt.task, frame.seconds)
        self.shares.ended(attempt.job, attempt.charged, frame.seconds)
        if self.tally is not None:
            self.tally.ran(attempt.job.queue, attempt.task, _waited(attempt, frame), frame.seconds)
        if attempt.job.resource is not None:
            self.outbox.note(ResourceNote(attempt.job.resource, worked=True), monotonic())
        result = str(frame.body, "utf-8", "replace")
        self.outbox.complete(_completion((attempt.lease, result, "ok")), frame.started + frame.seconds)

    def ended(self, attempt: Attempt, frame: Frame, facts: Mapping[str, Any]) -> None:
        """``facts`` is the frame's body, read."""
        attempt.reason = attempt.reason or attempt.told
        if attempt.reason is None:
            self.pace.took(attempt.task, frame.seconds)
        if self.tally is not None:
            self._count_end(self.tally, attempt, frame, facts["kind"])
        if attempt.reason is None and (note := note_of(attempt.job.resource, facts, attempt.lease)):
            self.outbox.note(note, monotonic())
            if note.closed_for > 0:
                self.closed.add(note.resource)
        self.settle(attempt, verdicts.ended(attempt, facts, self.retry(attempt)), frame.seconds)
        if attempt.reason is not None or facts["kind"] in ("failed", "interrupted"):
            logger.info(
                "attempt ended", extra=attempt.facts | {"outcome": facts["outcome"], "reason": _word(attempt.reason)}
            )

    @staticmethod
    def _count_end(tally: Tally, attempt: Attempt, frame: Frame, kind: str) -> None:
        tally.ran(attempt.job.queue, attempt.task, _waited(attempt, frame), frame.seconds)
        if kind == "completed_in":
            tally.finished(attempt.job.queue, attempt.task, "ok")

    def happened(self, frame: Frame) -> None:
        """A handler has enqueued something, and committed it."""
        happened = decode_happenings(frame.body)
        if self.tally is not None:
            self.tally.happened(happened)

    def progressed(self, attempt: Attempt, frame: Frame) -> None:
        self.outbox.report(ProgressReport(attempt.lease, frame.body.decode(errors="replace")), monotonic())

    def logged(self, attempt: Attempt, frame: Frame) -> None:
        level, message = decode_line(frame.body)
        attempt.lines += 1
        self.outbox.log(LogLine(attempt.lease, attempt.lines, level, message), monotonic())

    # -- what the worker decides -----------------------------------------------------------------

    def interrupted(self, attempt: Attempt, reason: Reason) -> None:
        """The attempt's process was ended because the worker wanted the attempt to stop."""
        self._count_killed(attempt)
        self.settle(attempt, verdicts.interrupted(attempt, reason, self.retry(attempt)), _ran(attempt))
        logger.warning("attempt killed", extra=attempt.facts | {"reason": _word(reason)})

    def crashed(self, attempt: Attempt, message: str, error_type: str = "ProcessCrashed") -> None:
        self._count_killed(attempt)
        self.settle(attempt, verdicts.crashed(attempt, message, self.retry(attempt), error_type), _ran(attempt))
        logger.warning("attempt crashed", extra=attempt.facts | {"error_type": error_type, "error": message})

    def _count_killed(self, attempt: Attempt) -> None:
        if self.tally is not None and attempt.started is not None:
            waited = attempt.started - attempt.runnable_at
            self.tally.ran(attempt.job.queue, attempt.task, waited, monotonic() - attempt.started)

    def release(self, attempts: Iterable[Attempt]) -> None:
        for attempt in attempts:
            self.settle(attempt, verdicts.interrupted(attempt, Reason.SHUTDOWN, verdicts.DEFAULT_RETRY))

    def release_unstarted(self, attempts: Iterable[Attempt]) -> None:
        """Hand back what no child has: what it took of rates goes back too."""
        for attempt in attempts:
            self.taken -= 1
            self.settle(attempt, Release(attempt.lease, unstarted=True))

    def release_ready(self) -> None:
        """Hand back everything that waits here, without spending an attempt."""
        waiting = [*self.ready, *self.gathering.take_all()]
        self.ready.clear()
        self.release_unstarted(waiting)

    def release_users(self, resources: Collection[str]) -> None:
        """Hand back what waits here to use one of these resources."""
        users = [attempt for attempt in [*self.ready, *self.gathering] if attempt.job.resource in resources]
        for attempt in users:
            self.forget_waiting(attempt)
        self.release_unstarted(users)

    def release_last(self, count: int) -> None:
        """Hand back so many of those that would wait longest here."""
        self.release_unstarted([self.ready.pop() for _ in range(count)])

    def cancel_ready(self, attempt: Attempt) -> bool:
        """End a job that was cancelled before it was started. False if it isn't waiting here."""
        if not self.forget_waiting(attempt):
            return False
        self.taken -= 1
        self.settle(attempt, verdicts.cancelled(attempt))
        return True

    def lose_ready(self, attempt: Attempt) -> None:
        """Forget a job that somebody else has by now, if it waits here."""
        if self.forget_waiting(attempt):
            self.taken -= 1
            self.forget(attempt.lease)

    def forget_waiting(self, attempt: Attempt) -> bool:
        """Let it wait no longer. False if it isn't waiting here."""
        if attempt in self.ready:
            self.ready.remove(attempt)
            return True
        return self.gathering.remove(attempt)

    def settle(self, attempt: Attempt, verdict: verdicts.Verdict, seconds: float | None = None) -> None:
        """An attempt is over; it ran for so long, or not at all."""
        self.shares.ended(attempt.job, attempt.charged, seconds)
        if verdict is None:
            self.forget(attempt.lease)
        else:
            self.outbox.add(verdict, monotonic())


def _waited(attempt: Attempt, frame: Frame) -> float:
    return max(0.0, frame.started - attempt.runnable_at)


def _ran(attempt: Attempt) -> float | None:
    return None if attempt.started is None else monotonic() - attempt.started


def _word(reason: Reason | None) -> str | None:
    return reason.name.lower() if reason is not None else None
