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


# Opened here


def new(task: str = "echo", **options: Any) -> dict[str, Any]:
    return {"jobType": task, **options}


def test_a_batch_is_opened_with_its_callbacks_and_jobs_added_to_and_closed(
    client: Client, sessions: sessionmaker[Session], url: str, jobs_url: str
) -> None:
    opened = client.post(url, json={"name": "import", "onSuccess": new(), "onFailure": new(), "jobs": [new()]})

    assert opened.status_code == 201
    batch = opened.get_json()
    assert opened.headers["Location"] == f"{url}/{batch['id']}"
    assert (batch["name"], batch["status"], batch["total"], len(batch["items"])) == ("import", "open", 1, 1)
    assert {callback["runIf"] for callback in batch["callbacks"]} == {"completed", "failed"}

    added = client.post(f"{url}/{batch['id']}/jobs", json={"jobs": [new(), new()]})
    assert (added.status_code, len(added.get_json()["items"])) == (202, 2)
    closed = client.post(f"{url}/{batch['id']}/close").get_json()
    assert (closed["status"], closed["total"]) == ("running", 3)
    assert client.post(f"{url}/{batch['id']}/close").get_json()["closedAt"] == closed["closedAt"]
    assert client.get(jobs_url, query_string={"batchId": batch["id"]}).get_json()["items"][0]["batchId"] == batch["id"]
    assert [line.details["created"] for line in audit_lines(sessions, "batch.add")] == [2]
    assert len(audit_lines(sessions, "batch.close")) == 1


def test_a_batch_that_is_opened_and_closed_in_one_request_calls_back_once(
    client: Client, sessions: sessionmaker[Session], url: str
) -> None:
    opened = client.post(url, json={"onComplete": new(), "close": True}).get_json()

    settle(sessions)

    shown = client.get(f"{url}/{opened['id']}").get_json()
    assert (shown["status"], shown["percent"]) == ("completed", 100)
    (callback,) = shown["callbacks"]
    assert client.get(callback["statusUrl"]).get_json()["after"][0]["status"] == "completed"


def test_nothing_is_added_to_a_closed_batch_or_one_that_nobody_has(client: Client, url: str) -> None:
    closed = client.post(url, json={"close": True}).get_json()["id"]

    answer = client.post(f"{url}/{closed}/jobs", json={"jobs": [new()]})

    assert (answer.status_code, answer.get_json()["type"]) == (409, "urn:jobplatform:problem:batch-closed")
    assert client.post(f"{url}/{uuid.uuid4()}/jobs", json={"jobs": [new()]}).status_code == 404
    assert client.post(f"{url}/{uuid.uuid4()}/close").status_code == 404


def test_a_batch_whose_parts_cannot_be_is_not_opened_at_all(
    client: Client, sessions: sessionmaker[Session], url: str, jobs_url: str
) -> None:
    first = client.post(jobs_url, json=new("sync")).get_json()["jobId"]
    bodies: list[tuple[dict[str, Any], int, str]] = [
        ({"onSuccess": new("nobody")}, 422, "/onSuccess/jobType"),
        ({"onFailure": new("sync")}, 422, "/onFailure/uniqueKey"),
        ({"jobs": [new(), new("sync")]}, 409, "/jobs/1"),
        ({"jobs": [new("add", payload={"left": "one", "right": 1})]}, 422, "/jobs/0/payload/left"),
        ({"jobs": [new(batchId=str(uuid.uuid4()))]}, 422, "/jobs/0/batchId"),
        ({"jobs": [new(), new(after=[{"jobId": str(uuid.uuid4())}])]}, 422, "/jobs/1/after/0"),
        ({"jobs": [new(after=[{"position": 7}])]}, 422, "/jobs/0/after/0/position"),
        ({"onComplete": new(), "name": ""}, 422, "/name"),
    ]

    for body, status, path in bodies:
        answer = client.post(url, json=body)
        assert (answer.status_code, answer.get_json()["errors"][0]["path"]) == (status, path), answer.text

    assert client.get(url).get_json()["items"] == []
    assert [job["id"] for job in client.get(jobs_url).get_json()["items"]] == [first]
    assert audit_lines(sessions, "batch.open") == []


def test_a_batch_is_opened_once_for_each_idempotency_key(client: Client, url: str) -> None:
    body = {"name": "import", "onComplete": new(), "jobs": [new()], "close": True}

    first, second = (client.post(url, json=body, headers={"Idempotency-Key": "import-1"}) for _ in range(2))

    assert first.get_json() == second.get_json()
    assert second.headers["Idempotency-Replayed"] == "true"
    assert len(client.get(url).get_json()["items"]) == 1


def test_a_refusal_under_an_idempotency_key_leaves_nothing_behind(client: Client, url: str, jobs_url: str) -> None:
    client.post(jobs_url, json=new("sync"))

    answer = client.post(url, json={"jobs": [new(), new("sync")]}, headers={"Idempotency-Key": "import-2"})

    assert answer.status_code == 409
    assert client.get(url).get_json()["items"] == []


def test_jobs_of_one_request_wait_for_each_other_by_their_places(client: Client, jobs_url: str) -> None:
    jobs = [new(after=[{"position": 2}]), new(), new(after=[{"position": 1, "runIf": "ended"}])]

    items = client.post(f"{jobs_url}/batch", json={"jobs": jobs}).get_json()["items"]

    ids = [item["jobId"] for item in items]
    found = [client.get(f"{jobs_url}/{job_id}").get_json()["after"] for job_id in ids]
    assert [[(wait["jobId"], wait["runIf"]) for wait in waits] for waits in found] == [
        [(ids[2], "completed")],
        [],
        [(ids[1], "ended")],
    ]


def test_jobs_of_one_request_that_wait_in_a_circle_are_refused(client: Client, jobs_url: str) -> None:
    jobs = [new(after=[{"position": 1}]), new(after=[{"position": 0}])]

    answer = client.post(f"{jobs_url}/batch", json={"jobs": jobs})

    assert answer.status_code == 422
    assert "goes round in a circle" in answer.get_json()["errors"][0]["message"]


def test_what_is_only_right_once_it_is_stored_is_said_of_its_place_in_a_bulk(client: Client, jobs_url: str) -> None:
    answer = client.post(f"{jobs_url}/batch", json={"jobs": [new(), new(batchId=str(uuid.uuid4()))]})

    assert (answer.status_code, answer.get_json()["errors"][0]["path"]) == (422, "/jobs/1/batchId")


def test_a_batch_tells_whether_it_has_changed(client: Client, url: str, batch_id: uuid.UUID) -> None:
    shown = client.get(f"{url}/{batch_id}")

    again = client.get(f"{url}/{batch_id}", headers={"If-None-Match": shown.headers["ETag"]})
    client.post(f"{url}/{batch_id}/cancel")
    changed = client.get(f"{url}/{batch_id}", headers={"If-None-Match": shown.headers["ETag"]})

    assert (again.status_code, changed.status_code) == (304, 200)
    assert shown.headers["Retry-After"] == "2"


def test_a_batch_is_cancelled_with_all_that_waits_for_it(
    client: Client, sessions: sessionmaker[Session], url: str, jobs_url: str
) -> None:
    opened = client.post(url, json={"onComplete": new(), "jobs": [new()]}).get_json()
    (callback,) = opened["callbacks"]
    member = opened["items"][0]["jobId"]
    after = client.post(jobs_url, json=new(after=[{"jobId": callback["jobId"], "runIf": "ended"}])).get_json()["jobId"]
    beside = client.post(jobs_url, json=new(after=[{"jobId": member, "runIf": "ended"}])).get_json()["jobId"]
    alone = client.post(jobs_url, json=new()).get_json()["jobId"]

    answer = client.post(f"{url}/{opened['id']}/cancel?tree=true")

    assert answer.get_json()["callbacks"][0]["status"] == "cancelled"
    settle(sessions)
    statuses = [client.get(f"{jobs_url}/{job}").get_json()["status"] for job in (member, after, beside, alone)]
    assert statuses == ["cancelled", "cancelled", "cancelled", "pending"]
    (line,) = audit_lines(sessions, "batch.cancel")
    assert (line.details["tree"], line.details["cancelled"]) == (True, 4)
