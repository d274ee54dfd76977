"""X-Request-Id, in and out."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from tests.api.conftest import Client


def test_every_answer_names_its_request(client: Client, nobody: Client, jobs_url: str) -> None:
    answers = [
        client.get(jobs_url),
        client.get("/no/such/path"),
        nobody.get(jobs_url),
        nobody.get("/healthz"),
        client.post(jobs_url, json={}),
        client.request("DELETE", jobs_url),
    ]

    ids = [answer.headers["X-Request-Id"] for answer in answers]
    assert len(set(ids)) == len(answers)


def test_a_well_formed_id_is_taken_over_and_kept_with_the_job(client: Client, jobs_url: str) -> None:
    answer = client.post(jobs_url, json={"jobType": "echo"}, headers={"X-Request-Id": "abc-123"})

    assert answer.headers["X-Request-Id"] == "abc-123" == answer.get_json()["job"]["requestId"]


def test_without_one_the_job_keeps_the_id_of_its_answer(client: Client, jobs_url: str) -> None:
    answer = client.post(jobs_url, json={"jobType": "echo"})

    assert answer.headers["X-Request-Id"] == answer.get_json()["job"]["requestId"]


@pytest.mark.parametrize("sent", ["", "two words", "x" * 129, 'a"b', "é", "a\tb"])
def test_an_id_that_could_break_a_log_is_replaced(client: Client, sent: str) -> None:
    answer = client.get("/healthz", headers={"X-Request-Id": sent})

    assert answer.headers["X-Request-Id"] != sent
    assert len(answer.headers["X-Request-Id"]) == 32


def test_a_request_is_one_event_in_the_log(client: Client, jobs_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "jobplatform.api")

    client.get(f"/api{jobs_url}", headers={"X-Request-Id": "abc-123"})
    client.get("/nothing")
    client.get("/livez")

    events = [record for record in caplog.records if record.message == "api.request"]
    facts = [(event.__dict__["path"], event.__dict__["status"]) for event in events]
    assert facts == [(f"/api{jobs_url}", 200), ("/nothing", 404)]
    assert events[0].__dict__["request_id"] == "abc-123"


def test_no_token_reaches_the_log(client: Client, jobs_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")

    client.get(jobs_url)
    client.http.get(jobs_url, headers={"Authorization": f"Bearer {client.token}x"})

    assert str(client.token).split("_")[2] not in caplog.text


def test_answers_are_not_to_be_kept_by_others(client: Client, jobs_url: str) -> None:
    listed = client.get(jobs_url)
    job = client.post(jobs_url, json={"jobType": "echo"}).get_json()["job"]

    assert listed.headers["Cache-Control"] == "no-store"
    assert client.get(job["statusUrl"]).headers["Cache-Control"] == "private, no-cache"
    assert listed.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("sent", ["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "not-a-trace"])
def test_the_trace_that_a_request_belongs_to_is_kept_with_its_jobs(
    client: Client, jobs_url: str, session: Session, sent: str
) -> None:
    headers = {"traceparent": sent}
    client.post(jobs_url, json={"jobType": "echo"}, headers=headers)
    client.post(f"{jobs_url}/batch", json={"jobs": [{"jobType": "echo"}]}, headers=headers)

    kept = session.scalars(text("select trace_parent from jobplatform.jobs")).all()
    assert kept == [sent if sent.startswith("00") else None] * 2
