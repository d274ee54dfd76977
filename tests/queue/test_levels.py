"""How much is live, by queue and state."""

from __future__ import annotations

import datetime
import uuid

from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.queue import NewJob, WorkerInfo, enqueue_jobs, measure_levels, register_worker


def test_levels_count_live_jobs_by_queue_and_state_and_put_made_up_queues_together(
    sessions: sessionmaker[Session], workspace_id: uuid.UUID
) -> None:
    def job(queue: str, **options: object) -> NewJob:
        return NewJob(workspace_id=workspace_id, task="t", queue=queue, **options)  # type: ignore[arg-type]

    with sessions.begin() as session:
        register_worker(session, WorkerInfo("w", "host", 1, "test", ("served",), ("t",), 1))
        later = datetime.timedelta(hours=1)
        enqueue_jobs(session, [job("served"), job("served"), job("served", delay=later), job("named")])
        enqueue_jobs(session, [job(f"made-up-{number}") for number in range(5)])
    with sessions.begin() as session:
        session.execute(
            text(
                "update jobplatform.job_queue set run_after = run_after - interval '1 minute' "
                "where queue = 'served' and state = 1"
            )
        )
        levels = measure_levels(session, ["named", "empty"])

    assert {place: count for place, count in levels.jobs.items() if count} == {
        ("served", "ready"): 2,
        ("served", "scheduled"): 1,
        ("named", "ready"): 1,
        ("other", "ready"): 5,
    }
    assert levels.jobs["empty", "running"] == 0
    assert set(levels.oldest_ready_seconds) == {"served", "named", "empty", "other"}
    assert 60 <= levels.oldest_ready_seconds["served"] < 600
    assert levels.oldest_ready_seconds["empty"] == 0
    assert levels.workers == 1
