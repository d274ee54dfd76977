"""`jobplatform worker` for what begins and ends: cron, CI, a backlog that is to be done once."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from jobplatform.models import Job
from jobplatform.queue import NewJob, enqueue_jobs
from tests.end_to_end.conftest import COMMAND, Cli, Running

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


def test_a_worker_can_be_started_in_a_folder_that_was_deleted(database_url: str, tmp_path: Path) -> None:
    """Its tasks are installed; nothing of the folder is needed."""
    gone = tmp_path / "gone"
    gone.mkdir()
    command = 'rmdir "$0" && exec "$@" worker -c 1 --until-empty'
    environment = {**os.environ, "DATABASE_URL": database_url, "JOBPLATFORM_TRUST_LOGIN": "true"}
    environment.pop("PYTHONPATH", None)

    done = subprocess.run(
        ["sh", "-c", command, str(gone), *COMMAND], cwd=gone, env=environment, capture_output=True, check=False
    )

    assert done.returncode == 0, done.stderr.decode()
    assert "worker done" in done.stderr.decode()
    assert not gone.exists()


@pytest.mark.parametrize("most", ["0", "-1", "many"])
def test_no_job_at_all_is_no_number_of_jobs_to_do(run: Cli, most: str) -> None:
    done = run("worker", "--max-jobs", most)

    assert done.exit_code == 2
    assert "--max-jobs" in done.stderr
