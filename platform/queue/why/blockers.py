"""Blockers: from what is known about a job to what stands in its way, in codes and words. Pure.

The codes are part of the contract: clients compare them, so none changes its meaning. In the order of the answer:

    running, cancel-requested        it does not wait
    final, guard-held, quota         it has ended; the other two say why it could not be retried
    waiting-for-job, waiting-for-batch, waiting-for-key, being-released
                                     it waits for others; the last: they have ended, and it is about to be told
    scheduled, retrying              its time has not come, which may be what its source asked for
    paused-workspace, paused-queue, paused-task, paused-resource
    no-worker                        nobody is there who could run it
    resource-closed, resource-on-trial
                                     the resource asked for a break; it failed, and another job tries it
    workspace-limit, queue-limit, task-limit, task-limit-here, resource-limit
    workspace-rate, resource-rate
    behind                           nothing of all that: it is in line
    start-by                         what comes of it all if that takes too long
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobplatform.models import FINAL_STATUSES, State, Status
from jobplatform.queue.limits.breaker import BREAKER
from jobplatform.queue.seal import begins_sealed
from jobplatform.queue.silent import SILENT_AFTER
from jobplatform.queue.why.hold_facts import (
    Holds,
    PauseFacts,
    RateFacts,
    WorkerFacts,
)
from jobplatform.queue.why.job_facts import (
    HolderFacts,
    JobFacts,
    RetryFacts,
    WaitFacts,
)
from jobplatform.wording import agreeing, plural

CODES = (
    "running",
    "cancel-requested",
    "final",
    "guard-held",
    "quota",
    "waiting-for-job",
    "waiting-for-batch",
    "waiting-for-key",
    "being-released",
    "scheduled",
    "retrying",
    "paused-workspace",
    "paused-queue",
    "paused-task",
    "paused-resource",
    "no-worker",
    "resource-closed",
    "resource-on-trial",
    "workspace-limit",
    "queue-limit",
    "task-limit",
    "task-limit-here",
    "resource-limit",
    "workspace-rate",
    "resource-rate",
    "behind",
    "start-by",
)

#: Seconds. No calendar has to hold a moment that is further away.
FURTHEST = 100 * 365 * 86_400.0
#: Whom tenants read about instead of an operator's name.
SOMEBODY = "an operator"


@dataclass(frozen=True, slots=True)
class Blocker:
    """One thing in a job's way. ``until``: when it ends by itself, if that is known. ``details`` are its facts."""

    code: str
    message: str
    until: datetime.datetime | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobsAhead:
    """Who comes before a job: jobs of its own workspace and queue, jobs that others will start before it in their fair
    turns (an estimate), and in how many workspaces. ``slots`` are those that could run it."""

    own_jobs: int
    other_jobs: int
    other_workspaces: int
    slots: int
    slots_in_use: int


def status_of(job: JobFacts) -> Status:
    """As everybody sees it."""
    if job.status is not None:
        return FINAL_STATUSES[job.status]
    return Status.RUNNING if job.state == State.RUNNING else Status.PENDING


def blockers_of_running(job: JobFacts) -> list[Blocker]:
    """It runs, and perhaps somebody wants it stopped."""
    attempt = {"attempt": job.attempts, "max_attempts": job.max_attempts}
    message = f"it has been running since {_at(job.started_at)}, attempt {job.attempts} of {job.max_attempts}"
    if job.silent_seconds is not None and job.silent_seconds > SILENT_AFTER.total_seconds():
        message += (
            f"; its worker has been silent for {round(job.silent_seconds)} s: if that is dead, any other takes the job "
            "back when the lease is over"
        )
    found = [Blocker("running", message, details=attempt | {"started_at": job.started_at})]
    if job.cancel_requested_at is not None:
        moment = _at(job.cancel_requested_at)
        message = f"somebody asked to cancel it at {moment}; its worker stops it"
        found.insert(0, Blocker("cancel-requested", message, details={"requested_at": job.cancel_requested_at}))
    return found


def blockers_of_final(job: JobFacts, retry: RetryFacts | None) -> list[Blocker]:
    """It has ended. ``retry`` is what a retry would meet, for one that may be retried."""
    status = status_of(job)
    found = [Blocker("final", f"it is {status}; there is nothing to wait for", details={"ended_at": job.completed_at})]
    if retry is None:
        return found
    if retry.guard_holder is not None:
        message = f"it cannot be retried: the unfinished job {retry.guard_holder} holds its uniqueness guard"
        found.append(Blocker("guard-held", message, details={"job_id": retry.guard_holder}))
    elif retry.quota is not None and retry.waiting >= retry.quota:
        quota = plural(retry.quota, "waiting job")
        message = f"it cannot be retried now: the workspace may have {quota} and has no room for more"
        found.append(Blocker("quota", message, details={"limit": retry.quota, "waiting": retry.waiting}))
    return found


def blockers_of_blocked(
    job: JobFacts,
    waits: Sequence[WaitFacts],
    holder: HolderFacts | None,
    pauses: Sequence[PauseFacts],
    workers: WorkerFacts,
    *,
    tells_all: bool,
) -> list[Blocker]:
    """What a job waits for that runs after others; and what would keep it from being started then."""
    found = [*map(_wait, waits), *_key(job, holder)]
    if not found:
        found = [Blocker("being-released", "what it waited for has ended: it starts, or is called off, in a moment")]
    return [*found, *_paused(job, pauses, tells_all), *_nobody(job, workers)]


def _wait(wait: WaitFacts) -> Blocker:
    more = f"; it waits for {wait.waits} in all" if wait.waits > 1 else ""
    condition = {"completed": "", "ended": ", however that ends", "failed": ", and runs only if that fails"}[
        wait.run_if
    ]
    details = {"waits_for": "batch" if wait.of_batch else "job", "run_if": wait.run_if, "waits": wait.waits}
    if wait.of_batch:
        message = (
            f"it waits for batch {wait.after_id} ({wait.status}, {wait.ended} of {plural(wait.jobs or 0, 'job')} ended)"
        )
        return Blocker("waiting-for-batch", message + condition + more, details=details | {"batch_id": wait.after_id})
    message = f"it waits for job {wait.after_id} ({wait.status}){condition}{more}"
    return Blocker("waiting-for-job", message, details=details | {"job_id": wait.after_id})


def _key(job: JobFacts, holder: HolderFacts | None) -> Iterator[Blocker]:
    # One that went back to waiting is about to be given up, and keeps nobody waiting.
    if holder is None or holder.job_id is None or holder.state != State.RUNNING:
        return
    message = (
        f"it waits for the running job of its key {job.unique_key!r}, {holder.job_id}; "
        "a newer request replaces it meanwhile"
    )
    details = {"waits_for": "key", "job_id": holder.job_id, "started_at": holder.started_at}
    yield Blocker("waiting-for-key", message, details=details)


def blockers_of_waiting(
    job: JobFacts, pauses: Sequence[PauseFacts], holds: Holds, workers: WorkerFacts, *, tells_all: bool
) -> list[Blocker]:
    """What keeps a job that waits from being started, except those before it in line.

    Unless it ``tells_all``, a pause of anything but the workspace itself has no reason and no name of a person.
    """
    found = [*_moment(job), *_paused(job, pauses, tells_all), *_nobody(job, workers)]
    if job.state == State.READY:
        # What counts for a job at the moment of its start says nothing about one whose time has not come.
        found += [*_closed(job, holds), *_limits(job, holds), *_resource_limit(job, holds), *_rates(job, holds)]
    return found


def behind(ahead: JobsAhead) -> Blocker:
    """Nothing is in its way but others."""
    before = f"{plural(ahead.own_jobs, 'job')} of its workspace and about {ahead.other_jobs} of others"
    busy = f"{ahead.slots_in_use} of {ahead.slots} slots are in use"
    if ahead.own_jobs or ahead.other_jobs:
        message = f"it is in line: {before} are before it; {busy}"
    elif ahead.slots_in_use >= ahead.slots:
        all_slots = agreeing(ahead.slots, "the only slot is", f"all {ahead.slots} slots are")
        message = f"it is next: {all_slots} in use, and it starts when one gets free"
    else:
        message = f"nothing is in its way: a worker takes it in a moment; {busy}"
    details = {
        "position": ahead.own_jobs,
        "others": ahead.other_jobs,
        "slots": ahead.slots,
        "slots_in_use": ahead.slots_in_use,
    }
    return Blocker("behind", message, details=details)


def too_late(job: JobFacts) -> list[Blocker]:
    """That it may begin for so long only: it does not stand in its way now, and is said after what does."""
    if job.start_by is None:
        return []
    return [Blocker("start-by", f"it will not be started after {_at(job.start_by)}, but cancelled", job.start_by)]


def _moment(job: JobFacts) -> Iterator[Blocker]:
    if job.state != State.SCHEDULED or job.run_after is None:
        return
    due = job.run_after <= job.now
    when = "now: a worker makes it ready in a moment" if due else f"at {_at(job.run_after)}"
    if job.attempts or job.crash_count:
        attempt = job.attempts + 1
        reason = f" after {job.error_type}" if job.error_type else ""
        message = f"it waits for attempt {attempt} of {job.max_attempts}{reason}; that is due {when}{_told(job)}"
        details = {"attempt": attempt, "max_attempts": job.max_attempts, "error_type": job.error_type}
        yield Blocker("retrying", message, job.run_after, details | _of_source(job))
    elif job.lacked_key:
        message = f"the worker that took it had no key to open it, and gave it back; one tries it again {when}"
        yield Blocker("scheduled", message, job.run_after)
    else:
        yield Blocker("scheduled", f"it is due {when}{_told(job)}", job.run_after, _of_source(job))


def _told(job: JobFacts) -> str:
    if not job.told_to_wait:
        return ""
    reason = _readable(job.said)
    return ", because its source asked for this wait" + (f" ({reason})" if reason else "")


def _of_source(job: JobFacts) -> dict[str, Any]:
    return {"waits_for": "source", "reason": _readable(job.said)} if job.told_to_wait else {}


def _readable(said: str | None) -> str | None:
    """Not what an encrypted job has said: only whoever has the key reads that."""
    return None if said is None or begins_sealed(said) else said


def _paused(job: JobFacts, pauses: Sequence[PauseFacts], tells_all: bool) -> Iterator[Blocker]:
    for pause in pauses:
        over_by_then = pause.until is not None and job.run_after is not None and pause.until <= job.run_after
        if not over_by_then:
            yield _pause(pause, tells_all=tells_all or pause.kind == "workspace")


def _pause(pause: PauseFacts, *, tells_all: bool) -> Blocker:
    what = "its workspace" if pause.kind == "workspace" else f"the {pause.kind} {pause.key!r}"
    until = f" until {_at(pause.until)}" if pause.until else ""
    actor, reason = (pause.actor, pause.reason) if tells_all else (_whom_to_name(pause), None)
    because = f": {reason}" if reason else ""
    message = f"{what} is paused by {actor}{until}{because}"
    return Blocker(f"paused-{pause.kind}", message, pause.until, {"actor": actor, "reason": reason})


def _whom_to_name(pause: PauseFacts) -> str:
    """The circuit breaker is nobody: that a resource fails is no secret, and no operator is to be asked about it."""
    return BREAKER if pause.actor == BREAKER else SOMEBODY


def _nobody(job: JobFacts, workers: WorkerFacts) -> Iterator[Blocker]:
    if workers.slots:
        return
    details = {"workers": workers.live, "serving_queue": workers.serving, "knowing_task": workers.knowing}
    yield Blocker("no-worker", _who_is_missing(job, workers), details=details)


def _who_is_missing(job: JobFacts, workers: WorkerFacts) -> str:
    queue, task = f"the queue {job.queue!r}", f"the task {job.task!r}"
    alive = plural(workers.live, "worker is alive", "workers are alive")
    if job.payload_version > 1:
        task += f" with version {job.payload_version} of its payload"
    if not workers.live:
        return "no worker is alive"
    if workers.draining:
        return f"{alive}, and those that serve {queue} and know {task} are stopping"
    if workers.serving and workers.knowing:
        serve, know = plural(workers.serving, "serves", "serve"), plural(workers.knowing, "knows", "know")
        return f"{alive}; {serve} {queue}, {know} {task}, none does both"
    if workers.serving:
        return f"{alive}, and none of them knows {task}"
    if workers.knowing:
        return f"{alive}, and none of them serves {queue}"
    return f"{alive}, and none of them serves {queue} or knows {task}"


def _closed(job: JobFacts, holds: Holds) -> Iterator[Blocker]:
    if holds.closed_until is not None:
        message = f"the resource {job.resource!r} takes nothing until {_at(holds.closed_until)}"
        yield Blocker("resource-closed", message, holds.closed_until)
    elif holds.on_trial:
        failed = plural(holds.failures, "time")
        message = f"the resource {job.resource!r} has failed {failed} in a row, and another job tries it"
        yield Blocker("resource-on-trial", message)


def _limits(job: JobFacts, holds: Holds) -> Iterator[Blocker]:
    limits = (
        ("workspace-limit", "its workspace", holds.workspace_limit, holds.running_here),
        ("queue-limit", f"the queue {job.queue!r}", holds.queue_limit, holds.running_in_queue),
        ("task-limit", f"the task {job.task!r}", holds.task_limit, holds.running_of_task),
        (
            "task-limit-here",
            f"the task {job.task!r} in its workspace",
            holds.task_limit_here,
            holds.running_of_task_here,
        ),
    )
    for code, whose, limit, running in limits:
        if limit is not None and running >= limit:
            message = f"{whose} may have {plural(limit, 'job')} running at a time, and {plural(running, 'runs', 'run')}"
            yield Blocker(code, message, details={"limit": limit, "running": running})


def _resource_limit(job: JobFacts, holds: Holds) -> Iterator[Blocker]:
    limit, running = holds.resource_limit, holds.running_of_resource
    if limit is None or running < limit:
        return
    run = plural(running, "runs", "run")
    lets = f"may be used by {plural(limit, 'job')} at a time"
    adapts: dict[str, object] = {}
    if holds.resource_least is not None:
        lets = f"lets {limit} at a time now, between {holds.resource_least} and {holds.resource_most}"
        adapts = {"least": holds.resource_least, "most": holds.resource_most}
    message = f"the resource {job.resource!r} {lets}, and {run}"
    if own := holds.holders:
        message += f": {', '.join(map(str, own))}" + (" and others" if running > len(own) else "")
    yield Blocker(
        "resource-limit",
        message,
        details={"resource": job.resource, "limit": limit, "running": running, "job_ids": list(own), **adapts},
    )


def _rates(job: JobFacts, holds: Holds) -> Iterator[Blocker]:
    if holds.workspace_rate is not None:
        yield from _rate("workspace-rate", "its workspace may start", "job", holds.workspace_rate, 1, job)
    if holds.resource_rate is not None:
        needed = min(job.units, holds.resource_rate.burst)
        what = f"of the resource {job.resource!r} may be used"
        yield from _rate("resource-rate", what, "unit", holds.resource_rate, needed, job)


def _rate(code: str, what: str, unit: str, rate: RateFacts, needed: int, job: JobFacts) -> Iterator[Blocker]:
    missing = needed - rate.tokens
    if missing <= 0:
        return
    seconds = missing / rate.per_second
    until = job.now + datetime.timedelta(seconds=seconds) if seconds <= FURTHEST else None
    when = f"at {_at(until)}" if until else "in more than a hundred years"
    come = agreeing(needed, "comes", "come")
    message = f"{what} {plural(rate.units, unit)} in {rate.period_ms / 1000:g} s; the next it needs {come} {when}"
    details = {
        "limit": rate.units,
        "period_ms": rate.period_ms,
        "needed": needed,
        "available": round(max(0.0, rate.tokens), 3),
    }
    yield Blocker(code, message, until, details)


def _at(moment: datetime.datetime | None) -> str:
    if moment is None:
        return "an unknown moment"
    return moment.astimezone(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
