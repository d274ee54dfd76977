"""Retention, alerts and their rules, the doctor and draining, for operators."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.queue import (
    LimitsInCode,
    WorkerInfo,
    declare_retention,
    declare_task_limits,
    list_retention,
    register_worker,
    settle_alerts,
    settle_workspace_alerts,
)
from tests.api.conftest import Client

DAY = 86_400.0


def test_retention_is_set_shown_and_taken_back_for_a_task_a_workspace_and_both(
    operator: Client, client: Client, jobs_url: str, sessions: sessionmaker[Session], workspace_id: uuid.UUID
) -> None:
    client.post(jobs_url, json={"jobType": "echo"})  # so that the workspace is known
    of_workspace = f"/operator/retention/workspaces/{workspace_id}"
    urls = ["/operator/retention/tasks/echo", of_workspace, f"{of_workspace}/tasks/echo"]

    made = [
        operator.request("PATCH", url, json={"completedSeconds": 86_400, "failedSeconds": None}).get_json()
        for url in urls
    ]

    assert [(one["workspaceId"], one["task"], one["completedSeconds"]) for one in made] == [
        (None, "echo", DAY),
        (str(workspace_id), None, DAY),
        (str(workspace_id), "echo", DAY),
    ]
    assert operator.get("/operator/retention").get_json()["items"] == made
    theirs = operator.get("/operator/retention", query_string={"workspaceId": str(workspace_id)}).get_json()
    assert theirs["items"] == made[1:]
    assert [operator.request("DELETE", url).status_code for url in urls] == [204, 204, 204]
    assert [operator.request("DELETE", url).status_code for url in urls] == [404, 404, 404]
    with sessions() as session:
        assert list_retention(session) == []


@pytest.mark.parametrize(
    ("url", "body", "path"),
    [
        ("tasks/echo", {}, ""),
        ("tasks/echo", {"completedSeconds": -1}, "/completedSeconds"),
        ("tasks/echo", {"failedSeconds": 10**10}, "/failedSeconds"),
        ("tasks/echo", {"failedSeconds": 10**15}, ""),
        ("tasks/No%20name", {"failedSeconds": 1}, "{task}"),
    ],
)
def test_a_retention_that_cannot_be_is_refused_with_its_place(
    operator: Client, url: str, body: dict[str, Any], path: str
) -> None:
    answer = operator.request("PATCH", f"/operator/retention/{url}", json=body)

    assert (answer.status_code, answer.get_json()["errors"][0]["path"]) == (422, path)


def test_retention_of_a_workspace_that_nobody_has_is_not_there(operator: Client) -> None:
    answer = operator.request("PATCH", f"/operator/retention/workspaces/{uuid.uuid4()}", json={"completedSeconds": 1})

    assert answer.status_code == 404


def test_what_code_declares_of_a_task_is_shown(operator: Client, sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        declare_retention(session, {"echo": {"completed": 60.0, "failed": None, "cancelled": None}})
        declare_task_limits(session, [LimitsInCode("echo", 3, None)])

    (rule,) = operator.get("/operator/retention").get_json()["items"]
    (echo,) = [one for one in operator.get("/operator/tasks").get_json()["items"] if one["task"] == "echo"]
    changed = operator.request("PATCH", "/operator/tasks/echo/limits", json={"maxRunning": 9}).get_json()

    assert (rule["completedSeconds"], rule["declared"]) == (60.0, True)
    assert (echo["maxRunning"], echo["codeMaxRunning"], echo["codeMaxRunningPerWorkspace"]) == (3, 3, None)
    assert (changed["maxRunning"], changed["codeMaxRunning"]) == (9, 3)


def test_a_rule_is_changed_counts_and_goes_back(
    operator: Client, client: Client, jobs_url: str, sessions: sessionmaker[Session]
) -> None:
    client.post(jobs_url, json={"jobType": "echo"})

    changed = operator.request("PATCH", "/operator/alert-rules/backlog", json={"above": 0}).get_json()
    with sessions.begin() as session:
        settle_alerts(session, now=True)
    raised = {one["code"]: one for one in operator.get("/operator/alerts").get_json()["items"]}

    assert (changed["above"], changed["enabled"]) == (0, True)
    assert raised["backlog"]["message"] == "1 job is ready and waits for a slot"
    assert operator.request("DELETE", "/operator/alert-rules/backlog").status_code == 204
    assert operator.request("DELETE", "/operator/alert-rules/backlog").status_code == 404
    rules = {one["name"]: one for one in operator.get("/operator/alert-rules").get_json()["items"]}
    assert {name: rules[name]["above"] for name in ("stuck", "failing", "backlog")} == {
        "stuck": 900, "failing": 0.2, "backlog": 100,
    }  # fmt: skip
    with sessions.begin() as session:
        settle_alerts(session, now=True)
    over = {
        one["code"]: one["resolvedAt"] for one in operator.get("/operator/alerts?resolved=true").get_json()["items"]
    }
    assert over["backlog"] is not None


@pytest.mark.parametrize(
    ("name", "body", "path"),
    [("backlog", {}, ""), ("backlog", {"above": -1}, "/above"), ("baklog", {"above": 1}, "{name}")],
)
def test_a_rule_that_cannot_be_is_refused(operator: Client, name: str, body: dict[str, Any], path: str) -> None:
    answer = operator.request("PATCH", f"/operator/alert-rules/{name}", json=body)

    assert (answer.status_code, answer.get_json()["errors"][0]["path"]) == (422, path)


def test_the_doctor_answers_with_what_is_wrong_and_the_command_against_it(
    operator: Client, sessions: sessionmaker[Session]
) -> None:
    with sessions.begin() as session:
        session.execute(text("alter table jobplatform.job_queue reset (autovacuum_vacuum_threshold)"))

    found = operator.get("/operator/doctor").get_json()

    assert not found["healthy"]
    (vacuum,) = [one for one in found["findings"] if "autovacuum" in one["command"]]
    assert vacuum["severity"] == "warning"
    assert "autovacuum_vacuum_threshold" in vacuum["seen"] + vacuum["command"]


def test_a_worker_is_told_to_finish_and_stop(operator: Client, sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        worker_id = register_worker(session, WorkerInfo("w", "host", 1, "test", ("default",), ("echo",), 1))

    answer = operator.post(f"/operator/workers/{worker_id}/drain")

    assert (answer.status_code, answer.get_json()["drainRequested"]) == (200, True)
    assert operator.post(f"/operator/workers/{worker_id + 1}/drain").status_code == 404
    assert operator.post("/operator/workers/99999999999/drain").status_code == 404


def test_a_workspace_has_rules_of_its_own_and_alerts_by_them(
    operator: Client, client: Client, jobs_url: str, workspace_id: uuid.UUID, sessions: sessionmaker[Session]
) -> None:
    of_one = f"/operator/workspaces/{workspace_id}"
    client.post(jobs_url, json={"jobType": "echo"})
    assert operator.get(f"{of_one}/alert-rules").get_json() == {"items": []}

    made = operator.request("PUT", f"{of_one}/alert-rules/backlog", json={"above": 0})
    own = operator.request("PUT", f"{of_one}/alert-rules/echoes", json={"metric": "ready", "task": "echo", "above": 7})
    with sessions.begin() as session:
        settle_workspace_alerts(session, now=True)

    assert made.get_json() == {
        "name": "backlog", "metric": "ready", "above": 0, "queue": None, "task": None, "enabled": True,
    }  # fmt: skip
    rules = operator.get(f"{of_one}/alert-rules").get_json()["items"]
    assert rules == [made.get_json(), own.get_json()]
    (raised,) = operator.get(f"{of_one}/alerts").get_json()["items"]
    assert (raised["code"], raised["resolvedAt"]) == ("backlog", None)
    assert operator.get(f"/operator/workspaces/{uuid.uuid4()}/alerts").get_json() == {"items": []}
    assert operator.request("DELETE", f"{of_one}/alert-rules/backlog").status_code == 204
    assert operator.request("DELETE", f"{of_one}/alert-rules/backlog").status_code == 404
    refused = operator.request("PUT", f"{of_one}/alert-rules/baklog", json={"above": 1})
    assert (refused.status_code, refused.get_json()["errors"][0]["path"]) == (422, "{name}")
