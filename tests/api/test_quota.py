"""A workspace whose quota is full is told so, and when to come back."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker
from werkzeug.test import TestResponse

from jobplatform.models import WorkspaceLimits
from tests.api.conftest import PROBLEM, Client


@pytest.fixture
def one_may_wait(sessions: sessionmaker[Session], workspace_id: uuid.UUID) -> None:
    with sessions.begin() as session:
        session.add(WorkspaceLimits(workspace_id=workspace_id, max_pending=1))


def assert_refused(answer: TestResponse) -> None:
    body: dict[str, Any] = answer.get_json()
    assert answer.status_code == 429
    assert answer.content_type == PROBLEM
    assert body["type"] == "urn:jobplatform:problem:quota-exceeded"
    assert body["title"] == "Quota exceeded"
    assert body["limit"] == 1
    assert int(answer.headers["Retry-After"]) > 0
    assert f"Try again in {answer.headers['Retry-After']} s" in body["detail"]


@pytest.mark.usefixtures("one_may_wait")
def test_a_job_that_there_is_no_room_for_is_refused(client: Client, jobs_url: str) -> None:
    assert client.post(jobs_url, json={"jobType": "echo"}).status_code == 202

    assert_refused(client.post(jobs_url, json={"jobType": "echo"}))
    assert len(client.get(jobs_url).get_json()["items"]) == 1


@pytest.mark.usefixtures("one_may_wait")
def test_a_sync_that_there_is_no_room_for_is_refused(client: Client, jobs_url: str, sync_url: str) -> None:
    client.post(jobs_url, json={"jobType": "echo"})

    assert_refused(client.post(sync_url))


@pytest.mark.usefixtures("one_may_wait")
def test_a_sync_that_waits_already_is_the_answer_also_when_there_is_no_room(client: Client, sync_url: str) -> None:
    first = client.post(sync_url).get_json()

    again = client.post(sync_url)

    assert (again.status_code, again.get_json()["jobId"]) == (409, first["jobId"])


@pytest.mark.usefixtures("one_may_wait")
def test_a_retry_that_there_is_no_room_for_is_refused(client: Client, jobs_url: str) -> None:
    cancelled = client.post(jobs_url, json={"jobType": "echo"}).get_json()["jobId"]
    client.post(f"{jobs_url}/{cancelled}/cancel")
    client.post(jobs_url, json={"jobType": "echo"})

    assert_refused(client.post(f"{jobs_url}/{cancelled}/retry"))
    assert client.get(f"{jobs_url}/{cancelled}").get_json()["status"] == "cancelled"


def test_a_less_important_job_is_given_up_for_a_more_important_one(
    client: Client, jobs_url: str, sessions: sessionmaker[Session], workspace_id: uuid.UUID
) -> None:
    with sessions.begin() as session:
        session.add(WorkspaceLimits(workspace_id=workspace_id, max_pending=1, shed=True))
    victim = client.post(jobs_url, json={"jobType": "echo"}).get_json()["jobId"]

    assert client.post(jobs_url, json={"jobType": "echo", "priority": 1}).status_code == 202

    job = client.get(f"{jobs_url}/{victim}").get_json()
    assert (job["status"], job["outcome"], job["error"]["type"]) == ("cancelled", "discarded", "Shed")


@pytest.mark.usefixtures("one_may_wait")
def test_the_quota_of_one_workspace_is_not_anothers(stranger: Client, other_workspace: uuid.UUID) -> None:
    url = f"/workspaces/{other_workspace}/jobs"

    answers = [stranger.post(url, json={"jobType": "echo"}).status_code for _ in range(3)]

    assert answers == [202, 202, 202]


def test_the_document_says_what_a_full_quota_is_answered_with(nobody: Client) -> None:
    document = nobody.get("/openapi.json").get_json()
    paths = document["paths"]

    for path in ("/sync", "/jobs", "/jobs/{jobId}/retry"):
        answer = paths["/workspaces/{workspaceId}" + path]["post"]["responses"]["429"]
        assert set(answer["headers"]) == {"Retry-After", "RateLimit", "RateLimit-Policy", "X-Request-Id"}
        assert answer["content"]["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/Quota"}
    assert "limit" in document["components"]["schemas"]["Quota"]["properties"]
