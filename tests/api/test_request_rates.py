"""How many requests a token may make."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.api import Principal, Scope, create_app, mint_job_token, presented_id
from jobplatform.api.access.request_rates import JOBS_TOGETHER, MOST_BUCKETS, RequestRates
from jobplatform.models import Role
from jobplatform.settings import Settings
from tests.api.conftest import PROBLEM, Client, MintToken, hub_of


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def limited(login_url: Callable[..., str]) -> Iterator[Flask]:
    """An API of which each token may ask three things a minute."""
    settings = Settings(database_url=login_url(Role.API), tasks="tests.api.example_tasks:tasks", requests_per_minute=3)
    app = create_app(settings)
    yield app
    hub_of(app).close()
    app.extensions["jobplatform.engine"].dispose()


def test_a_token_that_asks_too_often_is_told_when_to_come_back(
    limited: Flask, mint: MintToken, workspace_id: uuid.UUID, jobs_url: str
) -> None:
    client, other = (Client(limited.test_client(), mint(workspace_id)) for _ in range(2))

    answers = [client.get(jobs_url) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert {answer.headers["RateLimit-Policy"] for answer in answers} == {'"requests";q=3;w=60'}
    assert [answer.headers["RateLimit"].split(";")[1] for answer in answers] == ["r=2", "r=1", "r=0", "r=0"]
    refused = answers[-1]
    assert (refused.content_type, refused.get_json()["limit"]) == (PROBLEM, 3)
    assert refused.get_json()["type"] == "urn:jobplatform:problem:too-many-requests"
    assert 1 <= int(refused.headers["Retry-After"]) <= 20
    # It says nothing about anybody else, and a request without a token takes nobody's.
    assert other.get(jobs_url).status_code == 200
    assert limited.test_client().get("/livez").headers.get("RateLimit") is None


def test_what_somebody_does_in_the_pages_with_a_token_counts_too(
    limited: Flask, mint: MintToken, workspace_id: uuid.UUID, jobs_url: str
) -> None:
    token = mint(workspace_id)
    somebody = Principal("somebody", workspace_id, frozenset({Scope.JOBS_READ.value}), presented_id(token))
    client = Client(limited.test_client(), token)
    assert [client.get(jobs_url).status_code for _ in range(2)] == [200, 200]

    with limited.test_request_context():
        api = limited.blueprints["portal"].api  # type: ignore[attr-defined]
        answers = [api.ask(somebody, "GET", jobs_url) for _ in range(2)]

    assert [answer.status for answer in answers] == [200, 429]


def test_tokens_for_one_job_count_by_themselves_and_together(
    limited: Flask, mint: MintToken, workspace_id: uuid.UUID, sessions: sessionmaker[Session]
) -> None:
    token = mint(workspace_id)
    # No bucket fills meanwhile.
    limited.blueprints["jobplatform"].mounted.rates._clock = Clock()  # type: ignore[attr-defined]  # the API's blueprint

    def looks_at(job: uuid.UUID) -> int:
        with sessions() as session:
            made = mint_job_token(session, presented_id(token), workspace_id, job, datetime.timedelta(minutes=1))
        assert made is not None
        return Client(limited.test_client(), made[0]).get(f"/workspaces/{workspace_id}/jobs/{job}").status_code

    job = uuid.uuid4()
    statuses = [looks_at(job) for _ in range(4)]
    others = [looks_at(uuid.uuid4()) for _ in range(3 * JOBS_TOGETHER)]

    assert statuses == [404, 404, 404, 429]
    assert set(others[: 3 * JOBS_TOGETHER - 4]) == {404}
    assert others[-1] == 429
    assert Client(limited.test_client(), token).get(f"/workspaces/{workspace_id}/jobs").status_code == 200


def test_what_is_refused_for_another_reason_counts_too(
    limited: Flask, mint: MintToken, workspace_id: uuid.UUID, jobs_url: str
) -> None:
    client = Client(limited.test_client(), mint(workspace_id))

    statuses = [client.get(f"/workspaces/{uuid.uuid4()}/jobs").status_code for _ in range(4)]

    assert statuses == [404, 404, 404, 429]


def test_without_a_limit_nothing_is_counted_or_said(client: Client, jobs_url: str) -> None:
    answer = client.get(jobs_url)

    assert "RateLimit" not in answer.headers


def test_a_bucket_fills_by_itself_and_never_over() -> None:
    clock = Clock()
    rates = RequestRates(60, clock)

    assert [rates.take("a").left for _ in range(60)] == list(range(59, -1, -1))
    assert rates.take("a") == (False, 60, 0, 1)
    clock.now += 2.5
    assert [rates.take("a").allowed for _ in range(3)] == [True, True, False]
    clock.now += 3600
    assert rates.take("a") == (True, 60, 59, 1)


def test_however_many_tokens_there_are_no_more_are_remembered_than_fit() -> None:
    rates = RequestRates(1)
    for number in range(MOST_BUCKETS + 10):
        rates.take(number)

    assert len(rates) == MOST_BUCKETS
    # The first ones were forgotten, the last ones were not.
    assert (rates.take(0).allowed, rates.take(MOST_BUCKETS + 9).allowed) == (True, False)


def test_every_guarded_operation_documents_the_limit(client: Client) -> None:
    for path, operations in client.get("/openapi.json").get_json()["paths"].items():
        for method, operation in operations.items():
            if method != "parameters" and operation["security"]:
                refusal = operation["responses"]["429"]
                assert {"RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-Id"} == set(refusal["headers"]), path
                assert set(refusal["content"]) == {PROBLEM}, path
