"""Schedules over HTTP: a workspace's own, and the platform's."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.api import create_blueprint
from jobplatform.connectors import SyncPayload, create_connection
from jobplatform.models import PLATFORM_WORKSPACE
from jobplatform.queue import RunningJob, Tasks, settle_schedules
from jobplatform.queue.schedules import conditions
from tests.api.conftest import PROBLEM, Client, MintToken

NIGHTLY = {"jobType": "echo", "name": "nightly", "cron": "30 2 * * mon-fri", "timezone": "Europe/Berlin"}


@pytest.fixture
def planner(app: Flask, workspace_id: uuid.UUID, mint: MintToken) -> Client:
    """A token for schedules and for looking at jobs."""
    return Client(app.test_client(), mint(workspace_id, ("schedules", "jobs:read")))


@pytest.fixture
def url(workspace_id: uuid.UUID) -> str:
    return f"/workspaces/{workspace_id}/schedules"


def make(client: Client, url: str, **body: Any) -> Any:
    answer = client.post(url, json={**NIGHTLY, **body})
    assert answer.status_code == 201, answer.text
    return answer.get_json()


def test_a_schedule_is_made_shown_and_listed(planner: Client, url: str, workspace_id: uuid.UUID) -> None:
    answer = planner.post(url, json={**NIGHTLY, "payload": {"a": 1}, "spreadMs": 60_000, "tags": ["x"]})

    made = answer.get_json()
    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"] == f"{url}/{made['id']}"
    assert planner.get(answer.headers["Location"]).get_json() == made
    assert planner.get(url).get_json() == {"items": [made], "nextCursor": None}
    assert made["words"] == "At 02:30 on Monday through Friday"
    assert (made["workspaceId"], made["madeBy"], made["madeInCode"]) == (str(workspace_id), "a test", False)
    assert made["nextRunAt"] > made["nextTickAt"][:19]
    assert made["problem"] == "no live worker knows the task echo: its ticks wait for one"


def test_a_schedule_of_a_connection_that_is_not_there_says_so(
    url: str, workspace_id: uuid.UUID, mint: MintToken, sessions: sessionmaker[Session]
) -> None:
    """One that is declared in code, or whose connection has gone since it was made."""
    config = {"url": "https://news.example.com/feed"}
    with sessions.begin() as session:
        there = create_connection(session, workspace_id, connector_type="rss", name="news", config=config).id
    tasks = Tasks()
    app = Flask(__name__)
    app.register_blueprint(create_blueprint(sessions, tasks))
    planner = Client(app.test_client(), mint(workspace_id, ("schedules",)))
    options: dict[str, Any] = {"workspace_id": workspace_id, "payload": SyncPayload(connection_id=there)}

    @tasks.every(datetime.timedelta(hours=1), name="hourly", **options)
    @tasks.task("pull")
    def pull(job: RunningJob, payload: SyncPayload) -> None: ...

    with sessions.begin() as session:
        settle_schedules(session, "a test", tasks.schedules, starting=True)
    (before,) = planner.get(url).get_json()["items"]
    with sessions.begin() as session:
        session.execute(text("delete from jobplatform.connections"))

    (after,) = planner.get(url).get_json()["items"]

    assert before["problem"] == "no live worker knows the task pull: its ticks wait for one"
    assert after["problem"] == (
        "its jobs come to nothing: this workspace has no such connection (payload, /connectionId)"
    )


def test_pages_follow_each_other(planner: Client, url: str) -> None:
    made = [make(planner, url, name=f"n{number}")["id"] for number in range(5)]
    seen, cursor = [], ""

    while cursor is not None:
        page = planner.get(f"{url}?limit=2" + (f"&cursor={cursor}" if cursor else "")).get_json()
        seen += [one["id"] for one in page["items"]]
        cursor = page["nextCursor"]

    assert seen == made


def test_a_schedule_is_changed_where_the_body_says_so(planner: Client, url: str) -> None:
    one = f"{url}/{make(planner, url, priority=5)['id']}"

    changed = planner.request("PATCH", one, json={"cron": "0 4 * * *", "priority": None, "catchUp": "all"})
    assert changed.status_code == 200, changed.text
    found = changed.get_json()
    assert (found["cron"], found["timezone"], found["priority"]) == ("0 4 * * *", "Europe/Berlin", None)
    assert (found["catchUp"], found["name"]) == ("all", "nightly")
    other = planner.request("PATCH", one, json={"everyMs": 1000}).get_json()
    assert (other["cron"], other["everyMs"], other["words"], other["timezone"]) == (None, 1000, "Every second", "UTC")


def test_a_schedule_is_paused_run_resumed_and_deleted(planner: Client, url: str) -> None:
    one = f"{url}/{make(planner, url)['id']}"

    paused = planner.post(f"{one}/pause").get_json()
    assert (paused["pausedBy"], paused["nextRunAt"]) == ("a test", None)
    assert planner.post(f"{one}/pause").get_json() == paused
    tick = planner.post(f"{one}/run-now")
    assert (tick.status_code, tick.get_json()["outcome"], tick.get_json()["manual"]) == (202, "enqueued", True)
    assert planner.get(tick.headers["Location"]).get_json()["id"] == tick.get_json()["jobId"]
    assert planner.get(f"{one}/ticks").get_json()["items"] == [tick.get_json()]
    assert planner.post(f"{one}/resume").get_json()["lastTick"] == tick.get_json()
    assert planner.request("DELETE", one).status_code == 204
    assert planner.get(one).status_code == 404


def test_the_next_runs_are_shown_in_words_and_in_the_schedule_s_zone(planner: Client, url: str) -> None:
    one = f"{url}/{make(planner, url)['id']}"

    found = planner.get(f"{one}/preview?count=3").get_json()

    assert (found["words"], found["timezone"]) == ("At 02:30 on Monday through Friday", "Europe/Berlin")
    assert [run["local"][11:16] for run in found["runs"]] == ["02:30"] * 3
    assert all(run["tickAt"] == run["runAt"] for run in found["runs"])


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"cron": "61 * * * *"}, "/cron"),
        ({"cron": "*/5 * * * * *"}, "/cron"),
        ({"timezone": "Mars"}, "/timezone"),
        ({"everyMs": 1000}, "/everyMs"),
        ({"cron": None}, "/cron"),
        ({"spreadMs": -1}, "/spreadMs"),
        ({"catchUp": "some"}, "/catchUp"),
        ({"queue": "No Queue"}, "/queue"),
        ({"name": ""}, "/name"),
        ({"jobType": "add", "payload": {"left": "x", "right": 1}}, "/payload/left"),
        ({"jobType": "ecko"}, "/jobType"),
        ({"everyWorkspace": True}, "/everyWorkspace"),
        ({"anchor": "2026-01-01T00:00:00Z"}, "/anchor"),
        ({"nonsense": 1}, "/nonsense"),
    ],
)
def test_what_cannot_be_is_invalid_at_its_place(planner: Client, url: str, body: dict[str, Any], path: str) -> None:
    answer = planner.post(url, json={**NIGHTLY, **body})

    assert (answer.status_code, answer.content_type) == (422, PROBLEM), answer.text
    assert [error["path"] for error in answer.get_json()["errors"]] == [path]


def test_a_rule_is_needed(planner: Client, url: str) -> None:
    answer = planner.post(url, json={"jobType": "echo"})

    assert answer.status_code == 422
    assert answer.get_json()["errors"][0]["path"] == "/cron"


def test_a_name_is_had_once_and_there_is_an_end_to_schedules(
    planner: Client, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(planner, url)

    taken = planner.post(url, json=NIGHTLY)
    assert (taken.status_code, taken.get_json()["type"]) == (409, "urn:jobplatform:problem:schedule-exists")
    monkeypatch.setattr(conditions, "MOST_SCHEDULES", 1)
    full = planner.post(url, json={**NIGHTLY, "name": "another"})
    assert (full.status_code, full.get_json()["limit"]) == (422, 1)
    assert full.get_json()["type"] == "urn:jobplatform:problem:too-many-schedules"


def test_a_schedule_of_another_workspace_is_not_there(
    app: Flask, mint: MintToken, planner: Client, url: str, other_workspace: uuid.UUID
) -> None:
    made = make(planner, url)["id"]
    stranger = Client(app.test_client(), mint(other_workspace, ("schedules",)))

    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/pause"), ("POST", "/run-now")):
        body = {} if method == "PATCH" else None
        theirs = stranger.request(method, f"/workspaces/{other_workspace}/schedules/{made}{path}", json=body)
        assert theirs.status_code == 404, (method, path)
    assert planner.get(f"{url}/{made}").status_code == 200


def test_operators_make_platform_wide_schedules_that_no_workspace_sees(operator: Client, planner: Client) -> None:
    made = make(operator, "/operator/schedules", everyWorkspace=True)

    assert (made["workspaceId"], made["everyWorkspace"]) == (str(PLATFORM_WORKSPACE), True)
    assert made["spreadMs"] == 60_000
    assert [one["id"] for one in operator.get("/operator/schedules").get_json()["items"]] == [made["id"]]
    tick = operator.post(f"/operator/schedules/{made['id']}/run-now").get_json()
    assert (tick["outcome"], tick["jobId"]) == ("fanned_out", None)
    assert planner.get(f"/workspaces/{PLATFORM_WORKSPACE}/schedules").status_code == 404


@pytest.mark.parametrize("where", ["/workspaces/{}/schedules/preview", "/operator/schedules/preview"])
def test_a_rule_is_previewed_before_there_is_a_schedule(
    planner: Client, operator: Client, workspace_id: uuid.UUID, where: str
) -> None:
    client = operator if where.startswith("/operator") else planner
    body = {"cron": "*/5 * * * *", "timezone": "Europe/Berlin", "count": 3}

    shown = client.post(where.format(workspace_id), json=body).get_json()

    assert (shown["words"], shown["timezone"], len(shown["runs"])) == (
        "Every fifth minute of every hour",
        "Europe/Berlin",
        3,
    )
    first = shown["runs"][0]
    assert first["tickAt"] == first["runAt"]
    assert first["local"][-6:] in ("+01:00", "+02:00")
    assert operator.get("/operator/schedules").get_json()["items"] == []


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "/cron"),
        ({"cron": "60 * * * *"}, "/cron"),
        ({"cron": "@daily", "timezone": "Mars/Base"}, "/timezone"),
        ({"everyMs": 60_000, "timezone": "UTC"}, "/timezone"),
        ({"cron": "@daily", "count": 1000}, "/count"),
    ],
)
def test_a_rule_that_cannot_be_previewed_says_why(planner: Client, url: str, body: Any, path: str) -> None:
    answer = planner.post(f"{url}/preview", json=body)

    assert (answer.status_code, answer.get_json()["errors"][0]["path"]) == (422, path), answer.text


def test_a_schedule_says_by_when_its_jobs_have_to_begin(planner: Client, url: str) -> None:
    made = make(planner, url, startWithinMs=7_200_000)

    kept = planner.request("PATCH", f"{url}/{made['id']}", json={"priority": 1}).get_json()
    changed = planner.request("PATCH", f"{url}/{made['id']}", json={"startWithinMs": None}).get_json()

    assert [one["startWithinMs"] for one in (made, kept, changed)] == [7_200_000, 7_200_000, None]
    refused = planner.request("PATCH", f"{url}/{made['id']}", json={"startWithinMs": 0})
    assert (refused.status_code, refused.get_json()["errors"][0]["path"]) == (422, "/startWithinMs")


def test_a_schedule_says_what_an_overlap_means(planner: Client, url: str) -> None:
    made = make(planner, url, ifActive="replace")

    changed = planner.request("PATCH", f"{url}/{made['id']}", json={"ifActive": None}).get_json()

    assert (made["ifActive"], changed["ifActive"]) == ("replace", None)
    refused = planner.request("PATCH", f"{url}/{made['id']}", json={"ifActive": "wait"})
    assert (refused.status_code, refused.get_json()["errors"][0]["path"]) == (422, "/ifActive")
