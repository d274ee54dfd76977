"""A day of a made-up product, as rows: what the pages look like when they have something to show."""

from __future__ import annotations

import datetime
import json
import random
import uuid
from collections.abc import Iterator
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.models import Connection, Hook, HookDelivery, Plan, WebhookSubscription, Workspace
from jobplatform.queue import (
    Cron,
    Every,
    create_schedule,
    pause,
    record,
    set_queue_limit,
    set_rate_limit,
    set_rule,
    set_task_limits,
    set_workspace_limits,
    set_workspace_rule,
    settle_workspace_alerts,
)
from jobplatform.queue.numbers.count import count_endings
from tests.browser.shop_tasks import tasks

Sessions = sessionmaker[Session]

NAMES = (
    "Northwind Traders", "Acme & Sons", "Globex", "Initech", "Umbrella Catering", "Hooli", "Stark Bicycles",
    "Wonka Chocolates", "Vandelay Imports", "Soylent Kitchens", "Tyrell Optics", "Wayne Logistics",
    "Gesellschaft für außergewöhnlich lange Unternehmensbezeichnungen mbH & Co. KG", "Çınar Gıda Şti.",
)  # fmt: skip
#: Task, queue, how often in a day for each workspace, usual seconds of waiting and running, share that fails.
DAY = (
    ("sync", "sync", 24, 0.4, 6.0, 0.01),
    ("webhook.deliver", "webhooks", 140, 0.08, 0.15, 0.02),
    ("invoice.send", "mail", 30, 0.3, 0.8, 0.035),
    ("report.build", "reports", 4, 2.0, 40.0, 0.01),
    ("image.resize", "media", 60, 0.1, 0.5, 0.004),
)
ERRORS = {
    "sync": ("SourceUnavailableError", "crm.example.com answered 503 three times"),
    "webhook.deliver": ("WebhookError", "https://app.example.com/hook answered 500 Internal Server Error"),
    "invoice.send": ("ConnectionRefusedError", "[Errno 111] Connection refused by smtp.example.com for invoice {n}"),
    "report.build": ("MemoryError", "the attempt used more than 512 MB"),
    "image.resize": ("UnidentifiedImageError", "cannot identify image file 'upload-{n}.heic'"),
}
#: Where each of them was raised, as a traceback says it.
RAISED = {
    "sync": (
        ("/srv/shop/crm.py", 41, "fetch_contacts", 'page = source.get(f"/contacts?cursor={cursor}")'),
        ("/srv/shop/source.py", 112, "get", 'raise SourceUnavailableError(f"{host} answered {status} three times")'),
    ),
    "webhook.deliver": (
        ("/srv/shop/hooks.py", 27, "deliver", "answer = http.post(url, json=event, timeout=10)"),
        ("/srv/shop/http.py", 64, "post", 'raise WebhookError(f"{url} answered {answer.status_code} {answer.reason}")'),
    ),
    "invoice.send": (
        ("/srv/shop/jobs.py", 58, "send_invoice", "with smtplib.SMTP(settings.smtp_host, timeout=10) as smtp:"),
        ("/usr/lib/python3.12/smtplib.py", 255, "__init__", "(code, msg) = self.connect(host, port)"),
        ("/usr/lib/python3.12/socket.py", 852, "create_connection", "raise exceptions[0]"),
    ),
    "report.build": (
        ("/srv/shop/reports.py", 88, "build_report", "rows = list(session.execute(statement))"),
        ("/srv/shop/reports.py", 131, "write_chapter", "table = pad(rows, width)"),
    ),
    "image.resize": (
        ("/srv/shop/images.py", 19, "resize", "with Image.open(source) as image:"),
        ("/srv/shop/venv/lib/PIL/Image.py", 3498, "open", "raise UnidentifiedImageError(message)"),
    ),
}

RECORD = text("""
insert into jobplatform.job_records (
    workspace_id, id, task, queue, payload, max_attempts, status, outcome, result, error_type, error, attempts, epoch,
    created_at, run_after, started_at, completed_at, tags
) values (
    :workspace_id, :id, :task, :queue, cast(:payload as jsonb), 3, :status, :outcome, cast(:result as jsonb),
    :error_type, :error, :attempts, :attempts, :created_at, :created_at, :started_at, :completed_at, :tags
)
""")
ATTEMPT = text("""
insert into jobplatform.job_attempts (
    workspace_id, job_id, epoch, attempt, worker_id, started_at, ended_at, outcome, final, error_type, error, traceback
) values (
    :workspace_id, :id, :epoch, :epoch, 1, :started_at, :ended_at, 'error', :final, :error_type, :error, :traceback
)
""")
ENDED = text("""
insert into jobplatform.endings (workspace_id, status, ended_at, ids)
values (:workspace_id, :status, :completed_at, array[cast(:id as uuid)])
""")


def furnish(sessions: Sessions, *, share: float = 1.0) -> dict[str, uuid.UUID]:
    """Workspaces with a day behind them, by name. ``share``: so much of the day's jobs."""
    dice = random.Random(7)
    workspaces = {
        name: uuid.UUID(int=(0x0199F0C2 << 96) | (7 << 76) | (2 << 62) | dice.getrandbits(60)) for name in NAMES
    }
    with sessions.begin() as session:
        session.add_all(Workspace(id=found, name=name) for name, found in workspaces.items())
        session.add_all([Plan(name="gold", weight=10, max_running=50), Plan(name="trial", weight=1, max_running=2)])
    with sessions.begin() as session:
        now = session.scalar(text("select jobplatform.clock()"))
        rows = [row for name in NAMES for row in _day(dice, workspaces[name], now, share * _size(name))]
        session.execute(RECORD, rows)
        session.execute(ATTEMPT, [attempt for row in rows for attempt in _attempts(row)])
        session.execute(ENDED, rows)
    for _ in range(50):
        with sessions.begin() as session:
            if not count_endings(session).more:
                break
    with sessions.begin() as session:
        _surroundings(session, workspaces, now)
    return workspaces


def _size(name: str) -> float:
    return {"Northwind Traders": 3.0, "Hooli": 2.0}.get(name, 0.6)


def _day(dice: random.Random, workspace_id: uuid.UUID, now: datetime.datetime, size: float) -> Iterator[dict[str, Any]]:
    for task, queue, often, wait, run, fails in DAY:
        for _ in range(round(often * size)):
            # More by day than by night, and a bad hour of the mail server.
            hours = dice.triangular(0.1, 24, 3)
            created = now - datetime.timedelta(hours=hours)
            failed = dice.random() < (0.5 if task == "invoice.send" and 5 < hours < 5.6 else fails)
            tries = _tries(dice, created, wait, run, times=3 if failed else 1)
            started, ended = tries[-1]
            error_type, message = ERRORS[task] if failed else (None, None)
            number = dice.randrange(1000, 9999)
            yield {
                "workspace_id": workspace_id,
                "id": _id(dice, created),
                "task": task,
                "queue": queue,
                "payload": _payload(task, number),
                "status": 4 if failed else 3,
                "outcome": "error" if failed else "ok",
                "result": None if failed else '{"ok": true}',
                "error_type": error_type,
                "error": message.format(n=number) if message else None,
                "attempts": 3 if failed else 1,
                "created_at": created,
                "started_at": started,
                "completed_at": min(ended, now),
                "tags": dice.choice([[], [], [], ["eu"], ["us", "vip"]]),
                "tries": tries,
            }


def _tries(
    dice: random.Random, created: datetime.datetime, wait: float, run: float, times: int
) -> list[tuple[datetime.datetime, datetime.datetime]]:
    """When each attempt began and ended: the first waits for a slot, the others twice as long as the one before."""
    found, at = [], created
    for number in range(times):
        delay = dice.lognormvariate(0, 0.8) * wait if number == 0 else 2**number * dice.uniform(0.8, 1.2)
        began = at + datetime.timedelta(seconds=delay)
        at = began + datetime.timedelta(seconds=dice.lognormvariate(0, 0.6) * run)
        found.append((began, at))
    return found


def _payload(task: str, number: int) -> str:
    return {
        "sync": '{"mode": "incremental"}',
        "invoice.send": f'{{"number": {number}, "recipient": "billing@example.com"}}',
        "report.build": '{"kind": "revenue", "month": "2026-10", "format": "pdf"}',
    }.get(task, f'{{"id": {number}, "apiKey": "sk-very-secret"}}')


def _id(dice: random.Random, created: datetime.datetime) -> uuid.UUID:
    """As it would have been made then."""
    milliseconds = int(created.timestamp() * 1000)
    return uuid.UUID(
        int=(milliseconds << 80) | (7 << 76) | (dice.getrandbits(12) << 64) | (2 << 62) | dice.getrandbits(62)
    )


def _attempts(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if row["error_type"] is None:
        return
    for epoch, (began, ended) in enumerate(row["tries"], 1):
        yield {
            **{name: row[name] for name in ("workspace_id", "id", "error_type", "error")},
            "epoch": epoch,
            "final": epoch == len(row["tries"]),
            "started_at": began,
            "ended_at": ended,
            "traceback": _traceback(row),
        }


def _traceback(row: dict[str, Any]) -> str:
    frames = (f'  File "{file}", line {line}, in {name}\n    {code}' for file, line, name, code in RAISED[row["task"]])
    return "\n".join(("Traceback (most recent call last):", *frames, f"{row['error_type']}: {row['error']}\n"))


def _surroundings(session: Session, workspaces: dict[str, uuid.UUID], now: datetime.datetime) -> None:
    acme, northwind = workspaces["Acme & Sons"], workspaces["Northwind Traders"]
    set_workspace_limits(session, northwind, {"plan": "gold"})
    set_workspace_limits(session, workspaces["Hooli"], {"plan": "gold", "max_running": 20})
    set_workspace_limits(session, workspaces["Initech"], {"plan": "trial", "max_pending": 500})
    set_queue_limit(session, "reports", 4)
    set_task_limits(session, "report.build", {"max_running_per_workspace": 1})
    set_rate_limit(session, "hubspot:*", {"units": 100, "period_ms": 10_000, "burst": 20})
    set_rate_limit(session, "strava", {"units": 200, "period_ms": 900_000})
    pause(session, "queue", "media", reason="the image server is being moved", actor="ada")
    pause(session, "resource", "smtp.example.com", reason="it refuses connections", actor="night shift")
    for name, rule, options in (
        ("nightly sync", Cron("30 2 * * *", "Europe/Berlin"), {}),
        ("monthly revenue", Cron("0 6 1 * *", "Europe/Berlin"), {}),
        ("every quarter of an hour", Every(datetime.timedelta(minutes=15)), {}),
    ):
        task = tasks["report.build" if "revenue" in name else "sync"]
        for found in (acme, northwind):
            create_schedule(session, task, rule, workspace_id=found, name=name, made_by="ada", **options)
    _sources_of_a_shop(session, northwind, now)
    for name, found in list(workspaces.items())[:6]:
        if found == northwind:
            continue
        connection_id = uuid.uuid4()
        session.add(
            Connection(workspace_id=found, id=connection_id, connector_type="http_json", name=f"{name} CRM", config={})
        )
        session.execute(COPIED, {"workspace_id": found, "connection_id": connection_id, "records": 1_200})
        _sync_logs(session, found, connection_id, now, failed=name == "Globex")
    _tell_and_be_told(session, workspaces, now)
    _have_watched(session, workspaces)
    _write_down(session, workspaces)


SEALED = '{"$sealed": "with a key that nobody has"}'
#: Whose hook, its name, scheme and task, what its last delivery was answered, how many minutes ago.
HOOKS = (
    ("Northwind Traders", "Orders of the shop", "shopify", "invoice.send", 200, 2),
    ("Northwind Traders", "Contacts", "hubspot", "sync", 200, 14),
    ("Acme & Sons", "Payments", "stripe", "invoice.send", 429, 31),
    ("Globex", "Pushes", "github", "deploy.start", None, 0),
    ("Hooli", "Activities of our runners", "strava", "sync", 200, 190),
)
#: Whose webhook, its name, what it is told of, of which tasks, how it is.
WEBHOOKS = (
    ("Northwind Traders", "Accounting", "https://accounts.example.com/jobs", ["job.failed"], ["invoice.send"], {}),
    ("Acme & Sons", "Chat of the night shift", "https://chat.example.com/in", ["alert.raised", "alert.resolved"], None,
     {}),
    ("Globex", "Data warehouse", "https://warehouse.example.com/told", ["batch.completed", "batch.failed"], None,
     {"failing_since": 260}),
    ("Hooli", "Old ticket system", "https://tickets.example.com/new", ["job.failed", "job.cancelled"],
     ["report.build"], {"disabled_at": 1_500, "disabled_by": "jobplatform", "disabled_why": "gone"}),
    ("Initech", "Deployments", "https://deploy.example.com/done", ["job.completed", "job.failed", "job.cancelled"],
     ["deploy.start"], {}),
)  # fmt: skip


def _tell_and_be_told(session: Session, workspaces: dict[str, uuid.UUID], now: datetime.datetime) -> None:
    """Hooks and webhooks, well and not. Of what the live jobs do nothing is told to anybody."""

    def before(minutes: float) -> datetime.datetime:
        return now - datetime.timedelta(minutes=minutes)

    for whose, name, scheme, task, answer, minutes in HOOKS:
        mine = {"workspace_id": workspaces[whose], "made_by": "ada", "created_at": before(9_000)}
        hook = Hook(id=uuid.uuid4(), name=name, scheme=scheme, task=task, secret=SEALED, key_hash=bytes(32), **mine)
        session.add(hook)
        if answer:
            session.add(
                HookDelivery(
                    workspace_id=hook.workspace_id,
                    hook_id=hook.id,
                    delivery_id=f"of {name}",
                    answer=answer,
                    job_id=uuid.uuid4() if answer == 200 else None,
                    received_at=before(minutes),
                )
            )
    for whose, name, url, events, told_of, state in WEBHOOKS:
        mine = {"workspace_id": workspaces[whose], "made_by": "ada", "created_at": before(9_000)}
        state = {key: before(value) if key.endswith(("_at", "_since")) else value for key, value in state.items()}
        about = {"name": name, "url": url, "events": events, "tasks": told_of, "secret": SEALED}
        session.add(WebhookSubscription(id=uuid.uuid4(), **mine, **about, **state))


def _have_watched(session: Session, workspaces: dict[str, uuid.UUID]) -> None:
    """Rules of their own for two workspaces. Of one something is wrong, and something was."""
    northwind = workspaces["Northwind Traders"]
    set_rule(session, "backlog", above=5_000)
    set_workspace_rule(session, workspaces["Hooli"], "backlog", above=500)
    set_workspace_rule(session, northwind, "late_reports", metric="oldest_ready_seconds", queue="reports", above=300)
    set_workspace_rule(session, northwind, "surge", metric="completed_last_hour", above=5)
    set_workspace_rule(session, northwind, "webhooks", metric="completed_last_hour", task="webhook.deliver", above=1)
    settle_workspace_alerts(session, now=True)
    set_workspace_rule(session, northwind, "webhooks", above=1_000)
    settle_workspace_alerts(session, now=True)


def _write_down(session: Session, workspaces: dict[str, uuid.UUID]) -> None:
    """What people and programs did in this day, the last of it just now."""
    acme, northwind, hooli = (workspaces[name] for name in ("Acme & Sons", "Northwind Traders", "Hooli"))
    job = f"job:{workspaces['Initech']}"
    for actor, action, target, workspace_id, details in (
        ("ada", "schedule.create", f"schedule:{acme}", acme, {"name": "nightly sync"}),
        ("ada", "schedule.create", f"schedule:{northwind}", northwind, {"name": "monthly revenue"}),
        ("cli:deploy", "plan.set", "plan:gold", None, {"weight": 10, "maxRunning": 50}),
        ("cli:deploy", "workspace.limit", f"workspace:{northwind}", northwind, {"plan": "gold"}),
        ("cli:deploy", "workspace.limit", f"workspace:{hooli}", hooli, {"plan": "gold", "maxRunning": 20}),
        ("Grace Hopper", "job.enqueue", f"job:{northwind}", northwind, {"jobType": "sync"}),
        ("night shift", "resource.pause", "resource:smtp.example.com", None, {"reason": "it refuses connections"}),
        ("night shift", "job.retry", job, acme, {}),
        ("night shift", "job.retry", job, hooli, {}),
        ("ada", "rate.set", "rate:hubspot:*", None, {"units": 100, "periodMs": 10000, "burst": 20}),
        ("ada", "task.limit", "task:report.build", None, {"maxRunningPerWorkspace": 1}),
        ("ada", "bulk.retry", "bulk:0199f0c2", None, {"search": "error:ConnectionRefusedError", "expected": 12}),
        ("ada", "queue.limit", "queue:reports", None, {"maxRunning": 4}),
        ("ada", "queue.pause", "queue:media", None, {"reason": "the image server is being moved"}),
    ):
        record(session, actor=actor, action=action, target=target, workspace_id=workspace_id, details=details)
    session.execute(
        text("""
            update jobplatform.audit_log a
            set at = jobplatform.clock() - (b.newest - a.id) * interval '97 minutes'
            from (select max(id) as newest from jobplatform.audit_log) b
        """)
    )


def _sync_logs(
    session: Session, workspace_id: uuid.UUID, connection_id: uuid.UUID, now: datetime.datetime, *, failed: bool
) -> None:
    for number in range(3):
        begun = now - datetime.timedelta(hours=number * 4 + 1)
        ended = begun + datetime.timedelta(seconds=40 + number)
        session.execute(
            text("""
                insert into jobplatform.sync_logs (
                    workspace_id, id, job_id, reference, mode, status, total_records, errors, results,
                    started_at, ended_at
                ) values (
                    :workspace_id, :id, :job_id, :reference, :mode, :status, :total, cast(:errors as jsonb),
                    jsonb_build_array(jsonb_build_object(
                        'connectionId', cast(:connection_id as text), 'name', 'CRM', 'status', cast(:status as text),
                        'records', cast(:total as int)
                    )),
                    :begun, :ended
                )
            """),
            {
                "workspace_id": workspace_id,
                "id": _id(random.Random(number), begun),
                "job_id": uuid.uuid4(),
                "connection_id": str(connection_id),
                "reference": f"sync-{4711 - number}",
                "mode": "initial" if number == 2 else "incremental",
                "status": "failed" if failed and number == 0 else "completed",
                "total": 0 if failed and number == 0 else 1200 - 430 * number,
                "errors": '["CRM: crm.example.com answered 503 three times"]' if failed and number == 0 else "[]",
                "begun": begun,
                "ended": ended,
            },
        )


#: Enough of what was read for it to be counted: beyond a thousand nobody does.
COPIED = text("""
insert into jobplatform.records (workspace_id, connection_id, stream, external_id, data)
select :workspace_id, :connection_id, 'items', n::text, '{}'
from generate_series(1, least(:records, 1200)) n
""")
SOURCES = (
    ("Customers", "hubspot", 1_842),
    ("Orders", "http_json", 412),
    ("Product feed", "rss", 96),
    ("Warehouse", "sql", 23_507),
)
SYNC_RECORD = text("""
insert into jobplatform.job_records (
    workspace_id, id, task, queue, payload, max_attempts, status, outcome, result, error_type, error, request_id,
    attempts, epoch, created_at, run_after, started_at, completed_at, progress
) values (
    :workspace_id, :id, 'sync', 'sync', '{"mode": "incremental"}', 3, :job_status, :outcome,
    case when :job_status = 3 then cast(:result as jsonb) end,
    :error_type, :error, 'req-5f0c21d9', 1, 1, :begun, :begun, :begun, :ended, cast(:progress as jsonb)
)
""")
SYNC_LOG = text("""
insert into jobplatform.sync_logs (
    workspace_id, id, job_id, reference, mode, status, total_records, errors, results, started_at, ended_at
)
select :workspace_id, :id, :id, :reference, 'incremental', :status, :total, found -> 'errors', found -> 'results',
    :begun, :ended
from (select cast(:result as jsonb) as found) found
""")


def _sources_of_a_shop(session: Session, workspace_id: uuid.UUID, now: datetime.datetime) -> None:
    """Four sources, and a day of syncs of them: one of which failed as a whole, and the last one in part."""
    ids = {name: uuid.uuid4() for name, _, _ in SOURCES}
    session.add_all(
        Connection(workspace_id=workspace_id, id=ids[name], connector_type=kind, name=name, config={})
        for name, kind, _ in SOURCES
    )
    session.flush()
    for name, _, records in SOURCES:
        session.execute(COPIED, {"workspace_id": workspace_id, "connection_id": ids[name], "records": records})
    for number in range(5):
        begun = now - datetime.timedelta(hours=6 * number, minutes=47)
        broken = {name for name, _, _ in SOURCES} if number == 2 else {"Product feed"} if number == 0 else set()
        words = "shop.example.com cannot be reached" if number == 2 else "feeds.example.com answered 404 Not Found"
        results = [
            {
                "connectionId": str(ids[name]), "name": name, "connectorType": kind,
                "status": "failed" if name in broken else "completed",
                "records": 0 if name in broken else records // (1 + 7 * (number + name.count("e") % 3)),
            }
            for name, kind, records in SOURCES
        ]  # fmt: skip
        errors = [f"{name}: {words}" for name in ids if name in broken]
        total = sum(int(str(one["records"])) for one in results)
        failed = number == 2
        about = {
            "workspace_id": workspace_id,
            "id": _id(random.Random(100 + number), begun),
            "reference": f"sync-{5200 - number}",
            "begun": begun,
            "ended": begun + datetime.timedelta(seconds=74 - 9 * number),
            "job_status": 4 if failed else 3,
            "outcome": "error" if failed else "ok",
            "status": "failed" if failed else "completed",
            "total": total,
            "result": json.dumps({"results": results, "errors": errors, "warnings": [], "totalRecords": total}),
            "error_type": "SyncFailedError" if failed else None,
            "error": "; ".join(errors) if failed else None,
            "progress": json.dumps({"current": total, "total": total}) if total else None,
        }
        session.execute(SYNC_RECORD, about)
        session.execute(SYNC_LOG, about)


def enqueue_live(sessions: Sessions, workspaces: dict[str, uuid.UUID]) -> uuid.UUID:
    """Jobs for a worker to run now; the id of a long one."""
    with sessions.begin() as session:
        for name, found in list(workspaces.items())[:7]:
            pages = 240 if name == "Northwind Traders" else 40
            tasks["sync"].enqueue(session, {"pages": pages, "pause": 0.5}, workspace_id=found)
            tasks["webhook.deliver"].enqueue(session, {"id": 1}, workspace_id=found)
            tasks["image.resize"].enqueue(session, {"id": 2}, workspace_id=found, tags=("eu",))
            if name in ("Acme & Sons", "Globex"):
                tasks["invoice.send"].enqueue(
                    session, {"number": 4711, "recipient": "billing@example.com"}, workspace_id=found
                )
        later = datetime.timedelta(hours=3)
        tasks["report.build"].enqueue(session, {}, workspace_id=workspaces["Initech"], delay=later)
        made = tasks["report.build"].enqueue(session, {}, workspace_id=workspaces["Northwind Traders"], tags=("vip",))
        return made.job_id
