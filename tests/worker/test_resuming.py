"""A job that is killed goes on where it was, and applies each of its pages once."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import uuid
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from jobplatform.testing import wait_until
from tests.worker.conftest import Database, Lines, StartWorker

DONE = "select page, epoch from pages where job = :job order by page, epoch"
AT_ONCE = "update jobplatform.job_queue set run_after = now(), state = 1 where state = 0"
COUNT = 100


@pytest.fixture(autouse=True)
def _pages(database: Database) -> None:
    database.execute("create table pages (job uuid, page int, epoch int); grant all on pages to public")


def applied(database: Database, job: uuid.UUID) -> list[tuple[int, int]]:
    return [(page, epoch) for page, epoch in database.rows(DONE, job=job)]


def applied_by_turns(database: Database, job: uuid.UUID) -> list[tuple[int, int]]:
    """As :func:`applied`, with the attempts that began counted from one: an epoch may be handed back unused."""
    pages = applied(database, job)
    epochs = sorted({epoch for _, epoch in pages})
    return [(page, epochs.index(epoch) + 1) for page, epoch in pages]


def test_each_page_is_applied_once_however_often_children_and_workers_are_killed(
    start_worker: StartWorker, database: Database, told: Lines
) -> None:
    """Before a page's row is written, and between that and its commit."""
    draw = random.Random(4)
    killed_at = sorted(draw.sample(range(3, COUNT - 3), 9))
    Path(told.path).touch()
    job = database.enqueue("pages", {"count": COUNT, "seconds": 0.003, "stays_at": killed_at, "file": told.path})
    fast = {"lease": 1.0, "heartbeat": 0.3, "crash_limit": 1000, "slots": 1}
    worker = start_worker(**fast)

    def reached(page: int) -> bool:
        # After a crash a job waits a little; nobody has to wait for that here.
        database.execute(AT_ONCE)
        return str(page) in told.read()

    for number, page in enumerate(killed_at):
        wait_until(partial(reached, page), what=f"page {page}", seconds=60)
        if number % 5 == 3:
            worker.signal(signal.SIGKILL)
            worker.wait()
            worker = start_worker(**fast)
        else:
            for child in worker.children():
                # One that has just been killed is listed until it is reaped.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)

    def is_over() -> bool:
        database.execute(AT_ONCE)
        return bool(database.job(job).status == "completed")

    wait_until(is_over, what="the end of the job", seconds=60)

    assert [page for page, _ in applied(database, job)] == list(range(COUNT))
    assert database.job(job).epoch > len(killed_at)


ENDS = ("snooze", "error", "exit", "timeout")


def test_however_an_attempt_ends_the_next_goes_on_where_it_was(
    start_worker: StartWorker, database: Database, told: Lines
) -> None:
    payload = {"count": 6, "ends_at": 4, "file": told.path}
    jobs = {
        end: database.enqueue(
            "pages", payload | {"ends_by": end}, timeout=timedelta(seconds=3 if end == "timeout" else 60)
        )
        for end in ENDS
    }
    start_worker(slots=2)

    for end, job in jobs.items():
        assert database.wait_for_status(job, "completed").result > 1
        # A snooze commits what the handler wrote, as ever: it was not a failure.
        again = [(4, 1)] if end == "snooze" else []
        assert applied_by_turns(database, job) == [(0, 1), (1, 1), (2, 1), (3, 1), *again, (4, 2), (5, 2)], end


def test_what_a_stopping_worker_hands_back_goes_on_where_it_was(
    start_worker: StartWorker, database: Database, told: Lines
) -> None:
    job = database.enqueue("pages", {"count": 6, "ends_at": 4, "ends_by": "shutdown", "file": told.path})
    worker = start_worker(drain_timeout=0.2)
    told.wait(1)

    assert worker.stop() == 0
    start_worker()

    database.wait_for_status(job, "completed")
    assert applied_by_turns(database, job) == [(0, 1), (1, 1), (2, 1), (3, 1), (4, 2), (5, 2)]
