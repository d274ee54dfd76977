"""Pages: what each of them costs, and each question that they ask, on a platform that has run for a week."""

from __future__ import annotations

import datetime
import time
import uuid
from collections.abc import Callable
from typing import Any

import psycopg
from contenders.history import count_all, fill
from harness.contenders import jobplatform
from harness.figures import percentile, shown
from harness.report import Table, Target
from harness.run import Run
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from jobplatform.api import create_app, mint_token
from jobplatform.api.access.tokens import presented_id
from jobplatform.api.wsgi import collect_little
from jobplatform.models import Role, confine, make_engine
from jobplatform.pages.sessions import begin_session
from jobplatform.queue import pages, silence
from jobplatform.settings import Settings

FULL, QUICK = (1_000_000, 100_000, 5_000), (50_000, 10_000, 500)
#: So often each is asked, after once that is not counted.
TIMES = 20
WANTED_MS = 200.0
NOISY, QUIET = 0, 7

EXPLANATION = """
{finished:,} finished jobs of a week and {live:,} live ones, over {workspaces:,} workspaces (a tenth of the finished and
half of the live ones are those of a few), 20 tasks, 6 queues, 20 workers. Each question is asked {times} times in a
read-only transaction as an operator, or as a workspace where it is that workspace's, with a statement_timeout of 2 s:
milliseconds from the call to its typed answer, Python included, and pages of 8 kB that the server touched for it.
*Noisy* is the workspace with the most jobs. Before that, the endings of all of them were counted as workers would:
{jobs:,} jobs in {seconds:.0f} s, {rate:,.0f} jobs/s.
"""

WHOLE_EXPLANATION = """
The same, seen from a browser: milliseconds from a request to the last byte of its page in the process that serves it,
with the session that is looked up, every question in one read-only transaction, and the page that is made of them;
{times} times each, after once that is not counted.
"""

Ask = Callable[[Session], Any]
Questions = dict[str, tuple[uuid.UUID | None, Ask]]


def measure(run: Run) -> tuple[list[Table], list[Target]]:
    finished, live, workspaces = QUICK if run.quick else FULL
    url = jobplatform().fresh_database(run.databases)
    began = time.perf_counter()
    fill(url, finished, live, workspaces)
    print(f"  pages: filled in {time.perf_counter() - began:.0f} s", flush=True)
    worker = make_engine(url, autocommit=True)
    silence(worker)
    began = time.perf_counter()
    jobs, _ = count_all(worker)
    seconds = time.perf_counter() - began
    worker.dispose()
    run.databases.settle(url)
    engine = make_engine(url)
    collect_little()
    rows, slowest = [], 0.0
    for name, (workspace_id, ask) in _questions(engine).items():
        times, buffers = _asked(engine, url, workspace_id, ask, 5 if run.quick else TIMES)
        p95 = percentile(times, 0.95)
        slowest = max(slowest, p95)
        rows.append([name, shown(percentile(times, 0.5), 1), shown(p95, 1), shown(max(times), 1), shown(buffers)])
    whole, slowest_page = _whole_pages(url, engine, 5 if run.quick else TIMES)
    engine.dispose()
    explanation = EXPLANATION.format(
        finished=finished, live=live, workspaces=workspaces, times=TIMES, jobs=jobs, seconds=seconds,
        rate=jobs / seconds,
    )  # fmt: skip
    table = Table("What pages ask", explanation, ("", "p50, ms", "p95", "longest", "buffers"), rows)
    return [table, whole], [
        Target.at_most("slowest question of a page, p95, ms", WANTED_MS, slowest),
        Target.at_most("slowest page, p95, ms", WANTED_MS, slowest_page),
    ]


def _whole_pages(url: str, engine: Engine, times: int) -> tuple[Table, float]:
    app = create_app(Settings(database_url=url, trust_login=True))
    # As in the process that serves.
    collect_little()
    noisy, quiet = (_workspace(engine, number) for number in (NOISY, QUIET))
    rows, slowest = [], 0.0
    for shell, prefix, workspace_id, paths in (
        ("console", "/console", None, _console(engine, noisy, quiet)),
        ("portal", "/w", noisy, _portal(engine, noisy)),
    ):
        browser = app.test_client()
        browser.set_cookie(f"jobplatform_{shell}", _session_of(engine, workspace_id), path=prefix)
        for path in paths:
            taken = _loaded(browser, prefix + path, times)
            p95 = percentile(taken, 0.95)
            slowest = max(slowest, p95)
            name = f"{prefix}{path}".replace(str(noisy), "noisy").replace(str(quiet), "quiet")
            rows.append([name, shown(percentile(taken, 0.5), 1), shown(p95, 1), shown(max(taken), 1)])
    app.extensions["jobplatform.engine"].dispose()
    explanation = WHOLE_EXPLANATION.format(times=times)
    return Table("Pages as a whole", explanation, ("", "p50, ms", "p95", "longest"), rows), slowest


def _session_of(engine: Engine, workspace_id: uuid.UUID | None) -> str:
    scopes = ("operator",) if workspace_id is None else ("jobs:read", "jobs:write", "schedules")
    with Session(engine) as session:
        token = mint_token(session, workspace_id, scopes, "bench")
        session.flush()
        text = begin_session(session, presented_id(token), datetime.timedelta(hours=1))
        session.commit()
    assert text is not None
    return text


def _loaded(browser: Any, path: str, times: int) -> list[float]:
    _load(browser, path)
    return [_load(browser, path) for _ in range(times)]


def _load(browser: Any, path: str) -> float:
    began = time.perf_counter()
    answer = browser.get(path)
    length = len(answer.get_data())
    taken = 1000 * (time.perf_counter() - began)
    assert answer.status_code == 200, f"{path} answered {answer.status_code}, {length} bytes"
    return taken


def _console(engine: Engine, noisy: uuid.UUID, quiet: uuid.UUID) -> list[str]:
    with Session(engine) as session:
        group = pages.error_groups(session).groups[0]
        failed = pages.find_jobs(session, pages.parse_search("status:failed"), limit=1).jobs[0]
        waiting = pages.find_jobs(session, pages.parse_search("status:pending"), limit=1).jobs[0]
        schedule = pages.schedule_lines(session, limit=1).lines[0].schedule
    return [
        *(f"/?span={span}" for span in ("1h", "24h", "7d", "30d")),
        *(f"/jobs{query}" for query in _queries(noisy, quiet, group.fingerprint)),
        f"/jobs/{failed.workspace_id}/{failed.id}",
        f"/jobs/{waiting.workspace_id}/{waiting.id}",
        f"/bulk/preview?deed=retry&q=error:{group.fingerprint}",
        "/bulk/preview?deed=cancel&q=tag:rare",
        "/bulk",
        "/errors",
        f"/errors/{group.fingerprint}",
        *(f"/workspaces?sort={order}" for order in ("backlog", "oldest", "share", "failed", "id")),
        "/workspaces?q=Workspace+49",
        *(f"/workspaces/{noisy}?span={span}" for span in ("1h", "24h", "7d", "30d")),
        f"/workspaces/{quiet}",
        "/queues",
        "/schedules",
        f"/schedules?workspace={noisy}",
        f"/schedules/{schedule.workspace_id}/{schedule.id}",
        "/workers",
        "/tasks",
        "/tasks/task-3",
        "/resources",
        "/connections",
        "/connections/syncs",
        f"/connections?workspace={noisy}",
        f"/connections/syncs?workspace={noisy}",
        "/audit",
        "/audit?actor=actor-7",
        "/health",
    ]


def _queries(noisy: uuid.UUID, quiet: uuid.UUID, fingerprint: str) -> list[str]:
    return [
        "",
        *(f"?status={status}" for status in ("pending", "running", "completed", "failed")),
        "?q=task:task-3+queue:queue-3",
        "?q=tag:rare",
        "?q=tag:rare&status=pending",
        "?q=tag:nowhere",
        "?q=error:Error3",
        f"?q=error:{fingerprint}",
        f"?q=workspace:{noisy}",
        f"?q=workspace:{noisy}+tag:nowhere",
        f"?q=workspace:{quiet}&status=failed",
    ]


def _portal(engine: Engine, workspace_id: uuid.UUID) -> list[str]:
    with Session(engine) as session:
        search = pages.parse_search(f"workspace:{workspace_id}")
        job = pages.find_jobs(session, search, limit=1).jobs[0]
    here = f"/{workspace_id}"
    return [f"{here}/", f"{here}/activity", f"{here}/schedules", f"{here}/jobs/{job.id}"]


def _questions(engine: Engine) -> Questions:
    noisy, quiet = (_workspace(engine, number) for number in (NOISY, QUIET))
    with Session(engine) as session:
        group = pages.error_groups(session).groups[0]
        failed = pages.find_jobs(session, pages.parse_search("status:failed"), limit=1).jobs[0]
        waiting = pages.find_jobs(session, pages.parse_search("status:pending"), limit=1).jobs[0]
        action = next(iter(pages.list_bulk(session)), None)
    assert action is None
    operator: dict[str, Ask] = {
        **{f"overview, {span}": _overview(span) for span in ("1h", "24h", "7d")},
        **{f"throughput, {span}": _throughput(span) for span in ("1h", "24h", "7d", "30d")},
        **{f"jobs: {search or '(all)'}": _find(search) for search in _searches(noisy, quiet, group.fingerprint)},
        **{
            f"counts: {search or '(all)'}": _count(search)
            for search in ("", "tag:rare", f"workspace:{noisy}", "task:task-3 queue:queue-3", "error:Error3")
        },
        "jobs: id": _find(str(failed.id)),
        "job that failed": lambda session: pages.job_detail(session, failed.workspace_id, failed.id),
        "job that waits": lambda session: pages.job_detail(session, waiting.workspace_id, waiting.id),
        "bulk preview: retry a group": lambda session: pages.preview_bulk(
            session, "retry", pages.parse_search(group.search)
        ),
        "bulk preview: cancel all": lambda session: pages.preview_bulk(session, "cancel", pages.parse_search("")),
        "errors": pages.error_groups,
        **{f"workspaces by {order}": _workspaces(order) for order in ("id", "backlog", "oldest", "share", "failed")},
        "workspaces named": lambda session: pages.workspace_lines(session, text="Workspace 49"),
        "queues": pages.queue_lines,
        "tasks": pages.task_lines,
        "resources": pages.resource_lines,
        "whether anything has changed": pages.writes_by_topic,
        "workers": pages.worker_lines,
        "schedules": pages.schedule_lines,
        "connections": pages.connection_lines,
        "syncs": pages.sync_lines,
        "audit": pages.audit_lines,
        "audit of an actor": lambda session: pages.audit_lines(session, actor="actor-7"),
    }
    asked: Questions = {name: (None, ask) for name, ask in operator.items()}
    for name, workspace_id in (("noisy", noisy), ("quiet", quiet)):
        asked |= {f"{name} tenant: {what}": (workspace_id, ask) for what, ask in _of_tenant(workspace_id).items()}
    return asked


def _searches(noisy: uuid.UUID, quiet: uuid.UUID, fingerprint: str) -> list[str]:
    return [
        "",
        "status:pending",
        "status:running",
        "status:completed",
        "status:failed",
        "status:pending queue:queue-2 task:task-2 priority:>=5",
        "status:pending tag:rare",
        "task:task-3",
        "tag:rare status:failed",
        "tag:nowhere",
        "priority:100",
        f"workspace:{noisy}",
        f"workspace:{noisy} tag:nowhere",
        f"workspace:{noisy} status:pending",
        f"workspace:{quiet} status:failed",
        f"workspace:{noisy},{quiet} task:task-3",
        "error:Error3",
        f"error:{fingerprint}",
        f"error:{fingerprint} workspace:{quiet}",
    ]


def _of_tenant(workspace_id: uuid.UUID) -> dict[str, Ask]:
    return {
        "throughput, 24h": lambda session: pages.throughput(session, "24h", workspace_id=workspace_id),
        "syncs": lambda session: pages.tenant_syncs(session, workspace_id),
        "activity": lambda session: pages.tenant_activity(session, workspace_id),
        "jobs that failed": _find(f"workspace:{workspace_id} status:failed"),
    }


def _overview(span: Any) -> Ask:
    return lambda session: pages.overview(session, span)


def _throughput(span: Any) -> Ask:
    return lambda session: pages.throughput(session, span)


def _find(search: str) -> Ask:
    return lambda session: pages.find_jobs(session, pages.parse_search(search))


def _count(search: str) -> Ask:
    return lambda session: pages.count_jobs(session, pages.parse_search(search))


def _workspaces(order: Any) -> Ask:
    return lambda session: pages.workspace_lines(session, order=order)


def _workspace(engine: Engine, number: int) -> uuid.UUID:
    with engine.connect() as connection:
        return connection.execute(text("select md5('workspace' || :n)::uuid"), {"n": str(number)}).scalar_one()


def _asked(engine: Engine, url: str, workspace_id: uuid.UUID | None, ask: Ask, times: int) -> tuple[list[float], float]:
    """Milliseconds of each time, and the pages that one of them touched."""
    _ask_once(engine, workspace_id, ask)
    before = _touched(url)
    taken = [_ask_once(engine, workspace_id, ask) for _ in range(times)]
    return taken, (_touched(url) - before) / times


def _ask_once(engine: Engine, workspace_id: uuid.UUID | None, ask: Ask) -> float:
    with Session(engine) as session:
        confine(session, Role.OPERATOR if workspace_id is None else Role.API, workspace_id)
        session.execute(text("set transaction read only"))
        session.execute(text("set local statement_timeout = '2s'"))
        began = time.perf_counter()
        ask(session)
        taken = 1000 * (time.perf_counter() - began)
        session.execute(text("select pg_stat_force_next_flush()"))
    return taken


def _touched(url: str) -> int:
    """What the server has counted so far; nobody else is at this database."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "select blks_hit + blks_read from pg_stat_database where datname = current_database()"
        ).fetchone()
    assert row is not None
    return int(row[0])
