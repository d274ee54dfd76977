"""Synchronous mode: the same rows, made by the process that enqueued."""

from __future__ import annotations

import asyncio
import contextvars
import datetime
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.errors import InvalidPayloadError
from jobplatform.key_ring import generate_key
from jobplatform.models import Status
from jobplatform.queue import (
    Discard,
    Enqueued,
    NewJob,
    RetryPolicy,
    RunningJob,
    Skip,
    Snooze,
    Task,
    Tasks,
    chain,
    complete_jobs,
    enqueue_job,
    list_attempts,
    list_jobs,
    succeed_jobs,
)
from jobplatform.queue.attempts.complete import Completion
from jobplatform.queue.run import inline
from jobplatform.testing import wait_until
from tests.queue.actors import Worker
from tests.queue.conftest import Fact, Look, Put

Handler = Callable[[RunningJob, dict[str, Any]], Any]
Declare = Callable[..., Task[Any, Any]]

LAST_BEAT = "select max(heartbeat_at) from jobplatform.workers"


@pytest.fixture
def declare() -> Declare:
    """Make a task of a function, in synchronous mode."""

    def declare(handler: Callable[[RunningJob], Any], **options: Any) -> Task[Any, Any]:
        def work(job: RunningJob, payload: dict[str, Any]) -> Any:
            return handler(job)

        return Tasks(mode="sync").task("work", **options)(work)

    return declare


@pytest.fixture
def run(session: Session, workspace_id: uuid.UUID) -> Callable[..., uuid.UUID]:
    """Enqueue and commit, which is all that it takes."""

    def run(task: Task[Any, Any], **options: Any) -> uuid.UUID:
        answer = task.enqueue(session, {}, workspace_id=workspace_id, **options)
        session.commit()
        return answer.job_id

    return run


Run = Callable[..., uuid.UUID]


def test_a_job_has_run_when_the_commit_returns(declare: Declare, run: Run, look: Look) -> None:
    job = look(run(declare(lambda _job: {"n": 1})))

    assert (job.status, job.outcome, job.result, job.attempts) == (Status.COMPLETED, "ok", {"n": 1}, 1)


def test_a_job_of_an_application_on_another_driver_runs(
    declare: Declare, run: Run, look: Look, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "url", engine.url.set(drivername="postgresql+psycopg2"))

    assert look(run(declare(lambda _job: {"n": 1}))).status == Status.COMPLETED


def test_a_job_does_not_run_before_the_commit(declare: Declare, session: Session, workspace_id: uuid.UUID) -> None:
    ran: list[uuid.UUID] = []
    declare(lambda job: ran.append(job.id)).enqueue(session, {}, workspace_id=workspace_id)

    assert ran == []


def test_a_rollback_runs_nothing(declare: Declare, session: Session, workspace_id: uuid.UUID, fact: Fact) -> None:
    ran: list[uuid.UUID] = []
    declare(lambda job: ran.append(job.id)).enqueue(session, {}, workspace_id=workspace_id)
    session.rollback()
    session.commit()

    assert ran == []
    assert fact("select count(*) from jobplatform.jobs") == 0


def test_a_rolled_back_savepoint_does_not_keep_the_rest_from_running(
    declare: Declare, session: Session, workspace_id: uuid.UUID, look: Look
) -> None:
    answer = declare(lambda _job: None).enqueue(session, {}, workspace_id=workspace_id)
    session.begin_nested().rollback()
    session.commit()

    assert look(answer.job_id).status == Status.COMPLETED


def test_a_job_runs_once_however_often_the_session_commits(declare: Declare, run: Run, session: Session) -> None:
    ran: list[uuid.UUID] = []
    run(declare(lambda job: ran.append(job.id)))
    session.execute(text("select 1"))
    session.commit()

    assert len(ran) == 1


def test_a_failing_job_is_tried_as_often_as_a_worker_would(
    declare: Declare, run: Run, look: Look, db: Session, workspace_id: uuid.UUID
) -> None:
    def handler(job: RunningJob) -> None:
        raise ValueError(f"attempt {job.attempt}")

    job_id = run(declare(handler, retry=RetryPolicy(base=1000, cap=1000)))

    assert (look(job_id).status, look(job_id).attempts, look(job_id).error) == (Status.FAILED, 3, "attempt 3")
    assert [attempt.error for attempt in list_attempts(db, workspace_id, job_id)] == [
        "attempt 1",
        "attempt 2",
        "attempt 3",
    ]


def test_a_job_that_succeeds_in_the_end_is_completed(declare: Declare, run: Run, look: Look) -> None:
    def handler(job: RunningJob) -> int:
        if job.attempt < 3:
            raise ValueError("not yet")
        return job.attempt

    assert look(run(declare(handler))).result == 3


@pytest.mark.parametrize(
    ("answer", "status", "outcome"),
    [
        (Skip("nothing"), Status.COMPLETED, "skipped"),
        (Discard("no use"), Status.FAILED, "discarded"),
        (Snooze(60), Status.PENDING, None),
        (Snooze(float("inf")), Status.PENDING, None),
    ],
)
def test_a_handlers_answers_mean_what_they_mean_in_a_worker(
    declare: Declare, run: Run, look: Look, answer: Exception, status: Status, outcome: str | None
) -> None:
    job = look(run(declare(lambda _job: answer)))

    assert (job.status, job.outcome) == (status, outcome)


def test_a_job_for_later_stays_pending(declare: Declare, run: Run, look: Look) -> None:
    job_id = run(declare(lambda _job: None), delay=datetime.timedelta(hours=1))

    assert look(job_id).status == Status.PENDING


def test_the_payload_is_checked_as_ever(session: Session, workspace_id: uuid.UUID) -> None:
    task = Tasks(mode="sync").task("work")(lambda _job, _payload: None)

    with pytest.raises(InvalidPayloadError):
        task.enqueue(session, {"a": "\0"}, workspace_id=workspace_id)


def test_the_guard_is_held_while_the_job_runs(declare: Declare, run: Run, db: Session, workspace_id: uuid.UUID) -> None:
    inside: list[Enqueued] = []

    def handler(job: RunningJob) -> None:
        inside.append(other.enqueue(db, {}, workspace_id=workspace_id))

    other = Tasks().task("work", unique="workspace")(lambda _job, _payload: None)
    job_id = run(declare(handler, unique="workspace"))

    assert inside == [Enqueued(job_id, created=False)]


def test_what_a_job_says_is_kept(declare: Declare, run: Run, look: Look, fact: Fact) -> None:
    def handler(job: RunningJob) -> None:
        job.progress(1, 2, "half")
        job.log("one")
        job.log("two", level="warning")

    job = look(run(declare(handler)))

    assert job.progress == {"current": 1, "total": 2, "message": "half"}
    assert fact("select array_agg(level || ' ' || message order by line) from jobplatform.job_logs") == [
        "info one",
        "warning two",
    ]


def test_an_async_handler_runs_also_where_its_caller_is_in_a_loop(
    session: Session, workspace_id: uuid.UUID, look: Look
) -> None:
    where = contextvars.ContextVar[str]("where")
    tasks = Tasks(mode="sync")

    @tasks.task("later", max_attempts=1)
    async def later(job: RunningJob, payload: dict[str, Any]) -> str:
        await asyncio.sleep(0)
        job.session.execute(text("select 1"))
        return where.get()

    async def view() -> uuid.UUID:
        where.set("in a view")
        enqueued = later.enqueue(session, {}, workspace_id=workspace_id)
        session.commit()
        return enqueued.job_id

    job = look(asyncio.run(view()))

    assert (job.status, job.result, job.error) == ("completed", "in a view", None)


def test_what_an_async_handler_raises_there_is_its_own_failure(
    session: Session, workspace_id: uuid.UUID, look: Look
) -> None:
    tasks = Tasks(mode="sync")

    @tasks.task("later", max_attempts=1)
    async def later(job: RunningJob, payload: dict[str, Any]) -> None:
        raise SystemExit("in a hurry")

    async def view() -> uuid.UUID:
        enqueued = later.enqueue(session, {}, workspace_id=workspace_id)
        session.commit()
        return enqueued.job_id

    job = look(asyncio.run(view()))

    assert (job.status, job.error_type, job.error) == ("failed", "SystemExit", "in a hurry")


def test_the_jobs_of_one_commit_are_run_by_one_worker(session: Session, workspace_id: uuid.UUID, fact: Fact) -> None:
    tasks = Tasks(mode="sync")
    work = tasks.task("work")(lambda _job, _payload: None)

    tasks.enqueue_many(session, [work.new_job({}, workspace_id=workspace_id) for _ in range(5)])
    session.commit()

    assert fact("select count(*) from jobplatform.jobs where status = 'completed'") == 5
    assert fact("select count(*) from jobplatform.workers") == 1


@pytest.mark.direct("a pooler's connections do not say whose they are")
def test_a_lost_connection_costs_one_job_of_a_commit_and_not_the_others(
    session: Session, db: Session, workspace_id: uuid.UUID, look: Look, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = Tasks(mode="sync")
    ran: list[uuid.UUID] = []

    @tasks.task("work")
    def work(job: RunningJob, payload: dict[str, Any]) -> None:
        ran.append(job.id)
        if len(ran) == 1:
            db.execute(
                text(
                    "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
                    " where application_name = 'jobplatform-inline' and datname = current_database()"
                )
            )

    jobs = [work.new_job({}, workspace_id=workspace_id) for _ in range(3)]
    tasks.enqueue_many(session, jobs)
    session.commit()

    assert ran == [job.id for job in jobs]
    assert [look(job.id).status for job in jobs] == ["running", "completed", "completed"]
    assert [record.job_id for record in caplog.records] == [str(jobs[0].id)]


def test_a_request_of_one_workspace_runs_no_successor_of_another(
    session: Session, db: Session, put: Put, worker: Worker, workspace_id: uuid.UUID
) -> None:
    ran: list[uuid.UUID] = []
    other = uuid.uuid4()
    put(workspace_id=other, unique_key="report")
    lease = worker.lease()
    successor = NewJob(workspace_id=other, task="work", unique_key="report", if_active="replace")
    enqueue_job(db, successor)
    complete_jobs(db, [Completion(lease)])

    task = Tasks(mode="sync").task("work")(lambda job, _payload: ran.append(job.workspace_id))
    task.enqueue(session, {}, workspace_id=workspace_id)
    session.commit()

    assert ran == [workspace_id]
    assert [job.job_id for job in succeed_jobs(db).jobs] == [str(successor.id)]


def test_a_heartbeat_that_the_database_refuses_is_not_the_last_one(
    declare: Declare,
    run: Run,
    db: Session,
    fact: Fact,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(inline, "HEARTBEAT", 0.01)

    def handler(job: RunningJob) -> None:
        db.execute(text("alter table jobplatform.workers rename to hidden"))
        wait_until(lambda: caplog.records, what="a heartbeat that fails")
        db.execute(text("alter table jobplatform.hidden rename to workers"))
        last = fact(LAST_BEAT)
        wait_until(lambda: fact(LAST_BEAT) > last, what="the next heartbeat")

    run(declare(handler))

    assert {record.message for record in caplog.records} == {"synchronous heartbeat failed"}


# The handler's own Session


@pytest.fixture
def orders(db: Session) -> None:
    db.execute(text("create table orders (id int)"))


def insert_order(job: RunningJob) -> None:
    job.session.execute(text("insert into orders values (1)"))


@pytest.mark.usefixtures("orders")
def test_the_handlers_rows_are_committed_when_it_returns(declare: Declare, run: Run, fact: Fact) -> None:
    run(declare(insert_order))

    assert fact("select count(*) from orders") == 1


@pytest.mark.usefixtures("orders")
def test_the_handlers_rows_are_rolled_back_when_it_raises(declare: Declare, run: Run, fact: Fact) -> None:
    def handler(job: RunningJob) -> None:
        insert_order(job)
        raise ValueError("no")

    run(declare(handler, max_attempts=1))

    assert fact("select count(*) from orders") == 0


@pytest.mark.usefixtures("orders")
def test_rows_that_cannot_be_committed_fail_the_attempt(declare: Declare, run: Run, look: Look, db: Session) -> None:
    db.execute(text("alter table orders add unique (id) deferrable initially deferred"))

    def handler(job: RunningJob) -> None:
        insert_order(job)
        insert_order(job)

    job = look(run(declare(handler, max_attempts=1)))

    assert (job.status, job.error_type) == (Status.FAILED, "IntegrityError")


@pytest.mark.usefixtures("orders")
def test_a_job_can_complete_in_the_transaction_of_its_own_rows(
    declare: Declare, run: Run, look: Look, fact: Fact
) -> None:
    def handler(job: RunningJob) -> None:
        insert_order(job)
        job.complete_in(job.session, {"orders": 1})

    job = look(run(declare(handler)))

    assert (job.status, job.result) == (Status.COMPLETED, {"orders": 1})
    assert fact("select count(*) from orders") == 1


@pytest.mark.usefixtures("orders")
def test_rows_and_completion_are_undone_together_when_the_lease_is_lost(
    declare: Declare, run: Run, look: Look, fact: Fact, db: Session
) -> None:
    def handler(job: RunningJob) -> None:
        insert_order(job)
        # Somebody else finishes the job first.
        complete_jobs(db, [Completion(job.lease, '"theirs"')])
        job.complete_in(job.session, "ours")

    job = look(run(declare(handler)))

    assert job.result == "theirs"
    assert fact("select count(*) from orders") == 0


def test_a_completion_whose_session_is_left_open_does_not_count(
    declare: Declare, run: Run, look: Look, sessions: Any
) -> None:
    with sessions() as forgotten:
        job = look(run(declare(lambda job: job.complete_in(forgotten), max_attempts=1)))

    assert (job.status, job.error_type) == (Status.FAILED, "RuntimeError")


def test_a_handler_can_enqueue_more(declare: Declare, run: Run, fact: Fact, workspace_id: uuid.UUID) -> None:
    more = declare(lambda _job: "more")

    run(declare(lambda job: more.enqueue(job.session, {}, workspace_id=workspace_id) and None))

    assert fact("select array_agg(status) from jobplatform.jobs") == ["completed", "completed"]


def test_a_handler_enqueues_its_successor_and_both_run(
    sessions: sessionmaker[Session], workspace_id: uuid.UUID
) -> None:
    tasks = Tasks(mode="sync")
    ran: list[int] = []

    @tasks.task("count", unique="workspace", if_active="replace")
    def count(job: RunningJob, payload: dict[str, int]) -> None:
        ran.append(payload["n"])
        if payload["n"] == 1:
            job.enqueue(count, {"n": 2})
            assert job.enqueue(count, {"n": 3}).replaced

    with sessions.begin() as session:
        first = count.enqueue(session, {"n": 1}, workspace_id=workspace_id)

    assert ran == [1, 3]
    with sessions() as session:
        (child,) = list_jobs(session, workspace_id, parent_id=first.job_id)
        assert child.status == "completed"


@pytest.mark.parametrize("encrypted", [False, True])
def test_an_attempt_goes_on_where_the_one_before_was(
    declare: Declare, run: Run, look: Look, fact: Fact, monkeypatch: pytest.MonkeyPatch, encrypted: bool
) -> None:
    monkeypatch.setenv("JOBPLATFORM_ENCRYPTION_KEYS", generate_key("a"))
    loaded: list[int] = []

    def load() -> str:
        loaded.append(1)
        return "canary"

    def handler(job: RunningJob) -> Any:
        value = job.step("load", load)
        state = job.checkpoint_state
        if state is None:
            job.checkpoint({"seen": value})
            raise ValueError("the first time")
        return [value, state]

    job_id = run(declare(handler, encrypted=encrypted))

    assert look(job_id).status == Status.COMPLETED
    assert len(loaded) == 1
    kept = fact("select string_agg(value::text, ' ') from jobplatform.job_steps")
    assert ("canary" in kept) is not encrypted
    if not encrypted:
        assert look(job_id).result == ["canary", {"seen": "canary"}]


# Chains and batches


def test_a_chain_runs_through_and_each_job_sees_what_came_before(
    session: Session, workspace_id: uuid.UUID, fact: Fact
) -> None:
    tasks = Tasks(mode="sync")
    seen: list[Any] = []

    @tasks.task("step")
    def step(job: RunningJob, payload: dict[str, Any]) -> dict[str, Any]:
        seen.append([(one.task, one.status, one.result) for one in job.results_of_predecessors()])
        return payload

    tasks.enqueue_many(session, chain(*(step.new_job({"n": n}, workspace_id=workspace_id) for n in range(3))))
    session.commit()

    assert seen == [[], [("step", "completed", {"n": 0})], [("step", "completed", {"n": 1})]]
    assert fact("select count(*) from jobplatform.notices") == 0


def test_a_batch_runs_through_and_its_callback_knows_it(session: Session, workspace_id: uuid.UUID) -> None:
    tasks = Tasks(mode="sync")
    seen: list[Any] = []

    @tasks.task("part")
    def part(job: RunningJob, payload: dict[str, Any]) -> None:
        assert job.batch is not None
        seen.append(("part", job.batch.total))

    @tasks.task("report")
    def report(job: RunningJob, payload: dict[str, Any]) -> None:
        assert job.batch is not None
        seen.append(("report", job.batch.id, job.batch.completed, job.batch.status))

    with tasks.batch(session, workspace_id=workspace_id, on_success=report.new_job(workspace_id=workspace_id)) as batch:
        batch.add(*(part.new_job(workspace_id=workspace_id) for _ in range(2)))
    session.commit()

    assert seen == [("part", 2), ("part", 2), ("report", batch.id, 2, "completed")]


def test_an_empty_batch_calls_back_at_once(session: Session, workspace_id: uuid.UUID) -> None:
    tasks = Tasks(mode="sync")
    seen: list[str] = []

    @tasks.task("report")
    def report(job: RunningJob, payload: dict[str, Any]) -> None:
        seen.append(str(job.id))

    callback = report.new_job(workspace_id=workspace_id)
    with tasks.batch(session, workspace_id=workspace_id, on_complete=callback):
        pass
    session.commit()

    assert seen == [str(callback.id)]


def test_a_job_without_batch_and_predecessors_has_neither(session: Session, workspace_id: uuid.UUID) -> None:
    tasks = Tasks(mode="sync")
    seen: list[Any] = []

    @tasks.task("alone")
    def alone(job: RunningJob, payload: dict[str, Any]) -> None:
        seen.append((job.batch, job.results_of_predecessors()))

    alone.enqueue(session, workspace_id=workspace_id)
    session.commit()

    assert seen == [(None, [])]
