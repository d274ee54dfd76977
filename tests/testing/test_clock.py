"""A clock that the whole platform obeys, and that refuses to be moved where it matters."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from jobplatform import migrations
from jobplatform.embedded import EmbeddedServer
from jobplatform.errors import NotATestDatabaseError
from jobplatform.models import make_engine
from jobplatform.queue import RunningJob, Tasks
from jobplatform.testing import Clock, DatabaseServer, drain

NEW_YEAR = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
A_MINUTE = timedelta(minutes=1)

tasks = Tasks()


@tasks.task("work")
def work(job: RunningJob, payload: dict[str, str]) -> None: ...


@pytest.fixture
def clock(engine: Engine) -> Clock:
    return Clock(engine)


def true_time(session: Session) -> datetime.datetime:
    now: datetime.datetime = session.execute(text("select now()")).scalar_one()
    session.rollback()
    return now


def test_time_passes_at_once(clock: Clock, session: Session) -> None:
    clock.travel(hours=1)
    clock.travel(minutes=30, days=1)

    assert abs(clock.now() - true_time(session) - timedelta(days=1, hours=1, minutes=30)) < A_MINUTE
    assert abs(clock.reset() - true_time(session)) < A_MINUTE


def test_a_moment_can_be_gone_to_and_time_goes_on_from_there(clock: Clock) -> None:
    there = clock.travel_to(NEW_YEAR)

    assert timedelta(0) <= there - NEW_YEAR < A_MINUTE
    assert there < clock.now()


def test_a_frozen_clock_stands_and_can_be_moved_by_hand(clock: Clock) -> None:
    assert clock.freeze(NEW_YEAR) == clock.now() == NEW_YEAR
    assert clock.travel(seconds=1.5) == clock.now() == NEW_YEAR + timedelta(seconds=1.5)
    assert clock.travel_to(NEW_YEAR) == clock.now() == NEW_YEAR
    assert timedelta(0) < clock.unfreeze() - NEW_YEAR < A_MINUTE


def test_it_can_be_stopped_where_it_is(clock: Clock) -> None:
    clock.travel_to(NEW_YEAR)

    stopped_at = clock.freeze()

    assert clock.now() == stopped_at


def test_a_moment_without_a_time_zone_is_refused(clock: Clock) -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        clock.travel_to(datetime.datetime(2030, 1, 1))  # noqa: DTZ001 - that is the point


def test_scheduled_jobs_become_ready_when_their_time_has_come(
    clock: Clock, session: Session, workspace_id: uuid.UUID
) -> None:
    work.enqueue(session, workspace_id=workspace_id, delay=timedelta(hours=2))

    assert drain(session, tasks) == []
    clock.travel(hours=1)
    assert drain(session, tasks) == []
    clock.travel(hours=1)
    (job,) = drain(session, tasks)
    assert job.completed_at is not None
    assert job.completed_at - job.created_at >= timedelta(hours=2)


@pytest.fixture
def unmarked(server: EmbeddedServer) -> str:
    """A database of a run, as it were, that nobody made from the template."""
    name = f"jobplatform_test_{uuid.uuid4().hex[:12]}_unmarked"
    migrations.upgrade(server.create_database(name))
    return server.url(name)


@pytest.fixture
def renamed(server: EmbeddedServer, jobplatform_databases, jobplatform_server: DatabaseServer) -> str:  # type: ignore[no-untyped-def]
    """A copy of the template under a name that a production database might have."""
    return jobplatform_server.create(f"shop_{uuid.uuid4().hex}", jobplatform_databases.template)


@pytest.mark.parametrize("other", ["unmarked", "renamed"])
def test_time_is_not_moved_in_a_database_that_the_kit_did_not_make(
    other: str, request: pytest.FixtureRequest, server: EmbeddedServer
) -> None:
    engine = make_engine(request.getfixturevalue(other))
    clock = Clock(engine)
    acts: list[Callable[[], object]] = [
        lambda: clock.travel(hours=1),
        lambda: clock.travel_to(NEW_YEAR),
        clock.freeze,
        clock.reset,
    ]

    for act in acts:
        with pytest.raises(NotATestDatabaseError, match="is not one"):
            act()

    with engine.connect() as connection:
        body = connection.execute(text("select prosrc from pg_proc where proname = 'clock'")).scalar_one()
        name = str(engine.url.database)
    assert body.strip() == "select now()"
    engine.dispose()
    server.drop_database(name)
