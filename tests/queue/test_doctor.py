"""Each thing that the doctor finds, made on purpose; and a database where there is nothing to find."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from jobplatform.models import Role, make_engine
from jobplatform.queue import clock_difference, examine_queue, examine_schema, examine_server
from jobplatform.queue.health import doctor
from jobplatform.testing import wait_until
from tests.queue.actors import Time, Worker
from tests.queue.conftest import Put

AT_ONCE = datetime.timedelta(0)
Found = Callable[[], dict[str, doctor.Finding]]

# A finding may be somebody else's: the server is shared with the tests beside this one.
pytestmark = pytest.mark.direct


@pytest.fixture
def found(engine: Engine) -> Found:
    """Everything that is found now, by code. Snapshots count from their first moment."""

    def found() -> dict[str, doctor.Finding]:
        with Session(engine) as session:
            findings = [*examine_server(session, patience=AT_ONCE), *examine_schema(session), *examine_queue(session)]
        return {one.code: one for one in findings}

    return found


def test_nothing_is_wrong_with_a_database_that_was_just_made(found: Found) -> None:
    assert found() == {}


def test_a_job_whose_worker_is_dead_and_that_nobody_takes_back(
    put: Put, worker: Worker, time: Time, found: Found
) -> None:
    put()
    worker.claim()
    time.passes(60)
    assert "stuck_lease" not in found()

    time.passes(120)

    finding = found()["stuck_lease"]
    assert finding.severity == "error"
    assert "1 job belongs to a worker" in finding.seen
    assert "work" in finding.seen
    assert finding.command == "jobplatform worker"


def test_a_task_that_no_worker_serves(put: Put, worker: Worker, found: Found) -> None:
    put(task="letters")

    assert "letters" in found()["unserved"].seen


def test_a_session_that_holds_back_vacuum_is_named_with_its_pid(engine: Engine, found: Found) -> None:
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        pid = connection.scalar(text("select pg_backend_pid()"))
        finding = found()["old_snapshot"]

        assert f"pid {pid} " in finding.seen
        assert finding.command == f"select pg_terminate_backend({pid})"
    assert "old_snapshot" not in found()


def test_a_login_that_cannot_see_sessions_says_so(login_url: Callable[..., str]) -> None:
    engine = make_engine(login_url(Role.OPERATOR))
    with Session(engine) as session:
        codes = {one.code: one.severity for one in examine_server(session)}
    engine.dispose()

    assert codes == {"blind": "info"}


@pytest.mark.parametrize(
    ("breakage", "code", "seen", "command"),
    [
        (
            "alter table jobplatform.job_queue reset (autovacuum_vacuum_threshold)",
            "vacuum_settings",
            "autovacuum_vacuum_threshold = 2000",
            "alter table jobplatform.job_queue set (autovacuum_vacuum_threshold = 2000)",
        ),
        (
            "alter table jobplatform.job_records set (autovacuum_enabled = false)",
            "autovacuum_off",
            "job_records",
            "alter table jobplatform.job_records reset (autovacuum_enabled)",
        ),
        ("drop index jobplatform.job_attempts_newest", "schema_drift", "job_attempts_newest", "jobplatform migrate"),
        ("alter table jobplatform.workers drop column drain_requested_at", "schema_drift", "workers.drain", "migrate"),
        ("drop table jobplatform.alerts", "schema_drift", "alerts", "jobplatform migrate"),
        ("update jobplatform.alembic_version set version_num = '0001'", "schema_revision", "0001", "migrate"),
        (
            "update jobplatform.alembic_version set version_num = '0029'; drop table jobplatform.alerts",
            "schema_revision",
            "0029",
            "jobplatform migrate",
        ),
        (
            "update pg_index set indisvalid = false where indexrelid = 'jobplatform.job_attempts_newest'::regclass",
            "invalid_index",
            "job_attempts_newest",
            "reindex index concurrently jobplatform.job_attempts_newest",
        ),
    ],
)
def test_what_somebody_has_changed_by_hand(engine: Engine, breakage: str, code: str, seen: str, command: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(breakage))

    with Session(engine) as session:
        findings = {one.code: one for one in (*examine_server(session), *examine_schema(session))}

    assert set(findings) == {code}
    assert seen in findings[code].seen
    assert command in findings[code].command


def test_the_leftover_of_an_interrupted_reindex_is_to_be_dropped(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("create index left_ccnew on jobplatform.job_logs (level)"))
        connection.execute(
            text("update pg_index set indisvalid = false where indexrelid = 'jobplatform.left_ccnew'::regclass")
        )

    with Session(engine) as session:
        (finding,) = examine_schema(session)

    assert (finding.code, finding.command) == ("invalid_index", "drop index concurrently jobplatform.left_ccnew")


@pytest.mark.jobplatform_fresh_database  # No earlier test's dead rows.
def test_dead_rows_that_pile_up(put: Put, db: Session, found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "FEWEST_DEAD", 50)
    db.execute(text("alter table jobplatform.job_queue set (autovacuum_enabled = off)"))
    for _ in range(60):
        put()
    db.execute(text("delete from jobplatform.job_queue"))
    db.execute(text("select pg_stat_force_next_flush()"))

    finding = wait_until(lambda: found().get("bloat"), what="the server to count the dead rows")

    assert finding is not None
    assert "60 dead rows" in finding.seen


def test_a_chore_that_nobody_does(worker: Worker, db: Session, found: Found) -> None:
    db.execute(text("insert into jobplatform.chores (name, due_at) values ('prune', now() - interval '2 hours')"))

    assert "'prune'" in found()["chore_late"].seen


@pytest.fixture
def moments() -> tuple[datetime.datetime, datetime.datetime]:
    before = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)
    return before, before + datetime.timedelta(seconds=1)


def test_clocks_are_compared_by_what_cannot_be_the_way_there_and_back(
    moments: tuple[datetime.datetime, datetime.datetime],
) -> None:
    before, after = moments
    minute = datetime.timedelta(minutes=1)

    assert clock_difference(before, before + (after - before) / 2, after) == datetime.timedelta(0)
    assert clock_difference(before, after + minute, after) == minute
    assert clock_difference(before, before - minute, after) == -minute


def test_a_clock_that_is_off(found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "NOW", "select clock_timestamp() - interval '1 hour'")

    assert "behind this host's" in found()["clock"].seen
