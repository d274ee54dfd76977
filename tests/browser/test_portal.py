"""The portal in a real browser, beside a real worker: for the people of one workspace, also inside a host's page."""

from __future__ import annotations

import datetime
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask, Request
from sqlalchemy import text
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import make_server

from jobplatform.api import JobPlatform
from jobplatform.models import Connection
from jobplatform.pages import Visitor
from jobplatform.queue import Every, create_schedule
from tests.browser.chromium import give_token
from tests.browser.conftest import (
    CORPUS,
    EVIL,
    PHONE,
    Stage,
    examine_everywhere,
    harm_of,
    new_page,
    wait_for,
    walk,
)
from tests.browser.shop_tasks import tasks

RECORD = """
insert into jobplatform.job_records (
    workspace_id, id, task, queue, payload, tags, status, outcome, error_type, error, request_id, result, progress,
    attempts, epoch, started_at, completed_at
) values (
    :workspace_id, :id, :evil, 'default', '{}', array[:evil], :status, :outcome, 'SyncFailedError', :evil, :evil,
    cast(:result as jsonb), jsonb_build_object('current', 1, 'total', 2, 'message', cast(:evil as text)),
    1, 1, now(), now()
)
"""
RESULT = """
select jsonb_build_object(
    'results', jsonb_build_array(jsonb_build_object(
        'connectionId', cast(:connection_id as text), 'name', cast(:evil as text), 'connectorType', cast(:evil as text),
        'status', 'failed', 'records', 1
    )),
    'errors', jsonb_build_array(cast(:evil as text) || ': ' || cast(:evil as text))
)::text
"""
LOG = """
insert into jobplatform.sync_logs (
    workspace_id, id, job_id, reference, mode, status, results, errors, ended_at
)
select :workspace_id, gen_random_uuid(), :job_id, :evil, 'incremental', 'failed', found -> 'results', found -> 'errors',
    now()
from (select cast(:result as jsonb) as found) found
"""
SAID = "update jobplatform.job_queue set progress = jsonb_build_object('message', cast(:evil as text)) where id = :id"
COPIED = """
insert into jobplatform.records (workspace_id, connection_id, stream, external_id, data)
values (:workspace_id, :connection_id, :evil, :evil, jsonb_build_object(cast(:evil as text), cast(:evil as text)))
"""


@pytest.fixture(scope="module")
def haunted(stage: Stage) -> dict[str, Any]:
    """A workspace with harm in every field that its people, its sources and its jobs can write."""
    workspace_id, connection_id = stage.workspace(EVIL), uuid.uuid4()
    failed, done = uuid.uuid4(), uuid.uuid4()
    later = stage.enqueue("sync", {EVIL: EVIL}, workspace_id=workspace_id, delay=datetime.timedelta(hours=1))
    with stage.sessions.begin() as session:
        session.add(Connection(workspace_id=workspace_id, id=connection_id, connector_type=EVIL, name=EVIL, config={}))
        create_schedule(
            session,
            tasks["sync"],
            Every(datetime.timedelta(hours=1)),
            workspace_id=workspace_id,
            name=CORPUS[1] + CORPUS[2] + CORPUS[3],
            made_by=EVIL,
            payload={EVIL: 1},
        )
        facts = {"workspace_id": workspace_id, "evil": EVIL, "connection_id": connection_id}
        result = session.scalar(text(RESULT), facts | {"connection_id": str(connection_id)})
        for job_id, status, outcome in ((failed, 4, "error"), (done, 3, "ok")):
            about = {"id": job_id, "status": status, "outcome": outcome, "result": result}
            session.execute(text(RECORD), facts | about)
        session.execute(text(LOG), facts | {"job_id": done, "result": result})
        session.execute(text(COPIED), facts)
        session.execute(text(SAID), {"evil": EVIL, "id": later})
    jobs = [f"/jobs/{job_id}" for job_id in (failed, done, later)]
    return {"workspace_id": workspace_id, "paths": ["/", "/activity", "/schedules", *jobs, f"/jobs/{uuid.uuid4()}"]}


@pytest.fixture(scope="module")
def walked(stage: Stage, haunted: dict[str, Any]) -> dict[str, tuple[list[str], int, dict[str, list[str]]]]:
    """By page: what it did that it must not do, how much of the harm it shows, and what is hard about it."""
    page = stage.portal(haunted["workspace_id"])
    here = f"{stage.server.url}/w/{haunted['workspace_id']}"
    found = {}
    for path in haunted["paths"]:
        complaints = examine_everywhere(page, here + path)
        page.evaluate("document.querySelectorAll('main details').forEach((one) => { one.open = true; })")
        found[path] = (harm_of(page), page.content().count("alert("), complaints)
    page.context.close()
    return found


def test_no_text_of_a_tenant_or_a_source_becomes_a_program(walked: dict[str, Any]) -> None:
    assert {path: harm for path, (harm, _, _) in walked.items() if harm} == {}
    # Else this shows nothing: each of them has the workspace's name on it, at the least.
    assert [path for path, (_, shown, _) in walked.items() if shown < 10] == []
    assert sum(shown for _, shown, _ in walked.values()) > 150


def test_every_page_can_be_read_heard_and_held_in_a_hand(walked: dict[str, Any]) -> None:
    found = {(path, where): what for path, (_, _, by) in walked.items() for where, what in by.items() if what}

    assert found == {}


def test_a_keyboard_reaches_everything_and_shows_where_it_is(stage: Stage, haunted: dict[str, Any]) -> None:
    page = stage.portal(haunted["workspace_id"])

    wanted, reached, unseen = walk(page, f"{stage.server.url}/w/{haunted['workspace_id']}/")

    assert (reached, unseen) == (wanted, [])
    assert wanted > 8
    page.context.close()


@pytest.fixture(scope="module")
def shop(stage: Stage) -> uuid.UUID:
    """A workspace with a source, and a schedule."""
    workspace_id = stage.workspace("The Corner Shop")
    with stage.sessions.begin() as session:
        session.add(
            Connection(workspace_id=workspace_id, id=uuid.uuid4(), connector_type="http_json", name="CRM", config={})
        )
        create_schedule(
            session, tasks["sync"], Every(datetime.timedelta(days=1)), workspace_id=workspace_id, name="daily",
            made_by="x",
        )  # fmt: skip
    return workspace_id


def test_on_a_phone_the_workspace_has_its_whole_name_and_a_card_its_button_beside_its_choice(
    stage: Stage, shop: uuid.UUID
) -> None:
    page = stage.portal(shop, viewport=PHONE)
    page.goto(f"{stage.server.url}/w/{shop}/")

    name = "document.querySelector('.brand span')"
    assert page.evaluate(f"{name}.textContent") == "The Corner Shop"
    assert page.evaluate(f"{name}.scrollHeight <= {name}.clientHeight && {name}.scrollWidth <= {name}.clientWidth")
    assert page.evaluate("document.querySelector('.who').getBoundingClientRect().left") >= page.evaluate(
        f"{name}.getBoundingClientRect().right"
    )
    middles = page.evaluate(
        """[...document.querySelectorAll(".source .begin :is(select, button)")]
          .map((one) => one.getBoundingClientRect()).map((one) => Math.round(one.top + one.height / 2))"""
    )
    assert max(middles) - min(middles) < 3
    page.context.close()


def test_a_sync_is_followed_on_its_card_and_on_its_page_while_a_worker_is_at_it(
    stage: Stage, shop: uuid.UUID, tmp_path: Path
) -> None:
    page, here = stage.portal(shop), f"{stage.server.url}/w/{shop}"
    page.goto(here + "/")
    page.evaluate("window.here = true; document.querySelector('main').dataset.live = '0.3'")
    # Off and on again: from here on by the new interval.
    page.click(".live-switch")
    page.click(".live-switch")
    page.focus("#theme")
    job_id = stage.enqueue("sync", {"pages": 4, "pause": 0.05, "until": str(tmp_path / "go")}, workspace_id=shop)

    wait_for(page, "document.querySelector('#cards .chip.running')")
    assert "A sync is running" in page.text_content("#why-not")
    assert page.is_disabled("#head button")
    assert page.evaluate("window.here && document.activeElement.id === 'theme'")

    page.goto(f"{here}/jobs/{job_id}")
    page.evaluate("window.here = true")
    assert page.text_content("#state h2") == "Running"
    (tmp_path / "go").touch()
    wait_for(page, "document.querySelector('#state').matches('.completed')")
    assert page.text_content("#state h2") == "Done"
    assert page.evaluate("window.here && document.querySelector('#state progress').value === 1")
    wait_for(page, "!document.querySelector('.live-bar')")

    page.goto(here + "/")
    assert page.is_enabled("#head button")
    assert harm_of(page) == []
    page.context.close()


def test_a_session_that_ends_leads_to_the_sign_in_and_from_there_back(stage: Stage, shop: uuid.UUID) -> None:
    page = stage.portal(shop)
    page.goto(f"{stage.server.url}/w/{shop}/activity")
    page.evaluate("document.querySelector('main').dataset.live = '0.3'")
    page.click(".live-switch")
    page.click(".live-switch")
    with stage.sessions.begin() as session:
        session.execute(
            text("update jobplatform.api_tokens set expires_at = now() - interval '1 second' where workspace_id = :id"),
            {"id": shop},
        )
    wait_for(page, "document.querySelector('#token')", "the page to ask who is there")

    give_token(page, stage.mint(shop))
    wait_for(page, "document.querySelector('h1')?.textContent === 'Activity'")

    assert urlsplit(page.url).path == f"/w/{shop}/activity"
    # And what is somebody else's is nowhere.
    page.goto(f"{stage.server.url}/w/{stage.workspace_id}/")
    assert page.text_content("h1") == "There is nothing here"
    page.context.close()


# -- in a host's page -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def host(stage: Stage, shop: uuid.UUID) -> Iterator[str]:
    """The address of an application with users of its own, which a proxy has put below a prefix."""

    def who(request: Request, _workspace_id: uuid.UUID | None) -> Visitor | None:
        if request.headers.get("X-User") != "grace":
            return None
        return Visitor("grace", workspaces={shop}, may="all")

    app = Flask("host")
    app.config.update(JOBPLATFORM_TRUST_LOGIN=True, JOBPLATFORM_PORTAL_FRAME_ANCESTORS="'self'")
    JobPlatform(app, tasks, sessions=stage.sessions, pages_access=who)
    app.get("/page")(lambda: f'<!doctype html><title>Host</title><iframe src="/behind/w/{shop}/"></iframe>')
    server = make_server(
        "127.0.0.1", 0, DispatcherMiddleware(Flask("nothing"), {"/behind": app.wsgi_app}), threaded=True
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/behind"
    server.shutdown()
    thread.join()
    server.server_close()


def test_it_stands_in_a_frame_of_the_host_s_page_below_a_proxy_s_prefix(
    stage: Stage, host: str, shop: uuid.UUID
) -> None:
    page = new_page(stage.browser, extra_http_headers={"X-User": "grace"})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(urlsplit(request.url).path))

    page.goto(host + "/page")
    frame = page.frame_locator("iframe")
    assert frame.locator("h1").text_content() == "Syncs"
    frame.locator("nav.menu a", has_text="Activity").click()
    frame.locator("h1", has_text="Activity").wait_for()
    frame.locator("#theme").select_option("dark")
    frame.locator("html[data-theme=dark]").wait_for(state="attached")

    assert frame.locator("h1").text_content() == "Activity"
    mine = [path for path in asked if path not in ("/behind/page", "/favicon.ico")]
    assert [path for path in mine if not path.startswith("/behind/w/")] == []
    assert len(mine) > 5
    assert page.frames[1].evaluate("window.harm") == []
    page.context.close()


def test_it_stands_in_no_frame_of_anybody_else(stage: Stage, host: str, shop: uuid.UUID) -> None:
    page = new_page(stage.browser, extra_http_headers={"X-User": "grace"})
    body = f'<!doctype html><title>Elsewhere</title><iframe src="{host}/w/{shop}/"></iframe>'
    page.route("http://elsewhere.example/**", lambda route: route.fulfill(body=body, content_type="text/html"))

    page.goto("http://elsewhere.example/")

    assert page.frames[1].url == "chrome-error://chromewebdata/"
    page.context.close()
