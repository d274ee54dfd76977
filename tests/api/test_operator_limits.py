"""Plans, and the limits of queues, tasks and resources over HTTP."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.models import ResourceLevel, clock
from jobplatform.queue import set_plan, set_workspace_limits
from tests.api.conftest import PROBLEM, Client
from tests.api.example_tasks import make_tasks
from tests.numbers import read_numbers


def put(client: Client, path: str, body: Any) -> Any:
    answer = client.request("PUT", path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def patch(client: Client, path: str, body: Any) -> Any:
    answer = client.request("PATCH", path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def test_a_plan_is_made_changed_replaced_and_deleted(operator: Client) -> None:
    path = "/operator/plans/gold"

    assert put(operator, path, {"weight": 10, "maxRunning": 5})["weight"] == 10
    assert patch(operator, path, {"maxRunning": 6})["weight"] == 10
    replaced = put(operator, path, {"maxRunning": 7})
    assert (replaced["weight"], replaced["maxRunning"]) == (None, 7)
    assert operator.get(path).get_json() == replaced
    assert operator.get("/operator/plans").get_json() == {"items": [replaced]}
    assert operator.request("DELETE", path).status_code == 204
    assert operator.get(path).status_code == 404


def test_a_plan_that_is_not_there_is_not_changed_into_being(operator: Client) -> None:
    assert operator.request("PATCH", "/operator/plans/gold", json={}).status_code == 404
    assert operator.request("DELETE", "/operator/plans/gold").status_code == 404
    assert operator.get("/operator/plans").get_json() == {"items": []}


def test_a_plan_in_use_is_not_deleted_and_the_answer_says_who_uses_it(
    operator: Client, sessions: sessionmaker[Session], workspace_id: uuid.UUID
) -> None:
    with sessions.begin() as session:
        set_plan(session, "gold", {})
        set_workspace_limits(session, workspace_id, {"plan": "gold"})

    answer = operator.request("DELETE", "/operator/plans/gold")

    assert (answer.status_code, answer.content_type) == (409, PROBLEM)
    problem = answer.get_json()
    assert problem["type"].endswith(":plan-in-use")
    assert (problem["uses"], problem["workspaceIds"]) == (1, [str(workspace_id)])
    assert operator.get("/operator/plans/gold").status_code == 200


@pytest.mark.parametrize("name", ["gold plan", "gold%2Fplan", "g%C3%B6ld", "gold:plan"])
def test_a_plan_s_name_may_be_anything_that_fits_in_a_path(operator: Client, name: str) -> None:
    answer = operator.request("PUT", f"/operator/plans/{name}", json={})

    # A slash is a slash, whatever it is written as.
    assert answer.status_code == (404 if "%2F" in name else 200)


def test_a_queue_is_limited_and_set_free(operator: Client, client: Client, jobs_url: str) -> None:
    client.post(jobs_url, json={"jobType": "echo"})

    assert patch(operator, "/operator/queues/default/limits", {"maxRunning": 0}) == {
        "queue": "default",
        "maxRunning": 0,
    }
    operator.request("PUT", "/operator/pauses/queue/default", json={"reason": "a look"})
    (queue,) = operator.get("/operator/queues").get_json()["items"]
    assert (queue["queue"], queue["ready"], queue["maxRunning"]) == ("default", 1, 0)
    assert queue["pause"]["reason"] == "a look"
    assert queue["oldestReadySeconds"] >= 0
    assert patch(operator, "/operator/queues/default/limits", {"maxRunning": None})["maxRunning"] is None


@pytest.mark.parametrize(
    ("path", "body", "at"),
    [
        ("queues/Not%20A%20Queue", {"maxRunning": 1}, "{queue}"),
        ("queues/default", {}, "/maxRunning"),
        ("queues/default", {"maxRunning": -1}, "/maxRunning"),
        ("tasks/Not%20A%20Task", {}, "{task}"),
        ("tasks/echo", {"maxRunningPerWorkspace": -1}, "/maxRunningPerWorkspace"),
        ("tasks/echo", {"weight": 1}, "/weight"),
    ],
)
def test_a_bad_limit_of_a_queue_or_task_is_refused_at_its_place(
    operator: Client, path: str, body: dict[str, Any], at: str
) -> None:
    answer = operator.request("PATCH", f"/operator/{path}/limits", json=body)

    assert (answer.status_code, answer.content_type) == (422, PROBLEM)
    assert [error["path"] for error in answer.get_json()["errors"]] == [at]


def test_a_task_s_limits_change_one_by_one(operator: Client) -> None:
    path = "/operator/tasks/echo/limits"

    in_code = {"codeMaxRunning": None, "codeMaxRunningPerWorkspace": None}
    unlimited = {"task": "echo", "maxRunning": None, "maxRunningPerWorkspace": None, **in_code}
    assert operator.get(path).get_json() == unlimited
    patch(operator, path, {"maxRunning": 5})
    limits = patch(operator, path, {"maxRunningPerWorkspace": 1})
    assert limits == {**unlimited, "maxRunning": 5, "maxRunningPerWorkspace": 1}
    assert operator.get(path).get_json() == limits
    assert operator.request("DELETE", path).status_code == 204
    assert operator.request("DELETE", path).status_code == 404


def test_tasks_are_those_of_this_installation_and_those_with_limits(operator: Client) -> None:
    patch(operator, "/operator/tasks/elsewhere/limits", {"maxRunning": 1})
    operator.request("PUT", "/operator/pauses/task/echo", json={"reason": "a look"})

    tasks = {task["task"]: task for task in operator.get("/operator/tasks").get_json()["items"]}

    assert list(tasks) == sorted({"elsewhere", *make_tasks().names()})
    assert (tasks["elsewhere"]["registered"], tasks["elsewhere"]["maxRunning"]) == (False, 1)
    assert (tasks["echo"]["registered"], tasks["echo"]["pause"]["reason"]) == (True, "a look")
    assert operator.get("/operator/tasks/nothing/limits").status_code == 404


@pytest.mark.parametrize("resource", ["hubspot:*", "hubspot:4711", "hubspot", "crm:eu/4711"])
def test_a_rate_is_set_changed_and_cleared(operator: Client, resource: str) -> None:
    path = f"/operator/rate-limits/{resource}"

    assert put(operator, path, {"units": 100, "periodMs": 10_000}) == {
        "resource": resource,
        "units": 100,
        "periodMs": 10_000,
        "burst": 100,
    }
    changed = patch(operator, path, {"burst": 5})
    assert (changed["units"], changed["burst"]) == (100, 5)
    assert operator.get(path).get_json() == changed
    assert operator.get("/operator/rate-limits").get_json() == {"items": [changed]}
    assert operator.request("DELETE", path).status_code == 204
    assert operator.get(path).status_code == 404
    assert operator.request("PATCH", path, json={"burst": 5}).status_code == 404


@pytest.mark.parametrize(
    ("resource", "body", "at"),
    [
        ("*", {"units": 1, "periodMs": 1}, ["{resource}"]),
        ("hubspot:4*", {"units": 1, "periodMs": 1}, ["{resource}"]),
        ("hubspot:1", {}, ["/periodMs", "/units"]),
        ("hubspot:1", {"units": 0, "periodMs": 0}, ["/periodMs", "/units"]),
        ("hubspot:1", {"units": 1, "periodMs": 1, "burst": 0}, ["/burst"]),
        ("hubspot:1", {"units": 2**31, "periodMs": 1}, ["/units"]),
        ("x" * 201, {"units": 1, "periodMs": 1}, ["{resource}"]),
    ],
)
def test_a_bad_rate_is_refused_at_its_place(
    operator: Client, resource: str, body: dict[str, Any], at: list[str]
) -> None:
    answer = operator.request("PUT", f"/operator/rate-limits/{resource}", json=body)

    assert (answer.status_code, answer.content_type) == (422, PROBLEM)
    assert sorted(error["path"] for error in answer.get_json()["errors"]) == at


@pytest.mark.parametrize("resource", ["account:*", "account:4711", "account", "crm:eu/4711"])
def test_a_resource_is_limited_and_set_free(operator: Client, resource: str) -> None:
    path = f"/operator/resource-limits/{resource}"

    limited = put(operator, path, {"maxRunning": 1})

    nothing = dict.fromkeys(("minRunning", "codeMaxRunning", "codeMinRunning", "declaredBy"))
    assert limited == {"resource": resource, "maxRunning": 1, **nothing}
    assert operator.get(path).get_json() == limited
    assert operator.get("/operator/resource-limits").get_json() == {"items": [limited]}
    assert put(operator, path, {"maxRunning": None})["maxRunning"] is None
    assert operator.request("DELETE", path).status_code == 204
    assert operator.get(path).status_code == 404
    assert operator.request("DELETE", path).status_code == 404


def test_a_resource_finds_its_limit_itself_and_says_what_it_has_come_to(
    operator: Client, sessions: sessionmaker[Session]
) -> None:
    limited = put(operator, "/operator/resource-limits/hubspot:*", {"minRunning": 1, "maxRunning": 50})
    level, nobody_s = ("/operator/resource-levels/hubspot:4711", "/operator/resource-levels/hubspot:*")
    assert (limited["minRunning"], limited["maxRunning"]) == (1, 50)
    assert (operator.get(level).status_code, operator.get(nobody_s).status_code) == (404, 404)
    with sessions.begin() as session:
        lowered = {"lowered_at": clock(), "lowered_for": "too often"}
        session.execute(insert(ResourceLevel).values(resource="hubspot:4711", level=7.9, **lowered))

    found = operator.get(level).get_json()

    assert operator.get("/operator/resource-levels").get_json() == {"items": [found]}
    assert isinstance(found.pop("loweredAt"), str)
    assert found == {
        "resource": "hubspot:4711",
        "level": 7,
        "minRunning": 1,
        "maxRunning": 50,
        "running": 0,
        "loweredFor": "too often",
    }
    numbers = read_numbers(operator.get("/metrics").text)
    assert numbers["resource_level", "hubspot:*", "lowest"] == numbers["resource_level", "hubspot:*", "highest"] == 7
    assert put(operator, "/operator/resource-limits/hubspot:*", {"maxRunning": 5})["minRunning"] is None
    assert operator.get(level).status_code == 404


@pytest.mark.parametrize(
    ("resource", "body", "at"),
    [
        ("*", {"maxRunning": 1}, ["{resource}"]),
        ("account:4*", {"maxRunning": 1}, ["{resource}"]),
        ("account:4%1F", {"maxRunning": 1}, ["{resource}"]),
        ("account:1", {}, ["/maxRunning"]),
        ("account:1", {"maxRunning": -1}, ["/maxRunning"]),
        ("account:1", {"maxRunning": "one"}, ["/maxRunning"]),
        ("account:1", {"maxRunning": 5, "minRunning": 0}, ["/minRunning"]),
        ("account:1", {"maxRunning": 5, "minRunning": 6}, ["/minRunning"]),
        ("account:1", {"maxRunning": None, "minRunning": 6}, ["/minRunning"]),
        ("x" * 201, {"maxRunning": 1}, ["{resource}"]),
    ],
)
def test_a_bad_limit_of_a_resource_is_refused_at_its_place(
    operator: Client, resource: str, body: dict[str, Any], at: list[str]
) -> None:
    answer = operator.request("PUT", f"/operator/resource-limits/{resource}", json=body)

    assert (answer.status_code, answer.content_type) == (422, PROBLEM)
    assert [error["path"] for error in answer.get_json()["errors"]] == at
