"""Two syncs that are about one connection: one waits for its source while the other runs, or both run at once."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import Engine, delete, select
from sqlalchemy.orm import Session

from jobplatform.connectors import SourceRecord, delete_connection, get_connection, run_sync
from jobplatform.connectors.storing import begin_stream, hold_connection, store_records
from jobplatform.errors import SourceError
from jobplatform.models import Connection, Record, SyncLog, SyncStream
from jobplatform.queue import RateLimited, RunningJob
from jobplatform.testing import Clock
from tests.connectors.conftest import Jobs
from tests.connectors.site import Asked, Said, Site, running
from tests.queue.actors import Elsewhere

#: Seconds that the source wants to be left alone for; its syncs wait as jobs.
PAUSE = 90


class Shop(Site):
    """Things by their ids, two to a page; each page begins after the last id of the one before.

    It is too busy to say what comes after ``busy_after``, once. ``meanwhile`` happens while it thinks about a page.
    """

    def __init__(self) -> None:
        super().__init__()
        self.things = {str(number): 1 for number in range(1, 9)}
        self.busy_after: str | None = None
        self.meanwhile: dict[str, Callable[[], object]] = {}

    def say(self, asked: Asked) -> Said:
        after = parse_qs(urlsplit(asked.path).query).get("after", [""])[0]
        if after == self.busy_after:
            self.busy_after = None
            return Said(429, headers={"Retry-After": str(PAUSE)})
        left = [name for name in sorted(self.things) if name > after]
        found = [{"id": name, "version": self.things[name]} for name in left[:2]]
        self.meanwhile.pop(after, lambda: None)()
        following = {"next": {"after": left[1]}} if len(left) > 2 else {}
        return Said(200, json.dumps({"results": found, "paging": following}).encode())


@pytest.fixture
def shop() -> Iterator[Shop]:
    with running(Shop) as shop:
        yield shop


@pytest.fixture
def clock(engine: Engine) -> Iterator[Clock]:
    clock = Clock(engine)
    yield clock
    clock.reset()


@pytest.fixture
def elsewhere(engine: Engine) -> Iterator[Elsewhere]:
    elsewhere = Elsewhere(engine)
    yield elsewhere
    elsewhere.close()


@pytest.fixture
def connection_id(shop: Shop, connect: Callable[..., uuid.UUID], jobs: Jobs) -> uuid.UUID:
    """A connection that has been synced before."""
    config = {"baseUrl": shop.url(""), "streams": {"things": {"path": "/things"}}}
    connection_id = connect(config=config)
    sync(jobs.start())
    return connection_id


def sync(job: RunningJob, mode: Any = "initial") -> Any:
    return run_sync(job, mode=mode, allow_private=True)


@pytest.fixture
def begin(jobs: Jobs, shop: Shop, clock: Clock) -> Callable[..., RunningJob]:
    """A sync that has to wait when it has read all up to an id; then its source may be asked again."""

    def begin(*, up_to: str, mode: str = "initial") -> RunningJob:
        shop.busy_after = up_to
        job = jobs.start()
        with pytest.raises(RateLimited):
            sync(job, mode)
        job.close_session(commit=False)
        clock.travel(seconds=PAUSE + 1)
        return job

    return begin


Begin = Callable[..., RunningJob]


def vanished(session: Session) -> set[str]:
    """What is marked as deleted."""
    session.rollback()
    return set(session.scalars(select(Record.external_id).where(Record.deleted_at.is_not(None))))


def warnings_of(result: Any) -> list[str]:
    return [warning.split(":")[1].strip() for warning in result["warnings"]]


NOTHING_MARKED = ["nothing of things was marked as deleted"]


def test_an_initial_sync_that_waited_while_another_ran_takes_nothing_of_that_one_s_for_vanished(
    jobs: Jobs, shop: Shop, connection_id: uuid.UUID, session: Session, begin: Begin
) -> None:
    older = begin(up_to="4")
    del shop.things["3"], shop.things["8"]

    newer = sync(jobs.start())
    goes_on = sync(jobs.again(older))

    assert (newer["results"][0]["deleted"], newer["warnings"]) == (2, [])
    assert (goes_on["results"][0]["deleted"], warnings_of(goes_on)) == (0, NOTHING_MARKED)
    assert vanished(session) == {"3", "8"}
    assert (
        session.get_one(SyncLog, (jobs.workspace_id, uuid.UUID(goes_on["syncLogId"]))).warnings == goes_on["warnings"]
    )


def test_of_two_initial_syncs_that_both_waited_the_one_that_began_last_says_what_has_vanished(
    jobs: Jobs, shop: Shop, connection_id: uuid.UUID, session: Session, begin: Begin
) -> None:
    older = begin(up_to="4")
    del shop.things["3"], shop.things["8"]
    newer = begin(up_to="2")

    first_to_end = sync(jobs.again(older))
    assert (first_to_end["results"][0]["deleted"], warnings_of(first_to_end)) == (0, NOTHING_MARKED)
    assert vanished(session) == set()

    last_to_end = sync(jobs.again(newer))
    assert (last_to_end["results"][0]["deleted"], last_to_end["warnings"]) == (2, [])
    assert vanished(session) == {"3", "8"}


@pytest.mark.parametrize("mode", ["incremental", "initial"])
def test_what_an_older_sync_finds_where_a_newer_initial_one_has_been_already_is_not_taken_for_vanished(
    jobs: Jobs, shop: Shop, connection_id: uuid.UUID, session: Session, begin: Begin, mode: str
) -> None:
    older = begin(up_to="2", mode=mode)
    newer = begin(up_to="6")
    shop.things["3 and a half"] = 1

    sync(jobs.again(older), mode)
    result = sync(jobs.again(newer))

    assert result["results"][0]["deleted"] == 0
    assert vanished(session) == set()
    assert "3 and a half" in session.scalars(select(Record.external_id)).all()


def test_an_initial_sync_that_runs_while_another_one_reads_a_page_loses_nothing(
    jobs: Jobs, shop: Shop, connection_id: uuid.UUID, session: Session
) -> None:
    older, newer = jobs.start(), jobs.start()

    def meanwhile() -> None:
        del shop.things["3"]
        sync(newer)

    shop.meanwhile["4"] = meanwhile
    result = sync(older)

    assert warnings_of(result) == NOTHING_MARKED
    assert vanished(session) == {"3"}


def test_a_record_s_generation_only_grows(
    jobs: Jobs, shop: Shop, connection_id: uuid.UUID, session: Session, begin: Begin
) -> None:
    older = begin(up_to="4")
    sync(jobs.start())
    sync(jobs.again(older))

    newest = session.scalar(select(SyncStream.generation))

    assert newest == 3
    assert set(session.scalars(select(Record.generation))) == {newest}


def test_a_page_that_is_written_while_an_initial_sync_begins_has_that_one_s_generation(
    connection_id: uuid.UUID, workspace_id: uuid.UUID, session: Session, elsewhere: Elsewhere
) -> None:
    connection = session.get_one(Connection, (workspace_id, connection_id))
    there = elsewhere.session.get_one(Connection, (workspace_id, connection_id))
    newest = begin_stream(session, connection, "things", initial=True)

    page = [SourceRecord("9", {})]
    stored = elsewhere.start_and_wait_for_lock(lambda other: store_records(other, there, "things", page, initial=False))
    session.commit()

    assert stored.result() == 1
    assert session.scalar(select(Record.generation).where(Record.external_id == "9")) == newest


def test_a_page_and_the_deletion_of_its_connection_take_turns(
    connection_id: uuid.UUID, workspace_id: uuid.UUID, session: Session, elsewhere: Elsewhere
) -> None:
    connection = session.get_one(Connection, (workspace_id, connection_id))
    session.expunge(connection)
    session.rollback()
    there = get_connection(elsewhere.session, workspace_id, connection_id, lock=True)
    assert there is not None
    hold_connection(session, connection)

    deleted = elsewhere.start_and_wait_for_lock(lambda other: delete_connection(other, there))
    store_records(session, connection, "things", [SourceRecord("9", {})], initial=False)
    session.commit()

    deleted.result()
    with pytest.raises(SourceError, match="was deleted while it was synced"):
        hold_connection(session, connection)


@pytest.mark.parametrize("mode", ["initial", "incremental"])
@pytest.mark.parametrize("after", ["", "2", "6"])
def test_a_connection_that_is_deleted_while_it_is_synced_fails_alone(
    jobs: Jobs, shop: Shop, connect: Callable[..., uuid.UUID], session: Session, mode: str, after: str
) -> None:
    config = {"baseUrl": shop.url(""), "streams": {"things": {"path": "/things"}}}
    # The one that is read first is the one that goes.
    gone, stays = sorted(connect(name="it", config=config) for _ in range(2))

    def delete_it() -> None:
        session.execute(delete(Connection).where(Connection.id == gone))
        session.commit()

    shop.meanwhile[after] = delete_it

    result = sync(jobs.start(), mode)

    assert result["errors"] == [f"it ({gone}): the connection was deleted while it was synced"]
    came = {one["connectionId"]: one["status"] for one in result["results"]}
    assert came == {str(gone): "failed", str(stays): "completed"}
    session.rollback()
    assert set(session.scalars(select(Record.connection_id))) == {stays}
