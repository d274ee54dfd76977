"""Short forms for clients whose token names its workspace."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

from tests.api.conftest import Client, Hand
from tests.api.routes import UNKNOWN
from tests.api.streams import Stream


@pytest.fixture
def trigger(client: Client) -> Callable[..., str]:
    def trigger(**body: object) -> str:
        answer = client.post("/trigger", json={"taskId": "echo", "payload": {"a": 1}, **body})
        assert answer.status_code == 202, answer.text
        assert answer.headers["Location"] == f"/trigger/runs/{answer.get_json()['id']}"
        assert answer.get_json()["status"] == "QUEUED"
        return str(answer.get_json()["id"])

    return trigger


def test_a_run_is_a_job_of_the_token_s_workspace(client: Client, jobs_url: str, trigger: Callable[..., str]) -> None:
    run = trigger(priority=5)

    job = client.get(f"{jobs_url}/{run}").get_json()

    assert (job["jobType"], job["payload"], job["priority"]) == ("echo", {"a": 1}, 5)


def test_a_run_is_told_in_the_words_of_task_services(
    client: Client, trigger: Callable[..., str], hand: Hand, workspace_id: uuid.UUID
) -> None:
    done, failed = trigger(), trigger()
    lease = hand.claim(workspace_id, done)
    running = client.get(f"/trigger/runs/{done}").get_json()
    hand.end(lease, '{"success": true}')
    hand.fail(workspace_id, failed)

    ended = client.get(f"/trigger/runs/{done}").get_json()
    broken = client.get(f"/trigger/runs/{failed}").get_json()

    assert (running["status"], running["output"], running["taskId"]) == ("EXECUTING", None, "echo")
    assert (ended["status"], ended["output"]) == ("COMPLETED", {"success": True})
    assert (broken["status"], broken["error"]) == ("FAILED", "the far side said no")


def test_a_run_s_stream_has_messages_that_are_the_run(
    client: Client, trigger: Callable[..., str], hand: Hand, workspace_id: uuid.UUID
) -> None:
    run, cancelled = trigger(), trigger()
    hand.fail(workspace_id, run)
    client.post(f"/workspaces/{workspace_id}/jobs/{cancelled}/cancel")

    events = list(Stream(client.get(f"/jobs/stream/{run}")))
    rest = list(Stream(client.get(f"/jobs/stream/{run}", headers={"Last-Event-ID": events[0].id})))
    others = list(Stream(client.get(f"/jobs/stream/{cancelled}")))

    assert {event.name for event in events} == {"message"}
    assert [event.data["status"] for event in events] == ["QUEUED", "EXECUTING", "FAILED"]
    assert events[-1].data["error"] == "the far side said no"
    assert rest == events[1:]
    assert [event.data["status"] for event in others] == ["QUEUED", "CANCELLED"]


def test_a_run_of_another_workspace_is_not_there(stranger: Client, trigger: Callable[..., str]) -> None:
    run = trigger()

    for path in ("/trigger/runs/", "/jobs/stream/"):
        theirs, unknown = stranger.get(path + run), stranger.get(f"{path}{UNKNOWN}")
        assert (theirs.status_code, unknown.status_code) == (404, 404)
        assert theirs.text.replace(run, str(UNKNOWN)) == unknown.text


def test_an_operator_s_token_names_no_workspace(operator: Client) -> None:
    answer = operator.post("/trigger", json={"taskId": "echo"})

    assert answer.status_code == 404
    assert "/workspaces" in answer.get_json()["detail"]


def test_a_task_that_is_not_there_is_named(client: Client) -> None:
    answer = client.post("/trigger", json={"taskId": "ecko"})

    assert (answer.status_code, answer.get_json()["suggestion"]) == (422, "echo")
    assert [error["path"] for error in answer.get_json()["errors"]] == ["/taskId"]
