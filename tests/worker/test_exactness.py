"""Every job is started exactly once, whatever happens to the processes around it."""

from __future__ import annotations

import os
import random
import signal
from contextlib import suppress

from jobplatform.testing import is_dead, wait_until
from tests.worker.conftest import Database, Lines, StartWorker

#: Enough for a worker to have learnt that they are quick and to take a stock of them, and for a slow one now and then.
JOBS = 800


def enqueue_tellers(database: Database, told: Lines, count: int, **options: object) -> None:
    payloads = [{"file": told.path, "number": number} for number in range(count)]
    database.enqueue_many("tell", payloads, **options)


def test_jobs_taken_back_from_behind_slow_ones_start_exactly_once(
    start_worker: StartWorker, database: Database, told: Lines
) -> None:
    enqueue_tellers(database, told, JOBS)

    start_worker(slots=3)
    database.wait_until_done()

    assert sorted(map(int, told.read())) == list(range(JOBS))
    assert database.rows("select status, attempts, count(*) from jobplatform.jobs group by 1, 2") == [
        ("completed", 1, JOBS)
    ]


def test_killing_children_at_random_hits_only_what_they_were_running(
    start_worker: StartWorker, database: Database, told: Lines
) -> None:
    enqueue_tellers(database, told, JOBS)
    draw = random.Random(2)

    worker = start_worker(slots=3, crash_limit=1)
    for round_ in range(1, 13):
        told.wait(round_ * 50)
        if victims := worker.children():
            # The one before may be listed until it is reaped.
            with suppress(ProcessLookupError):
                os.kill(draw.choice(victims), signal.SIGKILL)
    database.wait_until_done()

    numbers = list(map(int, told.read()))
    crashed = database.rows("select error, count(*) from jobplatform.jobs where status = 'failed' group by 1")
    assert len(numbers) == len(set(numbers))
    assert {error for error, _ in crashed} <= {"signal SIGKILL"}
    hit = sum(count for _, count in crashed)
    assert database.statuses() == {"completed": JOBS - hit} | ({"failed": hit} if hit else {})
    assert JOBS - len(numbers) <= hit


def test_the_death_of_the_nursery_hits_only_what_was_running(
    start_worker: StartWorker, database: Database, told: Lines
) -> None:
    enqueue_tellers(database, told, JOBS)

    worker = start_worker(slots=2, crash_limit=1)
    first = worker.nursery
    told.wait(200)
    os.kill(first, signal.SIGKILL)
    worker.wait_for("nursery up", 2)
    database.wait_until_done()

    numbers = list(map(int, told.read()))
    assert worker.nursery != first
    assert len(numbers) == len(set(numbers))
    statuses = database.statuses()
    assert statuses.get("failed", 0) <= 2
    assert sum(statuses.values()) == JOBS
    assert JOBS - len(numbers) <= statuses.get("failed", 0)


def test_the_death_of_the_parent_takes_every_descendant_along(
    start_worker: StartWorker, database: Database, told: Lines
) -> None:
    database.enqueue("family", {"file": told.path})
    database.enqueue("hold_gil", {"file": told.path})
    worker = start_worker(slots=2)
    lines = told.wait(2)
    family = worker.descendants()
    assert {int(word) for line in lines for word in line.split() if word.isdigit()} <= set(family)

    worker.signal(signal.SIGKILL)

    wait_until(lambda: all(map(is_dead, family)), what=f"the end of {family}")


def test_when_parent_and_nursery_die_together_the_children_die_too(
    start_worker: StartWorker, database: Database, told: Lines
) -> None:
    database.enqueue("hold_gil", {"file": told.path})
    worker = start_worker(slots=2)
    told.wait(1)
    family = worker.descendants()

    # Stopped first, the nursery can't see its parent go.
    os.kill(worker.nursery, signal.SIGSTOP)
    worker.signal(signal.SIGKILL)
    os.kill(worker.nursery, signal.SIGKILL)

    wait_until(lambda: all(map(is_dead, family)), what=f"the end of {family}")


def test_the_jobs_of_a_killed_worker_are_rescued_by_another(
    start_worker: StartWorker, database: Database, told: Lines
) -> None:
    job = database.enqueue("polite", {"file": told.path})
    doomed = start_worker()
    told.wait(1)

    doomed.signal(signal.SIGKILL)
    doomed.wait()
    database.execute("update jobplatform.workers set heartbeat_at = now() - interval '1 hour'")
    other = start_worker(heartbeat=0.3)

    other.wait_for("jobs rescued")
    assert database.job(job).crash_count == 1
    database.execute("update jobplatform.job_queue set run_after = now()")
    told.wait(2)
    assert database.job(job).status == "running"
