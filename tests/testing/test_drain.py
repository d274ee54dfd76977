"""Drain runs what a worker would run, in this process."""

from __future__ import annotations

import datetime
import uuid
from dataclasses import dataclass

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from jobplatform.errors import StillReadyError
from jobplatform.models import Job, Status
from jobplatform.queue import (
    Completion,
    Items,
    Retry,
    RunningJob,
    Skip,
    Snooze,
    Tasks,
    WorkerInfo,
    claim_job,
    complete_jobs,
    get_job,
    pause,
    register_worker,
    set_resource_limit,
)
from jobplatform.testing import Clock, drain

tasks = Tasks()


@dataclass(frozen=True)
class Count:
    down_from: int


@tasks.task("count")
def count(job: RunningJob, payload: Count) -> int:
    if payload.down_from:
        count.enqueue(job.session, Count(payload.down_from - 1), workspace_id=job.workspace_id)
    return payload.down_from


@tasks.task("boom", max_attempts=2, retry=Retry(base=60))
def boom(job: RunningJob, payload: dict[str, str]) -> None:
    raise ValueError("it broke")


@tasks.task("again")
def again(job: RunningJob, payload: dict[str, str]) -> Snooze:
    return Snooze(3600)


@tasks.task("nothing")
async def nothing(job: RunningJob, payload: dict[str, str]) -> Skip:
    raise Skip("there is nothing to do")


@tasks.task("forever")
def forever(job: RunningJob, payload: dict[str, str]) -> None:
    forever.enqueue(job.session, workspace_id=job.workspace_id)


def test_who_gives_a_list_of_tasks_is_told_what_is_asked_for(session: Session, workspace_id: uuid.UUID) -> None:
    enqueued = count.enqueue(session, Count(0), workspace_id=workspace_id)

    with pytest.raises(TypeError, match=r"the tasks of an application are asked for, .* and this is a list"):
        drain(session, [count])  # type: ignore[arg-type]

    session.rollback()
    assert get_job(session, workspace_id, enqueued.job_id) is None, "nothing was committed for it"


def test_who_gives_no_place_is_told_what_is_one() -> None:
    with pytest.raises(TypeError, match="an engine, a Session, or a registry of Sessions, and is a str"):
        drain("postgresql:///app", tasks)  # type: ignore[arg-type]


def test_a_job_runs_and_comes_back_as_it_is_now(session: Session, workspace_id: uuid.UUID) -> None:
    enqueued = count.enqueue(session, Count(0), workspace_id=workspace_id)

    (job,) = drain(session, tasks)

    assert (job.id, job.status, job.result, job.attempts) == (enqueued.job_id, "completed", 0, 1)


def test_what_jobs_enqueue_runs_too_and_in_this_order(session: Session, workspace_id: uuid.UUID) -> None:
    count.enqueue(session, Count(3), workspace_id=workspace_id)

    jobs = drain(session, tasks)

    assert [job.result for job in jobs] == [3, 2, 1, 0]


def test_a_batch_handler_is_called_for_one_job_at_a_time(session: Session, workspace_id: uuid.UUID) -> None:
    tasks = Tasks()

    @tasks.batch_task("measure", size=5)
    def measure(batch: Items[Count]) -> list[int]:
        return [len(batch) for _ in batch]

    measure.enqueue_many(session, [Count(0), Count(1), Count(2)], workspace_id=workspace_id)

    assert [job.result for job in drain(session, tasks)] == [1, 1, 1]


def test_jobs_run_by_priority(session: Session, workspace_id: uuid.UUID) -> None:
    for priority in (0, 5, -5):
        nothing.enqueue(session, workspace_id=workspace_id, priority=priority)

    assert [job.priority for job in drain(session, tasks)] == [5, 0, -5]


def test_an_engine_will_do(engine: Engine, sessions: sessionmaker[Session], workspace_id: uuid.UUID) -> None:
    with sessions.begin() as session:
        nothing.enqueue(session, workspace_id=workspace_id)

    (job,) = drain(engine, tasks)

    assert (job.status, job.outcome) == ("completed", "skipped")
    assert drain(engine, tasks) == []


def test_a_registry_of_sessions_is_committed_like_its_session(engine: Engine, workspace_id: uuid.UUID) -> None:
    registry = scoped_session(sessionmaker(engine))
    first = count.enqueue(registry(), Count(0), workspace_id=workspace_id)
    before = registry.get_one(Job, (workspace_id, first.job_id))
    assert before.status == "pending"

    (job,) = drain(registry, tasks)

    assert (job.status, before.status) == ("completed", "completed")
    registry.remove()


def test_a_session_on_one_connection_is_refused_with_what_to_do(engine: Engine) -> None:
    with engine.connect() as connection, pytest.raises(ValueError, match="bind it to an engine"):
        drain(Session(connection), tasks)


def test_a_failed_job_waits_for_its_retry_and_runs_when_time_has_passed(
    session: Session, engine: Engine, workspace_id: uuid.UUID
) -> None:
    boom.enqueue(session, workspace_id=workspace_id)

    (failed,) = drain(session, tasks)
    nothing_ready = drain(session, tasks)
    Clock(engine).travel(hours=1)
    (again,) = drain(session, tasks)

    assert (failed.status, failed.attempts, failed.error) == ("pending", 1, "it broke")
    assert nothing_ready == []
    assert (again.status, again.attempts) == ("failed", 2)


def test_a_job_that_comes_too_late_does_not_run(session: Session, engine: Engine, workspace_id: uuid.UUID) -> None:
    minute = datetime.timedelta(minutes=1)
    late = nothing.enqueue(session, workspace_id=workspace_id, start_within=minute)
    in_time = nothing.enqueue(session, workspace_id=workspace_id, start_within=90 * minute)
    session.commit()
    Clock(engine).travel(hours=1)

    assert [job.id for job in drain(session, tasks)] == [in_time.job_id]

    job = get_job(session, workspace_id, late.job_id)
    assert job is not None
    assert (job.status, job.error_type) == ("cancelled", "TooLate")


def test_with_scheduled_nothing_is_waited_for(session: Session, workspace_id: uuid.UUID) -> None:
    boom.enqueue(session, workspace_id=workspace_id, delay=datetime.timedelta(days=1))
    other = again.enqueue(session, workspace_id=workspace_id, delay=datetime.timedelta(days=1), queue="other")

    (job,) = drain(session, tasks, with_scheduled=True, queue="default")

    assert (job.status, job.attempts) == ("failed", 2)
    assert drain(session, tasks) == []
    assert [job.id for job in drain(session, tasks, with_scheduled=True, limit=1)] == [other.job_id]


def test_what_a_handler_raised_is_raised_once_it_is_written_down(session: Session, workspace_id: uuid.UUID) -> None:
    boom.enqueue(session, workspace_id=workspace_id)

    with pytest.raises(ValueError, match="it broke"):
        drain(session, tasks, raise_errors=True)

    assert session.execute(
        text("select attempts, error from jobplatform.job_attempts a, jobplatform.job_queue q where q.id = a.job_id")
    ).all() == [(1, "it broke")]


def test_a_payload_that_no_longer_loads_is_raised_too(session: Session, workspace_id: uuid.UUID) -> None:
    count.enqueue(session, Count(0), workspace_id=workspace_id)
    session.execute(text("update jobplatform.job_records set payload = '{}'"))

    with pytest.raises(RuntimeError, match="count: InvalidPayloadError: /down_from"):
        drain(session, tasks, raise_errors=True)


def test_only_one_workspace_or_one_queue_on_demand(session: Session) -> None:
    ids = [uuid.UUID(int=n) for n in (0, 1, 2, 2**128 - 1)]
    for workspace_id in ids:
        nothing.enqueue(session, workspace_id=workspace_id)
        nothing.enqueue(session, workspace_id=workspace_id, queue="other")

    for workspace_id in ids:
        jobs = drain(session, tasks, workspace_id=workspace_id, queue="other")
        assert [(job.workspace_id, job.queue) for job in jobs] == [(workspace_id, "other")]
    assert {job.queue for job in drain(session, tasks)} == {"default"}


def test_a_limit_stops_it_and_a_bound_says_who_goes_on_for_ever(session: Session, workspace_id: uuid.UUID) -> None:
    forever.enqueue(session, workspace_id=workspace_id)

    assert len(drain(session, tasks, limit=3)) == 3
    with pytest.raises(StillReadyError, match=rf"5 attempts were made.*\n  - forever .* of workspace {workspace_id}"):
        drain(session, tasks, bound=5)
    assert session.scalar(text("select count(*) from jobplatform.job_queue where state = 2")) == 0


def test_exactly_as_many_as_the_bound_are_no_error(session: Session, workspace_id: uuid.UUID) -> None:
    count.enqueue(session, Count(4), workspace_id=workspace_id)

    assert len(drain(session, tasks, bound=5)) == 5


def test_jobs_of_tasks_that_are_not_known_here_are_left_alone(session: Session, workspace_id: uuid.UUID) -> None:
    others = Tasks()
    others.task("elsewhere")(nothing.handler).enqueue(session, workspace_id=workspace_id)

    assert drain(session, tasks) == []
    assert [job.status for job in drain(session, others)] == [Status.COMPLETED]


def test_a_pause_counts_as_it_does_for_a_worker(session: Session, workspace_id: uuid.UUID) -> None:
    nothing.enqueue(session, workspace_id=workspace_id)
    pause(session, "task", "nothing", reason="not today", actor="a test")

    assert drain(session, tasks) == []


def test_the_jobs_of_a_worker_that_died_are_taken_back(
    session: Session, engine: Engine, workspace_id: uuid.UUID
) -> None:
    job_id = nothing.enqueue(session, workspace_id=workspace_id).job_id
    worker_id = register_worker(session, WorkerInfo("w", "h", 1, "v", (), (), 1))
    claim_job(session, worker_id=worker_id, workspace_id=workspace_id, job_id=job_id)
    session.commit()
    clock = Clock(engine)

    assert drain(session, tasks) == []
    clock.travel(minutes=5)
    assert drain(session, tasks) == []
    clock.travel(minutes=5)
    assert [(job.status, job.crash_count) for job in drain(session, tasks)] == [("completed", 1)]


def test_the_session_sees_what_the_jobs_did(session: Session, workspace_id: uuid.UUID) -> None:
    session.execute(text("create table noted (by text)"))

    writing = Tasks()

    @writing.task("note")
    def note(job: RunningJob, payload: dict[str, str]) -> None:
        job.session.execute(text("insert into noted values (:by)"), {"by": job.task})

    note.enqueue(session, workspace_id=workspace_id)
    drain(session, writing)

    assert session.scalars(text("select by from noted")).all() == ["note"]


def test_schedules_of_the_code_are_written_down_on_demand_and_done_when_due(
    session: Session, engine: Engine, workspace_id: uuid.UUID
) -> None:
    scheduled = Tasks()

    @scheduled.every(datetime.timedelta(hours=1), workspace_id=workspace_id)
    @scheduled.task("hourly")
    def hourly(job: RunningJob, payload: dict[str, str]) -> None: ...

    clock = Clock(engine)

    assert drain(session, scheduled) == []
    clock.travel(hours=2)
    assert drain(session, scheduled) == []
    drain(session, scheduled, with_schedules=True)
    clock.travel(hours=1)
    (job,) = drain(session, scheduled)
    assert (job.job_type, job.workspace_id, job.status) == ("hourly", workspace_id, "completed")
    assert drain(session, scheduled) == []


def test_what_waits_for_a_resource_that_is_in_use_is_left_alone(session: Session, workspace_id: uuid.UUID) -> None:
    set_resource_limit(session, "crm:*", 1)
    here = {"workspace_id": workspace_id}
    held, waiting = (count.enqueue(session, Count(0), resource="crm:1", **here).job_id for _ in range(2))
    others = [count.enqueue(session, Count(0), resource="crm:2", **here).job_id for _ in range(2)]
    worker = register_worker(session, WorkerInfo("elsewhere", "host", 1, "test", (), ("count",), 1))
    lease = claim_job(session, worker_id=worker, workspace_id=workspace_id, job_id=held)
    assert lease is not None

    assert [job.id for job in drain(session, tasks)] == others

    complete_jobs(session, [Completion(lease.lease, "0")])
    assert [job.id for job in drain(session, tasks)] == [waiting]
