"""Jobs as people and programs see them, always within one workspace."""

from __future__ import annotations

import datetime
import json
import uuid
from typing import Any

import pytest
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session

from jobplatform.models import Status
from jobplatform.queue import Completion, complete_jobs, get_job, list_jobs, page_jobs
from tests.queue.actors import Time, Worker
from tests.queue.conftest import Put


def test_a_job_is_read_as_it_is_now(put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID) -> None:
    job_id = put()
    before = get_job(db, workspace_id, job_id)
    assert before is not None
    assert before.status == Status.PENDING

    worker.lease()

    after = get_job(db, workspace_id, job_id)
    assert after is not None
    assert after.status == Status.RUNNING


def test_the_job_of_another_workspace_is_not_there(put: Put, db: Session) -> None:
    assert get_job(db, uuid.uuid4(), put()) is None


def test_the_newest_jobs_come_first(put: Put, db: Session, workspace_id: uuid.UUID) -> None:
    ids = [put() for _ in range(5)]

    assert [job.id for job in list_jobs(db, workspace_id, limit=3)] == ids[:1:-1]


def test_what_is_in_jobs_can_stay_in_the_database(put: Put, db: Session, workspace_id: uuid.UUID) -> None:
    job_id = put(payload={"text": "long"})

    (job,) = list_jobs(db, workspace_id, contents=False)

    assert (job.id, job.status) == (job_id, Status.PENDING)
    with pytest.raises(InvalidRequestError, match="payload"):
        _ = job.payload


def test_pages_follow_each_other_without_gap_or_repeat(put: Put, db: Session, workspace_id: uuid.UUID) -> None:
    ids = [put() for _ in range(7)]
    seen: list[uuid.UUID] = []

    while page := list_jobs(db, workspace_id, limit=3, before=seen[-1] if seen else None):
        seen += [job.id for job in page]
        put()  # a new job in between belongs before the first page

    assert seen == ids[::-1]


@pytest.mark.parametrize(
    ("letters", "sizes"),
    [(1, [3, 3, 2]), (200_000, [3, 3, 2]), (250_000, [3, 3, 2]), (600_000, [2, 2, 2, 2]), (1_048_000, [2, 2, 2, 2])],
)
def test_a_page_ends_with_the_job_that_makes_it_large(
    put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID, letters: int, sizes: list[int]
) -> None:
    ids = [put() for _ in range(8)]
    result = json.dumps("x" * letters)
    complete_jobs(db, [Completion(job.lease, result) for job in worker.claim(limit=len(ids))])
    seen: list[list[uuid.UUID]] = []

    more = True
    while more:
        page = page_jobs(db, workspace_id, limit=3, before=seen[-1][-1] if seen else None)
        seen.append([job.id for job in page.jobs])
        more = page.more

    assert [job_id for page_ids in seen for job_id in page_ids] == ids[::-1]
    assert [len(page_ids) for page_ids in seen] == sizes


def test_the_jobs_of_other_workspaces_are_not_listed(put: Put, db: Session, workspace_id: uuid.UUID) -> None:
    put(workspace_id=uuid.uuid4())
    mine = put()

    assert [job.id for job in list_jobs(db, workspace_id)] == [mine]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"status": Status.COMPLETED}, ["done"]),
        ({"status": Status.RUNNING}, []),
        ({"status": Status.PENDING}, ["letter", "later"]),
        ({"task": "letter"}, ["letter"]),
        ({"queue": "post"}, ["letter"]),
        ({"queue": "post", "task": "other"}, []),
    ],
)
def test_a_list_can_be_narrowed(
    put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID, wanted: dict[str, Any], expected: list[str]
) -> None:
    names = {put(): "done"}
    complete_jobs(db, [Completion(worker.lease())])
    names[put(delay=datetime.timedelta(hours=1))] = "later"
    names[put(task="letter", queue="post")] = "letter"

    assert [names[job.id] for job in list_jobs(db, workspace_id, **wanted)] == expected


def test_what_no_list_can_be_narrowed_to_is_an_error(db: Session, workspace_id: uuid.UUID) -> None:
    """And not a list of everything."""
    with pytest.raises(TypeError, match="jobs cannot be filtered by job_type, only by before, status, task"):
        list_jobs(db, workspace_id, job_type="import")  # type: ignore[call-arg]


def test_a_list_can_be_narrowed_to_a_stretch_of_time(
    put: Put, db: Session, workspace_id: uuid.UUID, time: Time
) -> None:
    ids = []
    for _ in range(3):
        ids.append(put())
        time.passes(3600)
    middle = get_job(db, workspace_id, ids[1])
    assert middle is not None
    minute = datetime.timedelta(minutes=1)

    found = list_jobs(
        db, workspace_id, created_after=middle.created_at - minute, created_before=middle.created_at + minute
    )

    assert [job.id for job in found] == [ids[1]]
