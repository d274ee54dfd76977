"""Workspaces as their operator sees and limits them."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.queue import pause
from tests.api.conftest import PROBLEM, Client, Hand

WORKSPACES = "/operator/workspaces"
NOTHING_SAID = {
    "weight": None,
    "maxRunning": None,
    "maxPending": None,
    "shed": None,
    "rateUnits": None,
    "ratePeriodMs": None,
}


@pytest.fixture
def acme(operator: Client) -> str:
    answer = operator.post(WORKSPACES, json={"name": "Acme"})
    assert answer.status_code == 201, answer.text
    return str(answer.get_json()["id"])


def patch(client: Client, path: str, body: Any) -> Any:
    answer = client.request("PATCH", path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def test_a_workspace_is_created_and_found_where_the_answer_says(operator: Client) -> None:
    answer = operator.post(f"/api{WORKSPACES}", json={"name": "Acme"})

    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/api{WORKSPACES}/{answer.get_json()['id']}"
    shown = operator.get(answer.headers["Location"]).get_json()
    assert shown == answer.get_json()
    assert (shown["name"], shown["pending"], shown["running"], shown["pause"]) == ("Acme", 0, 0, None)
    assert shown["limits"]["effective"] == {**NOTHING_SAID, "weight": 1, "shed": False}


def test_a_workspace_may_have_an_id_already_but_only_once(operator: Client, workspace_id: uuid.UUID) -> None:
    body = {"id": str(workspace_id), "name": "Acme", "limits": {"maxRunning": 5}}

    first, second = operator.post(WORKSPACES, json=body), operator.post(WORKSPACES, json={**body, "name": "Globex"})

    assert first.get_json()["limits"]["own"]["maxRunning"] == 5
    assert (second.status_code, second.content_type) == (409, PROBLEM)
    assert operator.get(f"{WORKSPACES}/{workspace_id}").get_json()["name"] == "Acme"


def test_a_workspace_whose_limits_cannot_be_is_not_created(operator: Client) -> None:
    answer = operator.post(WORKSPACES, json={"name": "Acme", "limits": {"plan": "platinum"}})

    assert answer.status_code == 422
    assert [error["path"] for error in answer.get_json()["errors"]] == ["/limits/plan"]
    assert operator.get(WORKSPACES).get_json()["items"] == []


def test_workspaces_show_what_they_have_to_do(
    operator: Client,
    client: Client,
    jobs_url: str,
    workspace_id: uuid.UUID,
    hand: Hand,
    sessions: sessionmaker[Session],
) -> None:
    for options in ({}, {}, {"delayMs": 60_000}):
        client.post(jobs_url, json={"jobType": "echo", **options})
    hand.claim(workspace_id, client.get(jobs_url).get_json()["items"][-1]["id"])
    with sessions.begin() as session:
        pause(session, "workspace", str(workspace_id), reason="unpaid", actor="ann")

    (shown,) = operator.get(WORKSPACES).get_json()["items"]

    assert (shown["id"], shown["name"]) == (str(workspace_id), None)
    assert (shown["pending"], shown["ready"], shown["scheduled"], shown["running"]) == (2, 1, 1, 1)
    assert (shown["pause"]["reason"], shown["pause"]["actor"]) == ("unpaid", "ann")


def test_pages_of_workspaces_follow_each_other(operator: Client) -> None:
    made = sorted(operator.post(WORKSPACES, json={"name": f"w{n}"}).get_json()["id"] for n in range(5))

    seen, url = [], f"{WORKSPACES}?limit=2"
    while url:
        answer = operator.get(url)
        seen += [item["id"] for item in answer.get_json()["items"]]
        url = answer.headers.get("Link", "").removeprefix("<").partition(">")[0]

    assert seen == made


def test_a_change_names_what_it_changes_and_leaves_the_rest(operator: Client, acme: str) -> None:
    operator.request("PUT", "/operator/plans/gold", json={"weight": 10, "maxPending": 100})
    path = f"{WORKSPACES}/{acme}"

    patch(operator, path, {"limits": {"plan": "gold", "maxRunning": 5}})
    shown = patch(operator, path, {"name": "Acme Ltd"})
    patch(operator, f"{path}/limits", {"maxPending": 7})
    limits = patch(operator, f"{path}/limits", {"maxRunning": None, "shed": True})

    assert (shown["name"], shown["limits"]["own"]["maxRunning"]) == ("Acme Ltd", 5)
    assert limits["plan"] == "gold"
    assert limits["own"] == {**NOTHING_SAID, "maxPending": 7, "shed": True}
    assert limits["effective"] == {**NOTHING_SAID, "weight": 10, "maxPending": 7, "shed": True}
    assert operator.get(f"{path}/limits").get_json() == limits


def test_a_workspace_without_a_row_of_its_own_can_be_limited_and_named(
    operator: Client, client: Client, jobs_url: str, workspace_id: uuid.UUID
) -> None:
    client.post(jobs_url, json={"jobType": "echo"})
    path = f"{WORKSPACES}/{workspace_id}"

    assert patch(operator, f"{path}/limits", {"maxRunning": 1})["effective"]["maxRunning"] == 1
    assert patch(operator, path, {"name": "Acme"})["name"] == "Acme"


def test_limits_are_cleared_once(operator: Client, acme: str) -> None:
    path = f"{WORKSPACES}/{acme}/limits"
    patch(operator, path, {"maxRunning": 1})

    assert operator.request("DELETE", path).status_code == 204
    assert operator.request("DELETE", path).status_code == 404
    assert operator.get(path).get_json()["own"] == NOTHING_SAID


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"weight": 0}, "/weight"),
        ({"weight": 101}, "/weight"),
        ({"weight": "3"}, "/weight"),
        ({"weight": 3.0}, "/weight"),
        ({"maxRunning": -1}, "/maxRunning"),
        ({"maxRunning": 2**31}, "/maxRunning"),
        ({"maxPending": True}, "/maxPending"),
        ({"shed": "yes"}, "/shed"),
        ({"shed": 1}, "/shed"),
        ({"rateUnits": 5}, "/ratePeriodMs"),
        ({"ratePeriodMs": 5}, "/rateUnits"),
        ({"ratePeriodMs": 10**12, "rateUnits": 1}, "/ratePeriodMs"),
        ({"plan": "platinum"}, "/plan"),
        ({"plan": ""}, "/plan"),
        ({"max_running": 5}, "/max_running"),
    ],
)
def test_a_limit_that_cannot_be_is_refused_at_its_place(
    operator: Client, acme: str, body: dict[str, Any], path: str
) -> None:
    answer = operator.request("PATCH", f"{WORKSPACES}/{acme}/limits", json=body)

    assert (answer.status_code, answer.content_type) == (422, PROBLEM)
    assert [error["path"] for error in answer.get_json()["errors"]] == [path]


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": 5}, {"name": "x" * 201}, {"name": "A", "id": "1"}])
def test_a_workspace_that_cannot_be_is_not_created(operator: Client, body: dict[str, Any]) -> None:
    assert operator.post(WORKSPACES, json=body).status_code == 422


def test_a_workspace_that_nobody_knows_is_not_found(operator: Client) -> None:
    path = f"{WORKSPACES}/{uuid.uuid4()}"

    answers = [
        operator.get(path),
        operator.get(f"{path}/limits"),
        operator.request("PATCH", path, json={"name": "Acme"}),
        operator.request("PATCH", f"{path}/limits", json={"weight": 2}),
    ]

    assert [answer.status_code for answer in answers] == [404] * 4
