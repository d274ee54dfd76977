"""Synchronous mode: the same request, guard and rows; the answer comes when the job has run."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from flask import Flask

from jobplatform.api import create_app
from jobplatform.models import Role
from jobplatform.settings import Settings
from tests.api import example_tasks
from tests.api.conftest import PROBLEM, Client


@pytest.fixture
def app(login_url: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    monkeypatch.setattr(example_tasks.tasks, "mode", "queue")
    settings = Settings.from_env(
        {
            "DATABASE_URL": login_url(Role.API, Role.WORKER),
            "DISABLE_QUEUE": "true",
            "JOBPLATFORM_TASKS": "tests.api.example_tasks:tasks",
        }
    )
    app = create_app(settings)
    yield app
    app.extensions["jobplatform.engine"].dispose()


def test_a_sync_is_complete_when_it_is_accepted(client: Client, sync_url: str) -> None:
    answer = client.post(sync_url, json={"mode": "initial"})

    job = answer.get_json()["job"]
    assert answer.status_code == 202
    assert answer.get_json()["status"] == "completed"
    assert job["result"] == {"mode": "initial", "totalRecords": 7}
    assert job["progress"] == {"current": 1, "total": 2, "message": "half way"}
    assert job["attempts"] == 1
    assert "Retry-After" not in answer.headers
    assert client.get(answer.headers["Location"]).get_json() == job


def test_a_job_that_fails_inline_is_still_an_accepted_job(client: Client, jobs_url: str) -> None:
    answer = client.post(jobs_url, json={"jobType": "fail"})

    job = answer.get_json()["job"]
    assert (answer.status_code, job["status"]) == (202, "failed")
    assert job["error"] == {"type": "RuntimeError", "message": "the far side said no"}


def test_a_scheduled_job_waits_in_synchronous_mode_too(client: Client, jobs_url: str) -> None:
    answer = client.post(jobs_url, json={"jobType": "echo", "delayMs": 60_000, "uniqueKey": "once"})
    again = client.post(jobs_url, json={"jobType": "echo", "uniqueKey": "once"})

    assert answer.get_json()["status"] == "pending"
    assert (again.status_code, again.content_type) == (409, PROBLEM)


def test_validation_is_the_same(client: Client, jobs_url: str) -> None:
    assert client.post(jobs_url, json={"jobType": "add", "payload": {}}).status_code == 422
