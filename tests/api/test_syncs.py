"""POST …/sync and what it leaves behind."""

from __future__ import annotations

import uuid

import pytest
from flask import Flask
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.api import create_blueprint
from jobplatform.connectors import tasks as shipped_tasks
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


@pytest.mark.parametrize("key", ["connectionId", "connectorType"])
def test_a_sync_is_refused_while_one_of_the_same_target_is_under_way_and_no_other(
    shipped: Client, sync_url: str, key: str
) -> None:
    one, two = ({key: str(uuid.uuid4())} for _ in range(2))
    first = shipped.post(sync_url, json=one)
    second = shipped.post(sync_url, json=two)
    everything = shipped.post(sync_url)
    again = [shipped.post(sync_url, json=body) for body in (one, two, {"mode": "initial"})]

    assert [answer.status_code for answer in (first, second, everything)] == [202, 202, 202]
    assert [answer.status_code for answer in again] == [409, 409, 409]
    assert [answer.get_json()["jobId"] for answer in again] == [
        answer.get_json()["jobId"] for answer in (first, second, everything)
    ]


def test_a_sync_that_waits_is_not_replaced_by_one_of_another_connection(shipped: Client, sync_url: str) -> None:
    one, two = ({"connectionId": str(uuid.uuid4()), "ifActive": "replace"} for _ in range(2))

    first, other, newer = (shipped.post(sync_url, json=body).get_json() for body in (one, two, one))

    assert (other["replaced"], newer["replaced"]) == (False, True)
    assert newer["jobId"] == first["jobId"]
    assert shipped.get(first["statusUrl"]).get_json()["payload"] == {"connectionId": one["connectionId"]}


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
