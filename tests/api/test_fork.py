"""A new job made from one that has ended, over HTTP."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.key_ring import generate_key
from jobplatform.queue import set_encrypting
from tests.api.conftest import Client, Hand, MintToken

Echo = Callable[..., str]
STEPS = {"one": {"rows": 1}, "two": {"rows": 2}, "three": {"rows": 3}}


@pytest.fixture
def failed(echo: Echo, hand: Hand, workspace_id: uuid.UUID) -> str:
    job_id = echo(payload={"n": 1}, priority=4, tags=["eu"])
    hand.fail(workspace_id, job_id, steps=STEPS)
    return job_id


def steps_of(client: Client, jobs_url: str, job_id: str) -> list[str]:
    return [step["name"] for step in client.get(f"{jobs_url}/{job_id}/steps").get_json()["items"]]


def test_from_the_third_step_on_it_keeps_the_first_two(client: Client, jobs_url: str, failed: str) -> None:
    answer = client.post(f"{jobs_url}/{failed}/fork", json={"fromStep": "three"})

    job = answer.get_json()["job"]
    assert (answer.status_code, answer.headers["Location"]) == (202, job["statusUrl"])
    assert (job["status"], job["parentId"], job["payload"], job["priority"], job["tags"]) == (
        "pending", failed, {"n": 1}, 4, ["eu"],
    )  # fmt: skip
    assert steps_of(client, jobs_url, job["id"]) == ["one", "two"]
    assert client.get(f"{jobs_url}/{failed}").get_json()["status"] == "failed"
    assert steps_of(client, jobs_url, failed) == ["one", "two", "three"]


def test_without_a_body_all_that_is_done_is_kept(client: Client, jobs_url: str, failed: str) -> None:
    whole = client.post(f"{jobs_url}/{failed}/fork").get_json()["jobId"]
    anew = client.post(f"{jobs_url}/{failed}/fork", json={"fromStart": True}).get_json()["jobId"]

    assert steps_of(client, jobs_url, whole) == ["one", "two", "three"]
    assert steps_of(client, jobs_url, anew) == []


@pytest.mark.parametrize(
    ("body", "path", "words"),
    [
        ({"fromStep": "thre"}, "/fromStep", "did you mean 'three'"),
        ({"fromStep": "one", "fromStart": True}, "/fromStart", "together"),
        ({"payload": [1]}, "/payload", "mapping"),
        ({"fromStpe": "one"}, "/fromStpe", ""),
    ],
)
def test_what_cannot_be_is_refused_where_it_is(
    client: Client, jobs_url: str, failed: str, body: dict[str, object], path: str, words: str
) -> None:
    answer = client.post(f"{jobs_url}/{failed}/fork", json=body)

    (error,) = answer.get_json()["errors"]
    assert (answer.status_code, error["path"]) == (422, path)
    assert words in error["message"]


def test_a_live_job_is_not_forked_and_a_taken_guard_says_by_whom(
    client: Client, jobs_url: str, echo: Echo, hand: Hand, workspace_id: uuid.UUID
) -> None:
    job_id = echo(uniqueKey="once")
    live = client.post(f"{jobs_url}/{job_id}/fork")
    hand.complete(workspace_id, job_id)
    first = client.post(f"{jobs_url}/{job_id}/fork")

    second = client.post(f"{jobs_url}/{job_id}/fork")

    assert (live.status_code, live.get_json()["type"].rpartition(":")[2]) == (409, "status-conflict")
    assert (second.status_code, second.get_json()["type"].rpartition(":")[2]) == (409, "duplicate-job")
    assert second.get_json()["jobId"] == first.get_json()["jobId"]


def test_a_job_of_somebody_else_is_not_there(stranger: Client, client: Client, jobs_url: str, failed: str) -> None:
    assert stranger.post(f"{jobs_url}/{failed}/fork").status_code in (403, 404)
    assert client.post(f"{jobs_url}/{uuid.uuid4()}/fork").status_code == 404


def test_the_same_request_sent_twice_makes_one_job(client: Client, jobs_url: str, failed: str) -> None:
    headers = {"Idempotency-Key": "again"}

    answers = [client.post(f"{jobs_url}/{failed}/fork", json={"fromStep": "two"}, headers=headers) for _ in range(2)]

    assert len({answer.get_json()["jobId"] for answer in answers}) == 1


def test_it_is_written_down_from_what_and_where(
    client: Client, jobs_url: str, failed: str, sessions: sessionmaker[Session]
) -> None:
    new = client.post(f"{jobs_url}/{failed}/fork", json={"fromStep": "two", "payload": {"n": 2}}).get_json()["jobId"]

    with sessions() as session:
        target, details = session.execute(
            text("select target, details from jobplatform.audit_log where action = 'job.fork'")
        ).one()
    assert target == f"job:{new}"
    assert details == {"fromJob": failed, "fromStep": "two", "newPayload": True}


def test_an_operator_forks_an_encrypted_job_without_seeing_what_is_in_it(
    client: Client, operator: Client, jobs_url: str, echo: Echo, hand: Hand, workspace_id: uuid.UUID,
    sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("JOBPLATFORM_ENCRYPTION_KEYS", generate_key("test"))
    with sessions.begin() as session:
        set_encrypting(session, workspace_id, True)
    job_id = echo(payload={"word": "moon"})
    hand.fail(workspace_id, job_id, steps=STEPS)

    answer = operator.post(f"{jobs_url}/{job_id}/fork", json={"fromStep": "two"})

    new = answer.get_json()["job"]
    assert (answer.status_code, new["payload"]) == (202, {"sealed": True})
    assert client.get(f"{jobs_url}/{new['id']}").get_json()["payload"] == {"word": "moon"}
    assert client.get(f"{jobs_url}/{new['id']}/steps").get_json()["items"][0]["result"] == {"rows": 1}


def test_who_may_only_read_cannot_fork(
    jobs_url: str, failed: str, client: Client, mint: MintToken, workspace_id: uuid.UUID
) -> None:
    reader = Client(client.http, mint(workspace_id, ("jobs:read",)))

    assert reader.post(f"{jobs_url}/{failed}/fork").status_code == 403
