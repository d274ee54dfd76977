"""Pauses over HTTP, and the workers that operators see."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.api.conftest import PROBLEM, Client, Hand

PAUSES = "/operator/pauses"


def paused(operator: Client, query: str = "") -> list[str]:
    return [f"{one['kind']}:{one['key']}" for one in operator.get(PAUSES + query).get_json()["items"]]


KEYS = ["queue/default", "task/echo", f"workspace/{uuid.UUID(int=1)}", "resource/crm:eu/4711"]


@pytest.mark.parametrize("name", KEYS)
def test_what_can_be_paused_is_paused_and_resumed(operator: Client, name: str) -> None:
    answer = operator.request("PUT", f"{PAUSES}/{name}", json={"reason": "the CRM is down"})

    assert answer.status_code == 200, answer.text
    made = answer.get_json()
    assert (made["reason"], made["actor"], made["until"]) == ("the CRM is down", "a test", None)
    assert operator.get(PAUSES).get_json() == {"items": [made]}
    assert operator.request("DELETE", f"{PAUSES}/{name}").status_code == 204
    assert operator.request("DELETE", f"{PAUSES}/{name}").status_code == 404
    assert paused(operator) == []


def test_pausing_again_replaces_reason_and_end(operator: Client) -> None:
    path = f"{PAUSES}/queue/default"
    operator.request("PUT", path, json={"reason": "a look", "until": "2099-01-01T00:00:00Z"})

    again = operator.request("PUT", path, json={"reason": "a longer look"}).get_json()

    assert (again["reason"], again["until"]) == ("a longer look", None)
    assert paused(operator) == ["queue:default"]


def test_pauses_of_a_kind_can_be_listed(operator: Client) -> None:
    for name in ("queue/default", "task/echo"):
        operator.request("PUT", f"{PAUSES}/{name}", json={"reason": "a look"})

    assert paused(operator, "?kind=task") == ["task:echo"]
    assert paused(operator) == ["queue:default", "task:echo"]
    assert operator.get(f"{PAUSES}?kind=worker").status_code == 422


@pytest.mark.parametrize(
    ("name", "body", "at"),
    [
        ("queue/default", {}, "/reason"),
        ("queue/default", {"reason": ""}, "/reason"),
        ("queue/default", {"reason": " "}, "/reason"),
        ("queue/default", {"reason": "a look", "until": "2001-01-01T00:00:00Z"}, "/until"),
        ("queue/default", {"reason": "a look", "until": "tomorrow"}, "/until"),
        ("queue/default", {"reason": "a look", "until": "2099-01-01T00:00:00"}, "/until"),
        ("queue/Not%20A%20Queue", {"reason": "a look"}, "{key}"),
        ("workspace/acme", {"reason": "a look"}, "{key}"),
    ],
)
def test_a_pause_that_cannot_be_is_refused_at_its_place(
    operator: Client, name: str, body: dict[str, Any], at: str
) -> None:
    answer = operator.request("PUT", f"{PAUSES}/{name}", json=body)

    assert (answer.status_code, answer.content_type) == (422, PROBLEM)
    assert [error["path"] for error in answer.get_json()["errors"]] == [at]


def test_what_is_no_kind_of_thing_to_pause_is_not_there(operator: Client) -> None:
    assert operator.request("PUT", f"{PAUSES}/worker/1", json={"reason": "a look"}).status_code == 404
    assert operator.request("DELETE", f"{PAUSES}/workspace/acme").status_code == 404


def test_workers_are_listed_with_what_they_run(
    operator: Client, client: Client, jobs_url: str, workspace_id: uuid.UUID, hand: Hand
) -> None:
    hand.claim(workspace_id, client.post(jobs_url, json={"jobType": "echo"}).get_json()["jobId"])

    (worker,) = operator.get("/operator/workers").get_json()["items"]

    assert (worker["id"], worker["name"], worker["running"], worker["draining"]) == (
        hand.worker_id,
        "by hand",
        1,
        False,
    )
