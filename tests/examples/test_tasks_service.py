"""The example of the task service as somebody runs it: a server, a worker, clients of its REST API, and a browser."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.api import mint_token
from jobplatform.models import make_engine
from jobplatform.queue import pause, resume
from jobplatform.testing import Databases, WorkerProcess, wait_until
from jobplatform.testing.worker_process import environment_of
from tests.api.servers import Server
from tests.browser.react import REACT, needs_react

FOLDER = Path(__file__).parents[2] / "examples" / "tasks_service"

#: Every word that a run's mark on the page has had, with the longest progress seen beside it.
WATCH = """
() => {
  window.words = [];
  const look = () => {
    for (const mark of document.querySelectorAll(".status")) {
      if (window.words.at(-1) !== mark.textContent) window.words.push(mark.textContent);
    }
    const bar = document.querySelector("progress");
    if (bar) window.furthest = Math.max(window.furthest ?? 0, bar.value);
  };
  const all = { childList: true, subtree: true, attributes: true, characterData: true };
  new MutationObserver(look).observe(document.body, all);
}
"""


class Service:
    """Their application behind a server, with a token for those who call it; a worker runs what it starts."""

    def __init__(self, server: Server, token: str, sessions: sessionmaker[Session]) -> None:
        self.url = server.url
        self.token = token
        self._sessions = sessions

    @contextmanager
    def idle(self) -> Iterator[None]:
        """Within the block no run is begun."""
        with self._sessions.begin() as session:
            pause(session, "task", "analyze-story", reason="a look", actor="a test")
        try:
            yield
        finally:
            with self._sessions.begin() as session:
                resume(session, "task", "analyze-story")


@pytest.fixture(scope="module")
def service(jobplatform_databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One for all tests of this module."""
    folder, url = tmp_path_factory.mktemp("service"), jobplatform_databases.fresh()
    engine = make_engine(url)
    sessions = sessionmaker(engine)
    with sessions.begin() as session:
        token = mint_token(session, uuid.uuid4(), ["jobs:read", "jobs:write"], "the service")
    own = {"JOBPLATFORM_TASKS": "app:tasks", "PYTHONPATH": str(FOLDER), "REACT": str(REACT), "PAGE_SECONDS": "0.5"}
    server = Server(url, folder, application="app:create_app()", probe="/readyz", SERVICE_TOKEN=token, **own)
    own["JOBPLATFORM_TRUST_LOGIN"] = "true"
    worker = WorkerProcess(folder / "worker.log", environment_of(url, "app:tasks", own))
    try:
        server.start()
        worker.wait_until_ready()
        yield Service(server, token, sessions)
    finally:
        worker.destroy()
        server.destroy()
        engine.dispose()
        jobplatform_databases.drop(url)


@pytest.fixture
def page(service: Service, chromium: Any) -> Iterator[Any]:
    page = chromium.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(service.url)
    yield page
    page.close()
    assert not complaints


@pytest.mark.thorough
@needs_react
@pytest.mark.timeout(240)  # a browser, a server and a worker, on a machine that others use too
def test_a_run_started_in_a_browser_is_followed_live_with_the_react_hook(
    page: Any, service: Service, tmp_path: Path
) -> None:
    page.evaluate(WATCH)
    page.fill("input[name=story]", "4711")
    page.fill("input[name=pages]", "6")
    with service.idle():
        page.click("button")
        page.wait_for_selector(".status.pending", timeout=60_000)
    page.wait_for_selector("progress", timeout=60_000)
    page.screenshot(path=tmp_path / "executing.png")
    page.wait_for_selector(".status.completed", timeout=60_000)
    page.screenshot(path=tmp_path / "completed.png")

    words = page.evaluate("window.words")
    assert [word for word in words if word != "…"] == ["QUEUED", "EXECUTING", "COMPLETED"]
    assert page.evaluate("window.furthest") > 1
    assert page.inner_text("li") == "analyzing story 4711"
    assert json.loads(page.inner_text("pre"))["pages"] == 6
    assert page.evaluate("React.version").startswith("18.")

    # One that fails is tried once more, and says why.
    page.check("input[name=fails]")
    page.fill("input[name=story]", "13")
    page.fill("input[name=pages]", "1")
    page.click("button")
    page.wait_for_selector(".status.failed", timeout=60_000)
    page.screenshot(path=tmp_path / "failed.png")
    assert page.inner_text(".run:first-of-type .refused") == "story 13 cannot be read"


def test_a_service_triggers_a_task_and_streams_its_run(service: Service) -> None:
    headers = {"Authorization": f"Bearer {service.token}"}
    with httpx.Client(base_url=service.url, headers=headers, timeout=60) as client:
        triggered = client.post("/trigger", json={"taskId": "analyze-story", "payload": {"story_id": "7", "pages": 2}})
        run = triggered.json()["id"]
        with client.stream("GET", f"/jobs/stream/{run}") as stream:
            messages = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: ")]
        brief = messages[-1]["output"]["briefJob"]
        wait_until(lambda: client.get(f"/trigger/runs/{brief}").json()["status"] == "COMPLETED", what="the brief")
        unknown = client.post("/trigger", json={"taskId": "analyse-story"})
        health = client.get("/jobs/health").json()

    assert triggered.status_code == 202
    words = [message["status"] for message in messages]
    assert [word for at, word in enumerate(words) if word != words[at - 1] or at == 0] == [
        "QUEUED",
        "EXECUTING",
        "COMPLETED",
    ]
    assert messages[-1]["output"]["pages"] == 2
    assert unknown.json()["suggestion"] == "analyze-story"
    assert health["workers"] == 1


def test_the_page_gets_a_token_for_its_run_and_nothing_else(service: Service) -> None:
    with service.idle():
        started = httpx.post(
            f"{service.url}/runs", json={"taskId": "analyze-story", "payload": {"story_id": "1"}}, timeout=60
        )
        headers = {"Authorization": f"Bearer {started.json()['token']}"}
        status_url = started.json()["statusUrl"]
        assert httpx.get(service.url + status_url, headers=headers, timeout=60).json()["status"] == "pending"
    refused = httpx.post(f"{service.url}/runs", json={"taskId": "analyze-story", "payload": {"story": 1}}, timeout=60)

    assert httpx.get(service.url + status_url.rsplit("/", 1)[0], headers=headers, timeout=60).status_code == 403
    assert (
        httpx.post(f"{service.url}/trigger", json={"taskId": "ingest-pull"}, headers=headers, timeout=60).status_code
        == 403
    )
    assert (refused.status_code, "story_id" in refused.json()["error"]) == (422, True)
