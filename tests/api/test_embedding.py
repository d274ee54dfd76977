"""In somebody else's application: our routes are ours, everything else stays as it was."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from flask import Blueprint, Flask, Request, Response, jsonify
from flask.json.provider import DefaultJSONProvider
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from jobplatform.api import JobPlatform, Principal, create_blueprint
from jobplatform.errors import SettingsError
from jobplatform.models import make_engine
from jobplatform.queue import Tasks
from tests.api.conftest import PROBLEM, Client, MintToken

Sessions = sessionmaker[Session]


class HostJSON(DefaultJSONProvider):
    """A host that writes its own JSON in its own way."""

    def response(self, *args: Any, **kwargs: Any) -> Response:
        return Response("the host's own JSON")


@pytest.fixture
def host() -> Flask:
    """An application with pages, error pages and habits of its own."""
    app = Flask(__name__)
    app.json = HostJSON(app)
    app.config["MAX_CONTENT_LENGTH"] = 10

    @app.get("/")
    def home() -> str:
        return "<h1>home</h1>"

    @app.errorhandler(404)
    def not_found(_error: Exception) -> tuple[str, int]:
        return "<h1>the host's 404</h1>", 404

    @app.errorhandler(405)
    def wrong_method(_error: Exception) -> tuple[str, int]:
        return "<h1>the host's 405</h1>", 405

    @app.errorhandler(Exception)
    def broken(_error: Exception) -> tuple[str, int]:
        return "<h1>the host's 500</h1>", 500

    @app.get("/broken")
    def break_down() -> str:
        raise RuntimeError

    @app.post("/api-of-the-host")
    def api() -> Response:
        return jsonify(1)

    return app


@pytest.fixture
def mounted(host: Flask, sessions: Sessions, tasks: Tasks, mint: MintToken, workspace_id: UUID) -> Client:
    host.register_blueprint(create_blueprint(sessions, tasks), url_prefix="/api")
    return Client(host.test_client(), mint(workspace_id))


def test_the_host_s_pages_and_error_pages_stay_its_own(mounted: Client) -> None:
    pages = {
        path: mounted.get(path)
        for path in ("/", "/nothing", "/broken", "/api-of-the-host", "/jobs/health", "/healthz", "/openapi.json")
    }

    assert {path: answer.status_code for path, answer in pages.items()} == {
        "/": 200,
        "/nothing": 404,
        "/broken": 500,
        "/api-of-the-host": 405,
        "/jobs/health": 404,
        "/healthz": 404,
        "/openapi.json": 404,
    }
    for answer in pages.values():
        assert answer.text.startswith("<h1>")
        assert "X-Request-Id" not in answer.headers
    assert mounted.post("/api-of-the-host").text == "the host's own JSON"


def test_our_routes_do_not_take_over_the_host_s_habits(
    mounted: Client, jobs_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = mounted.post(f"/api{jobs_url}", json={"jobType": "echo", "payload": {"long": "x" * 100}})
    missing = mounted.get(f"/api{jobs_url}/{uuid.uuid4()}")
    monkeypatch.setattr("jobplatform.api.reading.page_jobs", lambda *_, **__: 1 / 0)
    broken = mounted.get(f"/api{jobs_url}")

    assert job.status_code == 202
    assert job.get_json()["statusUrl"].startswith("/api/workspaces/")
    assert (missing.status_code, missing.content_type) == (404, PROBLEM)
    assert (broken.status_code, broken.content_type) == (500, PROBLEM)


@pytest.mark.parametrize("path", ["/api/", "/api/nothing", "/api/workspaces/not-a-uuid/jobs"])
def test_unknown_paths_below_our_prefix_are_problems(mounted: Client, path: str) -> None:
    answer = mounted.get(path)

    assert (answer.status_code, answer.content_type) == (404, PROBLEM)
    assert "X-Request-Id" in answer.headers


def test_wrong_methods_below_our_prefix_are_problems(mounted: Client, jobs_url: str) -> None:
    answer = mounted.request("DELETE", f"/api{jobs_url}")

    assert (answer.status_code, answer.content_type) == (405, PROBLEM)
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "POST", "HEAD", "OPTIONS"}


def test_the_document_of_a_mounted_api_says_where_it_is(mounted: Client) -> None:
    document = mounted.get("/api/openapi.json").get_json()

    assert document["servers"] == [{"url": "/api"}]
    assert "/jobs/health" in document["paths"]


def test_mounted_at_the_root_unknown_paths_stay_the_host_s(host: Flask, sessions: Sessions, tasks: Tasks) -> None:
    host.register_blueprint(create_blueprint(sessions, tasks))
    client = host.test_client()

    assert client.get("/nothing").text == "<h1>the host's 404</h1>"
    assert client.get("/healthz").status_code == 200


def test_a_host_may_nest_the_api_in_its_own_blueprint(
    host: Flask, sessions: Sessions, tasks: Tasks, mint: MintToken, workspace_id: UUID, jobs_url: str
) -> None:
    outer = Blueprint("outer", __name__, url_prefix="/outer")
    outer.register_blueprint(create_blueprint(sessions, tasks), url_prefix="/jobs-api")
    host.register_blueprint(outer)
    client = Client(host.test_client(), mint(workspace_id))

    accepted = client.post(f"/outer/jobs-api{jobs_url}", json={"jobType": "echo"})

    assert accepted.headers["Location"].startswith("/outer/jobs-api/workspaces/")
    assert client.get(accepted.headers["Location"]).status_code == 200
    assert client.get("/outer/jobs-api/nothing").content_type == PROBLEM
    assert client.get("/outer/nothing").text == "<h1>the host's 404</h1>"


def test_two_mounted_apis_keep_to_their_own_tasks(
    host: Flask, sessions: Sessions, tasks: Tasks, mint: MintToken, workspace_id: UUID, jobs_url: str
) -> None:
    host.register_blueprint(create_blueprint(sessions, tasks), url_prefix="/one")
    host.register_blueprint(create_blueprint(sessions, Tasks(), name="another"), url_prefix="/two")
    client = Client(host.test_client(), mint(workspace_id))

    assert client.post(f"/one{jobs_url}", json={"jobType": "echo"}).status_code == 202
    assert client.post(f"/two{jobs_url}", json={"jobType": "echo"}).status_code == 422
    assert client.get(f"/two{jobs_url}").get_json()["items"][0]["statusUrl"].startswith("/two/")


def test_a_host_s_own_authorize_takes_the_place_of_our_tokens(
    host: Flask, sessions: Sessions, tasks: Tasks, mint: MintToken, workspace_id: UUID, other_workspace: UUID
) -> None:
    asked: list[UUID | None] = []

    def authorize(request: Request, workspace_id: UUID | None) -> Principal | None:
        asked.append(workspace_id)
        if request.cookies.get("session") != "ada":
            return None
        return Principal("ada", mine, frozenset({"jobs:read"}))

    mine = workspace_id
    host.register_blueprint(create_blueprint(sessions, tasks, authorize), url_prefix="/api")
    ada, token = Client(host.test_client(), None), Client(host.test_client(), mint(workspace_id))
    ada.http.set_cookie("session", "ada")
    jobs = f"/api/workspaces/{workspace_id}/jobs"

    assert ada.get(jobs).status_code == 200
    assert ada.get("/api/jobs/health").status_code == 200
    assert ada.post(jobs, json={"jobType": "echo"}).status_code == 403
    assert ada.get(f"/api/workspaces/{other_workspace}/jobs").status_code == 404
    assert token.get(jobs).status_code == 401
    assert asked == [workspace_id, None, workspace_id, other_workspace, workspace_id]


def test_the_session_that_a_host_uses_in_a_request_is_left_to_the_host(
    host: Flask, sessions: Sessions, tasks: Tasks, workspace_id: UUID, jobs_url: str
) -> None:
    registry = scoped_session(sessions)  # As `db.session` of Flask-SQLAlchemy: one Session for the whole request.

    def authorize(_request: Request, _workspace: UUID | None) -> Principal:
        registry.execute(text("set local application_name = 'the host'"))  # … looks for its user.
        return Principal("ada", workspace_id, frozenset({"jobs:read", "jobs:write"}))

    host.register_blueprint(create_blueprint(registry, tasks, authorize), url_prefix="/api")
    client = Client(host.test_client(), None)

    for _ in range(2):
        assert client.post(f"/api{jobs_url}", json={"jobType": "echo"}).status_code == 202
        assert client.get(f"/api{jobs_url}").status_code == 200
        assert registry.scalar(text("show application_name")) == "the host", "its transaction goes on"
    registry.remove()


def test_a_principal_that_would_open_every_workspace_by_mistake_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="workspace"):
        Principal("a host's mistake", None, frozenset({"jobs:read"}))


@pytest.fixture
def make_host(database_url: str) -> Callable[..., Flask]:
    def make(**config: object) -> Flask:
        app = Flask(__name__)
        app.config.update(JOBPLATFORM_DATABASE_URL=database_url, **config)
        return app

    return make


def test_the_extension_serves_the_api(
    make_host: Callable[..., Flask], mint: MintToken, workspace_id: UUID, jobs_url: str
) -> None:
    jobs = JobPlatform()

    @jobs.task("greet")
    def greet(job: object, payload: dict[str, str]) -> str:
        return f"hello {payload['name']}"

    app = make_host()
    jobs.init_app(app)
    client = Client(app.test_client(), mint(workspace_id))

    accepted = client.post(f"/api{jobs_url}", json={"jobType": "greet", "payload": {"name": "Ada"}})

    assert accepted.status_code == 202
    assert app.extensions["jobplatform"].tasks is jobs.tasks
    assert {app.blueprints[name].mounted for name in ("jobplatform", "console", "portal")} == {  # type: ignore[attr-defined]
        app.extensions["jobplatform"]
    }
    app.extensions["jobplatform"].sessions.kw["bind"].dispose()


def test_one_extension_serves_several_applications(sessions: Sessions, tasks: Tasks, engine: Engine) -> None:
    jobs = JobPlatform(tasks=tasks, sessions=sessions)
    first, second = Flask("first"), Flask("second")
    second.config["JOBPLATFORM_URL_PREFIX"] = "/queue"
    jobs.init_app(first)
    jobs.init_app(second)

    assert first.test_client().get("/api/readyz").status_code == 200
    assert second.test_client().get("/queue/readyz").status_code == 200
    assert second.test_client().get("/api/readyz").status_code == 404


def test_the_extension_mounts_nothing_when_told_so(sessions: Sessions, tasks: Tasks) -> None:
    app = Flask(__name__)
    app.config["JOBPLATFORM_REGISTER_BLUEPRINT"] = False

    JobPlatform(app, tasks, sessions=sessions)

    assert not app.blueprints
    assert app.extensions["jobplatform"].tasks is tasks


def test_the_extension_runs_jobs_inside_the_request_when_told_so(
    make_host: Callable[..., Flask], tasks: Tasks, mint: MintToken, workspace_id: UUID, sync_url: str
) -> None:
    app = make_host(JOBPLATFORM_MODE="sync")
    JobPlatform(app, tasks)

    answer = Client(app.test_client(), mint(workspace_id)).post(f"/api{sync_url}")

    assert answer.get_json()["status"] == "completed"
    app.extensions["jobplatform"].sessions.kw["bind"].dispose()


def test_the_extension_says_what_it_needs() -> None:
    with pytest.raises(SettingsError, match="JOBPLATFORM_DATABASE_URL"):
        JobPlatform(Flask(__name__))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"app": Tasks()}, "app must be a Flask application, and is a Tasks: write JobPlatform\\(tasks=…\\)"),
        ({"tasks": []}, "tasks must be a Tasks\\(\\), and is a list"),
        ({"sessions": "postgresql://"}, "sessions is called for each request, and is a str"),
        ({"authorize": {}}, "authorize is called for each request, and is a dict"),
    ],
)
def test_what_the_extension_cannot_work_with_is_refused_where_it_is_given(given: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        JobPlatform(**given)


def test_a_blueprint_is_made_of_sessions_and_tasks() -> None:
    with pytest.raises(TypeError, match="sessions makes a Session for each transaction, and is a str"):
        create_blueprint("postgresql://", Tasks())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"tasks must be a Tasks\(\), and is a list"):
        create_blueprint(Session, [])  # type: ignore[arg-type]


def test_a_configuration_that_says_neither_is_refused(host: Flask) -> None:
    host.config |= {"JOBPLATFORM_MODE": "snyc", "JOBPLATFORM_TRUST_LOGIN": "false"}

    with pytest.raises(SettingsError) as refused:
        JobPlatform(host, sessions=Session)

    assert [problem.partition(":")[0] for problem in refused.value.problems] == [
        "app.config['JOBPLATFORM_MODE'] = 'snyc'",
        "app.config['JOBPLATFORM_TRUST_LOGIN'] = 'false'",
    ]


def test_a_login_that_could_see_every_workspace_is_not_served_with(
    host: Flask, direct_url: str, tasks: Tasks, mint: MintToken, workspace_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on any other server than the embedded one, whose superuser is trusted.
    monkeypatch.setattr("jobplatform.models.roles.CLUSTER_NAME", "somebody else's")
    engine = make_engine(direct_url)
    host.register_blueprint(create_blueprint(sessionmaker(engine), tasks), url_prefix="/api", name="strict")
    trusting = create_blueprint(sessionmaker(engine), tasks, trust_login=True)
    host.register_blueprint(trusting, url_prefix="/dev", name="trusting")
    client = Client(host.test_client(), mint(workspace_id))

    refused, unready = client.get("/api/jobs/health"), client.get("/api/readyz")
    accepted = client.get("/dev/jobs/health")
    engine.dispose()

    assert [answer.status_code for answer in (refused, unready, accepted)] == [503, 503, 200]
    assert [answer.get_json()["reason"] for answer in (refused, unready)] == ["login-refused", "login-refused"]


def test_a_login_is_looked_at_as_soon_as_it_can_be(
    host: Flask, direct_url: str, tasks: Tasks, mint: MintToken, workspace_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobplatform.models.roles.CLUSTER_NAME", "somebody else's")
    token = mint(workspace_id)
    there, not_yet = make_engine(direct_url), make_engine("postgresql://127.0.0.1:1/nothing")
    engines = [not_yet, there]

    def sessions() -> Session:
        return Session(engines[0])

    blueprint = create_blueprint(sessions, tasks)
    host.register_blueprint(blueprint, url_prefix="/api")
    client = Client(host.test_client(), token)

    before = client.get("/api/jobs/health")
    engines.pop(0)
    after = client.get("/api/jobs/health")
    there.dispose()

    assert (before.status_code, "reason" in before.get_json()) == (503, False)
    assert (after.status_code, after.get_json()["reason"]) == (503, "login-refused")
