"""A job that waits is changed over HTTP."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.api import create_blueprint
from jobplatform.models import Role
from jobplatform.queue import JobChange, change_job
from jobplatform.testing import wait_until
from tests.api.conftest import PROBLEM, Client, Hand, MintToken, engine_of_api
from tests.api.example_tasks import make_tasks

WAITING = """
select count(*) from pg_stat_activity
where application_name = 'jobplatform-api' and datname = current_database() and wait_event_type = 'Lock'
"""
NEXT_YEAR = "2031-01-01T00:00:00.000000Z"


def test_what_is_named_changes_and_the_rest_stays(
    client: Client, stranger: Client, echo: Callable[..., str], jobs_url: str, sessions: sessionmaker[Session]
) -> None:
    job_id = echo(priority=3, uniqueKey="k")
    at = f"{jobs_url}/{job_id}"
    tag = client.get(at).headers["ETag"]

    assert stranger.request("PATCH", at, json={"priority": 9}).status_code == 404
    changed = client.request("PATCH", at, json={"priority": 9, "queue": "slow", "runAfter": NEXT_YEAR})
    again = client.request("PATCH", at, json={"runAfter": None})

    assert (changed.status_code, again.status_code) == (200, 200)
    job = changed.get_json()
    assert (job["priority"], job["queue"], job["runAfter"], job["uniqueKey"]) == (9, "slow", NEXT_YEAR, "k")
    job = again.get_json()
    assert (job["priority"], job["queue"], job["status"]) == (9, "slow", "pending")
    assert job["runAfter"] < NEXT_YEAR
    shown = client.get(at, headers={"If-None-Match": tag})
    assert (shown.status_code, shown.get_json()) == (200, job)
    assert [one["id"] for one in client.get(f"{jobs_url}?queue=slow").get_json()["items"]] == [job_id]
    with sessions() as session:
        of_this = "select target, details from jobplatform.audit_log where action = 'job.change' order by id"
        audited: list[Any] = [tuple(line) for line in session.execute(text(of_this))]
    assert [target for target, _ in audited] == [f"job:{job_id}"] * 2
    assert [details for _, details in audited] == [
        {"priority": 9, "queue": "slow", "runAfter": NEXT_YEAR.replace(".000000Z", "+00:00")},
        {"runAfter": None},
    ]


def test_a_job_that_has_begun_is_not_changed(
    client: Client, hand: Hand, workspace_id: uuid.UUID, echo: Callable[..., str], jobs_url: str
) -> None:
    running, ended = echo(), echo()
    hand.claim(workspace_id, running)
    client.post(f"{jobs_url}/{ended}/cancel")

    answers = [client.request("PATCH", f"{jobs_url}/{job_id}", json={"priority": 9}) for job_id in (running, ended)]

    assert [(answer.status_code, answer.mimetype) for answer in answers] == [(409, PROBLEM)] * 2
    assert [answer.get_json()["detail"] for answer in answers] == [
        "The job is running and cannot be changed.",
        "The job is cancelled and cannot be changed.",
    ]
    assert [answer.get_json()["jobStatus"] for answer in answers] == ["running", "cancelled"]
    assert [client.get(f"{jobs_url}/{job_id}").get_json()["priority"] for job_id in (running, ended)] == [0, 0]


def test_one_that_waits_for_another_is_changed_and_waits_on(
    client: Client, echo: Callable[..., str], jobs_url: str, sessions: sessionmaker[Session]
) -> None:
    first = echo(delayMs=3_600_000)
    job_id = echo(after=[{"jobId": first}])

    answer = client.request("PATCH", f"{jobs_url}/{job_id}", json={"priority": 9, "runAfter": None})

    assert (answer.status_code, answer.get_json()["priority"]) == (200, 9)
    with sessions() as session:
        assert session.scalar(text("select state from jobplatform.job_queue where priority = 9")) == -1


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, ""),
        ({"priority": 1001}, "/priority"),
        ({"priority": None}, "/priority"),
        ({"queue": "No Queue"}, "/queue"),
        ({"queue": None}, "/queue"),
        ({"runAfter": "tomorrow"}, "/runAfter"),
        ({"delayMs": 5}, "/delayMs"),
        ({"jobType": "echo"}, "/jobType"),
    ],
)
def test_what_no_job_can_be_changed_to_is_refused_with_its_place(
    client: Client, echo: Callable[..., str], jobs_url: str, body: dict[str, Any], path: str
) -> None:
    answer = client.request("PATCH", f"{jobs_url}/{echo()}", json=body)

    assert (answer.status_code, answer.mimetype) == (422, PROBLEM)
    assert [error["path"] for error in answer.get_json()["errors"]] == [path]


def test_an_unknown_job_and_a_token_that_may_only_read(
    client: Client, app: Any, workspace_id: uuid.UUID, mint: MintToken, echo: Callable[..., str], jobs_url: str
) -> None:
    reader = Client(app.test_client(), mint(workspace_id, ("jobs:read",)))

    assert client.request("PATCH", f"{jobs_url}/{uuid.uuid4()}", json={"priority": 9}).status_code == 404
    assert reader.request("PATCH", f"{jobs_url}/{echo()}", json={"priority": 9}).status_code == 403


def test_the_same_request_twice_is_done_once_and_answered_as_the_first_was(
    client: Client, hand: Hand, workspace_id: uuid.UUID, echo: Callable[..., str], jobs_url: str
) -> None:
    job_id = echo()
    send = {"json": {"priority": 9}, "headers": {"Idempotency-Key": "order 4711"}}

    first = client.request("PATCH", f"{jobs_url}/{job_id}", **send)
    hand.complete(workspace_id, job_id)
    second = client.request("PATCH", f"{jobs_url}/{job_id}", **send)

    assert (first.status_code, second.status_code) == (200, 200)
    assert second.headers["Idempotency-Replayed"] == "true"
    assert second.get_json() == first.get_json()


def test_a_job_that_somebody_else_has_changed_meanwhile_is_left_alone_for_who_says_what_it_was(
    client: Client, echo: Callable[..., str], jobs_url: str
) -> None:
    at = f"{jobs_url}/{echo()}"
    tag = client.get(at).headers["ETag"]
    first = client.request("PATCH", at, json={"priority": 1}, headers={"If-Match": tag})
    late = client.request("PATCH", at, json={"priority": 2}, headers={"If-Match": tag})

    assert (first.status_code, late.status_code, late.mimetype) == (200, 412, PROBLEM)
    assert late.get_json()["type"].endswith(":precondition-failed")
    assert client.get(at).get_json()["priority"] == 1
    # What the change has answered is the job to go on from, also as a proxy that compresses calls it.
    for number, seen in ((3, first.headers["ETag"]), (4, "W/%s"), (5, '"other", %s'), (6, "*")):
        given = seen % client.get(at).headers["ETag"] if "%s" in seen else seen
        answer = client.request("PATCH", at, json={"priority": number}, headers={"If-Match": given})
        assert (answer.status_code, answer.get_json()["priority"]) == (200, number), given
    for given in ("", "nonsense", '"other"', "W/*"):
        answer = client.request("PATCH", at, json={"priority": 9}, headers={"If-Match": given})
        assert answer.status_code == 412, given
    unknown = client.request("PATCH", f"{jobs_url}/{uuid.uuid4()}", json={"priority": 9}, headers={"If-Match": "*"})
    assert unknown.status_code == 404


def test_who_changes_a_job_while_somebody_else_does_has_not_read_what_becomes_of_it(
    client: Client, workspace_id: uuid.UUID, echo: Callable[..., str], jobs_url: str, sessions: sessionmaker[Session]
) -> None:
    job_id = echo()
    at = f"{jobs_url}/{job_id}"
    guard = {"If-Match": client.get(at).headers["ETag"]}
    with ThreadPoolExecutor(1) as thread, sessions() as other:
        change_job(other, workspace_id, uuid.UUID(job_id), JobChange(priority=1))
        late = thread.submit(client.request, "PATCH", at, json={"priority": 2}, headers=guard)
        wait_until(lambda: _waits(sessions), what="the request to wait for the change")
        other.commit()

        assert late.result().status_code == 412
    assert client.get(at).get_json()["priority"] == 1


def test_a_change_behind_the_snapshot_of_an_application_s_transactions_is_to_be_tried_again(
    login_url: Callable[..., str],
    mint: MintToken,
    workspace_id: uuid.UUID,
    echo: Callable[..., str],
    jobs_url: str,
    sessions: sessionmaker[Session],
) -> None:
    engine = engine_of_api(login_url(Role.API)).execution_options(isolation_level="REPEATABLE READ")
    app = Flask("a host")
    app.register_blueprint(create_blueprint(sessionmaker(engine), make_tasks()))
    patient = Client(app.test_client(), mint(workspace_id))
    job_id = echo()
    with ThreadPoolExecutor(1) as thread, sessions() as other:
        change_job(other, workspace_id, uuid.UUID(job_id), JobChange(priority=1))
        late = thread.submit(patient.request, "PATCH", f"{jobs_url}/{job_id}", json={"priority": 2})
        wait_until(lambda: _waits(sessions), what="the request to wait for the change")
        other.commit()

        answer = late.result()
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "try again" in answer.get_json()["detail"]
    assert patient.request("PATCH", f"{jobs_url}/{job_id}", json={"priority": 2}).status_code == 200
    engine.dispose()


def _waits(sessions: sessionmaker[Session]) -> bool:
    """In a transaction of its own: what a transaction has seen of the others stays as it was."""
    with sessions() as session:
        return bool(session.scalar(text(WAITING)))
