"""Reading the audit log over HTTP."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.api.conftest import Client

AUDIT = "/operator/audit"


def actions(operator: Client, query: str = "") -> list[str]:
    return [line["action"] for line in operator.get(AUDIT + query).get_json()["items"]]


def act(client: Client, method: str, path: str, body: Any = None) -> None:
    assert client.request(method, path, json=body).status_code < 300


def test_an_operator_reads_who_did_what_newest_first(
    operator: Client, client: Client, jobs_url: str, workspace_id: uuid.UUID
) -> None:
    act(client, "POST", jobs_url, {"jobType": "echo"})
    act(operator, "PUT", f"/operator/pauses/workspace/{workspace_id}", {"reason": "unpaid"})

    pausing, enqueue = operator.get(AUDIT).get_json()["items"]

    assert (pausing["action"], pausing["target"]) == ("workspace.pause", f"workspace:{workspace_id}")
    assert pausing["details"] == {"reason": "unpaid", "until": None}
    assert (enqueue["action"], enqueue["workspaceId"], enqueue["actor"]) == ("job.enqueue", str(workspace_id), "a test")
    assert pausing["tokenId"] != enqueue["tokenId"]
    assert set(pausing) == {
        *("id", "at", "actor", "tokenId", "workspaceId", "action", "target", "requestId", "details")
    }


def test_the_log_can_be_asked_by_workspace_actor_and_action(
    operator: Client, client: Client, jobs_url: str, workspace_id: uuid.UUID
) -> None:
    act(client, "POST", jobs_url, {"jobType": "echo"})
    act(operator, "PUT", "/operator/plans/gold", {})

    assert actions(operator, f"?workspaceId={workspace_id}") == ["job.enqueue"]
    assert actions(operator, "?action=plan.set") == ["plan.set"]
    assert actions(operator, "?actor=a%20test") == ["plan.set", "job.enqueue"]
    assert actions(operator, "?actor=nobody") == []


def test_pages_of_the_log_follow_each_other_while_it_grows(operator: Client) -> None:
    for number in range(5):
        act(operator, "PUT", f"/operator/plans/p{number}", {})

    first = operator.get(f"{AUDIT}?limit=2&action=plan.set")
    act(operator, "PUT", "/operator/plans/later", {})
    seen, url = [line["target"] for line in first.get_json()["items"]], first.headers["Link"]
    while url:
        answer = operator.get(url.removeprefix("<").partition(">")[0])
        seen += [line["target"] for line in answer.get_json()["items"]]
        url = answer.headers.get("Link", "")

    assert seen == [f"plan:p{number}" for number in (4, 3, 2, 1, 0)]


def test_a_cursor_beyond_every_line_begins_with_the_newest(operator: Client) -> None:
    act(operator, "PUT", "/operator/plans/gold", {})

    assert actions(operator, "?cursor=_____________________w") == ["plan.set"]


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "cursor=1", "workspaceId=acme", "action=", "who=ann"])
def test_a_query_that_cannot_be_is_invalid_at_its_place(operator: Client, query: str) -> None:
    answer = operator.get(f"{AUDIT}?{query}")

    assert answer.status_code == 422
    assert [error["path"] for error in answer.get_json()["errors"]] == [f"?{query.partition('=')[0]}"]


def test_reading_leaves_no_line(operator: Client) -> None:
    operator.get(AUDIT)
    operator.get("/operator/workspaces")

    assert actions(operator) == []
