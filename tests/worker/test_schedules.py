"""A worker writes down what its code declares and does what is due, and another takes over when it is killed."""

from __future__ import annotations

import datetime
import itertools
import signal

from jobplatform.testing import wait_until
from tests.worker.conftest import Database, StartWorker

TASKS = "tests.worker.scheduled_tasks:tasks"


def test_a_schedule_of_every_second_has_every_tick_done_once_though_a_worker_is_killed(
    start_worker: StartWorker, database: Database
) -> None:
    first, second = (start_worker(tasks=TASKS) for _ in range(2))

    def declared() -> dict[str, str]:
        return dict(database.rows("select name, declared_by from jobplatform.schedules"))

    # A worker says that it is ready before it looks after what its code declares.
    wait_until(lambda: declared() == {"tick": TASKS, "nightly": TASKS}, what="both schedules")

    def completed() -> int:
        done = "select count(*) from jobplatform.jobs where job_type = 'tick' and status = 'completed'"
        return int(database.rows(done)[0][0])

    wait_until(lambda: completed() >= 2, what="two ticks")
    first.signal(signal.SIGKILL)
    wait_until(lambda: completed() >= 5, what="five ticks")
    database.execute("update jobplatform.schedules set next_run_at = null")

    ticks = database.rows("select tick_at, job_id from jobplatform.schedule_ticks order by tick_at")
    gaps = {late - early for (early, _), (late, _) in itertools.pairwise(ticks)}
    assert gaps == {datetime.timedelta(seconds=1)}
    jobs = database.rows("select id, payload from jobplatform.jobs where job_type = 'tick'")
    assert sorted(job.id for job in jobs) == sorted(tick.job_id for tick in ticks)
    assert all(job.payload == {"of": "every second"} for job in jobs)
    assert second.stop() == 0


def test_a_worker_whose_code_names_a_connection_that_is_not_there_says_so_and_does_the_rest(
    start_worker: StartWorker, database: Database
) -> None:
    worker = start_worker(tasks="tests.worker.unconnected_tasks:tasks")

    told = worker.wait_for(
        "schedules of the code name connections that their workspaces do not have: their jobs are skipped"
    )

    assert (told["schedules"], told["level"]) == (["pull"], "warning")
    done = "select count(*) from jobplatform.jobs where job_type = 'tick' and status = 'completed'"
    wait_until(lambda: database.rows(done)[0][0] >= 1, what="a tick of the other schedule")
    assert worker.stop() == 0
