"""Broken variants of the platform, made by changing the SQL of a verb, or a function, in one process that exists for
nothing else, or that of a function in a database that does."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any, NamedTuple

import psycopg
from sqlalchemy.orm import Session

from jobplatform.queue.limits.breaker import _LEVEL, LOWERED_TO
from jobplatform.queue.locks import QUOTA, ROOM_OF_QUEUE, ROOM_OF_RESOURCE, ROOM_OF_TASK, ROOM_OF_WORKSPACE
from tests.chaos.family_variants import FAMILY_VARIANTS


class Patch(NamedTuple):
    """In a constant of a module of the queue, replace each ``good`` by its ``bad``."""

    module: str
    constant: str
    changes: dict[str, str]


class DatabasePatch(NamedTuple):
    """In a function of the database, replace each ``good`` by its ``bad``. It is broken for all processes."""

    function: str
    changes: dict[str, str]


class CodePatch(NamedTuple):
    """In a module of the queue, replace a function by another."""

    module: str
    function: str
    bad: Callable[..., Any]


def note_in_another_transaction(session: Session, save: Callable[[Session], None], *, commit: bool) -> None:
    """The rows are committed, and then the note that they are."""
    session.commit()
    save(session)
    if commit:
        session.commit()


NO_FENCE = {" and q.epoch = u.epoch": ""}

#: Look, then insert, and trust that nobody did the same in between.
LOOK_FIRST = """and not exists (
        select from jobplatform.job_queue q where q.workspace_id = a.workspace_id and q.unique_key = {}
    )
    """

WORKSPACE_LOCKS = (
    f"pg_try_advisory_xact_lock({ROOM_OF_WORKSPACE}, hashtext(w.id::text))",
    f"pg_try_advisory_xact_lock({ROOM_OF_WORKSPACE}, hashtext(workspaces[nth]::text))",
)
OF_WORKSPACE = "coalesce(w.max_running, p.max_running)"
NOW_RUNNING = """w.allowed - (
                select count(*)::integer from jobplatform.job_queue q where q.state = 2 and q.workspace_id = w.id
            )
        from unnest(workspaces, limits, locked) as w(id, allowed, held)"""

RUNNING_BEFORE = """(
        select array_agg(
            (select count(*)::integer from jobplatform.job_queue q where q.state = 2 and q.workspace_id = w.id)
            order by w.nth
        )
        from unnest(workspaces) with ordinality as w(id, nth)
    )"""

#: Of a database whose uniqueness is checked in code, and of one that forgets which ticks were done.
ROBBED = {
    "naive unique check": "drop index jobplatform.job_queue_unique",
    "ticks without a lock or a record": "alter table jobplatform.schedule_ticks drop constraint schedule_ticks_pkey",
}

NO_LOCK = {"for key share": ""}

VARIANTS: dict[str, Patch | DatabasePatch | CodePatch | tuple[Patch, ...]] = {
    "completing without a fence": Patch("attempts.complete", "COMPLETE", NO_FENCE),
    "failing without a fence": Patch("attempts.fail", "FAIL", NO_FENCE),
    "releasing without a fence": Patch("attempts.release", "RELEASE", NO_FENCE),
    "progress without a fence": Patch("attempts.progress", "REPORT", NO_FENCE),
    "log lines without a fence": Patch("attempts.logs", "APPEND", NO_FENCE),
    # Steps
    "steps without a fence": Patch("attempts.save_step", "SAVE_STEP", {" and q.epoch = %(epoch)s": ""}),
    "a lease looked at and not locked": Patch("attempts.save_step", "SAVE_CHECKPOINT", NO_LOCK),
    "a page in another transaction than its note": CodePatch(
        "run.steps", "_write_rows_and_note", note_in_another_transaction
    ),
    "rows the worker forgot are kept": Patch("attempts.reconcile", "RECONCILE", {"where q.state = 2": "where false"}),
    "nobody rescues": Patch("attempts.rescue", "RESCUE", {"where q.state = 2": "where false"}),
    "rescue from the living": Patch("attempts.rescue", "RESCUE", {"and (w.id is null or w.dead_at is not null)": ""}),
    "naive unique check": (
        Patch("enqueue.jobs", "ENQUEUE_ONE", {"on conflict do nothing": LOOK_FIRST.format("%(unique_key)s")}),
        Patch(
            "enqueue.many",
            "ENQUEUE",
            {
                "on conflict do nothing": "",
                "and not exists (select from limited)": LOOK_FIRST.format("a.unique_key")
                + "and not exists (select from limited)",
            },
        ),
    ),
    "epoch handed out again": Patch("claim.jobs", "CLAIM", {"greatest(q.epoch + 1,": "greatest(q.epoch,"}),
    "crashes not counted": Patch("attempts.fail", "FAIL", {"q.crash_count + v.crash": "q.crash_count"}),
    "record not finished": Patch("attempts.complete", "COMPLETE", {"r.id = e.id": "false"}),
    "due jobs not promoted": Patch("chores.promote", "PROMOTE", {"where state = 0 and": "where false and"}),
    "completed jobs retried": Patch("by_hand.retry_job", "RETRY_JOB", {"status in (4, 5)": "status in (3, 4, 5)"}),
    # Schedules
    "ticks without a lock or a record": (
        Patch("schedules.fire", "DUE", {"for update skip locked": ""}),
        Patch("schedules.fire", "RECORD_TICKS", {"on conflict do nothing": ""}),
    ),
    "missed ticks are dropped": Patch(
        "schedules.fire", "DUE", {"every_workspace, catch_up,": "every_workspace, 'one' as catch_up,"}
    ),
    "a tick that was done is done again": Patch(
        "schedules.fire",
        "RECORD_TICKS",
        {
            "on conflict do nothing": "on conflict (workspace_id, schedule_id, tick_at) "
            "do update set job_id = excluded.job_id"
        },
    ),
    # Limits
    "a workspace counted without a lock": DatabasePatch("free_in_workspaces", dict.fromkeys(WORKSPACE_LOCKS, "true")),
    "a workspace counted before its lock": DatabasePatch(
        "free_in_workspaces",
        {
            **{lock: lock.replace("pg_try", "pg") + "::text = ''" for lock in WORKSPACE_LOCKS},
            "    locked boolean[];": f"    locked boolean[];\n    before integer[] := {RUNNING_BEFORE};",
            NOW_RUNNING: "w.allowed - w.running"
            " from unnest(workspaces, limits, locked, before) as w(id, allowed, held, running)",
        },
    ),
    "a slot leaks with each retry": DatabasePatch("free_in_workspaces", {"q.state = 2": "q.attempts > 0"}),
    "a queue counted without a lock": DatabasePatch(
        "free_in_queue", {f"not pg_try_advisory_xact_lock({ROOM_OF_QUEUE}, hashtext(name))": "false"}
    ),
    "a queue limited in each workspace": (
        Patch(
            "claim.jobs",
            "WEIGHED_CLAIM",
            {
                "from admitted\n": "from admitted where nth <= (select max_running from jobplatform.queue_limits)\n",
                "limit (select coalesce(free, 0) from queue_limit)": "",
            },
        ),
        Patch(
            "claim.jobs",
            "LIMITED_CLAIM",
            {
                "least(o.here,": "least((select max_running from jobplatform.queue_limits), o.here,",
                "limit (select coalesce(free, 0) from queue_limit)": "",
            },
        ),
    ),
    "a task counted without a lock": DatabasePatch(
        "free_of_tasks", {f"pg_try_advisory_xact_lock({ROOM_OF_TASK}, hashtext(name))": "true"}
    ),
    "a task not counted where it runs": DatabasePatch(
        "free_of_tasks_in_workspaces", {"q.state = 2 and": "q.state = 2 and q.attempts = 0 and"}
    ),
    "a resource counted without a lock": DatabasePatch(
        "free_on_resources", {f"pg_try_advisory_xact_lock({ROOM_OF_RESOURCE}, hashtext(names[nth]))": "true"}
    ),
    "a resource limited in each workspace": Patch(
        "claim.jobs", "WEIGHED_CLAIM", {"and (resource is null or nth_of_resource <= of_resource)": ""}
    ),
    "a lowered limit not seen": tuple(
        Patch("claim.jobs", statement, {OF_WORKSPACE + " as most": f"greatest({OF_WORKSPACE}, 3) as most"})
        for statement in ("LIMITED_CLAIM", "WEIGHED_CLAIM")
    ),
    # Levels
    "a level not asked for": DatabasePatch(
        "free_on_resources",
        {
            "jobplatform.level_of_resource(resource, least, most)": "most",
            "jobplatform.level_of_resource(n.resource, n.least, n.most)": "n.most",
        },
    ),
    "a level lowered for each refusal": Patch(
        "limits.breaker",
        "NOTE",
        {"h.refused_from > coalesce(v.lowered_at, '-infinity')": "h.refused_from is not null"},
    ),
    "a level below the least": Patch(
        "limits.breaker", "NOTE", {f"greatest(h.min_running, {_LEVEL} * {LOWERED_TO})": f"{_LEVEL} * {LOWERED_TO}"}
    ),
    # Rates
    "a workspace does not pay": DatabasePatch(
        "leave_in_buckets", {"where b.kind =": "where b.kind <> 'workspace' and b.kind ="}
    ),
    "a resource is not paid for": DatabasePatch(
        "leave_in_buckets", {"where b.kind =": "where b.kind <> 'resource' and b.kind ="}
    ),
    "units not counted": Patch(
        "claim.jobs",
        "WEIGHED_CLAIM",
        {"least(job.units, turn.burst) as price": "1 as price", "sum(least(t.units, a.burst))": "count(*)"},
    ),
    "units given back twice": Patch(
        "attempts.release", "RELEASE_UNSTARTED", {") + h.tokens": ") + 2 * h.tokens", "h.size,": "2 * h.size,"}
    ),
    # Pauses
    "plain claims in a pause": tuple(
        Patch("claim.jobs", statement, {"exists (select from jobplatform.pauses)": "false"})
        for statement in ("CLAIM", "LIMITED_CLAIM")
    ),
    "queues not paused": Patch("claim.jobs", "WEIGHED_CLAIM", {"kind = 'queue' and": "false and"}),
    "tasks not paused": Patch(
        "claim.jobs", "WEIGHED_CLAIM", {"from pause where kind = 'task'": "from pause where false"}
    ),
    "workspaces not paused": Patch(
        "claim.jobs", "WEIGHED_CLAIM", {"from pause where kind = 'workspace'": "from pause where false"}
    ),
    "resources not paused": Patch(
        "claim.jobs", "WEIGHED_CLAIM", {"from pause where kind = 'resource'": "from pause where false"}
    ),
    # Quotas
    "a quota counted without a lock": Patch(
        "enqueue.many",
        "ENQUEUE",
        {f"select count(pg_advisory_xact_lock({QUOTA}, limited.lock)::text)": "select count(*)"},
    ),
    "what went back takes no place": Patch(
        "limits.quota", "LOOK", {"q.state + 0 < 2": "q.state + 0 < 2 and q.epoch = 0"}
    ),
    "what is due later takes no place": Patch("limits.quota", "LOOK", {"q.state + 0 < 2": "q.state = 1"}),
    # Jobs that wait for others, and batches
    **{name: Patch(*patch) for name, patch in FAMILY_VARIANTS.items()},
    "as important jobs given up": Patch("limits.quota", "LEAST_IMPORTANT", {"priority <": "priority <="}),
}


@contextmanager
def broken(name: str | None) -> Iterator[None]:
    """The platform of this process with one variant's defect; with None as it is."""
    with ExitStack() as stack:
        for patch in _patches(name):
            if isinstance(patch, Patch):
                stack.enter_context(_broken_constant(name, patch))
            elif isinstance(patch, CodePatch):
                stack.enter_context(_replaced(patch.module, patch.function, patch.bad))
        yield


def break_database(name: str | None, connection: psycopg.Connection[Any]) -> None:
    """Break what this variant breaks in the database, if anything."""
    if name in ROBBED:
        connection.execute(ROBBED[name])
    for patch in _patches(name):
        if isinstance(patch, DatabasePatch):
            where = f"jobplatform.{patch.function}"
            row = connection.execute("select pg_get_functiondef(%s::regproc)", [where]).fetchone()
            connection.execute(_sick(name, where, row[0] if row else "", patch.changes))


def _patches(name: str | None) -> tuple[Patch | DatabasePatch | CodePatch, ...]:
    if name is None:
        return ()
    patch = VARIANTS[name]
    return (patch,) if isinstance(patch, Patch | DatabasePatch | CodePatch) else patch


@contextmanager
def _broken_constant(name: str | None, patch: Patch) -> Iterator[None]:
    healthy = getattr(_module(patch.module), patch.constant)
    with _replaced(patch.module, patch.constant, _sick(name, patch.constant, healthy, patch.changes)):
        yield


@contextmanager
def _replaced(module: str, attribute: str, bad: Any) -> Iterator[None]:
    healthy = getattr(_module(module), attribute)
    setattr(_module(module), attribute, bad)
    try:
        yield
    finally:
        setattr(_module(module), attribute, healthy)


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"jobplatform.queue.{name}")


def _sick(name: str | None, where: str, text: str, changes: dict[str, str]) -> str:
    for good, bad in changes.items():
        assert good in text, f"{where} has changed; the variant {name!r} has to follow"
        text = text.replace(good, bad)
    return text
