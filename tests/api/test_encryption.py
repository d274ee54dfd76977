"""Sealed jobs over HTTP: their workspace reads them, an operator sees that they are there, nobody else learns more."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
from flask import Flask
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.key_ring import generate_key
from jobplatform.queue import Tasks, run_inline, set_encrypting
from tests.api.conftest import Client, Hand, MintToken
from tests.api.example_tasks import make_tasks
from tests.api.streams import Stream

CANARY = "c4n4ry-in-the-mine"


@pytest.fixture(autouse=True)
def encrypting(sessions: sessionmaker[Session], workspace_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBPLATFORM_ENCRYPTION_KEYS", generate_key("a"))
    with sessions.begin() as session:
        set_encrypting(session, workspace_id, True)


@pytest.fixture
def operator(app: Flask, mint: MintToken) -> Client:
    return Client(app.test_client(), mint(None, ("operator",)))


@pytest.fixture
def has_run(sessions: sessionmaker[Session], workspace_id: uuid.UUID) -> Callable[[str], None]:
    def has_run(job_id: str, tasks: Tasks = make_tasks()) -> None:  # noqa: B008 - the same ones each time
        with sessions() as session:
            run_inline(session.get_bind().engine, tasks, workspace_id, uuid.UUID(job_id))

    return has_run


def test_a_workspace_reads_its_own_sealed_jobs(
    client: Client, jobs_url: str, echo: Callable[..., str], has_run: Callable[[str], None]
) -> None:
    job_id = echo(payload={"text": CANARY})
    has_run(job_id)

    shown = client.get(f"{jobs_url}/{job_id}").get_json()
    (listed,) = client.get(jobs_url).get_json()["items"]

    assert shown["payload"] == shown["result"] == listed["payload"] == listed["result"] == {"text": CANARY}


def test_a_token_for_one_job_shows_no_more_than_the_one_it_was_made_with(
    app: Flask,
    client: Client,
    operator: Client,
    jobs_url: str,
    echo: Callable[..., str],
    has_run: Callable[[str], None],
) -> None:
    job_id = echo(payload={"text": CANARY})
    has_run(job_id)

    def is_shown_to_one_made_by(maker: Client) -> list[bool]:
        looker = Client(app.test_client(), maker.post(f"{jobs_url}/{job_id}/token").get_json()["token"])
        job, run = looker.get(f"{jobs_url}/{job_id}").text, looker.get(f"/trigger/runs/{job_id}").text
        *_, ending = Stream(looker.get(f"{jobs_url}/{job_id}/events"))
        return [CANARY in said for said in (job, run, str(ending.data))]

    assert is_shown_to_one_made_by(client) == [True, True, True]
    assert is_shown_to_one_made_by(operator) == [False, False, False]


def test_errors_and_attempts_are_readable_too(client: Client, jobs_url: str, has_run: Callable[[str], None]) -> None:
    job_id = client.post(jobs_url, json={"jobType": "fail"}).get_json()["jobId"]
    has_run(job_id)

    shown = client.get(f"{jobs_url}/{job_id}").get_json()
    (attempt,) = client.get(f"{jobs_url}/{job_id}/attempts").get_json()["items"]

    assert shown["error"] == attempt["error"] == {"type": "RuntimeError", "message": "the far side said no"}
    assert "raise RuntimeError" in attempt["traceback"]


def test_steps_are_readable_too_and_not_for_an_operator(
    client: Client, operator: Client, jobs_url: str, has_run: Callable[[str], None]
) -> None:
    job_id = client.post(jobs_url, json={"jobType": "fail", "payload": {"text": CANARY}}).get_json()["jobId"]
    has_run(job_id)

    mine, theirs = (reader.get(f"{jobs_url}/{job_id}/steps").get_json() for reader in (client, operator))

    assert mine["items"][0]["result"] == mine["checkpoint"]["state"] == {"text": CANARY}
    assert theirs["items"][0]["result"] == theirs["checkpoint"]["state"] == {"sealed": True}


def test_progress_is_readable_too(client: Client, jobs_url: str, sync_url: str, has_run: Callable[[str], None]) -> None:
    job_id = client.post(sync_url, json={}).get_json()["jobId"]
    has_run(job_id)

    progress = client.get(f"{jobs_url}/{job_id}").get_json()["progress"]

    assert progress == {"current": 1, "total": 2, "message": "half way"}


def test_an_operator_sees_that_there_is_something(
    operator: Client, jobs_url: str, echo: Callable[..., str], has_run: Callable[[str], None]
) -> None:
    job_id = echo(payload={"text": CANARY})
    has_run(job_id)

    answers = [operator.get(f"{jobs_url}/{job_id}"), operator.get(jobs_url)]

    assert answers[0].get_json()["payload"] == answers[0].get_json()["result"] == {"sealed": True}
    assert not any(CANARY in answer.text or "$sealed" in answer.text for answer in answers)


def test_an_api_process_without_the_key_shows_and_writes_nothing(
    client: Client, jobs_url: str, echo: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = echo(payload={"text": CANARY})
    monkeypatch.delenv("JOBPLATFORM_ENCRYPTION_KEYS")

    shown = client.get(f"{jobs_url}/{job_id}")
    refused = client.post(jobs_url, json={"jobType": "echo", "payload": {"text": "another"}})

    assert shown.get_json()["payload"] == {"sealed": True}
    assert refused.status_code == 503
    assert "no key" in refused.get_json()["detail"]
    assert len(client.get(jobs_url).get_json()["items"]) == 1


def test_a_retried_job_is_still_readable(client: Client, jobs_url: str, hand: Hand, workspace_id: uuid.UUID) -> None:
    job_id = client.post(jobs_url, json={"jobType": "fail", "payload": {"text": CANARY}}).get_json()["jobId"]
    hand.fail(workspace_id, job_id)

    again = client.post(f"{jobs_url}/{job_id}/retry").get_json()

    assert (again["status"], again["payload"]) == ("pending", {"text": CANARY})
