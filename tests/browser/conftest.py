"""A stage for the pages: one server, one worker and one browser for all tests of a process."""

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
from tests.browser.chromium import sign_in, sign_in_to_portal

TASKS = "tests.browser.shop_tasks:tasks"
EXAMINE = (Path(__file__).parent / "examine.js").read_text("utf-8")
PHONE = {"width": 375, "height": 812}
WIDE = {"width": 1360, "height": 860}
#: Ways by which texts have become programs in pages like these.
CORPUS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    '"><svg onload=alert(3)>',
    "' onmouseover='alert(4)' x='",
    "javascript:alert(5)",
    "</script><script>alert(6)</script>",
    "</textarea><script>alert(7)</script>",
    "{{ 7*'7' }}${7*7}<%= 7*7 %>",
    "<a href=javascript:alert(8)>x</a><iframe srcdoc='<script>parent.alert(9)</script>'>",
    "\u2028\u202e<style>@import'//evil.example'</style><base href=//evil.example>",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=alert(10)>",
)
EVIL = " ".join(CORPUS)
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
    """What the tests of a process share."""

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
        page = new_page(self.browser, **options)
        if signed_in:
            sign_in(page, self.server.url, self.token)
        return page

    def workspace(self, name: str) -> uuid.UUID:
        """A new one."""
        workspace_id = uuid.uuid4()
        with self.sessions.begin() as session:
            session.add(Workspace(id=workspace_id, name=name))
        return workspace_id

    def portal(self, workspace_id: uuid.UUID, **options: Any) -> Any:
        """A page of somebody of a workspace, who has come in with its token."""
        page = new_page(self.browser, **options)
        sign_in_to_portal(page, self.server.url, self.mint(workspace_id))
        return page

    def mint(self, workspace_id: uuid.UUID) -> str:
        """A token for the portal of a workspace."""
        with self.sessions.begin() as session:
            return mint_token(session, workspace_id, ("jobs:read", "jobs:write", "schedules"), "Grace")

    def scalar(self, statement: str, **values: Any) -> Any:
        with self.engine.connect() as connection:
            return connection.execute(text(statement), values).scalar()

    def enqueue(self, task: str, payload: Any = None, **options: Any) -> uuid.UUID:
        from tests.browser.shop_tasks import tasks

        whose = {"workspace_id": self.workspace_id} | options
        with self.sessions.begin() as session:
            return tasks[task].enqueue(session, payload or {}, **whose).job_id

    def wait_for_status(self, job_id: uuid.UUID, *statuses: str) -> None:
        statement = "select status from jobplatform.jobs where id = :id"
        wait_until(lambda: self.scalar(statement, id=job_id) in statuses, what=f"{job_id} to be {statuses}", seconds=60)

    def session(self) -> Session:
        return self.sessions()


@pytest.fixture(scope="session")
def stage(jobplatform_databases: Databases, chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder, url = tmp_path_factory.mktemp("stage"), jobplatform_databases.fresh()
    engine = make_engine(url)
    server = Server(url, folder, JOBPLATFORM_TASKS=TASKS, JOBPLATFORM_DOCS="true")
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


def new_page(browser: Any, **options: Any) -> Any:
    """In a browser of its own, as far as cookies go; what it must not do is noted."""
    context = browser.new_context(**options)
    context.add_init_script(NOTE_HARM)
    page = context.new_page()
    page.set_default_timeout(60_000)
    return page


def harm_of(page: Any) -> list[str]:
    found: list[str] = page.evaluate("window.harm")
    return found


def examine(page: Any) -> list[str]:
    found: list[str] = page.evaluate(EXAMINE)
    return found


def examine_everywhere(page: Any, address: str) -> dict[str, list[str]]:
    """By light, by dark and on a phone."""
    page.set_viewport_size(WIDE)
    page.emulate_media(color_scheme="light")
    page.goto(address)
    found = {"light": examine(page)}
    page.emulate_media(color_scheme="dark")
    found["dark"] = examine(page)
    page.set_viewport_size(PHONE)
    found["phone"] = examine(page)
    page.set_viewport_size(WIDE)
    page.emulate_media(color_scheme="light")
    return found


def walk(page: Any, address: str) -> tuple[int, int, list[str]]:
    """How many things a keyboard should come to, to how many it does, and those that do not show it."""
    page.goto(address)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"

    page.goto("about:blank")
    page.goto(address)
    wanted = page.evaluate(
        """() => [...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")]
          .filter((one) => one.type !== "hidden" && !one.disabled && one.checkVisibility()).length"""
    )
    unseen = []
    for _ in range(wanted):
        page.keyboard.press("Tab")
        tag, shows = page.evaluate(
            """() => {
              const one = document.activeElement;
              const style = getComputedStyle(one);
              window.walked ??= new Set();
              window.walked.add(one);
              return [one.outerHTML.slice(0, 80), style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2];
            }"""
        )
        if not shows:
            unseen.append(tag)
    return wanted, page.evaluate("window.walked.size"), unseen


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
