"""A worker behind PgBouncer: it works without hearing the doorbell, and says so; a direct address lets it hear."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.orm import Session

from jobplatform.embedded import EmbeddedServer
from jobplatform.models import Role
from jobplatform.queue import queue_health
from jobplatform.testing import wait_until
from tests.pooler import Pooler, run_pooler
from tests.worker.conftest import Database, StartWorker

#: These tests say themselves which way leads through a pooler; the test looks on from outside.
pytestmark = pytest.mark.direct

DEGRADED = "degraded to polling: LISTEN is impossible through a pooler"
LISTENING = "select pid from pg_stat_activity where query like 'listen%' and datname = current_database()"
OTHERS = """
select from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
"""


@pytest.fixture
def worker_url(login_url: Callable[..., str]) -> str:
    return login_url(Role.WORKER)


def listening(session: Session) -> tuple[int, int]:
    """How many workers live, and how many of them hear the doorbell, as health counts them."""
    health = queue_health(session)
    session.rollback()
    return health.workers, health.listening


def test_a_worker_behind_a_pooler_polls_and_says_so_once(
    start_worker: StartWorker, database: Database, session: Session, pooler: Pooler, worker_url: str
) -> None:
    worker = start_worker(database_url=pooler.url(worker_url), poll=0.1)
    jobs = database.enqueue_many("noop", [{}] * 50)
    database.wait_until_done()
    database.enqueue("noop")
    database.wait_until_done()

    assert {database.job(job).status for job in jobs} == {"completed"}
    worker.wait_for(DEGRADED)
    (said,) = worker.events(DEGRADED)
    assert (said["poll_seconds"], "JOBPLATFORM_DIRECT_DATABASE_URL" in said["instead"]) == (0.1, True)
    assert database.rows(LISTENING) == []
    assert listening(session) == (1, 0)


def test_a_running_job_is_cancelled_though_the_worker_does_not_hear_it(
    start_worker: StartWorker, database: Database, pooler: Pooler, worker_url: str, tmp_path: Path
) -> None:
    start_worker(database_url=pooler.url(worker_url), heartbeat=0.2)
    job = database.enqueue("wait", {"file": f"{tmp_path}/begun", "until": f"{tmp_path}/never"})
    database.wait_for_status(job, "running")

    database.execute("update jobplatform.job_queue set cancel_requested_at = now()")

    database.wait_for_status(job, "cancelled")


def test_a_worker_with_a_direct_address_hears_the_doorbell(
    start_worker: StartWorker, database: Database, session: Session, pooler: Pooler, worker_url: str
) -> None:
    worker = start_worker(database_url=pooler.url(worker_url), direct_database_url=worker_url, poll=60.0)
    wait_until(lambda: database.rows(LISTENING), what="a listening connection")

    # Without the doorbell they would wait for the poll, longer than this test may take.
    for _ in range(3):
        database.wait_for_status(database.enqueue("noop"), "completed")

    assert worker.events(DEGRADED) == []
    assert listening(session) == (1, 1)


def test_a_pooler_that_keeps_sessions_together_may_be_the_direct_address(
    start_worker: StartWorker, database: Database, session: Session, server: EmbeddedServer, worker_url: str
) -> None:
    with run_pooler(server, "session") as pooler:
        url = pooler.url(worker_url)
        worker = start_worker(database_url=url, direct_database_url=url, poll=60.0)
        wait_until(lambda: listening(session) == (1, 1), what="a listening connection")

        database.wait_for_status(database.enqueue("noop"), "completed")
        assert worker.stop() == 0


def test_the_tests_pooler_leaves_a_database_and_comes_back(pooler: Pooler, direct_url: str, database: Database) -> None:
    def others() -> int:
        return len(database.rows(OTHERS))

    before = others()
    with psycopg.connect(pooler.url(direct_url)) as connection:
        connection.execute("select 1")
        assert others() > before

        pooler.leave(direct_url)

        wait_until(lambda: others() == before, what="the pooler to leave")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")
    with psycopg.connect(pooler.url(direct_url)) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    pooler.leave(direct_url)


def test_it_has_nothing_to_leave_where_it_has_not_been(pooler: Pooler, empty_url: str) -> None:
    pooler.leave(empty_url)

    with psycopg.connect(pooler.url(empty_url)) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    pooler.leave(empty_url)
