"""After an erase nothing of the workspace is left, nothing of any other is gone, and one line tells of it."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, Table, Uuid, event, select, text
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.embedded import EmbeddedServer
from jobplatform.key_ring import generate_key
from jobplatform.models import AuditEntry, Base, JobRecord, Role, confine, make_engine
from jobplatform.queue import (
    CLOSED,
    Completion,
    NewJob,
    begin_erasing,
    complete_jobs,
    count_running,
    enqueue_job,
    enqueue_jobs,
    erase_some,
    finish_erasing,
    get_job,
    open_batch,
    reveal,
    settle_endings,
    stop_running,
)
from jobplatform.queue.keep.belongings import belongings
from jobplatform.testing import wait_until
from tests.queue.actors import Elsewhere, Worker
from tests.queue.conftest import Fact, Put
from tests.queue.workspace_data import WITH_ROWS, canary, fill, in_dump, in_files

Erase = Callable[[uuid.UUID], Counter[str]]


@pytest.fixture
def erase(sessions: sessionmaker[Session]) -> Erase:
    """The whole of it, with the rights of the owner and within the workspace."""

    def erase(workspace_id: uuid.UUID) -> Counter[str]:
        with sessions() as session:
            confine(session, Role.OWNER, workspace_id)
            counts = Counter(begin_erasing(session, workspace_id, actor="ada"))
            session.commit()
            while some := erase_some(session, workspace_id):
                session.commit()
                counts += Counter(some)
            finish_erasing(session, workspace_id, counts, actor="ada")
            session.commit()
        return counts

    return erase


def rows_of(session: Session, workspace_id: uuid.UUID) -> dict[str, int]:
    """How many rows of the workspace each table has; those with none are left out."""
    found = {
        table.name: len(session.execute(select(table).where(mine)).all()) for table, mine in belongings(workspace_id)
    }
    session.rollback()
    return {name: count for name, count in found.items() if count}


def test_nothing_is_left_in_any_table_but_the_lines_of_the_audit_log(
    session: Session, workspace_id: uuid.UUID, erase: Erase
) -> None:
    fill(session, workspace_id)
    before = rows_of(session, workspace_id)

    counts = erase(workspace_id)

    assert set(before) == WITH_ROWS
    assert rows_of(session, workspace_id) == {"audit_log": 2}
    gone_last = {"audit_log", "pauses", "workspaces"}
    assert {name: count for name, count in counts.items() if count} == {
        name: count for name, count in before.items() if name not in gone_last
    }


def test_it_takes_no_more_than_the_login_that_migrates(
    session: Session, workspace_id: uuid.UUID, login_url: Callable[..., str]
) -> None:
    fill(session, workspace_id)
    other = uuid.uuid4()
    fill(session, other)
    owner = make_engine(login_url(Role.OWNER), pool_size=1)

    with Session(owner) as confined:
        confine(confined, Role.OWNER, workspace_id)
        begin_erasing(confined, workspace_id, actor="ada")
        confined.commit()
        while erase_some(confined, workspace_id):
            confined.commit()
        # Another's rows are out of reach, also when asked for by mistake.
        assert erase_some(confined, other) == {}
        finish_erasing(confined, workspace_id, {}, actor="ada")
        confined.commit()
    owner.dispose()

    assert rows_of(session, workspace_id) == {"audit_log": 2}
    assert set(rows_of(session, other)) == WITH_ROWS


def test_no_other_workspace_loses_a_row(session: Session, workspace_id: uuid.UUID, erase: Erase) -> None:
    other = uuid.uuid4()
    for one in (workspace_id, other):
        fill(session, one)
    before = rows_of(session, other)

    erase(workspace_id)

    assert rows_of(session, other) == before
    assert session.scalar(select(AuditEntry.details).where(AuditEntry.workspace_id == other)) == {
        "note": canary("details", other)
    }


def test_a_dump_has_none_of_its_text(
    session: Session,
    direct_url: str,
    engine: Engine,
    workspace_id: uuid.UUID,
    erase: Erase,
    server: EmbeddedServer,
) -> None:
    # pg_dump sets what it likes for its session, so it goes past any pooler.
    fill(session, workspace_id)
    assert in_dump(server, direct_url, f"-{workspace_id.hex}")

    erase(workspace_id)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table in Base.metadata.sorted_tables:
            if not table.info.get("is_view"):
                connection.execute(text(f"vacuum full jobplatform.{table.name}"))

    assert in_dump(server, direct_url, workspace_id.hex) == []
    assert len(in_dump(server, direct_url, str(workspace_id))) == 2  # The lines of the audit log.


def test_older_lines_of_the_audit_log_can_still_be_counted(
    session: Session, workspace_id: uuid.UUID, erase: Erase
) -> None:
    fill(session, workspace_id)

    counts = erase(workspace_id)

    older, newest = session.scalars(select(AuditEntry).order_by(AuditEntry.id)).all()
    assert (older.actor, older.action, older.target, older.details) == ("ada", "job.cancel", "job:1", {})
    assert (newest.actor, newest.action, newest.target) == ("ada", "workspace.erase", f"workspace:{workspace_id}")
    assert newest.details == {"rows": dict(counts), "auditLinesEmptied": 1}


def test_not_even_the_owner_can_write_something_into_an_older_line(
    session: Session, workspace_id: uuid.UUID, engine: Engine
) -> None:
    fill(session, workspace_id)
    confine(session, Role.OWNER, workspace_id)

    with pytest.raises(Exception, match="row-level security"):
        session.execute(text("""update jobplatform.audit_log set details = '{"note": "it was not me"}'"""))
    session.rollback()
    with pytest.raises(Exception, match="permission denied"):
        session.execute(text("update jobplatform.audit_log set actor = 'bob'"))


def test_a_workspace_larger_than_a_batch_goes_in_several(
    session: Session, workspace_id: uuid.UUID, erase: Erase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobplatform.queue.keep.erase.BATCH", 2)
    for _ in range(5):
        enqueue_job(session, NewJob(workspace_id=workspace_id, task="work"))
    session.commit()

    some = erase_some(session, workspace_id)
    session.rollback()

    assert some == {"job_records": 2, "job_queue": 2}
    assert erase(workspace_id)["job_records"] == 5
    assert rows_of(session, workspace_id) == {"audit_log": 1}


def test_an_interrupted_erase_is_begun_again(session: Session, workspace_id: uuid.UUID, erase: Erase) -> None:
    fill(session, workspace_id)
    begin_erasing(session, workspace_id, actor="ada")
    session.commit()
    erase_some(session, workspace_id)
    session.commit()

    erase(workspace_id)
    erase(workspace_id)

    assert rows_of(session, workspace_id) == {"audit_log": 3}


def test_a_table_that_nobody_thought_of_is_erased_too(session: Session, workspace_id: uuid.UUID) -> None:
    later = MetaData(schema="jobplatform")
    notes = Table("notes", later, Column("workspace_id", Uuid), Column("n", Integer))
    later.create_all(session.connection())
    session.execute(notes.insert(), [{"workspace_id": one, "n": 1} for one in (workspace_id, uuid.uuid4())])

    assert erase_some(session, workspace_id, later) == {"notes": 1}
    assert erase_some(session, workspace_id, later) == {}


# What runs


def test_from_the_first_step_on_nothing_of_it_is_started(
    session: Session, workspace_id: uuid.UUID, worker: Worker, put: Put
) -> None:
    put()

    begin_erasing(session, workspace_id, actor="ada")
    session.commit()

    assert worker.claim() == []


def test_what_runs_is_counted_and_told_to_stop(
    session: Session, workspace_id: uuid.UUID, worker: Worker, put: Put, fact: Fact
) -> None:
    put(), put()
    worker.claim(limit=1)

    told = stop_running(session, workspace_id)
    session.commit()

    assert told == count_running(session, workspace_id) == 1
    assert fact("select count(*) from jobplatform.job_queue where cancel_requested_at is not null") == 1


# Keys


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBPLATFORM_ENCRYPTION_KEYS", generate_key("a"))


def test_once_its_key_is_gone_nothing_sealed_opens_even_from_a_copy(
    session: Session, workspace_id: uuid.UUID, ring: None
) -> None:
    job = NewJob(workspace_id=workspace_id, task="work", payload={"text": "canary"}, encrypted=True)
    enqueue_job(session, job)
    session.commit()

    gone = begin_erasing(session, workspace_id, actor="ada")
    session.commit()

    assert gone["workspace_keys"] == 1
    read = get_job(session, workspace_id, job.id)
    assert read is not None
    reveal(session, [read])
    assert read.payload == CLOSED


def test_what_is_sealed_is_in_no_file_of_the_server_at_any_time(
    session: Session, engine: Engine, workspace_id: uuid.UUID, ring: None
) -> None:
    other = uuid.uuid4()
    places = ["payload", "result", "line", "progress", "error"]

    fill(session, workspace_id, encrypted=True)
    fill(session, other)

    assert in_files(engine, [canary(place, other) for place in places]) >= {canary("payload", other)}
    assert in_files(engine, [canary(place, workspace_id) for place in places]) == set()


# Somebody is at work on the same rows


def test_erasing_and_settling_never_wait_for_each_other_in_a_circle(
    engine: Engine, db: Session, session: Session, elsewhere: Elsewhere, workspace_id: uuid.UUID
) -> None:
    """Settling holds a batch and then takes its notices; erasing goes the other way round."""
    batch_id = open_batch(db, workspace_id)
    enqueue_jobs(db, [NewJob(workspace_id=workspace_id, task="work", batch_id=batch_id)])
    complete_jobs(db, [Completion(Worker(db).lease())])
    erasing: list[Future[dict[str, int]]] = []

    def erase_before_the_notices_are_taken(_c: object, _cursor: object, sql: str, *_rest: object) -> None:
        if not erasing and sql.lstrip().startswith("with loose"):
            erasing.append(elsewhere.start(lambda other: erase_some(other, workspace_id)))
            wait_until(elsewhere.is_done_or_blocked, what="the erase to go as far as it can")

    event.listen(engine, "before_cursor_execute", erase_before_the_notices_are_taken)
    settle_endings(session)
    session.commit()
    event.remove(engine, "before_cursor_execute", erase_before_the_notices_are_taken)

    assert erasing[0].result(timeout=30)
    while erase_some(session, workspace_id):
        session.commit()
    assert rows_of(session, workspace_id) == {}


def test_what_ends_just_now_is_not_waited_for_by_whoever_stops_what_runs(
    elsewhere: Elsewhere, session: Session, worker: Worker, workspace_id: uuid.UUID, put: Put, fact: Fact
) -> None:
    put(), put()
    first, _second = worker.claim(limit=2)
    complete_jobs(session, [Completion(first.lease)])

    stopping = elsewhere.start(lambda other: stop_running(other, workspace_id))
    wait_until(elsewhere.is_done_or_blocked, what="whoever stops them to go as far as they can")

    assert stopping.done()
    assert stopping.result() == 2
    assert fact("select count(*) from jobplatform.job_queue where cancel_requested_at is not null") == 1


def test_what_somebody_has_locked_is_waited_for_when_nothing_else_is_left(
    db: Session, session: Session, elsewhere: Elsewhere, workspace_id: uuid.UUID
) -> None:
    job_id = enqueue_job(db, NewJob(workspace_id=workspace_id, task="work")).job_id
    session.execute(select(JobRecord).where(JobRecord.id == job_id).with_for_update())
    assert erase_some(db, workspace_id) == {"job_queue": 1}

    erasing = elsewhere.start_and_wait_for_lock(lambda other: erase_some(other, workspace_id))
    session.commit()

    assert erasing.result() == {"job_records": 1}
    assert rows_of(session, workspace_id) == {}
