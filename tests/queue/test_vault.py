"""Sealed jobs: unreadable in the database, ordinary for the handler, and never burnt for want of a key."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.errors import InvalidPayloadError, KeyMissingError
from jobplatform.key_ring import KeyRing, generate_key
from jobplatform.models import Job, JobLog, Role, Status, confine, make_engine
from jobplatform.queue import (
    CLOSED,
    CLOSED_TEXT,
    Discard,
    NewJob,
    RetryPolicy,
    RunningJob,
    Skip,
    Tasks,
    enqueue_job,
    enqueue_jobs,
    is_encrypting,
    list_attempts,
    list_jobs,
    make_key,
    master_keys_in_use,
    queue_health,
    reveal,
    rewrap_keys,
    run_inline,
    set_encrypting,
    use_key_ring,
)
from tests.queue.actors import Elsewhere, Time
from tests.queue.conftest import Fact, Look

CANARY = "c4n4ry-in-the-mine"
OLD, NEW = generate_key("old"), generate_key("new")
AT_ONCE = RetryPolicy(base=0.0, cap=0.0, jitter="none")

#: Everything the database holds of jobs, as one text.
ALL = """
select concat_ws(' ',
    (select json_agg(r)::text from jobplatform.job_records r),
    (select json_agg(q)::text from jobplatform.job_queue q),
    (select json_agg(a)::text from jobplatform.job_attempts a),
    (select json_agg(l)::text from jobplatform.job_logs l)
)
"""

Use = Callable[..., None]


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> Use:
    """Give this process a key ring of these keys; none takes it away."""

    def ring(*keys: str) -> None:
        monkeypatch.setenv("JOBPLATFORM_ENCRYPTION_KEYS", ",".join(keys))

    ring(OLD)
    return ring


@pytest.fixture
def stored(fact: Fact) -> Callable[[], str]:
    return lambda: str(fact(ALL))


def tasks_with(handler: Callable[[RunningJob, dict[str, Any]], Any], **options: Any) -> Tasks:
    tasks = Tasks(mode="sync")

    def work(job: RunningJob, payload: dict[str, Any]) -> Any:
        return handler(job, payload)

    tasks.task("work", **{"encrypted": True, "retry": AT_ONCE, **options})(work)
    return tasks


def run(session: Session, tasks: Tasks, workspace_id: uuid.UUID, payload: dict[str, Any] | None = None) -> uuid.UUID:
    """Enqueue and commit, upon which it runs."""
    job_id = tasks["work"].enqueue(session, payload or {"text": CANARY}, workspace_id=workspace_id).job_id
    session.commit()
    return job_id


def echo(job: RunningJob, payload: dict[str, Any]) -> Any:
    return payload


def fails(job: RunningJob, payload: dict[str, Any]) -> Any:
    raise RuntimeError(payload["text"])


def test_what_a_sealed_job_is_told_and_says_is_nowhere_in_the_database(
    session: Session, workspace_id: uuid.UUID, ring: Use, stored: Callable[[], str]
) -> None:
    seen = []

    def talks(job: RunningJob, payload: dict[str, Any]) -> Any:
        seen.append(payload)
        job.log(payload["text"])
        job.progress(1, 2, payload["text"])
        return payload

    run(session, tasks_with(talks), workspace_id)
    run(session, tasks_with(fails, max_attempts=2), workspace_id)

    assert seen == [{"text": CANARY}]
    assert "$sealed" in stored()
    assert CANARY not in stored()


def test_without_encryption_it_is_there(
    session: Session, workspace_id: uuid.UUID, ring: Use, stored: Callable[[], str]
) -> None:
    run(session, tasks_with(fails, encrypted=False), workspace_id)

    assert CANARY in stored()


def test_who_has_the_key_reads_everything(session: Session, workspace_id: uuid.UUID, ring: Use, look: Look) -> None:
    def talks(job: RunningJob, payload: dict[str, Any]) -> Any:
        job.log("a line", level="warning")
        job.progress(1, 2, "half way")
        return {"n": [1, 2.5, None, "ä"]}

    job_id = run(session, tasks_with(talks), workspace_id)
    failed_id = run(session, tasks_with(fails, max_attempts=1), workspace_id)
    job, failed = session.get_one(Job, (workspace_id, job_id)), session.get_one(Job, (workspace_id, failed_id))
    lines = session.scalars(select(JobLog)).all()
    attempts = list_attempts(session, workspace_id, failed_id)

    reveal(session, [job, failed])
    reveal(session, lines)
    reveal(session, attempts)

    assert (job.payload, job.result) == ({"text": CANARY}, {"n": [1, 2.5, None, "ä"]})
    assert job.progress == {"current": 1, "total": 2, "message": "half way"}
    assert [(line.level, line.message) for line in lines] == [("warning", "a line")]
    assert (failed.error_type, failed.error) == ("RuntimeError", CANARY)
    assert "raise RuntimeError" in (attempts[0].traceback or "")
    assert not session.dirty


@pytest.mark.parametrize("to_reader", [True, False])
def test_who_has_no_key_or_may_not_sees_that_something_is_there(
    session: Session, workspace_id: uuid.UUID, ring: Use, to_reader: bool
) -> None:
    job_id = run(session, tasks_with(fails, max_attempts=1), workspace_id)
    attempts = list_attempts(session, workspace_id, job_id)
    job = session.get_one(Job, (workspace_id, job_id))
    if to_reader:
        ring()

    reveal(session, [job], to_reader=to_reader)
    reveal(session, attempts, to_reader=to_reader)

    assert (job.payload, job.error) == (CLOSED, CLOSED_TEXT)
    assert (attempts[0].error, attempts[0].traceback) == (CLOSED_TEXT, CLOSED_TEXT)


def test_a_job_that_is_not_sealed_is_shown_as_it_is(session: Session, workspace_id: uuid.UUID) -> None:
    job_id = run(session, tasks_with(echo, encrypted=False), workspace_id)
    job = session.get_one(Job, (workspace_id, job_id))

    reveal(session, [job], to_reader=False)

    assert job.payload == job.result == {"text": CANARY}


@pytest.mark.parametrize("answer", [Skip(CANARY), Discard(CANARY)])
def test_reasons_are_sealed_too(
    session: Session, workspace_id: uuid.UUID, ring: Use, stored: Callable[[], str], answer: Exception
) -> None:
    run(session, tasks_with(lambda _job, _payload: answer), workspace_id)

    assert CANARY not in stored()


def test_a_result_that_is_written_by_the_handler_itself_is_sealed(
    session: Session, workspace_id: uuid.UUID, ring: Use, stored: Callable[[], str]
) -> None:
    job_id = run(session, tasks_with(lambda job, payload: job.complete_in(job.session, payload)), workspace_id)
    job = session.get_one(Job, (workspace_id, job_id))

    assert CANARY not in stored()
    reveal(session, [job])
    assert (job.status, job.result) == (Status.COMPLETED, {"text": CANARY})


def test_what_looks_like_a_secret_is_not_kept_with_a_job_that_is_not_sealed(
    session: Session, workspace_id: uuid.UUID, stored: Callable[[], str]
) -> None:
    def careless(job: RunningJob, payload: dict[str, Any]) -> Any:
        address = "postgresql://ada:" + CANARY + "@db/jobs"
        job.log(f"connecting with {address}")
        raise RuntimeError(f"cannot connect to {address}, password={CANARY}")

    run(session, tasks_with(careless, encrypted=False, max_attempts=1), workspace_id, {"n": 1})

    assert "cannot connect to postgresql://" in stored()
    assert CANARY not in stored()


# The whole workspace


def test_in_an_encrypting_workspace_every_job_is_sealed(
    session: Session, workspace_id: uuid.UUID, ring: Use, stored: Callable[[], str], look: Look
) -> None:
    set_encrypting(session, workspace_id, True)
    session.commit()

    job_id = run(session, tasks_with(fails, encrypted=False, max_attempts=1), workspace_id)
    many = [NewJob(workspace_id=workspace_id, task="work", payload={"text": CANARY}) for _ in range(3)]
    answers = enqueue_jobs(session, many)
    session.commit()

    assert look(job_id).status == Status.FAILED
    assert all(answer.created for answer in answers)
    assert CANARY not in stored()
    assert is_encrypting(session, workspace_id)


def test_other_workspaces_in_the_same_bulk_stay_open(session: Session, workspace_id: uuid.UUID, ring: Use) -> None:
    other = uuid.uuid4()
    set_encrypting(session, workspace_id, True)

    enqueue_jobs(session, [NewJob(workspace_id=one, task="work", payload={"n": 1}) for one in (workspace_id, other)])

    payloads = {job.workspace_id: job.payload for job in session.scalars(select(Job))}
    assert payloads[other] == {"n": 1}
    assert list(payloads[workspace_id]) == ["$sealed"]


@pytest.mark.parametrize("count", [1, 3])
def test_a_process_without_a_key_ring_writes_nothing_into_an_encrypting_workspace(
    session: Session, workspace_id: uuid.UUID, ring: Use, fact: Fact, count: int
) -> None:
    set_encrypting(session, workspace_id, True)
    session.commit()
    ring()

    with pytest.raises(KeyMissingError, match="JOBPLATFORM_ENCRYPTION_KEYS"):
        enqueue_jobs(session, [NewJob(workspace_id=workspace_id, task="work") for _ in range(count)])

    enqueue_job(session, NewJob(workspace_id=uuid.uuid4(), task="work"))
    session.commit()
    assert fact("select count(*) from jobplatform.job_records") == 1


def test_what_is_switched_off_is_off(session: Session, workspace_id: uuid.UUID, ring: Use, fact: Fact) -> None:
    set_encrypting(session, workspace_id, True)
    enqueue_job(session, NewJob(workspace_id=workspace_id, task="work"))
    set_encrypting(session, workspace_id, False)
    enqueue_job(session, NewJob(workspace_id=workspace_id, task="work"))  # The last one sealed, at most.
    enqueue_job(session, NewJob(workspace_id=workspace_id, task="work", payload={"n": 1}))
    session.commit()

    assert not is_encrypting(session, workspace_id)
    assert fact("select count(*) from jobplatform.job_records where payload = '{\"n\": 1}'") == 1


# Limits


def test_the_limit_of_a_payload_is_that_of_the_open_one(session: Session, workspace_id: uuid.UUID, ring: Use) -> None:
    tasks = tasks_with(lambda _job, payload: len(payload["text"]))

    job_id = run(session, tasks, workspace_id, {"text": "x" * 262_000})

    job = session.get_one(Job, (workspace_id, job_id))
    reveal(session, [job])
    assert job.result == 262_000
    with pytest.raises(InvalidPayloadError, match="bytes of JSON"):
        run(session, tasks, workspace_id, {"text": "x" * 262_200})


@pytest.mark.parametrize("count", [1, 2])
def test_nobody_can_hand_in_something_that_looks_sealed(session: Session, workspace_id: uuid.UUID, count: int) -> None:
    """It would be handed back for ever, for want of a key that nobody has."""
    payload = {"$sealed": "v1:1:" + "A" * 60}

    with pytest.raises(InvalidPayloadError, match="reserved"):
        enqueue_jobs(session, [NewJob(workspace_id=workspace_id, task="work", payload=payload) for _ in range(count)])


def test_a_duplicate_of_a_sealed_job_is_found(session: Session, workspace_id: uuid.UUID, ring: Use) -> None:
    first, second = (
        enqueue_job(session, NewJob(workspace_id=workspace_id, task="work", unique_key="k", encrypted=True))
        for _ in range(2)
    )

    assert (second.created, second.job_id) == (False, first.job_id)


# Keys


def test_jobs_run_on_while_the_ring_rotates(
    engine: Engine, session: Session, workspace_id: uuid.UUID, ring: Use, look: Look
) -> None:
    tasks = tasks_with(echo)
    tasks.mode = "queue"
    before, after = run(session, tasks, workspace_id), run(session, tasks, workspace_id)
    sealed = look(before).payload
    ring(NEW, OLD)
    run_inline(engine, tasks, workspace_id, before)

    rewrapped = [rewrap_keys(session, limit=1) for _ in range(2)]
    session.commit()
    forget_kept_keys()
    ring(NEW)
    run_inline(engine, tasks, workspace_id, after)

    assert rewrapped == [1, 0]
    assert master_keys_in_use(session) == {"new": 1}
    assert (look(before).status, look(after).status) == (Status.COMPLETED, Status.COMPLETED)
    assert look(before).payload == sealed


def test_a_ring_that_lacks_the_old_key_rotates_nothing(session: Session, workspace_id: uuid.UUID, ring: Use) -> None:
    make_key(session, workspace_id)
    ring(NEW)

    with pytest.raises(KeyMissingError, match="'old'"):
        rewrap_keys(session)

    assert master_keys_in_use(session) == {"old": 1}


def test_a_newer_key_seals_and_the_older_one_still_opens(session: Session, workspace_id: uuid.UUID, ring: Use) -> None:
    tasks = tasks_with(echo)
    old = run(session, tasks, workspace_id)
    make_key(session, workspace_id, 2)
    session.commit()
    new = run(session, tasks, workspace_id)
    jobs = [session.get_one(Job, (workspace_id, job_id)) for job_id in (old, new)]

    assert [job.payload["$sealed"][:5] for job in jobs] == ["v1:1:", "v1:2:"]
    reveal(session, jobs)
    assert [job.result for job in jobs] == [{"text": CANARY}] * 2


def test_a_key_is_forgotten_after_a_while_and_what_it_sealed_fails_when_it_is_gone(
    engine: Engine,
    session: Session,
    db: Session,
    workspace_id: uuid.UUID,
    ring: Use,
    look: Look,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("jobplatform.queue.vault.KEEP_SECONDS", 0.0)
    tasks = tasks_with(echo, max_attempts=3)
    run(session, tasks, workspace_id)
    tasks.mode = "queue"
    job_id = run(session, tasks, workspace_id)
    db.execute(text("delete from jobplatform.workspace_keys"))

    run_inline(engine, tasks, workspace_id, job_id)

    job = look(job_id)
    assert (job.status, job.attempts, job.error_type) == (Status.FAILED, 1, "SealBrokenError")
    assert "is gone" in (job.error or "")


def test_a_key_that_is_in_use_is_looked_up_once(
    session: Session, db: Session, workspace_id: uuid.UUID, ring: Use, look: Look
) -> None:
    tasks = tasks_with(echo)
    run(session, tasks, workspace_id)
    job = session.get_one(Job, (workspace_id, run(session, tasks, workspace_id)))
    db.execute(text("delete from jobplatform.workspace_keys"))

    reveal(session, [job])

    assert job.result == {"text": CANARY}


def test_a_key_whose_making_was_rolled_back_is_not_used(
    session: Session, workspace_id: uuid.UUID, ring: Use, look: Look
) -> None:
    tasks = tasks_with(echo)
    tasks["work"].enqueue(session, {}, workspace_id=workspace_id)
    tasks["work"].enqueue(session, {}, workspace_id=workspace_id)
    session.rollback()

    job_id = run(session, tasks, workspace_id)

    assert look(job_id).status == Status.COMPLETED


def test_two_transactions_that_both_need_a_first_key_get_the_same(
    session: Session, workspace_id: uuid.UUID, ring: Use, elsewhere: Elsewhere, fact: Fact
) -> None:
    def job() -> NewJob:
        return NewJob(workspace_id=workspace_id, task="work", payload={"text": CANARY}, encrypted=True)

    enqueue_job(session, job())

    other = elsewhere.start_and_wait_for_lock(lambda session: enqueue_job(session, job()))
    session.commit()
    other.result()

    jobs = session.scalars(select(Job)).all()
    reveal(session, jobs)
    assert fact("select count(*) from jobplatform.workspace_keys") == 1
    assert [one.payload for one in jobs] == [{"text": CANARY}] * 2


def test_a_host_may_keep_its_keys_elsewhere(session: Session, workspace_id: uuid.UUID, ring: Use, look: Look) -> None:
    ring()
    use_key_ring(KeyRing.parse(NEW))
    try:
        job_id = run(session, tasks_with(echo), workspace_id)
    finally:
        use_key_ring(None)

    assert look(job_id).status == Status.COMPLETED
    assert master_keys_in_use(session) == {"new": 1}


@pytest.mark.parametrize("role", [Role.API, Role.HANDLER, Role.OPERATOR])
def test_every_role_that_enqueues_can_seal(
    sessions: sessionmaker[Session], workspace_id: uuid.UUID, ring: Use, role: Role
) -> None:
    with sessions() as session:
        confine(session, role, workspace_id)
        enqueue_job(session, NewJob(workspace_id=workspace_id, task="work", payload={"text": CANARY}, encrypted=True))
        session.commit()
        (job,) = session.scalars(select(Job))
        reveal(session, [job])

        assert job.payload == {"text": CANARY}


def test_a_host_s_own_session_that_row_security_confines_can_seal_and_read(
    workspace_id: uuid.UUID, login_url: Callable[..., str], ring: Use
) -> None:
    engine = make_engine(login_url(Role.OWNER), pool_size=1)
    with Session(engine) as session:
        make_key(session, workspace_id)
        enqueue_job(session, NewJob(workspace_id=workspace_id, task="work", payload={"text": CANARY}, encrypted=True))
        session.commit()
        jobs = list_jobs(session, workspace_id)
        reveal(session, jobs)
        read = [job.payload for job in jobs]
    engine.dispose()

    assert read == [{"text": CANARY}]


# What does not open


MOVES = {
    "another workspace's": "select payload from jobplatform.job_records where workspace_id <> :workspace_id limit 1",
    "another job's": "select payload from jobplatform.job_records where workspace_id = :workspace_id and id <> :id",
    "another field's": "select result from jobplatform.job_records where workspace_id = :workspace_id and id <> :id",
    "an invented": 'select \'{"$sealed": "v1:1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}\'::jsonb',
    "an unknown": 'select \'{"$sealed": "later than v1"}\'::jsonb',
    "a vanished key's": "select jsonb_build_object('$sealed', replace(payload ->> '$sealed', 'v1:1:', 'v1:9:')) "
    "from jobplatform.job_records where workspace_id = :workspace_id and id = :id",
}


@pytest.mark.parametrize("whose", MOVES)
def test_a_payload_that_does_not_belong_there_fails_the_job_at_once(
    engine: Engine, session: Session, db: Session, workspace_id: uuid.UUID, ring: Use, look: Look, whose: str
) -> None:
    tasks = tasks_with(echo, max_attempts=3)
    run(session, tasks, uuid.uuid4())
    run(session, tasks, workspace_id)
    tasks.mode = "queue"
    job_id = run(session, tasks, workspace_id, {"text": "mine"})
    move = f"update jobplatform.job_records set payload = ({MOVES[whose]}) where id = :id"
    db.execute(text(move), {"id": job_id, "workspace_id": workspace_id})

    run_inline(engine, tasks, workspace_id, job_id)

    job = look(job_id)
    assert (job.status, job.attempts, job.error_type) == (Status.FAILED, 1, "SealBrokenError")
    assert job.result is None
    assert CANARY not in (job.error or "")


@pytest.mark.parametrize("keys", [(), (NEW,), (NEW.replace("new:", "old:"),)], ids=["none", "another", "a wrong one"])
def test_a_job_whose_key_is_missing_waits_without_losing_an_attempt(
    engine: Engine,
    session: Session,
    workspace_id: uuid.UUID,
    ring: Use,
    look: Look,
    time: Time,
    caplog: pytest.LogCaptureFixture,
    keys: tuple[str, ...],
) -> None:
    tasks = tasks_with(echo, max_attempts=1)
    tasks.mode = "queue"
    job_id = run(session, tasks, workspace_id)
    forget_kept_keys()
    ring(*keys)

    run_inline(engine, tasks, workspace_id, job_id)

    waiting = look(job_id)
    assert (waiting.status, waiting.attempts) == (Status.PENDING, 0)
    assert "waits for a worker" in (waiting.progress or {})["message"]
    told = "1 encrypted job waits for a worker that has its key"
    assert ("no_key", told) in [(alert.code, alert.message) for alert in queue_health(session).alerts]
    assert "cannot be opened here" in caplog.text
    session.rollback()

    ring(OLD)
    time.passes(60)
    session.execute(text("update jobplatform.job_queue set state = 1"))
    session.commit()
    run_inline(engine, tasks, workspace_id, job_id)

    job = look(job_id)
    assert (job.status, job.attempts) == (Status.COMPLETED, 1)
    assert job.progress == {"current": 0, "total": None, "message": None}
    assert "no_key" not in [alert.code for alert in queue_health(session).alerts]


def forget_kept_keys() -> None:
    """As a process that was started just now."""
    from jobplatform.queue import vault

    vault._kept.clear()
