"""The element <job-progress> in a page that allows nothing inline."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy.orm import Session

from jobplatform.api import mint_token
from jobplatform.client import Client
from jobplatform.models import make_engine
from jobplatform.testing import Databases, WorkerProcess
from jobplatform.testing.worker_process import environment_of
from tests.api.conftest import READ_WRITE
from tests.api.servers import Server
from tests.browser.test_es_module import wait_for

ADD = """
({ url, token, label }) => {
  window.told = [];
  const element = document.createElement("job-progress");
  for (const name of ["job-change", "job-end", "job-lost"]) {
    document.addEventListener(name, (event) => window.told.push([event.type, event.detail.status ?? null]));
  }
  element.setAttribute("src", url);
  element.setAttribute("label", label);
  if (token) element.tokenSource = () => token;
  document.body.append(element);
}
"""
SEEN = """
() => {
  const element = document.querySelector("job-progress");
  const text = (name) => element.shadowRoot.querySelector(`.${name}`).textContent;
  const track = element.shadowRoot.querySelector(".track");
  const fill = element.shadowRoot.querySelector(".fill");
  return {
    label: text("label"),
    message: text("message"),
    role: track.getAttribute("role"),
    now: track.getAttribute("aria-valuenow"),
    height: track.getBoundingClientRect().height,
    filled: fill.getBoundingClientRect().width / track.getBoundingClientRect().width,
  };
}
"""
STATUS = "document.querySelector('job-progress').job?.status"


class Stage:
    """A server and a worker for all tests of this module."""

    def __init__(self, server: Server, database_url: str) -> None:
        self.server = server
        self._database_url = database_url

    def client(self) -> Client:
        """Of a workspace that nobody else uses."""
        engine, workspace_id = make_engine(self._database_url), uuid.uuid4()
        with Session(engine) as session, session.begin():
            token = mint_token(session, workspace_id, READ_WRITE, "a test")
        engine.dispose()
        return Client(f"{self.server.url}/api", token, workspace_id)


@pytest.fixture(scope="module")
def stage(jobplatform_databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder, url = tmp_path_factory.mktemp("stage"), jobplatform_databases.fresh()
    server = Server(url, folder, application="tests.browser.page:app")
    variables = {"JOBPLATFORM_TRUST_LOGIN": "true"}
    worker = WorkerProcess(folder / "worker.log", environment_of(url, "tests.api.stream_tasks:tasks", variables))
    try:
        server.start()
        yield Stage(server, url)
    finally:
        worker.destroy()
        server.destroy()
        jobplatform_databases.drop(url)


def add(chromium: Any, server: Server, url: str, token: str | None, label: str) -> Any:
    page = chromium.new_page()
    page.emulate_media(reduced_motion="reduce")
    page.goto(f"{server.url}/element")
    wait_for(page, "customElements.get('job-progress')")
    page.evaluate(ADD, {"url": url, "token": token, "label": label})
    return page


def test_it_shows_a_job_from_waiting_to_its_end(chromium: Any, stage: Stage) -> None:
    with stage.client() as client:
        job = client.enqueue("talk", {"lines": 3, "pause": 0}, delay_ms=3_600_000)
        page = add(chromium, stage.server, job.raw["statusUrl"], client.token_for(job.id), "<b>Export</b>")
        wait_for(page, f"{STATUS} === 'pending'")
        waits = page.evaluate(SEEN)
        # Another job in its place, which runs.
        next_one = client.enqueue("talk", {"lines": 3, "pause": 0})
        names = {"url": next_one.raw["statusUrl"], "token": client.token_for(next_one.id)}
        page.evaluate(
            """({ url, token }) => {
              const element = document.querySelector("job-progress");
              element.tokenSource = () => token;
              element.setAttribute("src", url);
            }""",
            names,
        )
        wait_for(page, "window.told.some((told) => told[0] === 'job-end')")

    # A label is text, and the style is there although the page forbids inline ones.
    assert (waits["label"], waits["role"], waits["now"]) == ("<b>Export</b>: waiting", "progressbar", None)
    assert waits["height"] == 8
    ended = page.evaluate(SEEN)
    assert (ended["label"], ended["now"], ended["filled"]) == ("<b>Export</b>: done", "100", 1)
    assert page.evaluate("window.told.filter((told) => told[0] === 'job-end')") == [["job-end", "completed"]]
    assert page.evaluate("window.told.map((told) => told[1]).includes('running')")


def test_it_says_so_when_a_job_may_not_be_seen(chromium: Any, stage: Stage) -> None:
    with stage.client() as client:
        job = client.enqueue("talk", delay_ms=3_600_000)
    page = add(chromium, stage.server, job.raw["statusUrl"], None, "Export")
    wait_for(page, "window.told.some((told) => told[0] === 'job-lost')")

    seen = page.evaluate(SEEN)

    assert seen["label"] == "Export: cannot be shown"
    assert "token" in seen["message"].lower()
