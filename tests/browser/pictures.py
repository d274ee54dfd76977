"""Pictures of every page, with a day's data and a worker at work, for people to look at:

    python -m tests.browser.pictures FOLDER

Those in docs/pictures are made by this: they are what it leaves in FOLDER/docs.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.api import mint_token
from jobplatform.migrations import upgrade
from jobplatform.models import make_engine
from jobplatform.testing import wait_until
from jobplatform.testing.server import embedded_server, folder_of, remove_folder_of
from jobplatform.testing.worker_process import WorkerProcess, environment_of
from tests.api.servers import Server
from tests.browser.chromium import open_browser, sign_in, sign_in_to_portal
from tests.browser.realistic import enqueue_live, furnish

FAILED_SYNC = """
select id
from jobplatform.job_records
where workspace_id = :id and error_type = 'SyncFailedError'
order by id desc
limit 1
"""
RUNNING_SYNC = "select id from jobplatform.job_queue where workspace_id = :id and task = 'sync' limit 1"
LAST_SYNC = """
select job_id
from jobplatform.sync_logs
where workspace_id = :id and status = 'completed'
order by id desc
limit 1
"""
WIDE = {"width": 1360, "height": 860}
PHONE = {"width": 375, "height": 812}


def main(folder: Path) -> None:
    (folder / "docs").mkdir(parents=True, exist_ok=True)
    # Without this a run that is ended from outside would leave its server and its worker behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))
    run = uuid.uuid4().hex[:12]
    try:
        with tempfile.TemporaryDirectory() as place, embedded_server(folder_of(run), run) as database:
            _take_all(database.create(database.name("pictures")), Path(place), folder)
    finally:
        remove_folder_of(run)


def _take_all(url: str, place: Path, folder: Path) -> None:
    upgrade(url)
    engine = make_engine(url)
    sessions = sessionmaker(engine)
    server = Server(url, place, JOBPLATFORM_TASKS="tests.browser.shop_tasks:tasks")
    server.start()
    variables = {"JOBPLATFORM_TRUST_LOGIN": "true", "JOBPLATFORM_CONCURRENCY": "6"}
    worker = WorkerProcess(place / "worker.log", environment_of(url, "tests.browser.shop_tasks:tasks", variables))
    try:
        worker.wait_until_ready()
        _take(engine, sessions, server, folder)
    finally:
        worker.destroy()
        server.destroy()
        engine.dispose()


def _take(engine: Engine, sessions: sessionmaker[Session], server: Server, folder: Path) -> None:
    workspaces = furnish(sessions)
    with sessions.begin() as session:
        token = mint_token(session, None, ("operator",), "Ada Lovelace")
    job_id = enqueue_live(sessions, workspaces)
    northwind, acme = workspaces["Northwind Traders"], workspaces["Acme & Sons"]
    with open_browser() as browser:
        page = browser.new_page(viewport=WIDE)
        page.goto(f"{server.url}/console/sign-in")
        page.screenshot(path=folder / "sign-in.png")
        sign_in(page, server.url, token)
        wait_until(lambda: _running(engine) >= 4, what="jobs to run", seconds=60)
        failed = _first(engine, "select id from jobplatform.job_records where task = 'invoice.send' and status = 4")
        owner = _first(engine, f"select workspace_id from jobplatform.job_records where id = '{failed}'")
        fingerprint = _first(engine, "select fingerprint from jobplatform.platform_error_groups order by amount desc")
        schedule = _first(engine, "select id from jobplatform.schedules where name = 'nightly sync'")
        for name, path in {
            "overview": "/?span=24h",
            "overview-hour": "/",
            "jobs": "/jobs",
            "jobs-failed": "/jobs?status=failed&q=queue:mail",
            "jobs-none": "/jobs?q=task:nothing",
            "jobs-wrong": "/jobs?q=taks:sync",
            "job-running": f"/jobs/{northwind}/{job_id}",
            "job-failed": f"/jobs/{owner}/{failed}",
            "errors": "/errors",
            "error": f"/errors/{fingerprint}",
            "bulk-preview": f"/bulk/preview?deed=retry&q=error:{fingerprint}",
            "workspaces": "/workspaces",
            "workspace": f"/workspaces/{northwind}",
            "queues": "/queues",
            "schedules": "/schedules",
            "schedule": f"/schedules/{acme}/{schedule}",
            "schedule-form": f"/schedules/{acme}/{schedule}/edit",
            "plans": "/workspaces/plans",
            "workspace-week": f"/workspaces/{northwind}?span=7d",
            "workers": "/workers",
            "tasks": "/tasks",
            "task": "/tasks/report.build",
            "task-new": f"/tasks/report.build/new?workspace={acme}",
            "connections": "/connections",
            "resources": "/resources",
            "syncs": "/connections/syncs",
            "hooks": "/connections/hooks",
            "webhooks": "/connections/webhooks",
            "audit": "/audit",
            "health": "/health",
            "alerts": "/alerts",
            "workspace-alerts": f"/workspaces/{northwind}/alerts",
            "nothing": "/nowhere",
        }.items():
            page.goto(server.url + "/console" + path)
            page.screenshot(path=folder / f"{name}.png", full_page=True)
        for name, path in {
            "overview": "/?span=24h",
            "jobs": "/jobs?status=failed&q=queue:mail",
            "job": f"/jobs/{owner}/{failed}",
            "errors": "/errors",
            "workspaces": "/workspaces",
            "workspace": f"/workspaces/{northwind}?span=24h",
            "queues": "/queues",
            "schedules": "/schedules",
            "workers": "/workers",
            "tasks": "/tasks",
            "task": "/tasks/report.build",
            "resources": "/resources",
            "connections": "/connections/syncs",
            "audit": "/audit",
            "health": "/health",
            "alerts": "/alerts",
        }.items():
            page.goto(server.url + "/console" + path)
            page.screenshot(path=folder / "docs" / f"{name}.png")
        page.goto(server.url + "/console/bulk/preview?deed=retry&q=status:failed+queue:webhooks")
        page.click("form[action$='/bulk/begin'] button")
        page.screenshot(path=folder / "bulk.png", full_page=True)
        page.goto(server.url + "/console/bulk")
        page.screenshot(path=folder / "bulk-list.png", full_page=True)
        _dark_and_narrow(page, server.url, folder, f"/jobs/{owner}/{failed}")
        page.goto(server.url + f"/console/schedules/{acme}/{schedule}/edit")
        page.set_viewport_size(WIDE)
        page.click("button[name=preview]")
        page.wait_for_selector("#ahead-title")
        page.screenshot(path=folder / "docs" / "schedule.png")
        _take_portal(browser, sessions, server.url, folder, northwind)


def _take_portal(
    browser: Any, sessions: sessionmaker[Session], url: str, folder: Path, workspace_id: uuid.UUID
) -> None:
    with sessions.begin() as session:
        token = mint_token(session, workspace_id, ("jobs:read", "jobs:write", "schedules"), "Grace Hopper")
        failed, syncing, synced = (
            session.scalar(text(sql), {"id": workspace_id}) for sql in (FAILED_SYNC, RUNNING_SYNC, LAST_SYNC)
        )
    # On a slow machine it may have ended by now.
    syncing = syncing or synced
    page = browser.new_page(viewport=WIDE)
    sign_in_to_portal(page, url, token)
    paths = {
        "portal": "/",
        "portal-activity": "/activity",
        "portal-schedules": "/schedules",
        "portal-job": f"/jobs/{syncing}",
        "portal-job-failed": f"/jobs/{failed}",
        "portal-job-done": f"/jobs/{synced}",
    }
    for name in ("portal", "portal-activity", "portal-job"):
        page.goto(f"{url}/w/{workspace_id}{paths[name]}")
        page.screenshot(path=folder / "docs" / f"{name}.png")
    for way in ("", "dark-", "phone-"):
        page.emulate_media(color_scheme="dark" if way == "dark-" else "light")
        page.set_viewport_size(PHONE if way == "phone-" else WIDE)
        for name, path in paths.items():
            page.goto(f"{url}/w/{workspace_id}{path}")
            page.screenshot(path=folder / f"{way}{name}.png", full_page=way == "phone-")


def _dark_and_narrow(page: Any, url: str, folder: Path, job: str) -> None:
    paths = {
        "overview": "/?span=24h",
        "jobs": "/jobs",
        "job": job,
        "queues": "/queues",
        "workspaces": "/workspaces",
        "alerts": "/alerts",
        "hooks": "/connections/hooks",
        "webhooks": "/connections/webhooks",
    }
    page.emulate_media(color_scheme="dark")
    for name, path in paths.items():
        page.goto(url + "/console" + path)
        page.screenshot(path=folder / f"dark-{name}.png")
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(PHONE)
    for name, path in paths.items():
        page.goto(url + "/console" + path)
        page.screenshot(path=folder / f"phone-{name}.png")


def _running(engine: Engine) -> int:
    return int(_first(engine, "select count(*) from jobplatform.job_queue where state = 2"))


def _first(engine: Engine, statement: str) -> Any:
    with engine.connect() as connection:
        return connection.exec_driver_sql(statement).scalar()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
