"""Tasks of the platform's own: nobody has it do over HTTP what it does for itself, and least of all sign something."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.api import create_app
from jobplatform.key_ring import generate_key
from jobplatform.models import Job, Role
from jobplatform.settings import Settings
from tests import providers
from tests.api.conftest import Client, Hand, MintToken, engine_of_api, hub_of
from tests.conftest import EngineOn

SECRET = "s3cret-canary"
FORGED = {
    "webhookId": "0199f0c2-5a4e-7c31-9a55-6f0f2f6f7d10",
    "event": {"type": "invoice.paid", "timestamp": "2026-01-01T00:00:00Z", "data": {"forged": True}},
}
A_SCHEDULE = {"name": "a schedule", "everyMs": 60_000, "payload": FORGED}
A_HOOK = {"name": "a hook", "scheme": "github", "secret": SECRET}
OURS = ("jobplatform.webhook", "export.expire")


@pytest.fixture(autouse=True)
def key_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBPLATFORM_ENCRYPTION_KEYS", generate_key("a"))


@pytest.fixture
def app(login_url: Callable[..., str], engine_on: EngineOn, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    """One that knows the platform's own tasks, as every installation does."""
    with monkeypatch.context() as patch:
        patch.setattr("jobplatform.api.app.make_engine", lambda url, **_options: engine_on(url, engine_of_api))
        app = create_app(Settings(database_url=login_url(Role.API), tasks="jobplatform.connectors:tasks"))
    yield app
    hub_of(app).close()


@pytest.fixture
def owner(app: Flask, workspace_id: uuid.UUID, mint: MintToken) -> Client:
    """A token for all that a workspace may have done."""
    return Client(app.test_client(), mint(workspace_id, ("jobs:read", "jobs:write", "connections", "schedules")))


@pytest.fixture
def no_jobs(sessions: sessionmaker[Session]) -> Iterator[None]:
    """In the end there is not one."""
    yield
    with sessions() as session:
        assert session.scalars(select(Job)).all() == []


@pytest.mark.usefixtures("no_jobs")
@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/jobs", {"payload": FORGED}),
        ("/schedules", A_SCHEDULE),
        ("/hooks", A_HOOK),
    ],
)
def test_a_task_of_the_platform_s_own_is_unknown_to_a_workspace(
    owner: Client, workspace_id: uuid.UUID, path: str, body: dict[str, Any], name: str
) -> None:
    answer = owner.post(f"/workspaces/{workspace_id}{path}", json={"jobType": name, **body})

    assert answer.status_code == 422
    assert answer.get_json()["type"].endswith(":unknown-job-type")
    assert answer.get_json()["detail"].startswith(f"no task is named '{name}'")


@pytest.mark.usefixtures("no_jobs")
@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize(
    ("path", "body_of", "at"),
    [
        ("/jobs/batch", lambda job: {"jobs": [job]}, "/jobs/0/jobType"),
        ("/batches", lambda job: {"jobs": [job]}, "/jobs/0/jobType"),
        ("/batches", lambda job: {"onComplete": job, "close": True}, "/onComplete/jobType"),
    ],
)
def test_it_is_unknown_among_many_and_as_what_follows_a_batch(
    owner: Client, workspace_id: uuid.UUID, path: str, body_of: Callable[[Any], Any], at: str, name: str
) -> None:
    body = body_of({"jobType": name, "payload": FORGED})

    answer = owner.post(f"/workspaces/{workspace_id}{path}", json=body)

    assert answer.status_code == 422
    (error,) = answer.get_json()["errors"]
    assert error["path"] == at
    assert error["message"].startswith(f"no task is named '{name}'")


@pytest.mark.usefixtures("no_jobs")
@pytest.mark.parametrize("name", OURS)
def test_it_is_unknown_to_short_forms_and_to_operators(owner: Client, operator: Client, name: str) -> None:
    short = owner.post("/trigger", json={"taskId": name, "payload": FORGED})
    for_all = operator.post("/operator/schedules", json={"jobType": name, **A_SCHEDULE, "everyWorkspace": True})

    kinds = [answer.get_json()["type"].rpartition(":")[2] for answer in (short, for_all)]
    assert kinds == ["unknown-job-type", "unknown-job-type"]


def test_it_is_not_what_a_typing_mistake_is_told(owner: Client, workspace_id: uuid.UUID) -> None:
    answer = owner.post(f"/workspaces/{workspace_id}/jobs", json={"jobType": "jobplatform.webhok"})

    assert (answer.status_code, answer.get_json().get("suggestion")) == (422, None)


@pytest.mark.usefixtures("no_jobs")
def test_a_schedule_and_a_hook_cannot_be_pointed_at_it(owner: Client, workspace_id: uuid.UUID) -> None:
    made = [
        owner.post(f"/workspaces/{workspace_id}/{kind}", json={"jobType": "export", **body})
        for kind, body in (("schedules", {**A_SCHEDULE, "payload": {}}), ("hooks", A_HOOK))
    ]

    changed = [
        owner.request("PATCH", answer.headers["Location"], json={"jobType": "jobplatform.webhook"}) for answer in made
    ]

    assert [answer.status_code for answer in made] == [201, 201]
    assert [answer.get_json()["type"].rpartition(":")[2] for answer in changed] == ["unknown-job-type"] * 2


@pytest.mark.usefixtures("no_jobs")
def test_a_schedule_that_points_at_it_already_does_nothing_and_says_why(
    owner: Client, workspace_id: uuid.UUID, sessions: sessionmaker[Session]
) -> None:
    body = {"jobType": "export", **A_SCHEDULE, "payload": {}}
    at = owner.post(f"/workspaces/{workspace_id}/schedules", json=body).headers["Location"]
    with sessions.begin() as session:
        session.execute(text("update jobplatform.schedules set task = 'jobplatform.webhook'"))

    run = owner.post(f"{at}/run-now")

    assert (run.status_code, run.get_json()["type"].rpartition(":")[2]) == (422, "unknown-job-type")
    assert owner.get(at).get_json()["problem"] == (
        "the task jobplatform.webhook is the platform's own: its ticks come to nothing; delete the schedule"
    )
    assert owner.request("DELETE", at).status_code == 204


@pytest.mark.usefixtures("no_jobs")
def test_a_hook_that_points_at_it_already_takes_nothing_and_says_why(
    owner: Client, nobody: Client, workspace_id: uuid.UUID, sessions: sessionmaker[Session]
) -> None:
    made = owner.post(f"/workspaces/{workspace_id}/hooks", json={"jobType": "export", **A_HOOK}).get_json()
    with sessions.begin() as session:
        session.execute(text("update jobplatform.hooks set task = 'jobplatform.webhook'"))
    body = providers.as_json(FORGED)
    path = "/hooks/" + made["url"].rpartition("/")[2]

    answer = nobody.request("POST", path, headers=providers.github(SECRET, body), data=body)

    assert (answer.status_code, answer.get_json()["reason"]) == (503, "unknown-task")


def test_a_delivery_of_a_test_is_enqueued_tried_again_when_it_failed_and_changed_while_it_waits(
    owner: Client, workspace_id: uuid.UUID, hand: Hand
) -> None:
    wanted = {"name": "the CRM", "url": "https://crm.example.com/hooks"}
    webhook = owner.post(f"/workspaces/{workspace_id}/webhooks", json=wanted).get_json()

    sent = owner.post(f"/workspaces/{workspace_id}/webhooks/{webhook['id']}/test")
    job_id = sent.get_json()["jobId"]
    hand.fail(workspace_id, job_id)
    retried = owner.post(f"/workspaces/{workspace_id}/jobs/{job_id}/retry")

    changed = owner.request("PATCH", f"/workspaces/{workspace_id}/jobs/{job_id}", json={"priority": 5})

    assert (sent.status_code, retried.status_code, changed.status_code) == (202, 200, 200)
    assert (changed.get_json()["jobType"], changed.get_json()["priority"]) == ("jobplatform.webhook", 5)
    assert (retried.get_json()["jobType"], retried.get_json()["status"]) == ("jobplatform.webhook", "pending")


def test_a_delivery_is_not_forked_with_a_payload_that_nobody_of_us_wrote(
    owner: Client, workspace_id: uuid.UUID, hand: Hand, sessions: sessionmaker[Session]
) -> None:
    wanted = {"name": "the CRM", "url": "https://crm.example.com/hooks"}
    webhook = owner.post(f"/workspaces/{workspace_id}/webhooks", json=wanted).get_json()
    job_id = owner.post(f"/workspaces/{workspace_id}/webhooks/{webhook['id']}/test").get_json()["jobId"]
    hand.fail(workspace_id, job_id)

    forked = [
        owner.post(f"/workspaces/{workspace_id}/jobs/{job_id}/fork", json=body) for body in ({}, {"payload": FORGED})
    ]

    assert [answer.get_json()["type"].rpartition(":")[2] for answer in forked] == ["unknown-job-type"] * 2
    with sessions() as session:
        assert [str(job.id) for job in session.scalars(select(Job))] == [job_id]
