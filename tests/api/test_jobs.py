"""POST …/jobs, a job's page, its attempts, and the verbs of a person."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from jobplatform.models import JobRecord
from jobplatform.queue import end_late_jobs
from jobplatform.testing import Clock
from tests.api.conftest import PROBLEM, Client, Hand
from tests.queue.test_retry_job import IN_THE_WAY

Echo = Callable[..., str]


def test_every_option_reaches_the_job(client: Client, jobs_url: str) -> None:
    answer = client.post(
        jobs_url,
        json={
            "jobType": "add",
            "payload": {"left": 1, "right": 2},
            "priority": -7,
            "runAfter": "2031-05-06T07:08:09.123456+02:00",
            "maxAttempts": 9,
            "timeoutMs": 1234,
            "startWithinMs": 60_000,
            "queue": "slow",
            "uniqueKey": "once",
            "tags": ["red", 'a "quoted" one', "a,b"],
        },
        headers={"X-Request-Id": "from-the-client.1"},
    )

    job = answer.get_json()["job"]
    assert answer.status_code == 202
    assert job == {
        **job,
        "jobType": "add",
        "payload": {"left": 1, "right": 2},
        "status": "pending",
        "outcome": None,
        "priority": -7,
        "runAfter": "2031-05-06T05:08:09.123456Z",
        "maxAttempts": 9,
        "timeoutMs": 1234,
        "startWithinMs": 60_000,
        "startBy": "2031-05-06T05:09:09.123456Z",
        "queue": "slow",
        "uniqueKey": "once",
        "tags": ["red", 'a "quoted" one', "a,b"],
        "requestId": "from-the-client.1",
        "attempts": 0,
        "progress": None,
        "result": None,
        "error": None,
        "startedAt": None,
        "completedAt": None,
        "cancelRequestedAt": None,
    }


def test_what_is_not_said_is_the_task_s_default(client: Client, jobs_url: str) -> None:
    job = client.post(jobs_url, json={"jobType": "echo"}).get_json()["job"]

    assert (job["maxAttempts"], job["timeoutMs"], job["priority"], job["queue"]) == (3, 600_000, 0, "default")
    assert (job["payload"], job["tags"], job["uniqueKey"]) == ({}, [], None)
    assert (job["startWithinMs"], job["startBy"]) == (None, None)


def test_a_delayed_job_waits_from_the_database_s_now(client: Client, jobs_url: str, session: Session) -> None:
    job_id = client.post(jobs_url, json={"jobType": "echo", "delayMs": 60_000}).get_json()["jobId"]

    record = session.scalars(select(JobRecord).where(JobRecord.id == uuid.UUID(job_id))).one()
    assert (record.run_after - record.created_at).total_seconds() == 60


def test_an_unknown_job_type_is_refused_with_the_nearest_name(client: Client, jobs_url: str) -> None:
    answer = client.post(jobs_url, json={"jobType": "ecko"})

    body = answer.get_json()
    assert answer.status_code == 422
    assert answer.content_type == PROBLEM
    assert body["type"].endswith(":unknown-job-type")
    assert body["suggestion"] == "echo"
    assert body["detail"] == "no task is named 'ecko'; did you mean 'echo'?", "where tasks are is nobody's business"
    assert [error["path"] for error in body["errors"]] == ["/jobType"]


def test_an_unknown_field_is_refused_with_the_nearest_one(client: Client, jobs_url: str) -> None:
    body = {"jobType": "add", "payload": {"lefty": 1, "right": 2}, "maxAttempt": 2, "zzz": 3}

    options = client.post(jobs_url, json=body).get_json()["errors"]
    payload = client.post(jobs_url, json={"jobType": "add", "payload": body["payload"]}).get_json()["errors"]
    query = client.get(f"{jobs_url}?offset=20&state=failed").get_json()["errors"]

    assert {error["path"]: error["message"] for error in options} == {
        "/maxAttempt": "Unknown field; did you mean 'maxAttempts'?",
        "/zzz": "Unknown field.",
    }
    assert {"path": "/payload/lefty", "message": "Unknown field; did you mean 'left'?"} in payload
    assert {error["path"]: error["message"] for error in query} == {
        "?offset": "Unknown field.",
        "?state": "Unknown field; did you mean 'status'?",
    }


def test_a_payload_is_checked_by_its_task(client: Client, jobs_url: str) -> None:
    answer = client.post(jobs_url, json={"jobType": "add", "payload": {"left": "one", "extra": 1}})

    assert answer.status_code == 422
    assert {error["path"] for error in answer.get_json()["errors"]} == {
        "/payload/left",
        "/payload/right",
        "/payload/extra",
    }


@pytest.mark.parametrize("payload", [[1], "text", 5, True])
def test_a_payload_is_an_object(client: Client, jobs_url: str, payload: Any) -> None:
    answer = client.post(jobs_url, json={"jobType": "echo", "payload": payload})

    assert (answer.status_code, answer.get_json()["errors"][0]["path"]) == (422, "/payload")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("priority", 1001),
        ("priority", -1001),
        ("priority", "5"),
        ("priority", 1.5),
        ("priority", True),
        ("priority", 10**400),
        ("maxAttempts", 0),
        ("maxAttempts", 1001),
        ("timeoutMs", 0),
        ("timeoutMs", 7 * 24 * 3_600_000 + 1),
        ("startWithinMs", 0),
        ("startWithinMs", 365 * 24 * 3_600_000 + 1),
        ("delayMs", -1),
        ("delayMs", 366 * 24 * 3_600_000),
        ("runAfter", "2031-05-06T07:08:09"),
        ("runAfter", "tomorrow"),
        ("runAfter", 5),
        ("runAfter", "0001-01-01T00:00:00Z"),
        ("runAfter", "9999-12-31T23:59:59-12:00"),
        ("queue", "No Such Queue"),
        ("queue", ""),
        ("uniqueKey", ""),
        ("uniqueKey", "x" * 501),
        ("uniqueKey", None),
        ("tags", "red"),
        ("tags", ["red"] * 21),
        ("ifActive", "overwrite"),
        ("jobType", 5),
        ("jobType", ""),
        ("status", "completed"),
        ("workspaceId", "7d7777f6-fd7b-4d0f-bc1b-6118f5d0212c"),
        ("attempts", 1),
        ("id", "7d7777f6-fd7b-4d0f-bc1b-6118f5d0212c"),
    ],
)
def test_an_option_that_cannot_be_is_invalid_at_its_place(client: Client, jobs_url: str, name: str, value: Any) -> None:
    answer = client.post(jobs_url, json={"jobType": "echo", name: value})

    assert answer.status_code == 422, answer.text
    assert answer.content_type == PROBLEM
    assert [error["path"] for error in answer.get_json()["errors"]] == [f"/{name}"]


def test_a_problem_inside_a_list_names_the_item(client: Client, jobs_url: str) -> None:
    answer = client.post(jobs_url, json={"jobType": "echo", "tags": ["fine", "", "x" * 101]})

    assert [error["path"] for error in answer.get_json()["errors"]] == ["/tags/1", "/tags/2"]


def test_a_job_has_one_start(client: Client, jobs_url: str) -> None:
    options = {"runAfter": "2031-05-06T07:08:09Z", "delayMs": 5}
    answer = client.post(jobs_url, json={"jobType": "echo", **options})

    assert [error["path"] for error in answer.get_json()["errors"]] == ["/delayMs"]


def test_of_many_jobs_each_says_by_when_it_has_to_begin_and_one_that_has_not_is_discarded(
    client: Client, jobs_url: str, engine: Engine, session: Session
) -> None:
    within = [60_000, None, 3_600_000]
    body = [{"jobType": "echo", **({} if ms is None else {"startWithinMs": ms})} for ms in within]
    urls = [item["statusUrl"] for item in client.post(jobs_url + "/batch", json={"jobs": body}).get_json()["items"]]
    Clock(engine).travel(minutes=1)
    end_late_jobs(session)
    session.commit()

    found = [client.get(url).get_json() for url in urls]

    assert [job["status"] for job in found] == ["cancelled", "pending", "pending"]
    assert [job["startWithinMs"] for job in found] == within
    assert [job["startBy"] is None for job in found] == [True, True, False]
    assert (found[0]["outcome"], found[0]["error"]["type"]) == ("discarded", "TooLate")


def test_a_taken_unique_key_is_a_duplicate(client: Client, jobs_url: str, echo: Echo) -> None:
    first = echo(uniqueKey="once")

    again = client.post(jobs_url, json={"jobType": "echo", "uniqueKey": "once"})

    assert (again.status_code, again.get_json()["jobId"]) == (409, first)


def test_a_running_job_shows_its_worker_s_progress(
    client: Client, jobs_url: str, echo: Echo, hand: Hand, workspace_id: uuid.UUID, session: Session
) -> None:
    job_id = echo()
    hand.claim(workspace_id, job_id)
    session.execute(
        text("update jobplatform.job_queue set progress = cast(:progress as jsonb) where id = :id"),
        {"progress": '{"current": 1.5, "total": null, "message": "half"}', "id": job_id},
    )
    session.commit()

    job = client.get(f"{jobs_url}/{job_id}").get_json()

    assert (job["status"], job["attempts"]) == ("running", 1)
    assert job["progress"] == {"current": 1.5, "total": None, "message": "half"}
    assert job["startedAt"].endswith("Z")


def test_a_failed_job_shows_its_error_and_its_attempts(
    client: Client, jobs_url: str, echo: Echo, hand: Hand, workspace_id: uuid.UUID
) -> None:
    job_id = echo()
    hand.fail(workspace_id, job_id)

    job = client.get(f"{jobs_url}/{job_id}").get_json()
    (attempt,) = client.get(f"{jobs_url}/{job_id}/attempts").get_json()["items"]

    assert (job["status"], job["outcome"]) == ("failed", "error")
    assert job["error"] == {"type": "RuntimeError", "message": "the far side said no"} == attempt["error"]
    assert (attempt["attempt"], attempt["outcome"], attempt["final"]) == (1, "error", True)
    assert attempt["traceback"] == "Traceback …"
    assert attempt["workerId"] == hand.worker_id


def test_who_ran_it_is_said_and_where_that_is_only_to_operators(
    client: Client, operator: Client, jobs_url: str, echo: Echo, hand: Hand, workspace_id: uuid.UUID
) -> None:
    waiting, well, badly = echo(), echo(), echo()
    hand.complete(workspace_id, well)
    hand.fail(workspace_id, badly)

    def said(who: Client) -> list[Any]:
        answers = [who.get(f"{jobs_url}/{job_id}").get_json() for job_id in (waiting, well, badly)]
        answers += who.get(f"{jobs_url}/{badly}/attempts").get_json()["items"]
        return [(answer["workerId"], answer["worker"]) for answer in answers]

    assert said(client) == [(None, None), *[(hand.worker_id, None)] * 3]
    assert said(operator) == [(None, None), *[(hand.worker_id, "localhost:1")] * 3]
    listed = operator.get(jobs_url).get_json()["items"]
    assert [job["worker"] for job in listed] == ["localhost:1", "localhost:1", None]


def test_a_job_that_waits_for_its_next_attempt_is_pending(
    client: Client, jobs_url: str, echo: Echo, hand: Hand, workspace_id: uuid.UUID
) -> None:
    job_id = echo()
    hand.fail(workspace_id, job_id, retry=True)

    job = client.get(f"{jobs_url}/{job_id}").get_json()

    assert (job["status"], job["attempts"], job["outcome"]) == ("pending", 1, None)
    assert job["runAfter"] > job["createdAt"]


def test_a_job_that_did_not_fail_has_no_attempts_to_show(client: Client, jobs_url: str, echo: Echo) -> None:
    assert client.get(f"{jobs_url}/{echo()}/attempts").get_json() == {"items": []}


def test_an_unchanged_job_is_not_sent_again(
    client: Client, jobs_url: str, echo: Echo, hand: Hand, workspace_id: uuid.UUID
) -> None:
    job_id = echo()
    tag = client.get(f"{jobs_url}/{job_id}").headers["ETag"]

    unchanged = client.get(f"{jobs_url}/{job_id}", headers={"If-None-Match": tag})
    hand.complete(workspace_id, job_id)
    changed = client.get(f"{jobs_url}/{job_id}", headers={"If-None-Match": tag})

    assert (unchanged.status_code, unchanged.data) == (304, b"")
    assert unchanged.headers["ETag"] == tag
    assert changed.status_code == 200
    assert changed.headers["ETag"] != tag


def test_a_job_is_shown_whatever_state_its_reader_expects_it_in(client: Client, jobs_url: str, echo: Echo) -> None:
    answer = client.get(f"{jobs_url}/{echo()}", headers={"If-Match": '"another"'})

    assert (answer.status_code, answer.get_json()["status"]) == (200, "pending")


def test_a_waiting_job_is_cancelled_at_once(client: Client, jobs_url: str, echo: Echo) -> None:
    answer = client.post(f"{jobs_url}/{echo()}/cancel")

    assert (answer.status_code, answer.get_json()["status"]) == (200, "cancelled")


def test_a_running_job_is_asked_to_stop(
    client: Client, jobs_url: str, echo: Echo, hand: Hand, workspace_id: uuid.UUID
) -> None:
    job_id = echo()
    hand.claim(workspace_id, job_id)

    answer = client.post(f"{jobs_url}/{job_id}/cancel")

    assert (answer.status_code, answer.get_json()["status"]) == (200, "running")
    assert answer.get_json()["cancelRequestedAt"] is not None


def test_a_finished_job_cannot_be_cancelled(
    client: Client, jobs_url: str, echo: Echo, hand: Hand, workspace_id: uuid.UUID
) -> None:
    job_id = echo()
    hand.complete(workspace_id, job_id)

    answer = client.post(f"{jobs_url}/{job_id}/cancel")

    assert (answer.status_code, answer.get_json()["jobStatus"]) == (409, "completed")


def test_a_failed_job_can_be_retried(
    client: Client, jobs_url: str, echo: Echo, hand: Hand, workspace_id: uuid.UUID
) -> None:
    job_id = echo()
    hand.fail(workspace_id, job_id)

    answer = client.post(f"{jobs_url}/{job_id}/retry")

    job = answer.get_json()
    assert answer.status_code == 200
    assert (job["id"], job["status"], job["attempts"], job["error"]) == (job_id, "pending", 0, None)


def test_a_live_or_completed_job_cannot_be_retried(
    client: Client, jobs_url: str, echo: Echo, hand: Hand, workspace_id: uuid.UUID
) -> None:
    live, completed = echo(), echo()
    hand.complete(workspace_id, completed)

    assert client.post(f"{jobs_url}/{live}/retry").get_json()["jobStatus"] == "pending"
    assert client.post(f"{jobs_url}/{completed}/retry").get_json()["jobStatus"] == "completed"
    assert client.post(f"{jobs_url}/{live}/retry").status_code == 409


def test_a_retry_whose_guard_is_taken_names_the_job_that_has_it(
    client: Client, jobs_url: str, echo: Echo, hand: Hand, workspace_id: uuid.UUID
) -> None:
    failed = echo(uniqueKey="once")
    hand.fail(workspace_id, failed)
    holder = echo(uniqueKey="once")

    answer = client.post(f"{jobs_url}/{failed}/retry")

    assert answer.status_code == 409
    assert answer.get_json()["type"].endswith(":duplicate-job")
    assert answer.get_json()["jobId"] == holder


def test_a_retry_that_changes_hands_at_every_look_is_to_be_asked_for_again(
    client: Client, jobs_url: str, echo: Echo, hand: Hand, workspace_id: uuid.UUID, session: Session
) -> None:
    job_id = echo()
    hand.fail(workspace_id, job_id)
    session.execute(text(IN_THE_WAY), {"id": job_id})
    session.commit()

    answer = client.post(f"{jobs_url}/{job_id}/retry")

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


def test_the_steps_of_a_job_and_its_checkpoint_are_shown(
    client: Client, jobs_url: str, echo: Echo, hand: Hand, workspace_id: uuid.UUID
) -> None:
    job_id = echo()
    assert client.get(f"{jobs_url}/{job_id}/steps").get_json() == {"items": [], "checkpoint": None}
    hand.save(workspace_id, job_id, {"page-1": None, "page-2": {"rows": 3}, "large": "x" * 5000}, {"page": 2})

    shown = client.get(f"{jobs_url}/{job_id}/steps").get_json()

    assert [(step["name"], step["result"]) for step in shown["items"]] == [
        ("page-1", None),
        ("page-2", {"rows": 3}),
        ("large", {"leftOut": 5002}),
    ]
    assert (shown["checkpoint"]["state"], shown["checkpoint"]["epoch"]) == ({"page": 2}, 1)
    assert shown["checkpoint"]["savedAt"].endswith("Z")


@pytest.mark.parametrize("from_start", ["false", "true"])
def test_a_retried_job_keeps_its_steps_unless_it_is_retried_from_the_start(
    client: Client, jobs_url: str, echo: Echo, hand: Hand, workspace_id: uuid.UUID, from_start: str
) -> None:
    job_id = echo()
    hand.fail(workspace_id, job_id, steps={"page-1": None})

    answer = client.post(f"{jobs_url}/{job_id}/retry?fromStart={from_start}")

    assert answer.status_code == 200
    steps = client.get(f"{jobs_url}/{job_id}/steps").get_json()["items"]
    assert len(steps) == (0 if from_start == "true" else 1)


def test_a_retry_from_a_step_keeps_what_was_done_before_it(
    client: Client, jobs_url: str, echo: Echo, hand: Hand, workspace_id: uuid.UUID
) -> None:
    job_id = echo()
    hand.fail(workspace_id, job_id, steps={"page-1": None, "page-2": None, "page-3": None})

    unknown = client.post(f"{jobs_url}/{job_id}/retry?fromStep=page-4")
    both = client.post(f"{jobs_url}/{job_id}/retry?fromStep=page-2&fromStart=true")
    answer = client.post(f"{jobs_url}/{job_id}/retry?fromStep=page-2")

    assert (unknown.status_code, [error["path"] for error in unknown.get_json()["errors"]]) == (422, ["?fromStep"])
    assert both.status_code == 422
    assert answer.get_json()["status"] == "pending"
    steps = client.get(f"{jobs_url}/{job_id}/steps").get_json()["items"]
    assert [step["name"] for step in steps] == ["page-1"]


def test_a_retry_from_somewhere_else_is_refused(client: Client, jobs_url: str, echo: Echo) -> None:
    answer = client.post(f"{jobs_url}/{echo()}/retry?fromStart=perhaps")

    assert (answer.status_code, answer.get_json()["errors"][0]["path"]) == (422, "?fromStart")


def test_a_job_says_where_to_follow_it(client: Client, jobs_url: str) -> None:
    accepted = client.post(f"/api{jobs_url}", json={"jobType": "echo"}).get_json()

    assert accepted["eventsUrl"] == accepted["job"]["eventsUrl"] == accepted["statusUrl"] + "/events"
    assert accepted["eventsUrl"].startswith("/api/")
