"""What waits where nobody works is moved by a real worker, which does it then: hundreds, while it works."""

from __future__ import annotations

from jobplatform.models import Role, confine
from jobplatform.queue import JobChange, begin_bulk, find_bulk, parse_search
from jobplatform.testing import wait_until
from tests.worker.conftest import Database, StartWorker

#: More than two portions.
MANY = 450


def test_a_worker_moves_hundreds_of_jobs_and_runs_each_once(start_worker: StartWorker, database: Database) -> None:
    ids = database.enqueue_many("noop", [{}] * MANY, queue="nobodys")
    other = database.enqueue("noop", queue="nobodys", tags=["stays"], priority=9)
    with database.sessions.begin() as session:
        confine(session, Role.OPERATOR)
        moves = JobChange(queue="default", priority=5)
        action_id = begin_bulk(
            session, "change", parse_search("queue:nobodys priority:0"), actor="ada", expected=MANY, change=moves
        ).id

    start_worker()
    wait_until(lambda: database.statuses().get("completed") == MANY, seconds=60, what="all to be moved and to run")

    with database.sessions() as session:
        found = find_bulk(session, action_id)
    assert found is not None
    assert (found.state, found.done, found.looked_at, found.left_alone) == ("done", MANY, MANY, {})
    assert database.job(other).queue == "nobodys"
    assert {(job.queue, job.priority, job.attempts) for job in map(database.job, ids)} == {("default", 5, 1)}
    lines = "select count(*), count(distinct target) from jobplatform.audit_log where action = 'job.change'"
    assert [tuple(row) for row in database.rows(lines)] == [(MANY, MANY)]
