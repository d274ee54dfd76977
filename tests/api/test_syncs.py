"""POST …/sync and what it leaves behind."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.api import Scope, create_blueprint
from jobplatform.connectors import create_connection
from jobplatform.connectors import tasks as shipped_tasks
from jobplatform.models import Job
from jobplatform.queue import Tasks
from tests.api.conftest import PROBLEM, Client, Hand, MintToken


def test_a_sync_is_accepted_and_can_be_followed(client: Client, sync_url: str, workspace_id: uuid.UUID) -> None:
    answer = client.post(sync_url, json={"connectorType": "crm", "mode": "initial", "priority": 5})

    body = answer.get_json()
    assert answer.status_code == 202
    assert body["status"] == "pending"
    assert body["deduplicated"] is False
    assert body["statusUrl"] == f"/workspaces/{workspace_id}/jobs/{body['jobId']}"
    assert answer.headers["Location"] == body["statusUrl"]
    assert int(answer.headers["Retry-After"]) > 0
    assert body["job"]["payload"] == {"connectorType": "crm", "mode": "initial"}
    assert (body["job"]["jobType"], body["job"]["queue"], body["job"]["priority"]) == ("sync", "sync", 5)
    assert client.get(body["statusUrl"]).get_json() == body["job"]


def test_a_sync_needs_no_body(client: Client, sync_url: str) -> None:
    assert client.post(sync_url).status_code == 202


def test_a_second_sync_is_refused_and_names_the_first(client: Client, sync_url: str) -> None:
    first = client.post(sync_url).get_json()

    again = client.post(sync_url)

    body = again.get_json()
    assert again.status_code == 409
    assert again.content_type == PROBLEM
    assert body["status"] == 409
    assert body["jobId"] == first["jobId"]
    assert body["jobStatus"] == "pending"
    assert body["detail"].endswith("Watch that one, at statusUrl, or try again when it has ended.")
    assert body["statusUrl"] == first["statusUrl"] == again.headers["Location"]


def test_a_second_sync_is_refused_while_the_first_runs(
    client: Client, sync_url: str, workspace_id: uuid.UUID, hand: Hand
) -> None:
    first = client.post(sync_url).get_json()
    hand.claim(workspace_id, first["jobId"])

    again = client.post(sync_url)

    assert (again.status_code, again.get_json()["jobStatus"]) == (409, "running")


def test_the_running_sync_can_be_asked_for_instead(client: Client, sync_url: str) -> None:
    first = client.post(sync_url, json={"mode": "initial"}).get_json()

    again = client.post(sync_url, json={"ifActive": "return"})

    assert again.status_code == 202
    assert again.get_json()["deduplicated"] is True
    assert again.get_json()["job"] == first["job"]
    assert again.headers["Location"] == first["statusUrl"]


def test_a_finished_sync_does_not_stand_in_the_way(
    client: Client, sync_url: str, workspace_id: uuid.UUID, hand: Hand
) -> None:
    first = client.post(sync_url).get_json()
    hand.complete(workspace_id, first["jobId"])

    second = client.post(sync_url)

    assert second.status_code == 202
    assert second.get_json()["jobId"] != first["jobId"]


@pytest.fixture
def shipped(sessions: sessionmaker[Session], mint: MintToken, workspace_id: uuid.UUID) -> Client:
    """A client of an installation that has the tasks which come with the platform."""
    app = Flask(__name__)
    app.register_blueprint(create_blueprint(sessions, shipped_tasks))
    return Client(app.test_client(), mint(workspace_id))


@pytest.fixture
def connections(session: Session, workspace_id: uuid.UUID) -> list[str]:
    """The ids of two connections of the workspace."""
    config = {"url": "https://news.example.com/feed"}
    made = [
        create_connection(session, workspace_id, connector_type="rss", name=name, config=config) for name in ("a", "b")
    ]
    session.commit()
    return [str(connection.id) for connection in made]


@pytest.mark.parametrize("key", ["connectionId", "connectorType"])
def test_a_sync_is_refused_while_one_of_the_same_target_is_under_way_and_no_other(
    shipped: Client, sync_url: str, key: str, connections: list[str]
) -> None:
    one, two = ({key: target} for target in (connections if key == "connectionId" else ("rss", "csv")))
    first = shipped.post(sync_url, json=one)
    second = shipped.post(sync_url, json=two)
    everything = shipped.post(sync_url)
    again = [shipped.post(sync_url, json=body) for body in (one, two, {"mode": "initial"})]

    assert [answer.status_code for answer in (first, second, everything)] == [202, 202, 202]
    assert [answer.status_code for answer in again] == [409, 409, 409]
    assert [answer.get_json()["jobId"] for answer in again] == [
        answer.get_json()["jobId"] for answer in (first, second, everything)
    ]


def test_a_sync_that_waits_is_not_replaced_by_one_of_another_connection(
    shipped: Client, sync_url: str, connections: list[str]
) -> None:
    one, two = ({"connectionId": target, "ifActive": "replace"} for target in connections)

    first, other, newer = (shipped.post(sync_url, json=body).get_json() for body in (one, two, one))

    assert (other["replaced"], newer["replaced"]) == (False, True)
    assert newer["jobId"] == first["jobId"]
    assert shipped.get(first["statusUrl"]).get_json()["payload"] == {"connectionId": one["connectionId"]}


A_RULE = {"cron": "@daily"}
EVERYTHING = (Scope.JOBS_READ, Scope.JOBS_WRITE, Scope.SCHEDULES)


@pytest.mark.parametrize(
    ("path", "body_of", "at"),
    [
        ("/sync", lambda payload: payload, "/connectionId"),
        ("/jobs", lambda payload: {"jobType": "sync", "payload": payload}, "/payload/connectionId"),
        ("/jobs/batch", lambda payload: {"jobs": [{"jobType": "sync", "payload": payload}]},
         "/jobs/0/payload/connectionId"),
        ("/batches", lambda payload: {"jobs": [{"jobType": "sync", "payload": payload}]},
         "/jobs/0/payload/connectionId"),
        ("/schedules", lambda payload: {"jobType": "sync", "payload": payload, **A_RULE}, "/payload/connectionId"),
    ],
)  # fmt: skip
def test_a_sync_of_a_connection_that_is_not_there_or_another_workspace_s_is_refused_at_once(
    session: Session,
    sessions: sessionmaker[Session],
    mint: MintToken,
    workspace_id: uuid.UUID,
    other_workspace: uuid.UUID,
    connections: list[str],
    path: str,
    body_of: Callable[[Any], Any],
    at: str,
) -> None:
    app = Flask(__name__)
    app.register_blueprint(create_blueprint(sessions, shipped_tasks))
    mine, theirs = (Client(app.test_client(), mint(whose, EVERYTHING)) for whose in (workspace_id, other_workspace))

    fine = mine.post(f"/workspaces/{workspace_id}{path}", json=body_of({"connectionId": connections[0]}))
    refused = [
        mine.post(f"/workspaces/{workspace_id}{path}", json=body_of({"connectionId": str(uuid.uuid4())})),
        theirs.post(f"/workspaces/{other_workspace}{path}", json=body_of({"connectionId": connections[0]})),
    ]

    assert fine.status_code in (201, 202), fine.get_json()
    for answer in refused:
        assert (answer.status_code, answer.content_type) == (422, PROBLEM)
        assert answer.get_json()["errors"] == [{"path": at, "message": "this workspace has no such connection"}]
    session.rollback()
    assert session.scalars(select(Job.workspace_id).where(Job.workspace_id == other_workspace)).all() == []


def test_a_schedule_is_not_changed_to_sync_a_connection_that_is_not_there(
    sessions: sessionmaker[Session], mint: MintToken, workspace_id: uuid.UUID, connections: list[str]
) -> None:
    app = Flask(__name__)
    app.register_blueprint(create_blueprint(sessions, shipped_tasks))
    client = Client(app.test_client(), mint(workspace_id, EVERYTHING))
    body = {"jobType": "sync", "payload": {"connectionId": connections[0]}, **A_RULE}
    schedule = client.post(f"/workspaces/{workspace_id}/schedules", json=body).get_json()["id"]
    url = f"/workspaces/{workspace_id}/schedules/{schedule}"

    refused = client.request("PATCH", url, json={"payload": {"connectionId": str(uuid.uuid4())}})
    changed = client.request("PATCH", url, json={"payload": {"connectionId": connections[1]}})

    assert (refused.status_code, changed.status_code) == (422, 200)
    assert refused.get_json()["errors"][0]["path"] == "/payload/connectionId"


def test_workspaces_sync_independently(
    client: Client, stranger: Client, sync_url: str, other_workspace: uuid.UUID
) -> None:
    assert client.post(sync_url).status_code == 202
    assert stranger.post(f"/workspaces/{other_workspace}/sync").status_code == 202


def test_a_result_is_shown_when_the_sync_is_complete(
    client: Client, sync_url: str, workspace_id: uuid.UUID, hand: Hand
) -> None:
    started = client.post(sync_url).get_json()
    hand.complete(workspace_id, started["jobId"], '{"totalRecords": 7}')

    answer = client.get(f"{sync_url}/jobs/{started['jobId']}")

    job = answer.get_json()
    assert (job["status"], job["outcome"], job["result"]) == ("completed", "ok", {"totalRecords": 7})
    assert job["completedAt"].endswith("Z")
    assert "Retry-After" not in answer.headers


def test_syncs_are_listed_apart_from_other_jobs(client: Client, sync_url: str, jobs_url: str) -> None:
    sync = client.post(sync_url).get_json()
    echo = client.post(jobs_url, json={"jobType": "echo"}).get_json()

    listed = client.get(f"{sync_url}/jobs").get_json()

    assert [job["id"] for job in listed["items"]] == [sync["jobId"]]
    assert client.get(f"{sync_url}/jobs/{echo['jobId']}").status_code == 404


def test_a_payload_that_the_task_refuses_is_invalid_at_its_place(client: Client, sync_url: str) -> None:
    answer = client.post(sync_url, json={"syncLogId": "not a field of this application's sync"})

    assert answer.status_code == 422
    assert [error["path"] for error in answer.get_json()["errors"]] == ["/syncLogId"]


def test_without_a_sync_task_there_is_nothing_to_sync(
    sessions: sessionmaker[Session], mint: MintToken, workspace_id: uuid.UUID, sync_url: str
) -> None:
    app = Flask(__name__)
    app.register_blueprint(create_blueprint(sessions, Tasks()))
    client = Client(app.test_client(), mint(workspace_id))

    answer = client.post(sync_url)

    assert answer.status_code == 404
    assert "no task named 'sync'" in answer.get_json()["detail"]
