"""Every error is a problem document, and a broken database is not our caller's fault."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, make_url, text

from jobplatform.api import create_app
from jobplatform.settings import Settings
from tests.api.conftest import PROBLEM, Client


def test_a_problem_has_the_members_of_the_standard(client: Client, workspace_id: uuid.UUID) -> None:
    path = f"/workspaces/{workspace_id}/jobs/{uuid.uuid4()}"

    answer = client.get(f"/api{path}")

    assert answer.content_type == PROBLEM
    assert answer.get_json() == {
        "type": "urn:jobplatform:problem:not-found",
        "title": "Not Found",
        "status": 404,
        "detail": "There is nothing here, or it is not yours to see.",
        "instance": f"/api{path}",
    }


@pytest.mark.parametrize(
    "path",
    ["/", "/nothing", "/api", "/api/", "/api/api/healthz", "/workspaces/not-a-uuid/jobs", "/jobs/health/", "/%00"],
)
def test_an_unknown_path_is_a_problem(client: Client, path: str) -> None:
    answer = client.get(path)

    assert (answer.status_code, answer.content_type) == (404, PROBLEM)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "BREW"])
def test_an_unknown_method_is_a_problem_that_names_the_known_ones(client: Client, jobs_url: str, method: str) -> None:
    answer = client.request(method, jobs_url)

    assert (answer.status_code, answer.content_type) == (405, PROBLEM)
    assert {"GET", "POST"} <= set(answer.headers["Allow"].split(", "))


def test_an_unexpected_exception_is_a_500_that_tells_nothing(
    app: Flask, client: Client, jobs_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def break_down(*_: Any, **__: Any) -> None:
        raise RuntimeError("the secret of the house")

    monkeypatch.setattr("jobplatform.api.reading.page_jobs", break_down)

    for testing in (False, True):
        app.testing = testing
        answer = client.get(jobs_url, headers={"X-Request-Id": "find-me"})

        assert (answer.status_code, answer.content_type) == (500, PROBLEM)
        assert answer.get_json()["requestId"] == "find-me"
        assert "secret" not in answer.text
        assert "Traceback" not in answer.text
    assert "the secret of the house" in caplog.text


def test_without_a_database_every_route_answers_503(database_url: str, workspace_id: uuid.UUID) -> None:
    gone = make_url(database_url).set(database="no_such_database").render_as_string(hide_password=False)
    app = create_app(Settings(database_url=gone, tasks="tests.api.example_tasks:tasks"))
    client = Client(app.test_client(), "jp_" + "0" * 18 + "_" + "0" * 64)

    answer = client.get(f"/workspaces/{workspace_id}/jobs")

    assert (answer.status_code, answer.content_type) == (503, PROBLEM)
    assert int(answer.headers["Retry-After"]) > 0
    assert client.get("/livez").status_code == 200
    ready = client.get("/readyz")
    assert (ready.status_code, ready.get_json()["reason"]) == (503, "database-unreachable")


@pytest.mark.direct("options of a connection: a pooler refuses them")
def test_a_database_that_keeps_a_request_waiting_too_long_is_a_503(
    client: Client, database_url: str, jobs_url: str, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    impatient = make_url(database_url).update_query_dict({"options": "-clock_timeout=200"})
    app = create_app(
        Settings(
            database_url=impatient.render_as_string(hide_password=False),
            tasks="tests.api.example_tasks:tasks",
        )
    )

    with engine.begin() as blocker:
        blocker.execute(text("lock table jobplatform.job_records in access exclusive mode"))
        answer = Client(app.test_client(), client.token).get(jobs_url)
    app.extensions["jobplatform.engine"].dispose()

    assert (answer.status_code, answer.content_type) == (503, PROBLEM)
    assert answer.get_json()["detail"] == "Somebody else is changing the same at this moment. Try again shortly."
    assert "api.database_unavailable" not in caplog.messages


def test_what_takes_too_long_to_find_is_given_up_and_says_what_to_do(
    client: Client, jobs_url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobplatform.api.mounted.LONGEST_LOOK", datetime.timedelta(milliseconds=100))

    with engine.begin() as connection:
        # Or a request that is not given up would be waited for until the end of time.
        connection.execute(text("set local idle_in_transaction_session_timeout = '20s'"))
        connection.execute(text("lock table jobplatform.job_records"))
        answer = client.get(jobs_url)

    assert (answer.status_code, answer.content_type) == (503, PROBLEM)
    assert int(answer.headers["Retry-After"]) > 0
    assert "createdAfter" in answer.get_json()["detail"]


def test_only_what_reads_is_given_up(app: Flask) -> None:
    mounted = app.blueprints["jobplatform"].mounted  # type: ignore[attr-defined]
    limit = text("select current_setting('statement_timeout')")

    with app.app_context():
        with mounted.reading() as session:
            assert session.scalar(limit) == "10s"
        with mounted.transaction() as session:
            assert session.scalar(limit) == "0"
        with mounted.one_transaction(), mounted.reading() as session:
            assert session.scalar(limit) == "0"


@pytest.mark.direct("PgBouncer gives the next transaction another backend, so nobody notices")
def test_connections_cut_right_after_their_use_cost_one_answer_and_heal(
    client: Client, engine: Engine, jobs_url: str
) -> None:
    assert client.get(jobs_url).status_code == 200
    with engine.connect() as connection:
        cut = connection.execute(
            text(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity "
                "where application_name = 'jobplatform-api' and datname = current_database()"
            )
        ).scalar_one()

    assert cut > 0
    refused = client.get(jobs_url)
    assert (refused.status_code, refused.content_type) == (503, PROBLEM)
    assert refused.headers["Retry-After"]
    assert client.get(jobs_url).status_code == 200
