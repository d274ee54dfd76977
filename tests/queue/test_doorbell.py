"""Idle workers are woken after the commit, and never for what did not happen or is not due."""

from __future__ import annotations

import datetime
import logging
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator

import psycopg
import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from jobplatform.models import make_engine
from jobplatform.queue import (
    CANCEL,
    CHANNEL,
    JobChange,
    NewJob,
    cancel_job,
    change_job,
    enqueue_job,
    enqueue_jobs,
    retry_job,
    silence,
)
from jobplatform.queue.doorbell import INTERVAL, MOST_WORKSPACES, RINGER, Doorbell, _bells, _Rope, finish_ringing
from jobplatform.testing import wait_until
from tests.queue.actors import Worker
from tests.scarcity import with_room_for_files, without_new_threads

#: Longer than any ring takes; nothing waits for it unless a ring is missing.
DEADLINE = 20.0

Hear = Callable[..., set[str]]


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """One that rings."""
    engine = make_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def hear(direct_url: str) -> Iterator[Hear]:
    """Listen until a payload comes, and answer with all that came up to then; with workspaces' names if wanted.

    Past any pooler: LISTEN needs a session. The rings themselves come through it. What tests before this one rang with
    has been rung: their database may be this one's.
    """
    assert finish_ringing(DEADLINE)
    with psycopg.connect(direct_url, autocommit=True) as connection:
        connection.execute(f"listen {CHANNEL}")

        def hear(last: str, *, names: bool = False) -> set[str]:
            heard: set[str] = set()
            for notification in connection.notifies(timeout=DEADLINE):
                if names or not notification.payload.startswith("w:"):
                    heard.add(notification.payload)
                if notification.payload == last:
                    return heard
            raise AssertionError(f"no {last!r} within {DEADLINE:g} s; heard {heard}")

        yield hear


def a_job(workspace_id: uuid.UUID, queue: str, **options: object) -> NewJob:
    return NewJob(workspace_id=workspace_id, task="work", queue=queue, **options)  # type: ignore[arg-type]


def ring_last(session: Session, workspace_id: uuid.UUID) -> None:
    """A ring that comes after whatever might have come before."""
    enqueue_job(session, a_job(workspace_id, "last"))
    session.commit()


def test_a_committed_job_rings_with_the_name_of_its_queue(
    session: Session, workspace_id: uuid.UUID, hear: Hear
) -> None:
    enqueue_job(session, a_job(workspace_id, "letters"))
    session.commit()

    assert hear("q:letters") == {"q:letters"}


def test_an_application_on_another_driver_rings_too(
    engine: Engine, session: Session, workspace_id: uuid.UUID, hear: Hear
) -> None:
    engine.url = engine.url.set(drivername="postgresql+psycopg2")
    enqueue_job(session, a_job(workspace_id, "letters"))
    session.commit()

    assert hear("q:letters") == {"q:letters"}


def test_a_bulk_rings_once_for_each_queue(session: Session, workspace_id: uuid.UUID, hear: Hear) -> None:
    enqueue_jobs(session, [a_job(workspace_id, queue) for queue in ("a", "b", "a")])
    session.commit()

    assert hear("q:b") <= {"q:a", "q:b"}


def test_nothing_rings_before_the_commit(engine: Engine, session: Session, workspace_id: uuid.UUID, hear: Hear) -> None:
    enqueue_job(session, a_job(workspace_id, "open"))

    with Session(engine) as another:
        ring_last(another, workspace_id)
    assert hear("q:last") == {"q:last"}

    session.commit()
    assert hear("q:open") == {"q:open"}


def test_a_rollback_rings_nothing(session: Session, workspace_id: uuid.UUID, hear: Hear) -> None:
    enqueue_job(session, a_job(workspace_id, "dropped"))
    session.rollback()

    ring_last(session, workspace_id)

    assert hear("q:last") == {"q:last"}


def test_the_end_of_a_savepoint_is_not_yet_a_commit(
    engine: Engine, session: Session, workspace_id: uuid.UUID, hear: Hear
) -> None:
    with session.begin_nested():
        enqueue_job(session, a_job(workspace_id, "nested"))

    with Session(engine) as another:
        ring_last(another, workspace_id)
    assert hear("q:last") == {"q:last"}

    session.commit()
    assert hear("q:nested") == {"q:nested"}


def test_a_rolled_back_savepoint_does_not_silence_the_rest(
    session: Session, workspace_id: uuid.UUID, hear: Hear
) -> None:
    enqueue_job(session, a_job(workspace_id, "kept"))
    session.begin_nested().rollback()
    session.commit()

    assert "q:kept" in hear("q:kept")


def test_a_job_for_later_rings_nothing(session: Session, workspace_id: uuid.UUID, hear: Hear) -> None:
    enqueue_job(session, a_job(workspace_id, "later", delay=datetime.timedelta(hours=1)))
    session.commit()

    ring_last(session, workspace_id)

    assert hear("q:last") == {"q:last"}


def test_a_duplicate_rings_nothing(session: Session, workspace_id: uuid.UUID, hear: Hear) -> None:
    enqueue_job(session, a_job(workspace_id, "guarded", unique_key="k"))
    session.commit()
    hear("q:guarded")

    enqueue_job(session, a_job(workspace_id, "guarded", unique_key="k"))
    session.commit()
    ring_last(session, workspace_id)

    assert hear("q:last") == {"q:last"}


def test_a_second_transaction_of_the_same_session_rings_too(
    session: Session, workspace_id: uuid.UUID, hear: Hear
) -> None:
    for queue in ("one", "two"):
        enqueue_job(session, a_job(workspace_id, queue))
        session.commit()
        assert hear(f"q:{queue}") == {f"q:{queue}"}


def test_asking_a_running_job_to_stop_rings_its_worker(
    session: Session, db: Session, workspace_id: uuid.UUID, hear: Hear
) -> None:
    job = a_job(workspace_id, "default")
    enqueue_job(db, job)
    Worker(db).lease()

    cancel_job(session, workspace_id, job.id)
    session.commit()

    assert CANCEL in hear(CANCEL)


def test_cancelling_a_waiting_job_rings_nobody(
    session: Session, db: Session, workspace_id: uuid.UUID, hear: Hear
) -> None:
    job = a_job(workspace_id, "default")
    enqueue_job(db, job)
    cancel_job(session, workspace_id, job.id)
    session.commit()

    ring_last(session, workspace_id)

    assert hear("q:last") == {"q:last"}


def test_a_job_that_is_changed_rings_where_it_is_ready_by_that(
    session: Session, workspace_id: uuid.UUID, hear: Hear
) -> None:
    ready, later = (
        enqueue_job(session, a_job(workspace_id, "letters", delay=delay)).job_id
        for delay in (None, datetime.timedelta(hours=1))
    )
    session.commit()
    hear("q:letters")

    change_job(session, workspace_id, ready, JobChange(priority=5))
    change_job(session, workspace_id, later, JobChange(queue="later"))
    change_job(session, workspace_id, ready, JobChange(queue="parcels"))
    session.commit()
    assert hear("q:parcels") == {"q:parcels"}

    change_job(session, workspace_id, later, JobChange(at_once=True))
    session.commit()
    assert hear("q:later") == {"q:later"}


def test_a_retry_by_hand_rings(session: Session, db: Session, workspace_id: uuid.UUID, hear: Hear) -> None:
    job = a_job(workspace_id, "again")
    enqueue_job(db, job)
    cancel_job(db, workspace_id, job.id)

    retry_job(session, workspace_id, job.id)
    session.commit()

    assert hear("q:again") == {"q:again"}


def test_a_silenced_engine_rings_nothing(
    engine: Engine, worker_engine: Engine, session: Session, workspace_id: uuid.UUID, hear: Hear
) -> None:
    with Session(worker_engine) as silenced:
        enqueue_job(silenced, a_job(workspace_id, "silent"))
        silenced.commit()

    ring_last(session, workspace_id)

    assert hear("q:last") == {"q:last"}


def test_an_engine_that_was_silenced_before_a_fork_stays_silent_after_it(
    database_url: str, session: Session, workspace_id: uuid.UUID, hear: Hear, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a web server that loads the application and then forks."""
    engine = make_engine(database_url)
    silence(engine)
    monkeypatch.setattr(os, "getpid", lambda: -1)

    with Session(engine) as silenced:
        enqueue_job(silenced, a_job(workspace_id, "silent"))
        silenced.commit()
    engine.dispose()
    ring_last(session, workspace_id)

    assert hear("q:last") == {"q:last"}


def test_an_enqueue_succeeds_though_nobody_can_be_rung(
    engine: Engine, session: Session, workspace_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobplatform.queue.doorbell.NOTIFY", "select 1 / 0")

    assert enqueue_job(session, a_job(workspace_id, "default")).created
    session.commit()


def enqueue_and_commit(session: Session, workspace_id: uuid.UUID, queue: str) -> None:
    enqueue_job(session, a_job(workspace_id, queue))
    session.commit()


def missed(caplog: pytest.LogCaptureFixture) -> int:
    return [record.getMessage() for record in caplog.records].count("doorbell not rung, workers will poll")


def test_where_no_thread_can_be_started_commits_succeed_and_it_is_said_once(
    session: Session, workspace_id: uuid.UUID, hear: Hear, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "jobplatform.queue")

    with without_new_threads():
        enqueue_and_commit(session, workspace_id, "silent")
        enqueue_and_commit(session, workspace_id, "silent")
    enqueue_and_commit(session, workspace_id, "again")

    assert hear("q:again") == {"q:again"}
    assert missed(caplog) == 1


def test_where_no_more_files_can_be_opened_a_bell_is_missed_and_the_next_one_is_heard(
    session: Session, workspace_id: uuid.UUID, hear: Hear, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "jobplatform.queue")
    enqueue_job(session, a_job(workspace_id, "silent"))

    # Enough for a socket, and not for waiting until it is connected.
    with with_room_for_files(1):
        session.commit()
        wait_until(lambda: missed(caplog), what="the thread to find that out")
    enqueue_and_commit(session, workspace_id, "again")

    assert hear("q:again") == {"q:again"}


def test_a_ring_names_the_workspaces_that_have_something_new_in_one_notification(
    session: Session, workspace_id: uuid.UUID, hear: Hear
) -> None:
    other = uuid.uuid4()
    enqueue_jobs(session, [a_job(workspace_id, "default"), a_job(other, "default"), a_job(other, "default")])
    session.commit()

    named = [payload for payload in hear("q:default", names=True) if payload.startswith("w:")]

    assert named == ["w:" + ",".join(sorted(map(str, (workspace_id, other))))]


def test_a_ring_for_very_many_workspaces_names_some_of_them(session: Session, hear: Hear) -> None:
    enqueue_jobs(session, [a_job(uuid.uuid4(), "default") for _ in range(3 * MOST_WORKSPACES)])
    session.commit()

    (named,) = [payload for payload in hear("q:default", names=True) if payload.startswith("w:")]

    assert len(named[2:].split(",")) == MOST_WORKSPACES


# Without the thread


@pytest.fixture
def rested(engine: Engine, session: Session, workspace_id: uuid.UUID, hear: Hear) -> Doorbell:
    """The bell of the engine, which has rung and has nothing to do: the next ring may come at once."""
    enqueue_job(session, a_job(workspace_id, "first"))
    session.commit()
    hear("q:first")
    bell = _bells[engine.dialect]
    wait_until(lambda: bell._rope and time.monotonic() > bell._rung_at + INTERVAL, what="the thread to rest")
    return bell


@pytest.fixture
def pulled(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """What the thread rings with, from now on."""
    pulled: list[set[str]] = []
    pull = _Rope.pull

    def note(rope: _Rope, payloads: set[str]) -> None:
        pulled.append(payloads)
        pull(rope, payloads)

    monkeypatch.setattr(_Rope, "pull", note)
    return pulled


@pytest.mark.usefixtures("rested")
def test_a_ring_while_the_thread_rests_does_not_wake_it(
    session: Session, workspace_id: uuid.UUID, hear: Hear, pulled: list[set[str]]
) -> None:
    enqueue_job(session, a_job(workspace_id, "quiet"))
    session.commit()

    assert hear("q:quiet") == {"q:quiet"}
    assert pulled == []


@pytest.mark.usefixtures("rested", "pulled")
def test_however_fast_they_come_every_ring_is_heard(session: Session, workspace_id: uuid.UUID, hear: Hear) -> None:
    # In the order in which those that are rung together are named.
    queues = [f"queue-{number:02}" for number in range(30)]
    for queue in queues:
        enqueue_job(session, a_job(workspace_id, queue))
        session.commit()

    assert hear("q:queue-29") == {f"q:{queue}" for queue in queues}


@pytest.mark.direct
@pytest.mark.usefixtures("rested")
def test_a_ring_is_heard_though_the_server_has_hung_up_meanwhile(
    session: Session, workspace_id: uuid.UUID, hear: Hear, db: Session
) -> None:
    theirs = f"from pg_stat_activity where application_name = '{RINGER}' and datname = current_database()"
    pids = db.connection().exec_driver_sql(f"select pid {theirs}").scalars().all()
    assert pids
    db.connection().exec_driver_sql(f"select pg_terminate_backend(pid) {theirs}")
    # A backend is in the view no more a moment before its socket is closed, and a ring in between is one of those that
    # nobody hears: workers poll.
    wait_until(lambda: not any(map(_is_there, pids)), what="the process at the other end to be gone")

    enqueue_job(session, a_job(workspace_id, "again"))
    session.commit()

    assert hear("q:again") == {"q:again"}


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def test_what_a_payload_says_is_a_text_and_nothing_else(rested: Doorbell, hear: Hear) -> None:
    odd = "q:it's \\ $1 %s"
    rested.ring({odd})

    assert hear(odd) == {odd}


RING_TWICE_AND_END = """
import sys, time, uuid
from sqlalchemy.orm import Session
from jobplatform.models import make_engine
from jobplatform.queue import NewJob, enqueue_job
from jobplatform.queue.doorbell import INTERVAL, _bells
from jobplatform.testing import wait_until

engine = make_engine(sys.argv[1])
for queue in ("one", "two"):
    with Session(engine) as session:
        enqueue_job(session, NewJob(workspace_id=uuid.uuid4(), task="work", queue=queue))
        session.commit()
    if queue == "one":
        bell = _bells[engine.dialect]
        wait_until(lambda: bell._rope and time.monotonic() > bell._rung_at + INTERVAL, what="the thread to rest")
"""


def test_a_program_that_ends_right_after_a_ring_has_rung(database_url: str, hear: Hear) -> None:
    subprocess.run([sys.executable, "-c", RING_TWICE_AND_END, database_url], check=True, timeout=60)

    assert hear("q:two") == {"q:one", "q:two"}


RING_WITH_AN_ENGINE_THAT_IS_GONE = """
import gc, sys, uuid, weakref
from sqlalchemy.orm import Session
from jobplatform.models import make_engine
from jobplatform.queue import NewJob, enqueue_job

def enqueue() -> weakref.ref:
    engine = make_engine(sys.argv[1])
    with Session(engine) as session:
        enqueue_job(session, NewJob(workspace_id=uuid.uuid4(), task="work", queue="one"))
        session.commit()
    engine.dispose()
    return weakref.ref(engine.dialect)

dialect = enqueue()
gc.collect()
assert dialect() is None
"""


def test_a_program_that_has_let_go_of_its_engine_has_rung_when_it_ends(database_url: str, hear: Hear) -> None:
    subprocess.run([sys.executable, "-c", RING_WITH_AN_ENGINE_THAT_IS_GONE, database_url], check=True, timeout=60)

    assert hear("q:one") == {"q:one"}
