"""Whoever changes settings over HTTP takes nothing back that somebody else has changed since they were read."""

from __future__ import annotations

import datetime
import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.key_ring import generate_key
from jobplatform.queue import Every, Tasks, create_schedule, fire_schedules
from jobplatform.queue.schedules import TaskDefaults
from jobplatform.testing import wait_until
from tests.api.conftest import PROBLEM, Client, MintToken

WAITING = """
select count(*) from pg_stat_activity
where application_name = 'jobplatform-api' and datname = current_database() and wait_event_type = 'Lock'
"""


class Setting(NamedTuple):
    """Where it is, how it is changed, and what two people change it to. ``made_by``: what makes it first; by a POST, it
    is a workspace's own, and below ``path``."""

    path: str
    method: str
    first: dict[str, Any]
    second: dict[str, Any]
    table: str
    made_by: tuple[str, dict[str, Any]] | None = None


A_RATE = {"units": 5, "periodMs": 1000}
CONFIG = {"baseUrl": "https://crm.example.com", "streams": {"contacts": {"path": "/contacts"}}}
SETTINGS = {
    "plan": Setting("plans/gold", "PATCH", {"weight": 2}, {"weight": 3}, "plans", ("PUT", {"maxRunning": 9})),
    "replaced plan": Setting("plans/gold", "PUT", {"weight": 2}, {"weight": 3}, "plans", ("PUT", {"maxRunning": 9})),
    "workspace": Setting(
        "workspaces/{workspace}/limits", "PATCH", {"maxRunning": 1}, {"maxRunning": 2}, "workspace_limits"
    ),
    "queue": Setting("queues/default/limits", "PATCH", {"maxRunning": 1}, {"maxRunning": 2}, "queue_limits"),
    "task": Setting("tasks/echo/limits", "PATCH", {"maxRunning": 1}, {"maxRunning": 2}, "task_limits"),
    "rate": Setting("rate-limits/crm:*", "PATCH", {"units": 6}, {"units": 7}, "rate_limits", ("PUT", A_RATE)),
    "replaced rate": Setting(
        "rate-limits/crm:*", "PUT", A_RATE | {"units": 6}, A_RATE | {"units": 7}, "rate_limits", ("PUT", A_RATE)
    ),
    "resource": Setting(
        "resource-limits/crm:*",
        "PUT",
        {"maxRunning": 1},
        {"maxRunning": 2},
        "resource_limits",
        ("PUT", {"maxRunning": 9}),
    ),
    "rule": Setting("alert-rules/backlog", "PATCH", {"above": 1}, {"above": 2}, "health_rules"),
    "rule of a workspace": Setting(
        "workspaces/{workspace}/alert-rules/backlog",
        "PUT",
        {"above": 1},
        {"above": 2},
        "workspace_alert_rules",
        ("PUT", {"above": 9}),
    ),
    "schedule": Setting("schedules/{schedule}", "PATCH", {"priority": 1}, {"priority": 2}, "schedules"),
    "webhook": Setting(
        "webhooks",
        "PATCH",
        {"events": ["job.failed"], "jobTypes": None},
        {"events": ["job.completed"], "jobTypes": ["sync"]},
        "webhook_subscriptions",
        ("POST", {"name": "the CRM", "url": "https://crm.example.com/hooks"}),
    ),
    "hook": Setting(
        "hooks",
        "PATCH",
        {"publicUrl": "https://jobs.example.com/api", "jobType": "newest"},
        {"publicUrl": None, "jobType": "newest"},
        "hooks",
        ("POST", {"name": "Strava", "scheme": "none", "jobType": "echo"}),
    ),
    "connection": Setting(
        "connections",
        "PATCH",
        {"config": {"baseUrl": "https://a.example.com", "streams": {"s": {"path": "/s"}}}},
        {"config": {"baseUrl": "https://b.example.com", "streams": {"s": {"path": "/s"}}}},
        "connections",
        ("POST", {"connectorType": "http_json", "name": "CRM", "config": CONFIG}),
    ),
}
DELETABLE = [name for name in SETTINGS if name not in ("queue", "replaced plan", "replaced rate")]


class At(NamedTuple):
    """A setting of this test's."""

    http: Client
    path: str
    setting: Setting

    def read(self) -> Any:
        answer = self.http.get(self.path)
        assert answer.status_code == 200, answer.text
        return answer

    def change(self, body: dict[str, Any], tag: str | None = None) -> Any:
        headers = {} if tag is None else {"If-Match": tag}
        return self.http.request(self.setting.method, self.path, json=body, headers=headers)

    def is_as(self, body: dict[str, Any]) -> bool:
        found = self.read().get_json()
        return body.items() <= {**found, **found.get("own", {})}.items()


@pytest.fixture
def owner(app: Flask, workspace_id: uuid.UUID, mint: MintToken, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setenv("JOBPLATFORM_ENCRYPTION_KEYS", generate_key("a"))
    return Client(app.test_client(), mint(workspace_id, ("connections",)))


@pytest.fixture(params=SETTINGS)
def at(
    request: pytest.FixtureRequest,
    operator: Client,
    owner: Client,
    workspace_id: uuid.UUID,
    sessions: sessionmaker[Session],
    tasks: Tasks,
    client: Client,
    jobs_url: str,
) -> At:
    setting = SETTINGS[request.param]
    client.post(jobs_url, json={"jobType": "echo"})
    with sessions.begin() as session:
        schedule = create_schedule(session, tasks["echo"], Every(datetime.timedelta(hours=1)))
        names = {"workspace": workspace_id, "schedule": schedule.id}
    path = "/operator/" + setting.path.format(**names)
    if setting.made_by:
        method, body = setting.made_by
        if method == "POST":
            made = owner.post(f"/workspaces/{workspace_id}/{setting.path}", json=body)
            assert made.headers["ETag"] == owner.get(made.headers["Location"]).headers["ETag"]
            return At(owner, made.headers["Location"], setting)
        assert operator.request(method, path, json=body).status_code == 200
    return At(operator, path, setting)


def test_what_somebody_else_has_changed_since_it_was_read_is_left_alone(at: At) -> None:
    seen = at.read().headers["ETag"]

    changed = at.change(at.setting.first, seen)
    late = at.change(at.setting.second, seen)

    assert (changed.status_code, late.status_code, late.mimetype) == (200, 412, PROBLEM)
    assert late.get_json()["type"].endswith(":precondition-failed")
    assert at.is_as(at.setting.first)
    # What a change has answered is what one goes on from, as is what was read; and who names no tag has what they say.
    assert changed.headers["ETag"] == at.read().headers["ETag"]
    assert at.change(at.setting.second, changed.headers["ETag"]).status_code == 200
    assert at.is_as(at.setting.second)
    assert at.change(at.setting.first).status_code == 200
    assert at.change(at.setting.second, "*").status_code == 200
    for given in ("", "nonsense", '"other"'):
        assert at.change(at.setting.first, given).status_code == 412, given
    assert at.is_as(at.setting.second)


def test_of_two_who_change_the_same_at_once_one_has_read_what_is_not_there_any_more(
    at: At, sessions: sessionmaker[Session]
) -> None:
    seen = at.read().headers["ETag"]
    # Whichever comes first changes something: what changes nothing leaves the tag as it was.
    assert not at.is_as(at.setting.first)
    assert not at.is_as(at.setting.second)
    with ThreadPoolExecutor(2) as threads, sessions() as holding:
        # Both have begun before either has changed anything.
        holding.execute(text(f"lock table jobplatform.{at.setting.table} in exclusive mode"))
        under_way = [threads.submit(at.change, body, seen) for body in (at.setting.first, at.setting.second)]
        wait_until(lambda: _waiting(sessions) == 2, what="both to wait")
        holding.rollback()
        statuses = [one.result().status_code for one in under_way]

    assert sorted(statuses) == [200, 412]
    assert at.is_as(at.setting.first if statuses[0] == 200 else at.setting.second)


def _waiting(sessions: sessionmaker[Session]) -> int:
    """In a transaction of its own: what a transaction has seen of the others stays as it was."""
    with sessions() as session:
        return session.scalar(text(WAITING)) or 0


@pytest.mark.parametrize("at", DELETABLE, indirect=True)
def test_what_somebody_else_has_changed_since_it_was_read_is_not_deleted(at: At) -> None:
    seen = at.read().headers["ETag"]
    assert at.change(at.setting.first).status_code == 200

    late = at.http.request("DELETE", at.path, headers={"If-Match": seen})

    assert (late.status_code, late.mimetype) == (412, PROBLEM)
    assert at.is_as(at.setting.first)
    now = at.read().headers["ETag"]
    assert at.http.request("DELETE", at.path, headers={"If-Match": now}).status_code == 204


@pytest.mark.parametrize("at", ["plan", "rate", "rule of a workspace"], indirect=True)
def test_what_was_deleted_since_it_was_read_is_not_made_again(at: At) -> None:
    seen = at.read().headers["ETag"]
    assert at.http.request("DELETE", at.path).status_code == 204

    late = at.change(at.setting.first, seen)

    assert late.status_code == (404 if at.setting.method == "PATCH" else 412)
    assert at.http.get(at.path).status_code == 404


@pytest.mark.parametrize("at", ["replaced plan", "replaced rate", "resource", "rule of a workspace"], indirect=True)
def test_of_two_who_make_the_same_at_once_one_is_told_that_it_is_there(at: At, sessions: sessionmaker[Session]) -> None:
    assert at.http.request("DELETE", at.path).status_code == 204
    new = {"If-None-Match": "*"}
    with ThreadPoolExecutor(2) as threads, sessions() as holding:
        holding.execute(text(f"lock table jobplatform.{at.setting.table} in exclusive mode"))
        under_way = [
            threads.submit(at.http.request, "PUT", at.path, json=body, headers=new)
            for body in (at.setting.first, at.setting.second)
        ]
        wait_until(lambda: _waiting(sessions) == 2, what="both to wait")
        holding.rollback()
        statuses = [one.result().status_code for one in under_way]

    assert sorted(statuses) == [200, 412]
    assert at.is_as(at.setting.first if statuses[0] == 200 else at.setting.second)
    late = at.http.request("PUT", at.path, json=at.setting.first, headers=new)
    assert (late.status_code, late.get_json()["detail"]) == (
        412,
        "It is there already: read it, and change it if it is to be another.",
    )


@pytest.mark.parametrize("at", ["replaced plan", "replaced rate", "resource", "rule of a workspace"], indirect=True)
def test_what_is_no_way_to_say_that_it_is_new_is_refused_and_changes_nothing(at: At) -> None:
    before = at.read()

    for said in (before.headers["ETag"], "AAA", ""):
        answer = at.http.request("PUT", at.path, json=at.setting.second, headers={"If-None-Match": said})
        assert (answer.status_code, answer.get_json()["detail"]) == (
            400,
            "If-None-Match can be * here, for what is to be new; a tag is for If-Match.",
        )

    assert at.read().get_json() == before.get_json()


@pytest.mark.parametrize("at", ["webhook", "hook"], indirect=True)
def test_a_webhook_or_hook_that_was_switched_off_or_signs_anew_is_still_what_was_read(at: At) -> None:
    before = at.read().headers["ETag"]

    disabled = at.http.post(f"{at.path}/disable")
    anew = at.http.post(f"{at.path}/{'rotate-secret' if at.setting.path == 'webhooks' else 'rotate-key'}")

    assert (disabled.headers["ETag"], disabled.get_json()["disabledAt"] is None) == (before, False)
    assert anew.status_code == 200
    assert at.read().headers["ETag"] == before


def test_other_credentials_make_a_connection_another_and_renewed_ones_do_not(
    owner: Client, workspace_id: uuid.UUID, sessions: sessionmaker[Session]
) -> None:
    given = {"credentials": {"scheme": "bearer", "token": "t"}}
    made = owner.post(
        f"/workspaces/{workspace_id}/connections",
        json={"connectorType": "http_json", "name": "CRM", "config": CONFIG, **given},
    )
    path, seen = made.headers["Location"], made.headers["ETag"]
    with sessions.begin() as session:
        session.execute(text("update jobplatform.connection_credentials set renewed_at = jobplatform.clock()"))
    assert owner.get(path).headers["ETag"] == seen
    anew = owner.request("PATCH", path, json=given).headers["ETag"]

    late = owner.request("PATCH", path, json={"credentials": None}, headers={"If-Match": seen})

    assert late.status_code == 412
    assert owner.get(path).get_json()["hasCredentials"]
    assert owner.request("PATCH", path, json={"credentials": None}, headers={"If-Match": anew}).status_code == 200
    assert owner.get(path).headers["ETag"] not in (seen, anew)


def test_what_looks_like_a_secret_in_an_old_configuration_is_in_no_tag(
    owner: Client, workspace_id: uuid.UUID, sessions: sessionmaker[Session]
) -> None:
    made = owner.post(
        f"/workspaces/{workspace_id}/connections",
        json={"connectorType": "http_json", "name": "CRM", "config": CONFIG},
    )
    tags = set()
    for secret in ("Bearer one", "Bearer another"):
        config = json.dumps({**CONFIG, "headers": {"Authorization": secret}})
        with sessions.begin() as session:
            session.execute(text("update jobplatform.connections set config = :config"), {"config": config})
        tags.add(owner.get(made.headers["Location"]).headers["ETag"])

    assert len(tags) == 1


def test_a_schedule_that_has_run_meanwhile_is_still_what_was_read(
    mint: MintToken, app: Flask, tasks: Tasks, sessions: sessionmaker[Session], workspace_id: uuid.UUID
) -> None:
    with sessions.begin() as session:
        made = create_schedule(session, tasks["echo"], Every(datetime.timedelta(hours=1)), workspace_id=workspace_id)
        path = f"/workspaces/{workspace_id}/schedules/{made.id}"
    client = Client(app.test_client(), mint(workspace_id, ("schedules",)))
    before = client.get(path)
    with sessions.begin() as session:
        session.execute(text("update jobplatform.schedules set next_run_at = jobplatform.clock()"))
        fire_schedules(session, {"echo": TaskDefaults()})

    after = client.get(path)

    assert before.get_json()["lastTick"] != after.get_json()["lastTick"]
    assert before.headers["ETag"] == after.headers["ETag"]
    # Which is why it says nothing about whether the answer is another.
    assert client.get(path, headers={"If-None-Match": after.headers["ETag"]}).status_code == 200
