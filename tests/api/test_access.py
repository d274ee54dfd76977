"""Who may do what, asked of every route there is, so that a new one is covered on the day it is written."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator

import pytest
from flask import Flask
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.api import Scope, create_blueprint, revoke_token
from jobplatform.queue import Tasks
from tests.api.conftest import PROBLEM, Client, Hand, MintToken

PUBLIC = {"/healthz", "/livez", "/readyz", "/openapi.json"}
WRITING = {"POST", "PUT", "PATCH", "DELETE"}
UNKNOWN = uuid.UUID("018f0000-0000-7000-8000-000000000000")


def routes(app: Flask) -> Iterator[tuple[str, str]]:
    """Every method and path of the API, with its parameters still in it."""
    for rule in app.url_map.iter_rules():
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            path = rule.rule.replace("<uuid:workspaceId>", "{workspace}").replace("<uuid:jobId>", "{job}")
            yield method, path


def guarded(app: Flask) -> list[tuple[str, str]]:
    return [(method, path) for method, path in routes(app) if path not in PUBLIC]


def test_the_routes_are_the_ones_we_know(app: Flask) -> None:
    assert {path for _, path in routes(app)} == PUBLIC | {
        "/workspaces/{workspace}/sync",
        "/workspaces/{workspace}/sync/jobs",
        "/workspaces/{workspace}/sync/jobs/{job}",
        "/workspaces/{workspace}/jobs",
        "/workspaces/{workspace}/jobs/{job}",
        "/workspaces/{workspace}/jobs/{job}/attempts",
        "/workspaces/{workspace}/jobs/{job}/cancel",
        "/workspaces/{workspace}/jobs/{job}/retry",
        "/jobs/health",
    }


def test_no_route_lets_in_who_has_no_valid_token(
    app: Flask, mint: MintToken, workspace_id: uuid.UUID, sessions: sessionmaker[Session]
) -> None:
    good, revoked = mint(workspace_id), mint(workspace_id)
    expired = mint(workspace_id, expires_at=datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC))
    with sessions.begin() as session:
        revoke_token(session, revoked.split("_")[1])
    headers = [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": f"Basic {good}"},
        {"Authorization": good},
        {"Authorization": f"Bearer {good}x"},
        {"Authorization": f"Bearer {good[:-1]}{'0' if good[-1] != '0' else '1'}"},
        {"Authorization": f"Bearer {expired}"},
        {"Authorization": f"Bearer {revoked}"},
    ]
    client = Client(app.test_client(), None)

    for method, path in guarded(app):
        url = path.format(workspace=workspace_id, job=UNKNOWN)
        answers = [client.request(method, url, headers=sent) for sent in headers]
        assert {answer.status_code for answer in answers} == {401}, (method, path)
        assert {answer.headers["WWW-Authenticate"].split()[0] for answer in answers} == {"Bearer"}
        assert {answer.content_type for answer in answers} == {PROBLEM}
        assert len({answer.data for answer in answers}) == 1


def test_no_route_lets_in_a_token_without_its_scope(app: Flask, mint: MintToken, workspace_id: uuid.UUID) -> None:
    others = {
        "GET": Client(app.test_client(), mint(workspace_id, ("jobs:write", "schedules", "connections"))),
        "POST": Client(app.test_client(), mint(workspace_id, ("jobs:read", "schedules", "connections"))),
    }

    for method, path in guarded(app):
        answer = others[method].request(method, path.format(workspace=workspace_id, job=UNKNOWN))
        scope = "jobs:write" if method in WRITING else "jobs:read"
        assert (answer.status_code, answer.content_type) == (403, PROBLEM), (method, path)
        assert answer.get_json()["requiredScope"] == scope


def test_what_belongs_to_another_workspace_does_not_exist(
    app: Flask, client: Client, stranger: Client, workspace_id: uuid.UUID, hand: Hand
) -> None:
    """The same bytes as for an id that nobody has, for each route, whatever the status of the job."""
    for failed in (False, True):
        job = client.post(f"/workspaces/{workspace_id}/sync", json={"ifActive": "return"}).get_json()["jobId"]
        if failed:
            hand.fail(workspace_id, job)
        for method, path in guarded(app):
            if "{workspace}" not in path:
                continue
            theirs = stranger.request(method, path.format(workspace=workspace_id, job=job))
            unknown = stranger.request(method, path.format(workspace=UNKNOWN, job=UNKNOWN))
            anonymous = theirs.text.replace(str(workspace_id), str(UNKNOWN)).replace(job, str(UNKNOWN))
            assert (theirs.status_code, unknown.status_code) == (404, 404), (method, path)
            assert anonymous == unknown.text
            assert _headers(theirs) == _headers(unknown)


def test_a_job_of_another_workspace_is_not_found_under_one_s_own(
    app: Flask, client: Client, stranger: Client, jobs_url: str, other_workspace: uuid.UUID, hand: Hand
) -> None:
    job = client.post(jobs_url, json={"jobType": "echo"}).get_json()["jobId"]

    for method, path in guarded(app):
        if "{job}" not in path:
            continue
        theirs = stranger.request(method, path.format(workspace=other_workspace, job=job))
        unknown = stranger.request(method, path.format(workspace=other_workspace, job=UNKNOWN))
        assert theirs.status_code == 404, (method, path)
        assert theirs.text.replace(job, str(UNKNOWN)) == unknown.text
    assert client.get(f"{jobs_url}/{job}").get_json()["status"] == "pending"


def test_an_operator_sees_every_workspace(operator: Client, client: Client, jobs_url: str) -> None:
    job = client.post(jobs_url, json={"jobType": "echo"}).get_json()["job"]

    assert operator.get(f"{jobs_url}/{job['id']}").get_json() == job
    assert operator.post(f"{jobs_url}/{job['id']}/cancel").status_code == 200


def test_a_foreign_workspace_is_hidden_before_a_missing_scope_is_named(
    app: Flask, mint: MintToken, workspace_id: uuid.UUID
) -> None:
    reader = Client(app.test_client(), mint(uuid.uuid4(), ("jobs:read",)))

    assert reader.post(f"/workspaces/{workspace_id}/sync").status_code == 404


def test_the_body_is_not_read_before_the_token(nobody: Client, jobs_url: str) -> None:
    assert nobody.post(jobs_url, data=b"x" * 2_000_000, content_type="text/plain").status_code == 401


def test_an_application_with_an_unguarded_view_does_not_start(sessions: sessionmaker[Session]) -> None:
    blueprint = create_blueprint(sessions, Tasks())
    blueprint.add_url_rule("/backdoor", "backdoor", lambda: "hello")

    with pytest.raises(RuntimeError, match=r"jobplatform\.backdoor declares no scope"):
        Flask(__name__).register_blueprint(blueprint, url_prefix="/api")


def test_a_scope_is_a_word_of_the_contract() -> None:
    assert set(Scope) == {"jobs:read", "jobs:write", "schedules", "connections", "operator"}


def _headers(answer: object) -> list[tuple[str, str]]:
    changing = ("X-Request-Id", "Content-Length", "Date")
    return [(name, value) for name, value in answer.headers if name not in changing]  # type: ignore[attr-defined]  # a TestResponse
