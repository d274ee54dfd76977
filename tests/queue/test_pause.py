"""A pause is a row with a reason; its end wakes the workers."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidLimitError
from jobplatform.models import make_engine
from jobplatform.queue import find_pause, list_pauses, pause, prune_jobs, resume
from tests.queue.actors import Time, Worker
from tests.queue.bells import Ear
from tests.queue.conftest import Fact

KEYS = {"queue": "default", "task": "sync", "workspace": str(uuid.UUID(int=1)), "resource": "hubspot:4711"}


@pytest.fixture
def loud(database_url: str) -> Iterator[Engine]:
    """An engine that rings."""
    engine = make_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def ear(direct_url: str) -> Iterator[Ear]:
    ear = Ear(direct_url)
    yield ear
    ear.close()


def in_an_hour() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)


@pytest.mark.parametrize(("kind", "key"), KEYS.items())
def test_what_can_be_paused_is_paused_and_resumed(db: Session, kind: str, key: str) -> None:
    made = pause(db, kind, key, reason="the far side is down", actor="ann")

    assert (made.kind, made.key, made.reason, made.actor, made.until) == (
        kind,
        key,
        "the far side is down",
        "ann",
        None,
    )
    assert [(one.kind, one.key) for one in list_pauses(db)] == [(kind, key)]
    assert find_pause(db, kind, key) is not None
    assert resume(db, kind, key)
    assert list_pauses(db) == []
    assert not resume(db, kind, key)


def test_pausing_again_replaces_reason_actor_and_end(db: Session, time: Time) -> None:
    first = pause(db, "queue", "default", reason="a look", actor="ann", until=in_an_hour()).paused_at
    time.passes(60)

    again = pause(db, "queue", "default", reason="a longer look", actor="bob")

    assert (again.reason, again.actor, again.until) == ("a longer look", "bob", None)
    assert again.paused_at - first > datetime.timedelta(seconds=59)
    assert len(list_pauses(db)) == 1


def test_a_pause_is_over_at_its_moment(db: Session, time: Time, fact: Fact) -> None:
    pause(db, "queue", "default", reason="a look", actor="ann", until=in_an_hour())

    time.passes(3601)

    assert list_pauses(db) == []
    assert find_pause(db, "queue", "default") is None
    assert not resume(db, "queue", "default")
    assert fact("select count(*) from jobplatform.pauses") == 0


def test_pauses_that_are_over_are_pruned(db: Session, time: Time, fact: Fact) -> None:
    """As long as there is a row, every claim looks for what it might hold back."""
    pause(db, "queue", "default", reason="a look", actor="ann", until=in_an_hour())
    pause(db, "queue", "slow", reason="a look", actor="ann")
    time.passes(3601)

    prune_jobs(db, completed_after=datetime.timedelta(days=7), failed_after=datetime.timedelta(days=30))

    assert fact("select string_agg(key, ' ') from jobplatform.pauses") == "slow"


def test_a_pause_with_a_moment_that_has_passed_is_refused(db: Session, time: Time) -> None:
    until = in_an_hour()
    time.passes(3601)

    with pytest.raises(InvalidLimitError, match=r"/until: must be in the future"):
        pause(db, "queue", "default", reason="a look", actor="ann", until=until)
    assert list_pauses(db) == []


def test_a_moment_that_has_passed_leaves_the_pause_there_is(db: Session, time: Time) -> None:
    until = in_an_hour()
    pause(db, "queue", "default", reason="the first", actor="ann")
    time.passes(3601)

    with pytest.raises(InvalidLimitError):
        pause(db, "queue", "default", reason="the second", actor="bob", until=until)

    (there,) = list_pauses(db)
    assert there.reason == "the first"


@pytest.mark.parametrize(
    ("kind", "key", "path"),
    [
        ("worker", "w1", "/kind"),
        ("queue", "", "/key"),
        ("queue", "Not A Queue", "/key"),
        ("task", "x" * 101, "/key"),
        ("workspace", "acme", "/key"),
        ("resource", "", "/key"),
        ("resource", "hub\x00spot", "/key"),
        ("resource", "x" * 201, "/key"),
    ],
)
def test_what_cannot_be_the_name_of_such_a_thing_is_refused(db: Session, kind: str, key: str, path: str) -> None:
    with pytest.raises(InvalidLimitError) as refused:
        pause(db, kind, key, reason="a look", actor="ann")

    assert [problem.path for problem in refused.value.problems] == [path]


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501, "\x00", "\ud800"])
def test_a_pause_needs_a_reason_that_can_be_read(db: Session, reason: str) -> None:
    with pytest.raises(InvalidLimitError, match="/reason"):
        pause(db, "queue", "default", reason=reason, actor="ann")


def test_a_moment_without_a_time_zone_is_refused(db: Session) -> None:
    with pytest.raises(InvalidLimitError, match="time zone"):
        pause(db, "queue", "default", reason="a look", actor="ann", until=datetime.datetime(2099, 1, 1))  # noqa: DTZ001


def test_a_moment_that_no_calendar_has_is_refused(db: Session) -> None:
    """Of here it is the year 9999, of the database the year 10000, which nobody could read again."""
    west = datetime.timezone(datetime.timedelta(hours=-12))

    with pytest.raises(InvalidLimitError, match="/until: must be in a year from 2 to 9997"):
        pause(db, "queue", "default", reason="a look", actor="ann", until=datetime.datetime.max.replace(tzinfo=west))
    assert list_pauses(db) == []


def test_a_workspace_s_id_is_kept_as_the_database_spells_it(db: Session) -> None:
    workspace_id = uuid.uuid4()

    pause(db, "workspace", str(workspace_id).upper(), reason="unpaid", actor="ann")

    assert [one.key for one in list_pauses(db, "workspace")] == [str(workspace_id)]
    assert resume(db, "workspace", workspace_id.hex)


def test_pauses_of_one_kind_can_be_listed(db: Session) -> None:
    for kind, key in KEYS.items():
        pause(db, kind, key, reason="a look", actor="ann")

    assert [one.kind for one in list_pauses(db, "task")] == ["task"]
    assert [one.kind for one in list_pauses(db)] == sorted(KEYS)


def test_resuming_a_queue_rings_for_it_after_the_commit(loud: Engine, ear: Ear) -> None:
    with Session(loud) as session:
        pause(session, "queue", "letters", reason="a look", actor="ann")
        resume(session, "queue", "letters")
        with Session(loud) as another:
            ring_last(another)
        assert ear.hear("q:last") == {"q:last"}
        session.commit()

    assert ear.hear("q:letters") == {"q:letters"}


@pytest.mark.parametrize("kind", ["task", "workspace", "resource"])
def test_resuming_anything_else_rings_for_every_queue_that_is_served(
    loud: Engine, ear: Ear, db: Session, kind: str
) -> None:
    Worker(db, queues=("letters", "default"))

    with Session(loud) as session, session.begin():
        pause(session, kind, KEYS[kind], reason="a look", actor="ann")
        resume(session, kind, KEYS[kind])

    heard = ear.hear("q:letters")
    assert heard | ({"q:default"} - heard and ear.hear("q:default")) == {"q:letters", "q:default"}


def ring_last(session: Session) -> None:
    """A ring that comes after whatever might have come before."""
    pause(session, "queue", "last", reason="a look", actor="ann")
    resume(session, "queue", "last")
    session.commit()
