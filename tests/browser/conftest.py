"""A stage for the pages: one server, one worker and one browser for all tests of a module."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.api import mint_token
from jobplatform.models import Workspace, make_engine
from jobplatform.testing import wait_until
from jobplatform.testing.databases import Databases
from jobplatform.testing.worker_process import WorkerProcess, environment_of
from tests.api.servers import Server
from tests.browser.chromium import sign_in

TASKS = "tests.browser.shop_tasks:tasks"
EXAMINE = (Path(__file__).parent / "examine.js").read_text("utf-8")
#: What a page must never do, noted from before its first line runs.
NOTE_HARM = """
window.harm = [];
window.alert = (words) => window.harm.push(`alert: ${words}`);
addEventListener("securitypolicyviolation", (event) => {
  window.harm.push(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
});
addEventListener("error", (event) => window.harm.push(`error: ${event.message}`));
"""


class Stage:
    """What the tests of a module share."""

    def __init__(self, database_url: str, browser: Any, server: Server, engine: Engine) -> None:
        self.browser = browser
        self.server = server
        self.engine = engine
        self.url = f"{server.url}/console"
        self.sessions = sessionmaker(engine)
        self.workspace_id = uuid.uuid4()
        with self.sessions.begin() as session:
            self.token = mint_token(session, None, ("operator",), "Ada")
            session.add(Workspace(id=self.workspace_id, name="Acme & Sons"))

    def page(self, *, signed_in: bool = True, **options: Any) -> Any:
        context = self.browser.new_context(**options)
        context.add_init_script(NOTE_HARM)
        page = context.new_page()
        page.set_default_timeout(20_000)
        if signed_in:
            sign_in(page, self.server.url, self.token)
        return page

    def scalar(self, statement: str, **values: Any) -> Any:
        with self.engine.connect() as connection:
            return connection.execute(text(statement), values).scalar()

    def enqueue(self, task: str, payload: Any = None, **options: Any) -> uuid.UUID:
        from tests.browser.shop_tasks import tasks

        with self.sessions.begin() as session:
            return tasks[task].enqueue(session, payload or {}, workspace_id=self.workspace_id, **options).job_id

    def wait_for_status(self, job_id: uuid.UUID, *statuses: str) -> None:
        statement = "select status from jobplatform.jobs where id = :id"
        wait_until(lambda: self.scalar(statement, id=job_id) in statuses, what=f"{job_id} to be {statuses}", seconds=60)

    def session(self) -> Session:
        return self.sessions()


@pytest.fixture(scope="module")
def stage(jobplatform_databases: Databases, chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder, url = tmp_path_factory.mktemp("stage"), jobplatform_databases.fresh()
    engine = make_engine(url)
    server = Server(url, folder, JOBPLATFORM_TASKS=TASKS)
    variables = {"JOBPLATFORM_TRUST_LOGIN": "true", "JOBPLATFORM_CONCURRENCY": "3"}
    worker = WorkerProcess(folder / "worker.log", environment_of(url, TASKS, variables))
    try:
        server.start()
        yield Stage(url, chromium, server, engine)
    finally:
        worker.destroy()
        server.destroy()
        engine.dispose()
        jobplatform_databases.drop(url)


def harm_of(page: Any) -> list[str]:
    found: list[str] = page.evaluate("window.harm")
    return found


def examine(page: Any) -> list[str]:
    found: list[str] = page.evaluate(EXAMINE)
    return found


def wait_for(page: Any, condition: str, what: str = "") -> None:
    """Playwright's own way to wait is an `eval` in the page, which the page forbids."""
    from playwright.sync_api import Error

    def says() -> bool:
        try:
            return bool(page.evaluate(f"Boolean({condition})"))
        except Error:
            # The page is just being left for another one.
            return False

    wait_until(says, what=what or f"the page to say {condition}", seconds=60)
