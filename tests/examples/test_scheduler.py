"""The scheduler example as a reader runs it: its application, a worker that does what is due, and a manual trigger."""

from __future__ import annotations

import datetime
import uuid
from types import ModuleType
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.api import mint_token
from jobplatform.testing import wait_until
from tests.examples.conftest import ClientOf, Load, WorkIn

NOW = datetime.datetime.now(datetime.UTC)


@pytest.fixture
def scheduler(load: Load) -> ModuleType:
    return load("scheduler")


@pytest.fixture
def client(scheduler: ModuleType, client_of: ClientOf) -> FlaskClient:
    return client_of(scheduler)


@pytest.fixture
def operator(sessions: sessionmaker[Session]) -> dict[str, str]:
    with sessions.begin() as session:
        return {"Authorization": f"Bearer {mint_token(session, None, ['operator'], 'a test')}"}


@pytest.fixture
def worker(client: FlaskClient, work_in: WorkIn) -> None:
    """Mails are processed every second here: the test need not wait for half a minute."""
    work_in("scheduler", MAILS_EVERY="1")


@pytest.mark.usefixtures("worker")
def test_the_scheduler_does_by_the_clock_and_by_hand_what_it_says(
    client: FlaskClient,
    operator: dict[str, str],
    scheduler: ModuleType,
    sessions: sessionmaker[Session],
    workspace_id: uuid.UUID,
) -> None:
    with sessions.begin() as session:
        for days in (10, 400, 3000):
            session.add(scheduler.AuditEvent(at=NOW - datetime.timedelta(days=days), what=f"{days} days ago"))

    # A delayed job writes a mail, and the interval sends it.
    client.post(f"/shop/{workspace_id}/reminders", json={"customer": "ann@example.org", "seconds": 1})
    wait_until(lambda: _sent(sessions, scheduler) == ["ann@example.org"], what="the mail to be sent", seconds=60)

    # Both schedules were written down at the worker's start.
    schedules = {one["name"]: one for one in _get(client, "/api/operator/schedules", operator)["items"]}
    nightly = schedules["audit.retention"]
    assert set(schedules) == {"audit.retention", "mail.process-queue"}
    assert (nightly["words"], nightly["timezone"]) == ("At 03:00 every day", "Europe/Berlin")

    # Retention is triggered by hand: the second time finds nothing to do.
    assert _run_now(client, operator, nightly["id"]) == {"archived": 2, "purged": 1}
    assert _run_now(client, operator, nightly["id"]) == {"archived": 0, "purged": 0}
    with sessions() as session:
        left = session.execute(select(scheduler.AuditEvent.what, scheduler.AuditEvent.archived)).all()
    assert sorted(tuple(row) for row in left) == [("10 days ago", False), ("400 days ago", True)]


def _sent(sessions: sessionmaker[Session], scheduler: ModuleType) -> list[str]:
    with sessions() as session:
        return list(session.scalars(select(scheduler.Mail.to).where(scheduler.Mail.sent)))


def _run_now(client: FlaskClient, operator: dict[str, str], schedule_id: str) -> Any:
    tick = client.post(f"/api/operator/schedules/{schedule_id}/run-now", headers=operator)
    assert tick.status_code == 202, tick.text
    url = tick.get_json()["statusUrl"]
    ended = wait_until(
        lambda: job if (job := _get(client, url, operator))["completedAt"] else {}, what=f"the end of {url}", seconds=60
    )
    assert ended["status"] == "completed", ended
    return ended["result"]


def _get(client: FlaskClient, path: str, headers: dict[str, str]) -> Any:
    answer = client.get(path, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.get_json()
