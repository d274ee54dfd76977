"""Connections break, the database goes away, leases run out: no job is lost, run twice at a time, or blamed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import LiteralString

import httpx
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from jobplatform.embedded import EmbeddedServer
from jobplatform.testing import wait_until
from tests.worker.conftest import Database, Lines, StartWorker

TERMINATE = """
select count(pg_terminate_backend(pid)) from pg_stat_activity
where application_name = 'jobplatform-worker' and datname = current_database()
"""


WAITING_FOR_SCHEDULES = "select from pg_locks where relation = 'jobplatform.schedules'::regclass and not granted"


WAITING_TO_FINISH = """
select pid, query_start from pg_stat_activity
where application_name = 'jobplatform-worker' and datname = current_database() and wait_event_type = 'Lock'
    and query like '%job_records%' and query like '%completed%'
"""


class Switch:
    """Closes a database for everybody and opens it again."""

    def __init__(self, server: EmbeddedServer, database_url: str) -> None:
        self._url = server.url("postgres")
        self._way = database_url
        self._name = str(make_url(database_url).database)

    def close(self) -> None:
        self._allow("false")
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (self._name,)
            )

    def open(self) -> None:
        self._allow("true")
        # A pooler looks again only every second, and turns everybody away in between.
        wait_until(self._answers, what="the database to be there again")

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self._way) as connection:
                connection.execute("select 1")
        except psycopg.OperationalError:
            return False
        return True

    def _allow(self, allowed: LiteralString) -> None:
        statement = sql.SQL("alter database {} allow_connections " + allowed).format(sql.Identifier(self._name))
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(statement)


@pytest.fixture
def switch(server: EmbeddedServer, database_url: str) -> Iterator[Switch]:
    switch = Switch(server, database_url)
    yield switch
    switch.open()


def test_dropped_connections_lose_no_job_and_start_none_twice(
    start_worker: StartWorker, database: Database, told: Lines
) -> None:
    database.enqueue_many("tell", [{"file": told.path, "number": number} for number in range(800)])

    worker = start_worker(slots=2)
    for round_ in range(1, 11):
        told.wait(round_ * 60)
        database.rows(TERMINATE)
    database.wait_until_done()

    assert sorted(map(int, told.read())) == list(range(800))
    assert database.rows("select status, attempts, crash_count, count(*) from jobplatform.jobs group by 1, 2, 3") == [
        ("completed", 1, 0, 800)
    ]
    assert worker.exit_code is None


@pytest.mark.direct("LISTEN")
def test_a_worker_listens_again_after_its_listening_connection_broke(
    start_worker: StartWorker, database: Database
) -> None:
    listening = "select pid from pg_stat_activity where query like 'listen%' and datname = current_database()"
    start_worker(poll=60.0)
    first = wait_until(lambda: database.rows(listening), what="a listening connection")

    database.rows("select pg_terminate_backend(:pid)", pid=first[0].pid)
    wait_until(lambda: database.rows(listening) not in ([], first), what="another listening connection")

    job = database.enqueue("noop")
    database.wait_for_status(job, "completed")


def test_a_claim_whose_answer_was_lost_is_handed_back(start_worker: StartWorker, database: Database) -> None:
    start_worker(doorbell=False, poll=0.1)
    job = database.enqueue("noop", queue="parked")

    # What the database looks like when the connection broke between the claim's commit and its answer.
    database.execute(
        "update jobplatform.job_queue set state = 2, epoch = epoch + 1, attempts = attempts + 1, queue = 'default', "
        "started_at = now(), worker_id = (select max(id) from jobplatform.workers)"
    )

    assert database.wait_for_status(job, "completed").attempts == 1


def test_results_are_kept_while_the_database_is_away(
    start_worker: StartWorker, database: Database, told: Lines, tmp_path: Path, switch: Switch
) -> None:
    end = tmp_path / "end"
    jobs = database.enqueue_many("wait", [{"file": told.path, "until": str(end)}] * 2)
    worker = start_worker()
    told.wait(2)

    database.dispose()
    switch.close()
    worker.wait_for("database unavailable")
    end.touch()
    switch.open()
    database.wait_until_done()

    assert [database.job(job).attempts for job in jobs] == [1, 1]
    assert [database.job(job).result for job in jobs] == ["waited", "waited"]
    assert len(worker.events("worker ready")) == 1


def test_an_outage_is_logged_quietly(start_worker: StartWorker, database: Database, switch: Switch) -> None:
    worker = start_worker(heartbeat=0.2)

    database.dispose()
    switch.close()
    worker.wait_for("database unavailable")
    told = len(worker.log.read_text().splitlines())
    # Several heartbeats later there is still nothing but one line for each thread that noticed.
    before = times_woken(worker.pid)
    wait_until(lambda: times_woken(worker.pid) > before + 30, what="further tries")
    switch.open()
    worker.wait_for("database available again")

    unavailable = worker.events("database unavailable")
    assert len({event["worker_thread"] for event in unavailable}) == len(unavailable)
    assert len(worker.log.read_text().splitlines()) <= told + 8


def times_woken(pid: int) -> int:
    """How often the threads of a process have gone to sleep, and so woken up again."""
    switches = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        # A thread may just have ended.
        with suppress(FileNotFoundError, ProcessLookupError):
            status = (task / "status").read_text()
            switches += int(status.split("voluntary_ctxt_switches:")[1].split()[0])
    return switches


def test_a_worker_that_starts_before_its_database_waits_for_it(
    start_worker: StartWorker, database: Database, switch: Switch
) -> None:
    database.dispose()
    switch.close()
    worker = start_worker(ready=False)
    worker.wait_for("database unavailable")

    switch.open()

    worker.wait_for("worker ready")
    job = database.enqueue("noop")
    database.wait_for_status(job, "completed")


def test_an_outage_longer_than_the_lease_interrupts_jobs_and_hands_them_back_unblamed(
    start_worker: StartWorker, database: Database, told: Lines, switch: Switch
) -> None:
    job = database.enqueue("polite", {"file": told.path})
    worker = start_worker(lease=1.0, heartbeat=0.3)
    told.wait(1)

    database.dispose()
    switch.close()
    assert told.wait(2)[1] == "LeaseLost"
    switch.open()

    told.wait(3)
    # On a busy machine the lease may run out more than once.
    assert len(worker.events("worker ready")) >= 2
    # And between two attempts none is spent.
    wait_until(lambda: database.job(job).attempts == 1, what="the attempt that is running now")
    assert database.job(job).crash_count == 0


def test_a_worker_that_slept_past_its_lease_learns_that_its_job_is_gone(
    start_worker: StartWorker, database: Database, told: Lines
) -> None:
    job = database.enqueue("polite", {"file": told.path})
    sleeper = start_worker(lease=1.0, heartbeat=0.3)
    told.wait(1)

    os.kill(sleeper.pid, signal.SIGSTOP)
    other = start_worker(lease=5.0, heartbeat=0.3)
    other.wait_for("jobs rescued")
    os.kill(sleeper.pid, signal.SIGCONT)

    sleeper.wait_for("lease not renewed in time")
    wait_until(lambda: "LeaseLost" in told.read(), what="the handler to be told")
    sleeper.wait_for("worker ready", 2)
    assert database.job(job).crash_count == 1


def test_a_lease_is_renewed_whatever_a_chore_waits_for(
    start_worker: StartWorker, database: Database, database_url: str, told: Lines, tmp_path: Path
) -> None:
    end = tmp_path / "end"
    job = database.enqueue("wait", {"file": told.path, "until": str(end)})
    worker = start_worker(lease=1.0, heartbeat=0.3)
    told.wait(1)
    alive = "select heartbeat_at from jobplatform.workers where dead_at is null"

    with psycopg.connect(database_url) as somebody:
        somebody.execute("lock table jobplatform.schedules in access exclusive mode")
        wait_until(lambda: database.rows(WAITING_FOR_SCHEDULES), what="a chore that waits")
        ((since,),) = database.rows(alive)
        wait_until(
            lambda: database.rows(f"{alive} and heartbeat_at > :since + interval '2 seconds'", since=since),
            what="heartbeats for twice as long as a lease",
        )
        end.touch()
        database.wait_for_status(job, "completed")

    assert database.job(job).epoch == 1
    assert worker.stop() == 0


@pytest.mark.direct
@pytest.mark.parametrize("table", ["job_records", "job_queue"])
def test_a_result_waits_for_a_lock_however_little_patience_the_database_has(
    start_worker: StartWorker, database: Database, database_url: str, told: Lines, tmp_path: Path, table: str
) -> None:
    end = tmp_path / "end"
    database.execute(f"alter database {make_url(database_url).database} set lock_timeout = '100ms'")
    job = database.enqueue("wait", {"file": told.path, "until": str(end)}, max_attempts=1)
    start_worker()
    told.wait(1)
    tries: set[tuple[object, ...]] = set()

    def tried_thrice() -> bool:
        tries.update(tuple(row) for row in database.rows(WAITING_TO_FINISH))
        return len(tries) >= 3

    with psycopg.connect(database_url) as somebody:
        somebody.execute(sql.SQL("lock table {} in access exclusive mode").format(sql.Identifier("jobplatform", table)))
        end.touch()
        wait_until(tried_thrice, what="some tries to write the result")

    database.wait_for_status(job, "completed")
    assert len(told.read()) == 1
    assert database.job(job).epoch == 1


@pytest.mark.direct
def test_a_login_of_another_encoding_is_given_every_payload(
    start_worker: StartWorker, database: Database, database_url: str
) -> None:
    database.execute(f"alter database {make_url(database_url).database} set client_encoding = 'LATIN1'")
    job = database.enqueue("echo", {"price": "7 €"})
    start_worker()

    assert database.wait_for_status(job, "completed").result == {"price": "7 €"}


def test_the_result_of_a_worker_that_slept_past_its_lease_is_not_accepted(
    start_worker: StartWorker, database: Database, told: Lines, tmp_path: Path
) -> None:
    end = tmp_path / "end"
    job = database.enqueue("wait", {"file": told.path, "until": str(end)})
    sleeper = start_worker(lease=1.0, heartbeat=0.3)
    told.wait(1)

    # The parent sleeps; the handler goes on and finishes, and its result waits in the pipe.
    os.kill(sleeper.pid, signal.SIGSTOP)
    other = start_worker(lease=5.0, heartbeat=0.3)
    other.wait_for("jobs rescued")
    end.touch()
    os.kill(sleeper.pid, signal.SIGCONT)

    sleeper.wait_for("ending not accepted, the lease is lost")
    database.execute("update jobplatform.job_queue set run_after = now()")
    ended = database.wait_for_status(job, "completed")
    assert len(told.read()) == 2
    assert ended.epoch == 2


def test_a_worker_that_was_declared_dead_comes_back_as_somebody_new(
    start_worker: StartWorker, database: Database, told: Lines
) -> None:
    database.enqueue("polite", {"file": told.path})
    worker = start_worker(heartbeat=0.2)
    told.wait(1)

    database.execute("update jobplatform.workers set dead_at = now()")

    worker.wait_for("declared dead by another worker")
    assert told.wait(2)[1] == "LeaseLost"
    worker.wait_for("worker ready", 2)
    ids = [event["worker_id"] for event in worker.events("worker ready")]
    assert ids[0] != ids[1]


@pytest.mark.parametrize(("task", "heartbeat"), [("polite", 0.2), ("cooperative", 9.0)])
def test_a_handler_whose_job_was_taken_away_is_told_by_heartbeat_or_by_its_next_report(
    start_worker: StartWorker, database: Database, told: Lines, task: str, heartbeat: float
) -> None:
    database.enqueue(task, {"file": told.path})
    worker = start_worker(heartbeat=heartbeat)
    told.wait(1)

    database.execute("update jobplatform.job_queue set epoch = epoch + 1")

    wait_until(lambda: "LeaseLost" in told.read(), what="the handler to be told")
    assert len(worker.events("worker ready")) == 1


def test_a_result_that_the_database_refuses_fails_its_job_and_no_other(
    start_worker: StartWorker, database: Database
) -> None:
    database.execute("alter table jobplatform.job_records add constraint picky check (result ->> 'bad' is null)")
    good = database.enqueue_many("echo", [{"good": number} for number in range(100)])
    bad = database.enqueue("echo", {"bad": True}, max_attempts=1)

    worker = start_worker()
    database.wait_until_done()

    assert {database.job(job).status for job in good} == {"completed"}
    assert (database.job(bad).status, database.attempts(bad)[0].error_type) == ("failed", "NotSavable")
    assert worker.exit_code is None


def test_a_worker_without_its_database_is_alive_and_not_ready_until_it_is_back(
    start_worker: StartWorker, switch: Switch
) -> None:
    worker = start_worker(health_port=0)
    port = worker.wait_for("port for probes open")["port"]

    def status(path: str) -> int:
        return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=30).status_code

    switch.close()
    wait_until(lambda: status("/readyz") == 503, what="the worker not to be ready")
    assert status("/livez") == 200

    switch.open()
    wait_until(lambda: status("/readyz") == 200, what="the worker to be ready again")
