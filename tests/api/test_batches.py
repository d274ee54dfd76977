"""Batches and chains over HTTP."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.models import AuditEntry
from jobplatform.queue import Edge, NewJob, close_batch, enqueue_jobs, get_job, open_batch, settle_endings
from tests.api.conftest import PROBLEM, Client


@pytest.fixture
def batch_id(sessions: sessionmaker[Session], workspace_id: uuid.UUID) -> uuid.UUID:
    """An open batch of two jobs, and one that waits for it."""
    with sessions.begin() as session:
        batch_id = open_batch(session, workspace_id, "nightly")
        enqueue_jobs(session, [NewJob(workspace_id=workspace_id, task="echo", batch_id=batch_id) for _ in range(2)])
        callback = NewJob(workspace_id=workspace_id, task="echo", after=[Edge(batch_id, "ended", of_batch=True)])
        enqueue_jobs(session, [callback])
    return batch_id


@pytest.fixture
def url(workspace_id: uuid.UUID) -> str:
    return f"/workspaces/{workspace_id}/batches"


def settle(sessions: sessionmaker[Session]) -> None:
    with sessions() as session:
        while settle_endings(session).notices:
            session.commit()


def audit_lines(sessions: sessionmaker[Session], action: str) -> list[AuditEntry]:
    with sessions() as session:
        return list(session.scalars(select(AuditEntry).where(AuditEntry.action == action)))


def test_a_batch_shows_how_far_it_is_and_what_runs_then(client: Client, batch_id: uuid.UUID, url: str) -> None:
    shown = client.get(f"{url}/{batch_id}").get_json()

    counts = ("total", "pending", "running", "completed", "failed", "cancelled", "percent")
    assert [shown[name] for name in counts] == [2, 2, 0, 0, 0, 0, 0]
    assert (shown["name"], shown["status"], shown["closedAt"]) == ("nightly", "open", None)
    (callback,) = shown["callbacks"]
    assert (callback["runIf"], callback["status"], callback["jobType"]) == ("ended", "pending", "echo")
    assert client.get(callback["statusUrl"]).get_json()["after"] == [
        {"batchId": str(batch_id), "runIf": "ended", "status": "open"}
    ]


def test_batches_are_listed_a_page_at_a_time(
    client: Client, sessions: sessionmaker[Session], workspace_id: uuid.UUID, batch_id: uuid.UUID, url: str
) -> None:
    with sessions.begin() as session:
        ended = open_batch(session, workspace_id)
        close_batch(session, workspace_id, ended)
    settle(sessions)

    first = client.get(url, query_string={"limit": 1}).get_json()
    rest = client.get(url, query_string={"cursor": first["nextCursor"]}).get_json()

    assert [item["id"] for item in first["items"] + rest["items"]] == [str(ended), str(batch_id)]
    assert first["items"][0]["status"] == "completed"
    assert rest["nextCursor"] is None
    live = client.get(url, query_string={"live": "true"}).get_json()
    assert [item["id"] for item in live["items"]] == [str(batch_id)]


def test_a_batch_is_cancelled_once_with_a_line_in_the_audit_log(
    client: Client, sessions: sessionmaker[Session], batch_id: uuid.UUID, url: str
) -> None:
    answer = client.post(f"{url}/{batch_id}/cancel")

    assert answer.status_code == 200
    assert (answer.get_json()["cancelled"], answer.get_json()["pending"]) == (2, 0)
    settle(sessions)
    assert client.get(f"{url}/{batch_id}").get_json()["status"] == "cancelled"
    (line,) = audit_lines(sessions, "batch.cancel")
    assert (line.target, line.details["cancelled"]) == (f"batch:{batch_id}", 2)


@pytest.mark.parametrize("path", ["", "/cancel"])
def test_a_batch_that_another_workspace_has_is_not_there(
    client: Client, sessions: sessionmaker[Session], url: str, path: str
) -> None:
    with sessions.begin() as session:
        theirs = open_batch(session, uuid.uuid4())

    answers = [client.request("POST" if path else "GET", f"{url}/{batch}{path}") for batch in (theirs, uuid.uuid4())]

    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].get_json()["detail"] == answers[1].get_json()["detail"]


def test_a_job_is_added_to_an_open_batch(client: Client, batch_id: uuid.UUID, url: str, jobs_url: str) -> None:
    job = client.post(jobs_url, json={"jobType": "echo", "batchId": str(batch_id)}).get_json()["job"]

    assert job["batchId"] == str(batch_id)
    assert client.get(f"{url}/{batch_id}").get_json()["total"] == 3
    members = client.get(jobs_url, query_string={"batchId": str(batch_id)}).get_json()["items"]
    assert len(members) == 3


def test_a_job_is_not_added_to_a_batch_that_is_not_there_or_closed(
    client: Client, sessions: sessionmaker[Session], workspace_id: uuid.UUID, batch_id: uuid.UUID, jobs_url: str
) -> None:
    with sessions.begin() as session:
        close_batch(session, workspace_id, batch_id)
    problems = []
    for asked in (batch_id, uuid.uuid4()):
        answer = client.post(jobs_url, json={"jobType": "echo", "batchId": str(asked)})
        assert (answer.status_code, answer.content_type) == (422, PROBLEM)
        problems += answer.get_json()["errors"]

    assert [(problem["path"], problem["message"][:30]) for problem in problems] == [
        ("/batchId", "is a batch that is closed: not"),
        ("/batchId", "is not a batch of this workspa"),
    ]


def test_a_job_waits_for_another_one(client: Client, jobs_url: str, sessions: sessionmaker[Session]) -> None:
    first = client.post(jobs_url, json={"jobType": "echo"}).get_json()["jobId"]

    second = client.post(jobs_url, json={"jobType": "echo", "after": [{"jobId": first}]}).get_json()["job"]

    assert second["status"] == "pending"
    assert second["after"] == [{"jobId": first, "runIf": "completed", "status": "pending"}]
    why = client.get(f"{jobs_url}/{second['id']}/why").get_json()["blockers"][0]
    assert (why["code"], why["jobId"], why["runIf"]) == ("waiting-for-job", first, "completed")


@pytest.mark.parametrize(
    ("after", "path"),
    [
        ([{"jobId": str(uuid.UUID(int=5))}], "/after/0"),
        ([{}], "/after/0/jobId"),
        ([{"jobId": str(uuid.UUID(int=5)), "batchId": str(uuid.UUID(int=5))}], "/after/0/jobId"),
        ([{"jobId": str(uuid.UUID(int=5)), "runIf": "later"}], "/after/0/runIf"),
        ([{"jobId": str(uuid.UUID(int=5))}] * 2, "/after/1"),
    ],
)
def test_what_cannot_be_waited_for_is_refused(client: Client, jobs_url: str, after: Any, path: str) -> None:
    answer = client.post(jobs_url, json={"jobType": "echo", "after": after})

    assert answer.status_code == 422
    assert answer.get_json()["errors"][0]["path"] == path


def test_a_whole_tree_is_cancelled(
    client: Client, app: Flask, sessions: sessionmaker[Session], workspace_id: uuid.UUID, jobs_url: str
) -> None:
    first = client.post(jobs_url, json={"jobType": "echo"}).get_json()["jobId"]
    after = [{"jobId": first, "runIf": "ended"}]
    second = client.post(jobs_url, json={"jobType": "echo", "after": after}).get_json()["jobId"]

    answer = client.post(f"{jobs_url}/{first}/cancel?tree=true")

    assert (answer.status_code, answer.get_json()["status"]) == (200, "cancelled")
    with sessions() as session:
        job = get_job(session, workspace_id, uuid.UUID(second))
        assert job is not None
        assert job.status == "cancelled"
    (line,) = audit_lines(sessions, "job.cancel")
    assert (line.details["tree"], line.details["cancelled"]) == (True, 2)
    assert client.post(f"{jobs_url}/{uuid.uuid4()}/cancel?tree=true").status_code == 404
