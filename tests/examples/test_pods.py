"""The example of the pods as somebody runs it: their application, a host of pods, and a worker process."""

from __future__ import annotations

import http.server
import json
import threading
import uuid
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.api import mint_token
from jobplatform.queue import set_rule
from jobplatform.testing import wait_until
from tests.examples.conftest import ClientOf, Load, WorkIn


class PodHost(http.server.BaseHTTPRequestHandler):
    """A machine that makes pods. The first request for each pod fails; pods in ``sick`` do not answer."""

    asked: list[str] = []
    sick: set[int] = set()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        what = f"{self.path} {body['pod']}"
        known = what in self.asked
        self.asked.append(what)
        self.sick.discard(body["pod"])
        self._answer(200 if known or "restart" in self.path else 500, {"address": f"10.0.0.{body['pod']}"})

    def do_GET(self) -> None:
        self._answer(503 if int(self.path.split("/")[2]) in self.sick else 200, {})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[PodHost]]:
    PodHost.asked, PodHost.sick = [], set()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), PodHost) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setenv("POD_HOST", f"http://127.0.0.1:{server.server_port}")
        yield PodHost
        server.shutdown()
        thread.join()


@pytest.fixture
def pods(load: Load, host: type[PodHost]) -> ModuleType:
    return load("pods")


@pytest.fixture
def client(pods: ModuleType, client_of: ClientOf) -> FlaskClient:
    return client_of(pods)


@pytest.fixture
def worker(client: FlaskClient, work_in: WorkIn) -> None:
    # Looks for alerts are shared by all workers, and each asks every third heartbeat whether one is due.
    work_in("pods", JOBPLATFORM_TRUST_LOGIN="true", JOBPLATFORM_HEARTBEAT_SECONDS="0.3")


@pytest.mark.thorough
@pytest.mark.usefixtures("worker")
def test_pods_are_made_in_bulk_checked_restarted_and_cleaned_up(
    client: FlaskClient,
    pods: ModuleType,
    host: type[PodHost],
    session: Session,
    sessions: sessionmaker[Session],
    workspace_id: uuid.UUID,
) -> None:
    def of_pods(column: str) -> list[Any]:
        session.rollback()
        return list(session.scalars(text(f"select {column} from pods order by id")))

    # Bulk insert; every first try fails and is repeated. One tier that there is not: failed for good, at once.
    made = client.post(f"/pods/{workspace_id}", json={"names": ["a", "b", "c"]}).get_json()["podIds"]
    client.post(f"/pods/{workspace_id}", json={"names": ["d"], "tier": "dev.huge"})
    wait_until(lambda: of_pods("status") == ["running"] * 3 + ["failed"], what="three pods and a failure", seconds=60)
    assert of_pods("address")[:3] == [f"10.0.0.{pod}" for pod in made]
    assert len([one for one in host.asked if "create" in one]) == 6

    # Health checks of all of them; the sick one is restarted.
    host.sick.add(made[0])
    client.post(f"/pods/{workspace_id}/check")
    wait_until(lambda: of_pods("restarts")[0] == 1, what="the restart of the sick pod", seconds=60)

    # A delayed deletion, and the clean-up of what is old.
    client.delete(f"/pods/{workspace_id}/{made[0]}?delay=0.1")
    wait_until(lambda: of_pods("status")[0] == "terminated", what="the end of a pod", seconds=60)
    session.execute(text("update pods set updated_at = now() - interval '8 days' where status = 'terminated'"))
    session.add(pods.Metric(workspace_id=workspace_id, pod_id=1, load=1.0, created_at="2020-01-01T00:00:00Z"))
    pods.cleanup_old.enqueue(session, workspace_id=workspace_id)
    session.commit()
    wait_until(lambda: len(of_pods("id")) == 3, what="the clean-up", seconds=60)

    # What the people who run this look at. (The clock may just have had all pods checked.)
    nothing = {"default": 0, "health": 0}
    wait_until(lambda: client.get("/admin/jobs").get_json()["waiting"] == nothing, what="empty queues", seconds=60)
    admin = client.get("/admin/jobs").get_json()
    assert admin["byStatus"]["failed"] == 1
    assert admin["failed"] == [{"task": "provision_pod", "error": "there is no tier 'dev.huge'"}]

    # What runs by the clock is written down by the worker.
    assert session.scalars(text("select name from jobplatform.schedules order by name")).all() == [
        "check_all_pods",
        "cleanup_old",
    ]

    # An alert is told once, by a job.
    with sessions.begin() as operator:
        set_rule(operator, "many_failures", above=0)
        operator.execute(text("update jobplatform.chores set due_at = now() where name = 'alerts'"))
    told = "select text from notices where recipient = 'on-call'"
    wait_until(lambda: (session.rollback(), session.scalars(text(told)).all())[1], what="the alert", seconds=60)
    assert session.scalars(text(told)).all() == ["raised: 1 job failed in the last hour"]


def test_a_request_for_pods_that_is_rolled_back_leaves_no_job(
    client: FlaskClient, pods: ModuleType, session: Session, workspace_id: uuid.UUID
) -> None:
    pods.request_pods(session, workspace_id, ["a", "b"], "dev.small")
    session.rollback()

    assert session.scalar(text("select count(*) from jobplatform.jobs")) == 0


def test_the_health_of_its_jobs_is_at_a_route_of_the_application(
    client: FlaskClient, pods: ModuleType, sessions: sessionmaker[Session], workspace_id: uuid.UUID
) -> None:
    with sessions.begin() as session:
        pods.request_pods(session, workspace_id, ["a"], "dev.small")
        token = mint_token(session, workspace_id, ["jobs:read"], "test")

    answer = client.get("/api/jobs/health", headers={"Authorization": f"Bearer {token}"})

    assert answer.status_code == 503
    assert [alert["code"] for alert in answer.get_json()["alerts"]] == ["no_worker"]


def test_its_jobs_are_looked_after_with_flask_jobs(client: FlaskClient, workspace_id: uuid.UUID) -> None:
    client.post(f"/pods/{workspace_id}", json={"names": ["a"]})

    listed = client.application.test_cli_runner().invoke(args=["jobs", "ls"])

    assert "provision_pod" in listed.stdout
