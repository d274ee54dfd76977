"""The example of the README as a reader runs it: their application, our API in it, and a worker process."""

from __future__ import annotations

import uuid
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.api import mint_token
from jobplatform.testing import wait_until
from tests.examples.conftest import ClientOf, Load, WorkIn

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "quickstart"


@pytest.fixture
def quickstart(load: Load) -> ModuleType:
    return load("quickstart")


@pytest.fixture
def client(quickstart: ModuleType, client_of: ClientOf) -> FlaskClient:
    return client_of(quickstart)


@pytest.fixture
def token(sessions: sessionmaker[Session], workspace_id: uuid.UUID) -> str:
    with sessions.begin() as session:
        return mint_token(session, workspace_id, ["jobs:read", "jobs:write"], "test")


@pytest.fixture
def worker(client: FlaskClient, work_in: WorkIn) -> None:
    work_in("quickstart")


@pytest.mark.usefixtures("worker")
def test_an_order_gets_its_invoice_from_a_worker(
    client: FlaskClient, quickstart: ModuleType, session: Session, workspace_id: uuid.UUID, token: str
) -> None:
    placed = client.post(f"/shop/{workspace_id}/orders", json={"item": "tea"})

    assert placed.status_code == 202
    job = _wait_for_end(client, workspace_id, placed.get_json()["jobId"], token)
    assert job["status"] == "completed", job
    assert job["result"] == {"invoice": "INV-00001 for tea"}
    order = session.get_one(quickstart.Order, 1)
    assert order.invoice == "INV-00001 for tea"


def test_an_order_that_is_rolled_back_leaves_no_job(client: FlaskClient, workspace_id: uuid.UUID, token: str) -> None:
    # A NUL character is what PostgreSQL refuses: the order's insert fails.
    client.application.testing = False
    refused = client.post(f"/shop/{workspace_id}/orders", json={"item": "\0"})

    assert refused.status_code == 500
    assert _get(client, f"/api/workspaces/{workspace_id}/jobs", token)["items"] == []


def test_the_readme_shows_this_example_and_no_other() -> None:
    readme = (ROOT / "README.md").read_text()

    assert (FOLDER / "app.py").read_text() in readme


def _wait_for_end(client: FlaskClient, workspace_id: uuid.UUID, job_id: str, token: str) -> dict[str, Any]:
    path = f"/api/workspaces/{workspace_id}/jobs/{job_id}"

    def ended() -> dict[str, Any]:
        job = _get(client, path, token)
        return job if job["completedAt"] else {}

    return wait_until(ended, what=f"the end of job {job_id}", seconds=60)


def _get(client: FlaskClient, path: str, token: str) -> dict[str, Any]:
    answer = client.get(path, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200, answer.get_data(as_text=True)
    body: dict[str, Any] = answer.get_json()
    return body
