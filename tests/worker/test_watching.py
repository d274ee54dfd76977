"""What a worker tells at its port, from the first probe to the last."""

from __future__ import annotations

import httpx

from jobplatform.testing import WorkerProcess, wait_until
from tests.numbers import Numbers, read_numbers
from tests.worker.conftest import Database, StartWorker


def ask(worker: WorkerProcess, path: str) -> httpx.Response:
    port = worker.wait_for("port for probes open")["port"]
    return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=30)


def numbers(worker: WorkerProcess) -> Numbers:
    return read_numbers(ask(worker, "/metrics").text)


def test_a_worker_counts_what_it_does_and_says_whether_it_can(start_worker: StartWorker, database: Database) -> None:
    database.execute("create table written (id text)")
    worker = start_worker(slots=2, health_port=0, crash_limit=1)
    assert (ask(worker, "/livez").status_code, ask(worker, "/readyz").status_code) == (200, 200)

    database.enqueue_many("noop", [{}] * 5)
    database.enqueue("boom")
    database.enqueue("complete_in")
    database.enqueue("spawn")
    database.enqueue("exit")
    database.wait_until_done()

    def expected(found: Numbers) -> dict[tuple[str, ...], float | None]:
        return {
            name: found.get(name)
            for name in (
                ("jobs_finished_total", "default", "noop", "ok"),
                ("jobs_finished_total", "default", "boom", "error"),
                ("retries_total", "default", "boom"),
                ("jobs_finished_total", "default", "complete_in", "ok"),
                ("jobs_finished_total", "default", "exit", "lost"),
                ("job_run_seconds_count", "default", "boom"),
                ("job_wait_seconds_count", "default", "complete_in"),
                ("job_wait_seconds_bucket", "default", "noop", "+Inf"),
            )
        }

    def enqueued(found: Numbers) -> Numbers:
        """What handlers enqueue is counted where they run."""
        return {name: count for name, count in found.items() if name[0] == "jobs_enqueued_total"}

    def all_told() -> bool:
        # It counts once it is written down, a moment after the database knows.
        found = numbers(worker)
        return None not in expected(found).values() and sum(enqueued(found).values()) >= 3

    wait_until(all_told, what=f"the numbers, not {numbers(worker)}")
    found = numbers(worker)
    assert expected(found)[("retries_total", "default", "boom")] == 1
    assert expected(found)[("jobs_finished_total", "default", "boom", "error")] == 1
    assert expected(found)[("job_run_seconds_count", "default", "boom")] == 2
    assert expected(found)[("jobs_finished_total", "default", "complete_in", "ok")] == 1
    assert found[("reaped_total",)] == 0
    assert sum(found["worker_slots", state] for state in ("busy", "idle", "starting", "leaving")) == 2
    assert enqueued(found) == {("jobs_enqueued_total", "default", "echo"): 3.0}


def test_without_a_port_nothing_is_listened_at(start_worker: StartWorker, database: Database) -> None:
    database.execute("create table written (id text)")
    worker = start_worker()

    database.enqueue("spawn")
    database.wait_until_done()

    assert not worker.events("port for probes open")
