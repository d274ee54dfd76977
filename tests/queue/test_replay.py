"""A replay shows what a handler does, as a worker would have it, and leaves nothing behind."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidJobError, InvalidPayloadError
from jobplatform.key_ring import generate_key
from jobplatform.models import Role, Status, confine
from jobplatform.queue import (
    Completion,
    Failure,
    NewJob,
    Recorder,
    Replayed,
    claim_job,
    complete_jobs,
    enqueue_job,
    fail_jobs,
    list_steps,
    read_snapshot,
    replay_job,
)
from jobplatform.queue.attempts.save_step import save_checkpoint, save_step
from jobplatform.queue.run.replay import ENDED
from jobplatform.queue.statement import Lease
from tests.queue import replay_tasks
from tests.queue.actors import Elsewhere, Worker
from tests.queue.conftest import Look, Put
from tests.queue.replay_tasks import Ear, tasks
from tests.rows import everything

Replay = Callable[..., Replayed]


@pytest.fixture(autouse=True)
def deeds(db: Session, engine: Engine) -> Iterator[None]:
    db.execute(text(replay_tasks.TABLE))
    replay_tasks.engines.append(engine)
    replay_tasks.seen.clear()
    yield
    replay_tasks.engines.clear()


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def replay(engine: Engine, ear: Ear, workspace_id: uuid.UUID) -> Replay:
    """Replay a job and see that every row of every table is what it was."""

    def replay(job_id: uuid.UUID, *, payload: Any = None, **options: Any) -> Replayed:
        with Session(engine) as session:
            before = everything(session), replay_tasks.rows(session)
        with confine(Session(engine), Role.HANDLER, workspace_id) as session:
            snapshot = read_snapshot(session, workspace_id, job_id, **options)
        assert snapshot is not None
        with engine.connect() as connection:
            replayed = replay_job(connection, tasks[snapshot.job.task], snapshot, ear, payload=payload)
            assert not connection.in_transaction()
        with Session(engine) as session:
            assert (everything(session), replay_tasks.rows(session)) == before
        return replayed

    return replay


@pytest.fixture
def attempt(db: Session, put: Put, worker: Worker, workspace_id: uuid.UUID) -> Callable[..., Lease]:
    """Make a job, and have it claimed."""

    def attempt(task: str = "work", **options: Any) -> Lease:
        job_id = put(task=task, max_attempts=2, **options)
        claimed = claim_job(db, worker_id=worker.id, workspace_id=workspace_id, job_id=job_id)
        assert claimed is not None
        return claimed.lease

    return attempt


@pytest.fixture
def failed(db: Session, attempt: Callable[..., Lease]) -> uuid.UUID:
    """A job that has done two steps of three and then failed for good."""
    lease = attempt()
    save_step(db, lease, "first", '"one"')
    save_step(db, lease, "second", '"two"')
    return fail(db, lease)


def fail(db: Session, lease: Lease) -> uuid.UUID:
    fail_jobs(db, [Failure(lease, "error", "RuntimeError", "the far side said no", retry=False)])
    return uuid.UUID(lease.job_id)


def test_the_steps_that_are_done_answer_at_once_and_the_attempt_ends_as_it_did(
    replay: Replay, failed: uuid.UUID, ear: Ear
) -> None:
    ended = replay(failed).ended

    assert (ended.kind, ended.outcome, ended.error_type, ended.retry) == ("failed", "error", "RuntimeError", True)
    assert ended.traceback is not None
    assert "replay_tasks.py" in ended.traceback
    assert ear.said == [{"current": 1, "total": 3, "message": "begun"}, ("warning", "the far side hangs up")]


def test_another_payload_is_tried_and_nothing_that_was_written_is_kept(replay: Replay, failed: uuid.UUID) -> None:
    replayed = replay(failed, payload={"well": True})

    assert replayed.ended.kind == "completed"
    assert json.loads(replayed.result or "") == {
        "steps": ["first: kept one", "second: kept two", "third: done"],
        "rows": ["third"],
        "parts": {"two": "of this run"},
    }
    assert replay_tasks.seen == [
        (failed, 1, 2, True, ["first: kept one", "second: kept two", "third: done"]),
    ]


def test_from_a_step_on_what_the_job_has_done_is_done_again(replay: Replay, failed: uuid.UUID) -> None:
    from_second = replay(failed, payload={"well": True}, from_step="second")
    anew = replay(failed, payload={"well": True}, no_steps=True)

    assert json.loads(from_second.result or "")["steps"] == ["first: kept one", "second: done", "third: done"]
    assert json.loads(anew.result or "")["rows"] == ["first", "second", "third"]


def test_from_a_step_on_what_an_older_transaction_saved_after_it_is_done_again(
    replay: Replay, attempt: Callable[..., Lease], db: Session, session: Session
) -> None:
    lease = attempt()
    session.execute(text("select 1"))
    save_step(db, lease, "first", '"one"')
    save_step(session, lease, "second", '"two"')
    session.commit()

    replayed = replay(fail(db, lease), payload={"well": True}, from_step="first")

    assert json.loads(replayed.result or "")["rows"] == ["first", "second", "third"]


def test_a_step_that_the_job_has_not_done_is_refused_with_the_nearest_one(replay: Replay, failed: uuid.UUID) -> None:
    with pytest.raises(InvalidJobError, match="did you mean 'second'"):
        replay(failed, from_step="secnd")


def test_a_payload_that_does_not_fit_is_refused(replay: Replay, failed: uuid.UUID) -> None:
    with pytest.raises(InvalidPayloadError, match="takes a mapping"):
        replay(failed, payload=[1])


@pytest.mark.parametrize(
    ("how", "kind", "outcome"),
    [
        ("skip", "completed", "skipped"),
        ("snooze", "snoozed", "ok"),
        ("discard", "failed", "discarded"),
        ("cancel", "failed", "cancelled"),
    ],
)
def test_every_way_to_end_is_told_and_none_is_kept(
    replay: Replay, attempt: Callable[..., Lease], db: Session, how: str, kind: str, outcome: str
) -> None:
    job_id = fail(db, attempt("say", payload={"how": how}))

    ended = replay(job_id).ended

    assert (ended.kind, ended.outcome) == (kind, outcome)


def test_a_job_that_completes_itself_is_not_completed(
    replay: Replay, attempt: Callable[..., Lease], db: Session, look: Look, ear: Ear
) -> None:
    job_id = fail(db, attempt("complete"))

    replayed = replay(job_id)

    assert (replayed.ended.kind, replayed.result) == ("completed_in", '{"by":"itself"}')
    assert ear.said == ["completing"]
    assert look(job_id).status == Status.FAILED


def test_a_session_of_the_handlers_own_is_rolled_back_where_it_is_shown(
    replay: Replay, attempt: Callable[..., Lease], db: Session, ear: Ear
) -> None:
    replayed = replay(fail(db, attempt("elsewhere")))

    assert (replayed.ended.kind, replayed.result) == ("completed_in", '"done"')
    assert ear.said == ["taken back: the step 'first'", "taken back: complete_in()", "completing"]


@pytest.mark.filterwarnings("ignore:.*already deassociated:sqlalchemy.exc.SAWarning")
@pytest.mark.parametrize(
    ("by", "refused"),
    [
        ("connection", "Explicit commit.. forbidden"),
        ("driver", "Explicit commit.. forbidden"),
        ("statement", "a replay is not committed"),
    ],
)
def test_a_handler_that_commits_past_its_session_is_refused_and_nothing_is_kept(
    replay: Replay, put: Put, by: str, refused: str
) -> None:
    replay(put(task="past_the_session", payload={"by": by}))

    assert re.search(refused, replay_tasks.seen[0])


INSERT = "insert into deeds values ('by a cursor of its own', 1)"
#: As an application might have it.
COMMITTING = """
create procedure keep_deed() language plpgsql as $$
begin
    insert into deeds values ('by a procedure', 1);
    commit;
end $$
"""


@pytest.mark.filterwarnings("ignore:.*already deassociated:sqlalchemy.exc.SAWarning")
@pytest.mark.parametrize(
    "acts",
    [
        (INSERT, "commit"),
        (INSERT, "commit and chain", INSERT, "commit"),
        ("rollback", INSERT, "commit"),
        ("rollback and chain", INSERT, "commit"),
        (f"commit; begin; {INSERT}; commit",),
        ("close all", INSERT, "commit"),
        ("commit", "driver.autocommit", INSERT),
        ("rollback", "driver.autocommit", INSERT),
        ("rollback", "driver.tpc", INSERT),
        (INSERT, "prepare transaction 'a_replay'", "commit prepared 'a_replay'"),
        ("rollback", "begin", INSERT, "prepare transaction 'a_replay'", "commit prepared 'a_replay'"),
        ("rollback", f"do $$ begin {INSERT}; commit; end $$"),
        ("rollback", "call keep_deed()"),
        ("driver.pipeline",),
        ("driver.copy", "commit"),
        ("connection.rollback", INSERT, "connection.commit", "commit"),
        ("rollback", "session.rollback", "session.commit"),
        ("commit", "connection.rollback", "session.commit", "connection.commit"),
        ("terminate", INSERT, "session.rollback", "connection.rollback", "session.commit", "connection.commit"),
    ],
    ids=" | ".join,
)
def test_however_often_a_handler_ends_its_transaction_behind_its_session_nothing_is_kept(
    replay: Replay, put: Put, db: Session, acts: tuple[str, ...]
) -> None:
    db.execute(text(COMMITTING))

    replay(put(task="behind_the_session", payload={"acts": acts}))

    assert replay_tasks.seen


def test_whoever_looks_is_told_that_the_handler_has_ended_its_transaction(replay: Replay, put: Put) -> None:
    ended = replay(put(task="behind_the_session", payload={"acts": ["rollback", INSERT, "commit"]})).ended

    assert ended.kind == "failed"
    assert ENDED in ended.message


def test_all_sessions_of_a_job_are_one_transaction_of_its_workspace(
    replay: Replay, attempt: Callable[..., Lease], db: Session
) -> None:
    job_id = fail(db, attempt("spread"))
    enqueue_job(db, NewJob(workspace_id=uuid.uuid4(), task="work"))

    assert json.loads(replay(job_id).result or "") == ["committed", "open", "jobplatform_handler", "1"]


def test_a_running_job_is_replayed_and_nobody_waits_for_it(
    attempt: Callable[..., Lease], elsewhere: Elsewhere, engine: Engine, ear: Ear, workspace_id: uuid.UUID, db: Session
) -> None:
    lease = attempt(payload={"well": True})
    with Session(engine) as session:
        snapshot = read_snapshot(session, workspace_id, uuid.UUID(lease.job_id))
    assert snapshot is not None
    ended_meanwhile = []

    def work(job: Any, payload: Any) -> Any:
        value = replay_tasks.work.handler(job, payload)
        # By its worker, while all that the replay has written is not yet rolled back.
        ended_meanwhile.append(complete_jobs(db, [Completion(lease)]))
        return value

    task = Recorder().listen_to(tasks["work"])
    task.handler = work
    with engine.connect() as connection:
        replayed = replay_job(connection, task, snapshot, ear)

    assert snapshot.status == Status.RUNNING
    assert replayed.ended.kind == "completed"
    assert ended_meanwhile == [{lease}]


def test_a_job_that_was_never_run_is_shown_as_its_first_attempt(replay: Replay, put: Put) -> None:
    job_id = put(payload={"well": True}, max_attempts=2)

    replay(job_id)

    assert replay_tasks.seen[0][:4] == (job_id, 1, 2, True)


def test_what_an_encrypted_job_says_is_shown_to_whoever_has_the_key(
    replay: Replay, db: Session, ear: Ear, workspace_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch, worker: Worker
) -> None:
    monkeypatch.setenv("JOBPLATFORM_ENCRYPTION_KEYS", generate_key("test"))
    job = tasks["secret"].new_job({"word": "moon"}, workspace_id=workspace_id)
    enqueue_job(db, job)
    claimed = claim_job(db, worker_id=worker.id, workspace_id=workspace_id, job_id=job.id)
    assert claimed is not None
    assert "moon" not in claimed.payload
    fail(db, claimed.lease)

    failing, well = replay(job.id), replay(job.id, payload={"word": "star", "well": True})

    assert failing.ended.message == "noom is not it"
    assert json.loads(well.result or "") == "rats"
    assert ear.said == [("info", "its word is moon"), ("info", "its word is star")]


def test_a_checkpoint_that_is_stored_is_found_and_one_of_a_replay_is_not_stored(
    replay: Replay, attempt: Callable[..., Lease], db: Session, workspace_id: uuid.UUID
) -> None:
    lease = attempt()
    save_checkpoint(db, lease, '{"page": 7}', {"one": "1", "two": "2"})
    job_id = fail(db, lease)

    replayed = replay(job_id, payload={"well": True})

    assert json.loads(replayed.result or "")["parts"] == {"one": 1, "two": "of this run"}
    assert [step.value for step in list_steps(db, workspace_id, job_id, parts=True)] == [{"page": 7}, 1, 2]


@pytest.mark.parametrize(("task", "result"), [("wait", "awaited"), ("items", None)])
def test_handlers_of_other_kinds_are_replayed_too(
    replay: Replay, attempt: Callable[..., Lease], db: Session, task: str, result: Any
) -> None:
    replayed = replay(fail(db, attempt(task, payload={"a": 1})))

    assert replayed.ended.kind == "completed"
    assert json.loads(replayed.result or "") == (result or {"a": 1})


def test_a_mistake_about_steps_is_found_as_in_a_worker(
    replay: Replay, attempt: Callable[..., Lease], db: Session
) -> None:
    assert "begun twice" in replay(fail(db, attempt("twice"))).ended.message
