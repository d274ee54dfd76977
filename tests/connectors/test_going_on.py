"""A sync that is interrupted anywhere goes on where it was, and the copy stays true to the source."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, select, text, update
from sqlalchemy.orm import Session

from jobplatform.connectors import CONNECTORS, AnyConfig, ConnectorType, Page, SourceRecord, run_sync
from jobplatform.connectors.syncing import MOST_WAITS
from jobplatform.errors import LeaseLostError, SourceBusyError, SourceError, SyncFailedError
from jobplatform.models import Connection, Record, Role, SyncLog, SyncStream, confine
from jobplatform.queue import RateLimited, deregister_worker, rescue_jobs
from tests.connectors.conftest import Jobs

#: Each time a page writes a record, the database itself remembers it.
WATCH = """
create table applied (external_id text);
grant all on applied to public;
create function note() returns trigger language plpgsql as $$
begin insert into public.applied values (new.external_id); return null; end $$;
create trigger note after insert or update of data on jobplatform.records for each row execute function note();
"""
PAGES, PAGE_SIZE = 12, 4


class KilledError(BaseException):
    """The process is no more."""


class Source:
    """Two streams of many pages. Whoever uses it may be killed at any point."""

    def __init__(self) -> None:
        self.fuse: int | None = None
        self.asked: list[tuple[str, str | None]] = []
        self.records = {stream: [f"{stream}-{number}" for number in range(PAGES * PAGE_SIZE)] for stream in "ab"}
        self.answers: dict[str, list[Exception]] = {}
        self.version = 1

    def burn(self) -> None:
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse <= 0:
                self.fuse = None
                raise KilledError

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def streams(self) -> list[str]:
        return list(self.records)

    def fetch(self, stream: str, cursor: str | None) -> Page:
        self.burn()
        self.asked.append((stream, cursor))
        if self.answers.get(stream):
            raise self.answers[stream].pop(0)
        start = int(cursor or 0)
        ids = self.records[stream][start : start + PAGE_SIZE]
        end = start + PAGE_SIZE
        more = end < len(self.records[stream])
        records = [SourceRecord(name, {"version": self.version}) for name in ids]
        return Page(records, str(end) if more else None, len(self.records[stream]), state=str(start + len(ids)))


class Dying(Session):
    """A Session of a process that may be killed before a commit, or right after it."""

    source: Source

    def commit(self) -> None:
        self.source.burn()
        super().commit()
        self.source.burn()


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Source:
    source = Source()
    monkeypatch.setitem(CONNECTORS, "listed", ConnectorType(lambda _opening: source, AnyConfig))
    return source


@pytest.fixture
def connection(connect: Callable[..., uuid.UUID], source: Source) -> uuid.UUID:
    return connect("https://x.example", connector="listed")


def copied(session: Session) -> dict[str, bool]:
    """The records there are, and whether each is marked as deleted."""
    session.rollback()
    rows = session.execute(select(Record.external_id, Record.deleted_at))
    return {external_id: deleted_at is not None for external_id, deleted_at in rows}


@pytest.mark.parametrize("seed", [1, 2])
def test_a_sync_that_is_killed_at_twenty_points_applies_every_page_once(
    jobs: Jobs, source: Source, connection: uuid.UUID, session: Session, engine: Engine, seed: int
) -> None:
    session.execute(text(WATCH))
    session.commit()
    draw = random.Random(seed)
    job, kills = jobs.start(), 0

    def open_session() -> Session:
        dying = Dying(engine)
        dying.source = source
        return confine(dying, Role.HANDLER, jobs.workspace_id)

    while True:
        source.fuse = draw.randint(2, 9) if kills < 20 else None
        job = jobs.again(job, open_session)
        try:
            result: Any = run_sync(job, mode="initial")
            break
        except KilledError:
            kills += 1

    assert kills == 20
    everything = {name for names in source.records.values() for name in names}
    assert Counter(session.scalars(text("select external_id from applied"))) == dict.fromkeys(everything, 1)
    assert (result["totalRecords"], result["results"][0]["written"]) == (len(everything), len(everything))


def test_a_connection_that_took_all_the_time_of_an_attempt_comes_after_the_others_in_the_next(
    jobs: Jobs, source: Source, connect: Callable[..., uuid.UUID], session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Source()
    monkeypatch.setitem(CONNECTORS, "other", ConnectorType(lambda _opening: other, AnyConfig))
    by_turn = sorted(connect(connector="listed") for _ in range(2))
    session.execute(update(Connection).where(Connection.id == by_turn[1]).values(connector_type="other"))
    session.commit()
    job = jobs.start()
    for fuse in (1, 2 * PAGES):
        source.fuse = fuse
        with pytest.raises(KilledError):
            run_sync(job)
        job = jobs.again(job)

    assert len(other.asked) == 2 * PAGES
    result: Any = run_sync(job)

    assert [one["connectionId"] for one in result["results"]] == [str(connection_id) for connection_id in by_turn]
    assert (result["totalRecords"], len(other.asked)) == (4 * PAGES * PAGE_SIZE, 2 * PAGES)


def test_an_attempt_that_lost_its_lease_stores_nothing_more(
    jobs: Jobs, source: Source, connection: uuid.UUID, session: Session
) -> None:
    job = jobs.start()
    deregister_worker(session, jobs.worker_id)
    rescue_jobs(session)
    session.commit()

    with pytest.raises(LeaseLostError):
        run_sync(job)

    assert copied(session) == {}


def test_an_initial_sync_marks_what_has_vanished_and_what_comes_back_is_there_again(
    jobs: Jobs, source: Source, connection: uuid.UUID, session: Session
) -> None:
    run_sync(jobs.start(), mode="initial")
    gone = source.records["a"].pop()
    again: Any = run_sync(jobs.start(), mode="initial")

    assert again["results"][0]["deleted"] == 1
    assert [name for name, deleted in copied(session).items() if deleted] == [gone]

    source.records["a"].append(gone)
    run_sync(jobs.start(), mode="initial")
    assert not any(copied(session).values())


def test_an_initial_sync_that_failed_half_way_marks_nothing_and_confuses_none_after_it(
    jobs: Jobs, source: Source, connection: uuid.UUID, session: Session
) -> None:
    run_sync(jobs.start(), mode="initial")
    gone = source.records["b"].pop(0)
    source.version = 2

    def fail_after(pages: int) -> None:
        answer, count = source.fetch, Counter[str]()

        def fetch(stream: str, cursor: str | None) -> Page:
            count[stream] += 1
            if stream == "b" and count[stream] > pages:
                raise SourceError("gone away")
            return answer(stream, cursor)

        source.fetch = fetch  # type: ignore[method-assign]

    healthy = source.fetch
    fail_after(3)
    with pytest.raises(SyncFailedError):
        run_sync(jobs.start(), mode="initial")
    assert not any(copied(session).values())

    source.fetch = healthy  # type: ignore[method-assign]
    run_sync(jobs.start(), mode="initial")
    assert [name for name, deleted in copied(session).items() if deleted] == [gone]


def test_an_incremental_sync_begins_where_the_last_one_ended(
    jobs: Jobs, source: Source, connection: uuid.UUID, session: Session
) -> None:
    run_sync(jobs.start())
    assert set(session.scalars(select(SyncStream.state))) == {str(PAGES * PAGE_SIZE)}
    source.asked.clear()
    source.records["a"].append("a-new")

    result: Any = run_sync(jobs.start())

    assert source.asked == [("a", str(PAGES * PAGE_SIZE)), ("b", str(PAGES * PAGE_SIZE))]
    assert (result["results"][0]["records"], result["results"][0]["written"]) == (1, 1)
    # And an initial one at the beginning.
    source.asked.clear()
    run_sync(jobs.start(), mode="initial")
    assert ("a", None) in source.asked


def test_a_busy_source_has_the_job_wait_and_go_on_and_the_others_are_not_done_again(
    jobs: Jobs, source: Source, connection: uuid.UUID, connect: Callable[..., uuid.UUID], monkeypatch: Any
) -> None:
    other = Source()
    monkeypatch.setitem(CONNECTORS, "other", ConnectorType(lambda _opening: other, AnyConfig))
    connect("https://y.example", name="other", connector="other")
    source.answers["b"] = [SourceBusyError("come back", 90)]
    job = jobs.start()

    with pytest.raises(RateLimited) as told:
        run_sync(job)
    asked_of_other = len(other.asked)
    result: Any = run_sync(jobs.again(job))

    assert (told.value.seconds, told.value.reason) == (90, "CRM: come back")
    assert len(other.asked) == asked_of_other
    assert (result["errors"], result["totalRecords"]) == ([], 4 * PAGES * PAGE_SIZE)


def test_a_source_that_wants_to_be_left_alone_for_years_has_the_job_wait_for_a_day(
    jobs: Jobs, source: Source, connection: uuid.UUID
) -> None:
    """Until then nothing else of the workspace could be synced by it."""
    source.answers["a"] = [SourceBusyError("come back", 999_999_999)]

    with pytest.raises(RateLimited) as told:
        run_sync(jobs.start())

    assert told.value.seconds == 86_400


def test_a_source_that_is_always_busy_is_given_up(jobs: Jobs, source: Source, connection: uuid.UUID) -> None:
    source.answers["a"] = [SourceBusyError("come back", 1)] * (MOST_WAITS + 1)
    job = jobs.start()
    for _ in range(MOST_WAITS):
        with pytest.raises(RateLimited):
            run_sync(job)
        job = jobs.again(job)

    with pytest.raises(SyncFailedError, match="come back"):
        run_sync(job)


def test_a_sync_leaves_an_entry_that_says_what_came_of_it(
    jobs: Jobs, source: Source, connection: uuid.UUID, session: Session
) -> None:
    good: Any = run_sync(jobs.start(), mode="initial", reference="mine-1")
    source.answers["a"] = [SourceError("the password is wrong")]
    with pytest.raises(SyncFailedError):
        run_sync(jobs.start())

    entries = {entry.status: entry for entry in session.scalars(select(SyncLog))}
    done, failed = entries["completed"], entries["failed"]
    assert (str(done.id), done.reference, done.mode) == (good["syncLogId"], "mine-1", "initial")
    assert (done.total_records, done.results, done.errors) == (good["totalRecords"], good["results"], [])
    assert failed.errors == ["CRM: the password is wrong"]
    assert None not in (done.ended_at, failed.ended_at)
