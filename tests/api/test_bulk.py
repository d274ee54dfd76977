"""Many jobs in one request: all of them or none, and an answer for each in their order."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from jobplatform.queue import set_workspace_limits
from jobplatform.testing import Clock
from tests.api.conftest import Client, Hand

SELDOM = {"jobType": "seldom", "payload": {"account": "a"}}


def count(session: Session) -> int:
    session.rollback()
    return session.scalar(text("select count(*) from jobplatform.job_records")) or 0


def problems_at(answer: Any) -> list[str]:
    return [error["path"] for error in answer.get_json()["errors"]]


def test_many_jobs_are_enqueued_at_once_and_answered_in_order(client: Client, jobs_url: str, session: Session) -> None:
    wanted = [{"jobType": "add", "payload": {"left": n, "right": 1}, "priority": n % 3} for n in range(1000)]

    answer = client.post(f"{jobs_url}/batch", json={"jobs": wanted})

    assert answer.status_code == 202
    items = answer.get_json()["items"]
    assert len(items) == count(session) == 1000
    for n in (0, 7, 999):
        assert items[n]["status"] == "pending"
        job = client.get(items[n]["statusUrl"]).get_json()
        assert items[n]["eventsUrl"] == job["eventsUrl"]
        assert (job["id"], job["payload"], job["priority"]) == (items[n]["jobId"], wanted[n]["payload"], n % 3)


def test_one_that_does_not_fit_is_a_reason_to_enqueue_none(client: Client, jobs_url: str, session: Session) -> None:
    wanted = [
        {"jobType": "echo"},
        {"jobType": "add", "payload": {"left": "one"}},
        {"jobType": "ecko"},
        {"jobType": "echo", "delayMs": -1},
    ]

    answer = client.post(f"{jobs_url}/batch", json={"jobs": wanted[:3]})
    assert answer.status_code == 422
    assert problems_at(answer) == ["/jobs/1/payload/left", "/jobs/1/payload/right", "/jobs/2/jobType"]

    answer = client.post(f"{jobs_url}/batch", json={"jobs": wanted[3:]})
    assert (answer.status_code, problems_at(answer)) == (422, ["/jobs/0/delayMs"])
    assert count(session) == 0


def test_the_path_of_a_mistake_leads_to_it_however_deep_it_is(client: Client, jobs_url: str) -> None:
    article = str(uuid.uuid4())
    order = {
        "lines": [
            {"article": article},
            {"article": "seven", "size": "medium", "due": "2026-01-01T00:00:00", "color": "red"},
        ],
        "totals": {"net": "x"},
    }

    answer = client.post(jobs_url, json={"jobType": "order", "payload": order})

    assert answer.status_code == 422
    assert set(problems_at(answer)) == {
        "/payload/lines/1/article",
        "/payload/lines/1/size",
        "/payload/lines/1/due",
        "/payload/lines/1/color",
        "/payload/totals/net/value",
    }


def test_a_guard_that_is_taken_refuses_all_of_them_and_names_who_has_it(
    client: Client, jobs_url: str, sync_url: str, session: Session
) -> None:
    first = client.post(sync_url).get_json()["jobId"]

    answer = client.post(f"{jobs_url}/batch", json={"jobs": [{"jobType": "echo"}, {"jobType": "sync"}]})

    assert (answer.status_code, answer.get_json()["jobId"]) == (409, first)
    assert problems_at(answer) == ["/jobs/1"]
    assert count(session) == 1


def test_two_of_one_guard_in_a_request_are_a_mistake_of_the_request(client: Client, jobs_url: str) -> None:
    answer = client.post(f"{jobs_url}/batch", json={"jobs": [{"jobType": "sync"}, {"jobType": "sync"}]})

    assert (answer.status_code, problems_at(answer)) == (422, ["/jobs/1"])


def test_each_may_say_what_to_do_when_its_guard_is_taken(client: Client, jobs_url: str, sync_url: str) -> None:
    first = client.post(sync_url).get_json()["jobId"]
    wanted = [{"jobType": "sync", "ifActive": "return"}, {"jobType": "sync", "ifActive": "replace"}]

    items = client.post(f"{jobs_url}/batch", json={"jobs": wanted}).get_json()["items"]

    assert [(item["jobId"], item["deduplicated"], item["replaced"]) for item in items] == [
        (first, True, False),
        (first, False, True),
    ]


def test_a_workspace_without_room_for_all_takes_none(
    client: Client, jobs_url: str, session: Session, workspace_id: uuid.UUID
) -> None:
    set_workspace_limits(session, workspace_id, {"max_pending": 2})
    session.commit()

    answer = client.post(f"{jobs_url}/batch", json={"jobs": [{"jobType": "echo"}] * 3})

    assert answer.status_code == 429
    assert count(session) == 0


def test_none_and_too_many_are_refused(client: Client, jobs_url: str) -> None:
    for jobs in ([], [{"jobType": "echo"}] * 1001):
        answer = client.post(f"{jobs_url}/batch", json={"jobs": jobs})
        assert (answer.status_code, problems_at(answer)) == (422, ["/jobs"])


def test_a_payload_that_is_too_large_is_named_by_its_position(client: Client, jobs_url: str) -> None:
    wanted = [{"jobType": "echo"}, {"jobType": "echo", "payload": {"text": "x" * 300_000}}]

    answer = client.post(f"{jobs_url}/batch", json={"jobs": wanted})

    assert (answer.status_code, problems_at(answer)) == (422, ["/jobs/1/payload"])


# Replacing


def test_a_newer_request_replaces_the_payload_of_the_one_that_waits(client: Client, jobs_url: str) -> None:
    first = client.post(jobs_url, json={"jobType": "newest", "payload": {"n": 1}}).get_json()

    second = client.post(jobs_url, json={"jobType": "newest", "payload": {"n": 2}}).get_json()

    assert (second["jobId"], second["replaced"], second["deduplicated"]) == (first["jobId"], True, False)
    assert second["job"]["payload"] == {"n": 2}


def test_a_job_is_put_off_by_each_request_but_no_longer_than_they_say(
    client: Client, jobs_url: str, engine: Engine
) -> None:
    quiet = {"jobType": "newest", "delayMs": 60_000, "longestDelayMs": 100_000}
    client.post(jobs_url, json=quiet)
    Clock(engine).travel(seconds=50)

    job = client.post(jobs_url, json=quiet).get_json()["job"]

    created_at, run_after = (datetime.datetime.fromisoformat(job[name]) for name in ("createdAt", "runAfter"))
    assert run_after - created_at == datetime.timedelta(seconds=100)


def test_only_what_is_replaced_can_be_put_off(client: Client, jobs_url: str) -> None:
    answer = client.post(jobs_url, json={"jobType": "echo", "delayMs": 5, "longestDelayMs": 5})

    assert (answer.status_code, problems_at(answer)) == (422, ["/longestDelayMs"])


def test_many_of_which_one_would_come_too_soon_are_refused_until_then(
    client: Client, jobs_url: str, hand: Hand, workspace_id: uuid.UUID, session: Session
) -> None:
    first = client.post(jobs_url, json=SELDOM).get_json()["jobId"]
    hand.complete(workspace_id, first)

    refused = client.post(f"{jobs_url}/batch", json={"jobs": [{"jobType": "echo"}, SELDOM]})
    returned = client.post(f"{jobs_url}/batch", json={"jobs": [{"jobType": "echo"}, {**SELDOM, "ifActive": "return"}]})

    assert (refused.status_code, refused.get_json()["jobId"], problems_at(refused)) == (409, first, ["/jobs/1"])
    assert 890 < int(refused.headers["Retry-After"]) <= 900
    item = returned.get_json()["items"][1]
    assert (item["jobId"], item["status"], item["deduplicated"]) == (first, "completed", True)
    assert count(session) == 2


# Not more often than


def test_what_comes_too_soon_is_told_which_job_there_is_and_when_there_may_be_another(
    client: Client, jobs_url: str, hand: Hand, workspace_id: uuid.UUID, engine: Engine
) -> None:
    first = client.post(jobs_url, json=SELDOM).get_json()["job"]
    hand.complete(workspace_id, first["id"])
    clock = Clock(engine)
    clock.travel(seconds=600)

    answer = client.post(jobs_url, json=SELDOM)

    problem = answer.get_json()
    assert answer.status_code == 409
    assert problem["type"].endswith(":duplicate-job")
    assert (problem["jobId"], problem["jobStatus"]) == (first["id"], "completed")
    assert problem["statusUrl"] == answer.headers["Location"] == first["statusUrl"]
    created_at, until = (datetime.datetime.fromisoformat(text) for text in (first["createdAt"], problem["uniqueUntil"]))
    assert until - created_at == datetime.timedelta(minutes=15)
    assert 290 < int(answer.headers["Retry-After"]) <= 300
    clock.travel(seconds=301)
    assert client.post(jobs_url, json=SELDOM).status_code == 202


def test_who_asks_for_the_job_there_is_gets_it_as_it_is_by_now(
    client: Client, jobs_url: str, hand: Hand, workspace_id: uuid.UUID
) -> None:
    wanted = {"jobType": "echo", "uniqueKey": "k", "uniqueForMs": 60_000}
    first = client.post(jobs_url, json=wanted).get_json()["jobId"]
    hand.complete(workspace_id, first)

    answer = client.post(jobs_url, json={**wanted, "ifActive": "return"})

    assert answer.status_code == 202
    accepted = answer.get_json()
    assert (accepted["jobId"], accepted["status"], accepted["deduplicated"]) == (first, "completed", True)
    assert client.post(jobs_url, json={"jobType": "echo", "uniqueKey": "k"}).status_code == 202


def test_an_unfinished_job_in_the_way_says_nothing_of_when_it_ends(client: Client, jobs_url: str) -> None:
    client.post(jobs_url, json={"jobType": "echo", "uniqueKey": "k"})

    answer = client.post(jobs_url, json={"jobType": "echo", "uniqueKey": "k", "uniqueForMs": 60_000})

    assert (answer.status_code, "uniqueUntil" in answer.get_json()) == (409, False)
    assert "Retry-After" not in answer.headers


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"jobType": "echo", "uniqueForMs": 60_000}, "/uniqueForMs"),
        ({"jobType": "echo", "uniqueKey": "k", "uniqueForMs": 0}, "/uniqueForMs"),
        ({"jobType": "echo", "uniqueKey": "k", "uniqueForMs": 366 * 86_400_000}, "/uniqueForMs"),
        ({"jobType": "newest", "uniqueForMs": 60_000}, "/ifActive"),
        ({"jobType": "seldom", "payload": {"account": "a"}, "ifActive": "replace"}, "/ifActive"),
    ],
)
def test_a_period_without_sense_is_refused(client: Client, jobs_url: str, body: dict[str, Any], path: str) -> None:
    answer = client.post(jobs_url, json=body)

    assert (answer.status_code, problems_at(answer)) == (422, [path])


def test_how_often_there_is_a_sync_is_its_task_s_to_say(client: Client, sync_url: str) -> None:
    answer = client.post(sync_url, json={"uniqueForMs": 60_000})

    assert (answer.status_code, problems_at(answer)) == (422, ["/uniqueForMs"])


def test_a_running_job_gets_one_successor(
    client: Client, jobs_url: str, sync_url: str, hand: Hand, workspace_id: uuid.UUID
) -> None:
    running = client.post(sync_url).get_json()["jobId"]
    hand.claim(workspace_id, running)

    second = client.post(sync_url, json={"ifActive": "replace", "mode": "initial"}).get_json()
    third = client.post(sync_url, json={"ifActive": "replace", "mode": "incremental"}).get_json()

    assert second["jobId"] != running
    assert (third["jobId"], third["replaced"]) == (second["jobId"], True)
    assert third["job"]["payload"]["mode"] == "incremental"
    refused = client.post(sync_url)
    assert (refused.status_code, refused.get_json()["jobId"]) == (409, running)


def test_a_request_can_refuse_to_replace_what_its_task_would(client: Client, jobs_url: str) -> None:
    client.post(jobs_url, json={"jobType": "newest"})

    assert client.post(jobs_url, json={"jobType": "newest", "ifActive": "refuse"}).status_code == 409
    assert client.post(jobs_url, json={"jobType": "newest", "ifActive": "return"}).get_json()["deduplicated"] is True
