"""What has ended becomes numbers exactly once, whoever counts, whatever dies, and whenever it is committed."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from jobplatform.models import Role, confine
from jobplatform.queue import (
    Completion,
    Failure,
    NewJob,
    Release,
    cancel_job,
    complete_jobs,
    count_endings,
    delete_jobs,
    enqueue_job,
    erase_some,
    fail_jobs,
    release_jobs,
    retry_job,
)
from jobplatform.queue.numbers.count import KEEP_CELLS, KEEP_GROUPS
from jobplatform.queue.safe_json import ERROR_LIMIT
from jobplatform.queue.seal import DataKey, Seal
from tests.queue.actors import Elsewhere, Time, Worker
from tests.queue.conftest import Fact, Put

CELLS = """
select minutes, at, queue, task, status, outcome, wait, run, amount, retries, wait_ms, run_ms
from jobplatform.{table}
where {which}
order by at, minutes, queue, task, status, outcome, wait, run
"""
#: Of the platform's cells, what they say of all jobs: by status, by wait and by run.
BY_STATUS = "queue = '' and task = '' and status > 0"
BY_WAIT = "queue = '' and task = '' and wait >= 0"
BY_RUN = "queue = '' and task = '' and run >= 0"


def cells(db: Session, table: str = "workspace_cells", which: str = "true") -> list[dict[str, Any]]:
    return [dict(row) for row in db.execute(text(CELLS.format(table=table, which=which))).mappings()]


def amounts(db: Session, table: str = "platform_cells", which: str = BY_STATUS) -> dict[str, int]:
    found: dict[str, int] = {}
    for cell in cells(db, table, which):
        found[cell["outcome"]] = found.get(cell["outcome"], 0) + cell["amount"]
    return found


def fail(db: Session, worker: Worker, *, error: str = "no", error_type: str = "E") -> None:
    fail_jobs(db, [Failure(job.lease, "error", error_type, error, retry=False) for job in worker.claim(limit=50)])


def test_every_ending_is_counted_by_how_it_ended(
    put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID, fact: Fact
) -> None:
    for _ in range(4):
        put()
    leases = [job.lease for job in worker.claim(limit=4)]
    complete_jobs(db, [Completion(leases[0]), Completion(leases[1]), Completion(leases[2], outcome="skipped")])
    fail_jobs(db, [Failure(leases[3], "timeout", "TimedOut", "too slow", retry=False)])
    cancel_job(db, workspace_id, put())
    put()

    counted = count_endings(db)

    assert (counted.jobs, counted.more) == (5, False)
    assert amounts(db) == {"ok": 2, "skipped": 1, "timeout": 1, "cancelled": 1}
    assert amounts(db, "workspace_cells", "true") == amounts(db)
    assert fact("select count(*) from jobplatform.endings") == 0


def test_a_job_that_goes_back_to_waiting_has_not_ended(put: Put, db: Session, worker: Worker) -> None:
    put(), put()
    first, second = (job.lease for job in worker.claim(limit=2))
    fail_jobs(db, [Failure(first, "error", "E", "again", delay=60)])
    release_jobs(db, [Release(second)])

    assert count_endings(db).jobs == 0


def test_waits_and_runs_are_told_apart_by_powers_of_two_milliseconds(
    put: Put, db: Session, worker: Worker, time: Time
) -> None:
    time.freeze()
    put()
    time.passes(3)
    lease = worker.lease()
    time.passes(0.5)
    complete_jobs(db, [Completion(lease)])
    count_endings(db)

    (cell,) = cells(db)
    # From 2048 up to 4096 ms; from 256 up to 512.
    assert (cell["wait"], cell["run"]) == (12, 9)
    assert (cell["wait_ms"], cell["run_ms"]) == (3000, 500)


def test_the_platform_knows_each_queue_and_each_task_and_for_an_hour_both(
    put: Put, db: Session, time: Time, fact: Fact
) -> None:
    worker = Worker(db, tasks=("work", "mail"), queues=("default", "letters"))
    put(), put(task="mail"), put(task="mail", queue="letters")
    complete_jobs(db, [Completion(job.lease) for job in worker.drain()])
    count_endings(db)

    def by(which: str) -> dict[tuple[str, str], int]:
        return {(cell["queue"], cell["task"]): cell["amount"] for cell in cells(db, "platform_cells", which)}

    assert by("status > 0") == {
        ("", ""): 3,
        ("default", ""): 2,
        ("letters", ""): 1,
        ("", "work"): 1,
        ("", "mail"): 2,
        ("default", "work"): 1,
        ("default", "mail"): 1,
        ("letters", "mail"): 1,
    }
    time.passes(2 * 3600)
    count_endings(db)
    assert set(by("status > 0")) == {("", ""), ("default", ""), ("letters", ""), ("", "work"), ("", "mail")}


def test_what_is_counted_long_after_it_ended_goes_where_it_belongs_by_now(
    put: Put, db: Session, worker: Worker, time: Time
) -> None:
    for hours in (0, 8 * 24, 24, 2):
        time.passes(hours * 3600)
        put()
        complete_jobs(db, [Completion(worker.lease())])
    time.passes(60)

    count_endings(db)

    assert [cell["minutes"] for cell in cells(db)] == [1440, 60, 15, 1]
    totals = "select minutes, completed, cardinality(runs) > 0 from jobplatform.workspace_totals order by at"
    assert [tuple(row) for row in db.execute(text(totals))] == [(1440, 1, True), (60, 1, True), (15, 1, True)]


def test_a_job_with_several_attempts_says_nothing_of_waits_and_counts_its_retries(
    put: Put, db: Session, worker: Worker
) -> None:
    put(max_attempts=3)
    fail_jobs(db, [Failure(worker.lease(), "error", "E", "again")])
    complete_jobs(db, [Completion(worker.lease())])
    count_endings(db)

    (cell,) = cells(db)
    assert (cell["wait"], cell["retries"]) == (-1, 1)
    assert cell["run"] >= 0


def test_what_was_cancelled_before_it_began_has_no_times(put: Put, db: Session, workspace_id: uuid.UUID) -> None:
    cancel_job(db, workspace_id, put())
    count_endings(db)

    (cell,) = cells(db)
    assert (cell["status"], cell["wait"], cell["run"]) == (5, -1, -1)


def test_counting_again_counts_nothing_twice(put: Put, db: Session, worker: Worker) -> None:
    put()
    complete_jobs(db, [Completion(worker.lease())])

    assert [count_endings(db).jobs for _ in range(3)] == [1, 0, 0]
    put()
    complete_jobs(db, [Completion(worker.lease())])
    count_endings(db)

    assert amounts(db) == {"ok": 2}


def test_two_that_count_at_once_count_once(put: Put, db: Session, worker: Worker, elsewhere: Elsewhere) -> None:
    put()
    complete_jobs(db, [Completion(worker.lease())])
    count_endings(elsewhere.session)

    # The other one holds the turn, and has not committed.
    assert count_endings(db).jobs == 0

    elsewhere.session.commit()
    count_endings(db)
    assert amounts(db) == {"ok": 1}


def test_who_dies_while_counting_has_counted_nothing(
    put: Put, db: Session, worker: Worker, elsewhere: Elsewhere
) -> None:
    put()
    complete_jobs(db, [Completion(worker.lease())])
    count_endings(elsewhere.session)
    elsewhere.session.rollback()

    assert amounts(db) == {}
    assert count_endings(db).jobs == 1
    assert amounts(db) == {"ok": 1}


def test_what_is_committed_late_is_counted_late_in_the_minute_in_which_it_ended(
    put: Put, db: Session, worker: Worker, elsewhere: Elsewhere, time: Time
) -> None:
    time.freeze()
    put(), put()
    late, early = (job.lease for job in worker.claim(limit=2))
    complete_jobs(elsewhere.session, [Completion(late)])
    time.passes(300)
    complete_jobs(db, [Completion(early)])
    count_endings(db)
    assert amounts(db) == {"ok": 1}

    elsewhere.session.commit()
    count_endings(db)

    first, second = cells(db)
    assert second["at"] - first["at"] == datetime.timedelta(minutes=5)
    assert (first["amount"], second["amount"]) == (1, 1)


def test_what_ends_in_a_transaction_that_is_rolled_back_has_not_ended(
    put: Put, db: Session, worker: Worker, elsewhere: Elsewhere
) -> None:
    put()
    complete_jobs(elsewhere.session, [Completion(worker.lease())])
    elsewhere.session.rollback()

    assert count_endings(db).jobs == 0


def test_a_job_that_fails_is_retried_and_completes_has_ended_twice(
    put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID
) -> None:
    job = put()
    fail(db, worker)
    retry_job(db, workspace_id, job)
    complete_jobs(db, [Completion(worker.lease())])
    count_endings(db)

    assert {cell["status"]: cell["amount"] for cell in cells(db)} == {3: 1, 4: 1}
    # The record tells the times of the second ending alone.
    assert {cell["status"]: cell["run"] >= 0 for cell in cells(db)} == {3: True, 4: False}


def test_a_round_that_is_full_leaves_the_rest_for_the_next_one(
    put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID
) -> None:
    put()
    complete_jobs(db, [Completion(worker.lease())])
    # Endings of jobs that are not there any more count for the size of a round, and for nothing else.
    db.execute(
        text(
            "insert into jobplatform.endings (workspace_id, status, ids) "
            "select :workspace_id, 3, array(select gen_random_uuid() from generate_series(1, 150)) "
            "from generate_series(1, 200)"
        ),
        {"workspace_id": workspace_id},
    )

    rounds = [count_endings(db) for _ in range(3)]

    assert sum(counted.jobs for counted in rounds) == 30_001
    assert [counted.more for counted in rounds] == [True, False, False]
    assert amounts(db) == {"ok": 1}


def test_old_cells_become_coarser_and_no_job_is_lost_or_doubled(
    put: Put, db: Session, worker: Worker, time: Time
) -> None:
    time.travel_to(datetime.datetime(2030, 5, 5, 5, 2, 3, tzinfo=datetime.UTC))
    time.freeze()
    for minutes in (0, 1, 20):
        time.passes(60 * minutes)
        put()
        complete_jobs(db, [Completion(worker.lease())])
    count_endings(db)

    def lengths() -> list[tuple[int, int]]:
        count_endings(db)
        for which in (BY_STATUS, BY_WAIT, BY_RUN, "queue = 'default' and task = '' and status > 0"):
            assert sum(cell["amount"] for cell in cells(db, "platform_cells", which)) == 3
        found = [(cell["minutes"], cell["amount"]) for cell in cells(db)]
        assert found == [(cell["minutes"], cell["amount"]) for cell in cells(db, "platform_cells", BY_STATUS)]
        return found

    assert lengths() == [(1, 1), (1, 1), (1, 1)]
    time.passes(2 * 3600)
    assert lengths() == [(15, 2), (15, 1)]
    time.passes(26 * 3600)
    assert lengths() == [(60, 3)]
    time.passes(9 * 86_400)
    assert lengths() == [(1440, 3)]
    (cell,) = cells(db)
    assert cell["at"] == datetime.datetime(2030, 5, 5, tzinfo=datetime.UTC)
    time.passes(KEEP_CELLS.total_seconds())
    count_endings(db)
    assert cells(db) == cells(db, "platform_cells") == []


def test_what_comes_late_is_added_to_the_coarse_cell_of_its_time(
    put: Put, db: Session, worker: Worker, elsewhere: Elsewhere, time: Time
) -> None:
    time.travel_to(datetime.datetime(2030, 5, 5, 5, 2, 3, tzinfo=datetime.UTC))
    time.freeze()
    put(), put()
    late, early = (job.lease for job in worker.claim(limit=2))
    complete_jobs(db, [Completion(early)])
    complete_jobs(elsewhere.session, [Completion(late)])
    count_endings(db)
    time.passes(30 * 3600)
    count_endings(db), count_endings(db)
    elsewhere.session.commit()

    for _ in range(3):
        count_endings(db)

    (cell,) = cells(db)
    assert (cell["minutes"], cell["amount"]) == (60, 2)


def groups(db: Session, table: str = "platform_error_groups") -> Sequence[Any]:
    return db.execute(
        text(f"select task, error_type, message, amount, fingerprint from jobplatform.{table} order by message")
    ).all()


def test_jobs_that_failed_alike_are_one_group_in_their_workspace_and_in_all(
    put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID, fact: Fact
) -> None:
    other = uuid.uuid4()
    put(), put(), put(workspace_id=other)
    for number, job in enumerate(worker.claim(limit=3)):
        fail_jobs(db, [Failure(job.lease, "error", "KeyError", f"no user {number}", retry=False)])
    put()
    fail(db, worker, error="no such table")
    count_endings(db)

    assert [row[:4] for row in groups(db)] == [
        ("work", "E", "no such table", 1),
        ("work", "KeyError", "no user <n>", 3),
    ]
    mine = "select amount from jobplatform.error_groups where message = 'no user <n>' and workspace_id = :workspace_id"
    assert fact(mine, workspace_id=workspace_id) == 2
    assert fact(mine, workspace_id=other) == 1
    marked = "select count(*) from jobplatform.job_attempts where fingerprint = :fingerprint"
    assert fact(marked, fingerprint=groups(db)[1].fingerprint) == 3


def test_long_sealed_errors_are_one_group_that_tells_nothing_of_them(
    put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID
) -> None:
    for n in range(3):
        seal = Seal(DataKey(1, bytes(32)), workspace_id, put())
        fail(db, worker, error=seal.seal_text("error", f"no user {n}" + " of many" * 300, ERROR_LIMIT))

    count_endings(db)

    assert [(row.message, row.amount) for row in groups(db, "error_groups")] == [("", 3)]


def test_a_group_remembers_when_it_began_and_which_job_failed_last(
    put: Put, db: Session, worker: Worker, time: Time, fact: Fact
) -> None:
    time.freeze()
    put()
    fail(db, worker)
    count_endings(db)
    time.passes(3600)
    last = put()
    fail(db, worker)
    count_endings(db)

    assert fact("select last_job_id from jobplatform.platform_error_groups") == last
    assert fact("select last_job_id from jobplatform.error_groups") == last
    assert fact("select last_at - first_at from jobplatform.error_groups") == datetime.timedelta(hours=1)
    time.passes(KEEP_GROUPS.total_seconds() + 1)
    count_endings(db)
    assert (groups(db), groups(db, "error_groups")) == ([], [])


def test_a_job_that_was_retried_before_it_was_counted_is_in_no_group(
    put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID
) -> None:
    job = put()
    fail(db, worker)
    retry_job(db, workspace_id, job)
    count_endings(db)

    assert groups(db) == []
    assert amounts(db) == {"error": 1}


def test_a_job_that_was_deleted_before_it_was_counted_is_not_counted(
    put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID
) -> None:
    job = put()
    complete_jobs(db, [Completion(worker.lease())])
    delete_jobs(db, [(workspace_id, job)])

    assert count_endings(db).jobs == 1
    assert amounts(db) == {}


def test_nothing_is_counted_until_it_is_due_again(put: Put, db: Session, worker: Worker, time: Time) -> None:
    time.freeze()
    count_endings(db, now=False)
    put()
    complete_jobs(db, [Completion(worker.lease())])

    assert count_endings(db, now=False).jobs == 0
    time.passes(15)
    assert count_endings(db, now=False).jobs == 1


def test_erasing_a_workspace_takes_its_numbers_and_leaves_the_platforms(
    put: Put, db: Session, session: Session, worker: Worker, workspace_id: uuid.UUID
) -> None:
    put(), put()
    first, second = (job.lease for job in worker.claim(limit=2))
    complete_jobs(db, [Completion(first)])
    count_endings(db)
    complete_jobs(db, [Completion(second)])

    while erase_some(session, workspace_id):
        session.commit()
    count_endings(db)

    assert amounts(db, "workspace_cells", "true") == {}
    assert amounts(db) == {"ok": 1}


def test_a_handler_that_ends_its_own_job_can_say_so_only_for_its_workspace(
    engine: Engine, workspace_id: uuid.UUID
) -> None:
    say = text("insert into jobplatform.endings (workspace_id, status, ids) values (:workspace_id, 3, '{}')")
    with Session(engine) as session:
        confine(session, Role.HANDLER, workspace_id)
        session.execute(say, {"workspace_id": workspace_id})
        with pytest.raises(Exception, match="row-level security"):
            session.execute(say, {"workspace_id": uuid.uuid4()})


def test_jobs_that_end_as_an_api_enqueues_them_are_counted(
    session: Session, db: Session, workspace_id: uuid.UUID
) -> None:
    """What an API process ends (a cancel, say) is written down with its rights."""
    confine(session, Role.API, workspace_id)
    job = enqueue_job(session, NewJob(workspace_id=workspace_id, task="work")).job_id
    cancel_job(session, workspace_id, job)
    session.commit()

    count_endings(db)

    assert amounts(db, "workspace_cells", "true") == {"cancelled": 1}
