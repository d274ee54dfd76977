"""A job that has ended is the origin of a new one, which begins where that had come to."""

from __future__ import annotations

import copy
import datetime
import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidJobError, InvalidPayloadError, QuotaExceededError, UnknownTaskError
from jobplatform.key_ring import generate_key
from jobplatform.models import CHECKPOINT_PART, Role, Status, confine
from jobplatform.queue import (
    Completion,
    Failure,
    ForkAnswer,
    ForkKind,
    NewJob,
    RunningJob,
    Tasks,
    cancel_job,
    claim_job,
    complete_jobs,
    enqueue_job,
    fail_jobs,
    fork_job,
    get_job,
    list_steps,
    retry_job,
    run_claimed,
    set_encrypting,
    set_workspace_limits,
)
from jobplatform.queue.attempts.save_step import save_checkpoint, save_step
from jobplatform.queue.statement import Lease
from tests.queue.actors import Elsewhere, Time, Worker
from tests.queue.conftest import Look
from tests.rows import everything

tasks = Tasks()
done: list[str] = []

Fork = Callable[..., ForkAnswer]
End = Callable[..., uuid.UUID]


@tasks.task("pages", unique=("account",), resource="crm:{account}", tags=["eu"])
def pages(job: RunningJob, payload: dict[str, Any]) -> list[str]:
    return [job.step(name, lambda name=name: work(name)) for name in ("one", "two", "three")]


@tasks.task("secret", encrypted=True)
def secret(job: RunningJob, payload: dict[str, Any]) -> list[str]:
    return [job.step(name, lambda name=name: work(name)) for name in ("one", "two", "three")]


@tasks.task("seldom", unique=("account",), unique_for=datetime.timedelta(hours=1))
def seldom(job: RunningJob, payload: dict[str, Any]) -> None: ...


@tasks.task("newer", payload_version=2, upgrade=lambda payload, version: {**payload, "from": version})
def newer(job: RunningJob, payload: dict[str, Any]) -> dict[str, Any]:
    return payload


def work(name: str) -> str:
    done.append(name)
    return f"anew {name}"


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    done.clear()


@pytest.fixture
def begin(db: Session, workspace_id: uuid.UUID, worker: Worker) -> Callable[..., Lease]:
    """A job of a task, with an attempt under way."""

    def begin(task: str = "pages", payload: Any = None, **options: Any) -> Lease:
        job = tasks[task].new_job(payload or {"account": 7}, workspace_id=workspace_id, **options)
        enqueue_job(db, job)
        claimed = claim_job(db, worker_id=worker.id, workspace_id=workspace_id, job_id=job.id)
        assert claimed is not None
        return claimed.lease

    return begin


@pytest.fixture
def failed(db: Session, begin: Callable[..., Lease]) -> End:
    """A job that has done three steps, a checkpoint between the second and the third, and failed."""

    def failed(task: str = "pages", payload: Any = None, **options: Any) -> uuid.UUID:
        lease = begin(task, payload, **options)
        save_step(db, lease, "one", '"old one"')
        save_step(db, lease, "two", '{"n": 2}')
        save_checkpoint(db, lease, '{"cursor": 2}', {"crm": "[2]"})
        save_step(db, lease, "three", "null")
        return fail(db, lease)

    return failed


def fail(db: Session, lease: Lease) -> uuid.UUID:
    fail_jobs(db, [Failure(lease, "error", "RuntimeError", "no", retry=False)])
    return uuid.UUID(lease.job_id)


@pytest.fixture
def fork(session: Session, workspace_id: uuid.UUID) -> Fork:
    def fork(job_id: uuid.UUID, **options: Any) -> ForkAnswer:
        answer = fork_job(session, tasks, workspace_id, job_id, **options)
        session.commit()
        return answer

    return fork


#: Of the checkpoint that the job above has.
PART = CHECKPOINT_PART + "crm"


def made(answer: ForkAnswer) -> uuid.UUID:
    assert answer.kind is ForkKind.FORKED
    assert answer.enqueued is not None
    return answer.enqueued.job_id


def run(db: Session, engine: Engine, worker: Worker, workspace_id: uuid.UUID, job_id: uuid.UUID) -> Any:
    claimed = claim_job(db, worker_id=worker.id, workspace_id=workspace_id, job_id=job_id)
    assert claimed is not None
    return run_claimed(engine, db, tasks[claimed.task], claimed)


def values(db: Session, workspace_id: uuid.UUID, job_id: uuid.UUID) -> dict[str, Any]:
    return {step.name: step.value for step in list_steps(db, workspace_id, job_id, parts=True)}


def test_from_the_third_step_on_the_first_two_are_kept(
    failed: End, fork: Fork, db: Session, engine: Engine, worker: Worker, workspace_id: uuid.UUID, look: Look
) -> None:
    old = failed()

    answer = fork(old, from_step="three")

    new = made(answer)
    assert answer.kept == ["one", "two"]
    assert values(db, workspace_id, new) == {"one": "old one", "two": {"n": 2}, "": {"cursor": 2}, PART: [2]}
    run(db, engine, worker, workspace_id, new)
    assert (look(new).status, look(new).result) == (Status.COMPLETED, ["old one", {"n": 2}, "anew three"])
    assert done == ["three"]


def test_the_old_job_stays_as_it_is_and_is_the_parent(failed: End, fork: Fork, look: Look, session: Session) -> None:
    old = failed(priority=5, queue="slow", max_attempts=7, timeout=datetime.timedelta(minutes=3))
    before = everything(session)
    session.commit()

    new = look(made(fork(old, from_step="two", request_id="r-1")))

    after = everything(session)
    assert all(set(rows) <= set(after[table]) for table, rows in before.items())
    assert (new.parent_id, new.status, new.attempts, new.epoch) == (old, Status.PENDING, 0, 0)
    assert (new.priority, new.queue, new.max_attempts, new.timeout_ms) == (5, "slow", 7, 180_000)
    assert (new.tags, new.resource, new.unique_key, new.payload) == (
        ["eu"],
        "crm:7",
        look(old).unique_key,
        {"account": 7},
    )
    assert (new.request_id, new.batch_id) == ("r-1", None)


def test_what_came_after_the_step_is_not_kept_the_checkpoint_neither(
    failed: End, fork: Fork, db: Session, workspace_id: uuid.UUID
) -> None:
    assert values(db, workspace_id, made(fork(failed(), from_step="two"))) == {"one": "old one"}


def test_without_a_step_it_goes_on_after_all_that_is_done_and_from_the_start_after_nothing(
    failed: End, fork: Fork, db: Session, workspace_id: uuid.UUID
) -> None:
    old = failed()
    whole = made(fork(old))
    cancel_job(db, workspace_id, whole)

    assert list(values(db, workspace_id, whole)) == ["one", "two", "", PART, "three"]
    assert values(db, workspace_id, made(fork(old, from_start=True))) == {}


def test_steps_of_one_commit_have_their_order(
    begin: Callable[..., Lease], fork: Fork, db: Session, session: Session
) -> None:
    lease = begin()
    save_step(db, lease, "three", "1")
    save_step(session, lease, "two", "2")
    save_step(session, lease, "one", "3")
    session.commit()

    assert fork(fail(db, lease), from_step="one").kept == ["three", "two"]


def test_a_checkpoint_that_an_older_transaction_saves_is_of_after_the_steps_that_were_saved_since_it_began(
    begin: Callable[..., Lease], fork: Fork, db: Session, session: Session, workspace_id: uuid.UUID
) -> None:
    lease = begin()
    session.execute(text("select 1"))
    save_step(db, lease, "one", "1")
    save_step(db, lease, "two", "2")
    save_checkpoint(session, lease, '{"cursor": 2}', {"crm": "[2]"})
    session.commit()

    assert values(db, workspace_id, made(fork(fail(db, lease), from_step="two"))) == {"one": 1}


def test_a_fork_of_a_fork_has_its_steps_in_their_order(
    failed: End, fork: Fork, db: Session, workspace_id: uuid.UUID
) -> None:
    first = made(fork(failed()))
    cancel_job(db, workspace_id, first)

    assert fork(first, from_step="three").kept == ["one", "two"]


def test_a_completed_job_and_one_without_steps_can_be_forked(
    begin: Callable[..., Lease], fork: Fork, db: Session, look: Look
) -> None:
    lease = begin()
    complete_jobs(db, [Completion(lease)])

    answer = fork(uuid.UUID(lease.job_id))

    assert answer.kept == []
    assert look(made(answer)).status == Status.PENDING


def test_another_payload_is_checked_and_says_which_jobs_are_the_same(failed: End, fork: Fork, look: Look) -> None:
    old = failed()

    new = look(made(fork(old, payload={"account": 8}, from_step="two")))

    assert (new.payload, new.resource) == ({"account": 8}, "crm:8")
    assert new.unique_key != look(old).unique_key
    with pytest.raises(InvalidPayloadError):
        fork(old, payload=[8])


def test_a_guard_that_is_taken_names_its_holder_and_nothing_is_copied(
    failed: End, fork: Fork, session: Session
) -> None:
    old = failed()
    first = made(fork(old, from_start=True))
    before = everything(session)

    again = fork(old)

    assert again.kind is ForkKind.DUPLICATE
    assert again.enqueued is not None
    assert again.enqueued.job_id == first
    assert everything(session) == before


def test_a_key_that_had_a_job_too_recently_has_no_fork_yet(
    begin: Callable[..., Lease], fork: Fork, db: Session, time: Time
) -> None:
    lease = begin("seldom")
    complete_jobs(db, [Completion(lease)])

    early = fork(uuid.UUID(lease.job_id))
    time.passes(3700)

    assert early.kind is ForkKind.DUPLICATE
    assert early.enqueued is not None
    assert early.enqueued.unique_until is not None
    made(fork(uuid.UUID(lease.job_id)))


def test_a_live_job_and_one_that_is_not_there_are_not_forked(
    begin: Callable[..., Lease], fork: Fork, session: Session, workspace_id: uuid.UUID
) -> None:
    lease = begin()

    assert fork(uuid.UUID(lease.job_id)).kind is ForkKind.LIVE
    assert fork(uuid.uuid4()).kind is ForkKind.UNKNOWN
    assert fork_job(session, tasks, uuid.uuid4(), uuid.UUID(lease.job_id)).kind is ForkKind.UNKNOWN


def test_a_step_that_was_never_done_and_a_task_that_nobody_knows_are_refused(
    failed: End, fork: Fork, db: Session, workspace_id: uuid.UUID, worker: Worker, session: Session
) -> None:
    with pytest.raises(InvalidJobError, match="'tree' is not a step"):
        fork(failed(), from_step="tree")
    session.rollback()
    enqueue_job(db, NewJob(workspace_id=workspace_id, task="jobplatform.webhook"))

    with pytest.raises(UnknownTaskError):
        fork(fail(db, Worker(db, tasks=("jobplatform.webhook",)).lease()))


def test_a_full_quota_refuses_a_fork_as_any_enqueue(
    failed: End, fork: Fork, session: Session, workspace_id: uuid.UUID
) -> None:
    old = failed()
    set_workspace_limits(session, workspace_id, {"max_pending": 0})
    session.commit()

    with pytest.raises(QuotaExceededError):
        fork(old)


def test_a_payload_of_an_older_version_is_kept_and_read_by_its_upgrade(
    db: Session, fork: Fork, engine: Engine, worker: Worker, workspace_id: uuid.UUID, look: Look
) -> None:
    job_id = enqueue_job(db, NewJob(workspace_id=workspace_id, task="newer", payload={"a": 1})).job_id
    cancel_job(db, workspace_id, job_id)

    new = made(fork(job_id))

    assert (look(new).payload, look(new).payload_version) == ({"a": 1}, 1)
    run(db, engine, worker, workspace_id, new)
    assert look(new).result == {"a": 1, "from": 1}


@pytest.mark.parametrize("encrypts_from_now_on", [False, True])
def test_what_is_sealed_is_sealed_for_the_new_job(
    db: Session, fork: Fork, engine: Engine, worker: Worker, workspace_id: uuid.UUID, look: Look, session: Session,
    monkeypatch: pytest.MonkeyPatch, encrypts_from_now_on: bool,
) -> None:  # fmt: skip
    monkeypatch.setenv("JOBPLATFORM_ENCRYPTION_KEYS", generate_key("test"))
    task = "pages" if encrypts_from_now_on else "secret"
    job = tasks[task].new_job({"account": "moon"}, workspace_id=workspace_id)
    enqueue_job(db, job)
    claimed = claim_job(db, worker_id=worker.id, workspace_id=workspace_id, job_id=job.id)
    assert claimed is not None
    running = run_claimed(engine, db, interrupted_at(task, "three"), claimed)
    assert running is not None
    assert running.kind == "failed"
    cancel_job(db, workspace_id, job.id)
    if encrypts_from_now_on:
        set_encrypting(session, workspace_id, True)
        session.commit()
    done.clear()

    new = made(fork(job.id, from_step="two"))

    stored = json.dumps([values(db, workspace_id, new), look(new).payload])
    assert "anew" not in stored
    assert "moon" not in stored
    ended = run(db, engine, worker, workspace_id, new)
    assert ended.kind == "completed"
    assert done == ["two", "three"]


def interrupted_at(task: str, name: str) -> Any:
    """The task, whose step of that name raises."""

    def handler(job: RunningJob, payload: dict[str, Any]) -> None:
        for step in ("one", "two", "three"):
            if step == name:
                raise RuntimeError("no")
            job.step(step, lambda step=step: work(step))

    broken = copy.copy(tasks[task])
    broken.handler = handler
    return broken


@pytest.mark.parametrize("role", [Role.API, Role.OPERATOR, Role.HANDLER])
def test_whoever_may_enqueue_may_fork(
    failed: End, engine: Engine, workspace_id: uuid.UUID, db: Session, role: Role
) -> None:
    old = failed()

    with confine(Session(engine), role, workspace_id) as session:
        answer = fork_job(session, tasks, workspace_id, old)
        assert session.scalar(text("select current_user")) == role
        session.commit()

    assert list(values(db, workspace_id, made(answer))) == ["one", "two", "", PART, "three"]


def test_a_retry_from_the_start_waits_until_the_steps_are_copied(
    failed: End, elsewhere: Elsewhere, session: Session, workspace_id: uuid.UUID, db: Session
) -> None:
    old = failed("pages", unique_key="another")
    answer = fork_job(session, tasks, workspace_id, old, payload={"account": 8})

    retried = elsewhere.start_and_wait_for_lock(lambda other: retry_job(other, workspace_id, old, from_start=True))
    session.commit()

    assert retried.result().kind.value == "retried"
    assert answer.kept == ["one", "two", "three"]
    assert list(values(db, workspace_id, made(answer))) == ["one", "two", "", PART, "three"]
    assert get_job(db, workspace_id, old) is not None
