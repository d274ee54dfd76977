"""`jobplatform worker` for what begins and ends: cron, CI, a backlog that is to be done once."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from jobplatform.models import Job
from jobplatform.queue import NewJob, enqueue_jobs
from tests.end_to_end.conftest import Cli, Running

Start = Callable[..., Running]


def test_a_worker_does_so_many_jobs_and_the_next_one_what_is_left(
    start: Start, session: Session, acme: uuid.UUID, database_url: str
) -> None:
    enqueue_jobs(session, [NewJob(workspace_id=acme, task="noop") for _ in range(5)])
    session.commit()
    variables = {
        "DATABASE_URL": database_url,
        "JOBPLATFORM_TRUST_LOGIN": "true",
        "JOBPLATFORM_TASKS": "tests.worker.handlers:tasks",
    }

    codes, counts = [], []
    for option in (["--max-jobs", "3"], ["--until-empty"]):
        codes.append(start("worker", "-c", "1", *option, **variables).wait())
        counts.append(Counter(session.scalars(select(Job.status))))
        session.commit()

    assert codes == [0, 0]
    assert counts == [{"completed": 3, "pending": 2}, {"completed": 5}]


@pytest.mark.parametrize("most", ["0", "-1", "many"])
def test_no_job_at_all_is_no_number_of_jobs_to_do(run: Cli, most: str) -> None:
    done = run("worker", "--max-jobs", most)

    assert done.exit_code == 2
    assert "--max-jobs" in done.stderr
