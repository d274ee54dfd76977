"""A sweep over the catalogue: every table with a workspace, every role, every way to name no workspace or another's.

``leaks`` says in words what could be seen or changed that should not; an empty answer means that nothing could.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

MINE = uuid.UUID("11111111-1111-4111-8111-111111111111")
FOREIGN = uuid.UUID("22222222-2222-4222-8222-222222222222")
JOB = uuid.UUID("33333333-3333-4333-8333-333333333333")

#: What a transaction may have said of its workspace. None: nothing.
NAMES: Mapping[str, str | None] = {"unset": None, "empty": "", "garbage": "' or true --", "foreign": str(FOREIGN)}

WITH_A_WORKSPACE = """
select c.relname::text
from pg_class c
where c.relnamespace = 'jobplatform'::regnamespace
    and c.relkind in ('r', 'p')
    and (
        c.relname = 'workspaces'
        or exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'workspace_id')
    )
order by 1
"""
COLUMNS = """
select string_agg(quote_ident(a.attname), ', ' order by a.attnum)
from pg_attribute a
where a.attrelid = %(table)s::regclass and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
"""

_JOB = {"workspace_id": str(MINE), "id": str(JOB), "task": "sync", "queue": "default"}
_ATTEMPT = {"workspace_id": str(MINE), "job_id": str(JOB), "epoch": 1}
#: A row of the workspace MINE for each table: what a column without a default needs.
ROWS: Mapping[str, Mapping[str, Any]] = {
    "job_records": {**_JOB, "payload": {"secret": 1}},
    "job_queue": {**_JOB, "state": 1, "priority": 0, "max_attempts": 3, "timeout_ms": 1, "run_after": "2026-01-01"},
    "unique_periods": {"workspace_id": str(MINE), "unique_key": "secret", "job_id": str(JOB), "until": "2090-01-01"},
    "job_attempts": {**_ATTEMPT, "attempt": 1, "ended_at": "2026-01-01", "outcome": "error", "final": True},
    "job_logs": {**_ATTEMPT, "line": 1, "level": "info", "message": "secret"},
    "job_steps": {**_ATTEMPT, "name": "page-1", "value": {"secret": 1}},
    "connections": {"workspace_id": str(MINE), "id": str(JOB), "connector_type": "x", "name": "n", "config": {}},
    "connection_credentials": {
        "workspace_id": str(MINE), "connection_id": str(JOB), "scheme": "bearer", "sealed": '{"$sealed":"v1:1:AA"}'
    },
    "connection_authorizations": {
        "workspace_id": str(MINE), "state_hash": "\\x" + "00" * 32, "connection_id": str(JOB), "actor": "ada",
        "binding_hash": "\\x" + "00" * 32, "sealed": '{"$sealed":"v1:1:AA"}', "redirect_url": "https://x",
        "scopes": ["secret"], "expires_at": "2026-01-01",
    },
    "source_limits": {"workspace_id": str(MINE), "resource": "crm:1"},
    "records": {
        "workspace_id": str(MINE), "connection_id": str(JOB), "stream": "s", "external_id": "1", "data": {"secret": 1}
    },
    "sync_streams": {"workspace_id": str(MINE), "connection_id": str(JOB), "stream": "s"},
    "sync_logs": {"workspace_id": str(MINE), "id": str(JOB), "job_id": str(JOB), "mode": "initial"},
    "uploads": {
        "workspace_id": str(MINE), "connection_id": str(JOB), "id": str(JOB), "name": "secret", "size": 1,
        "digest": "\\x" + "00" * 32,
    },
    "upload_chunks": {
        "workspace_id": str(MINE), "connection_id": str(JOB), "upload_id": str(JOB), "number": 0, "content": "\\x00"
    },
    "exports": {
        "workspace_id": str(MINE), "id": str(JOB), "job_id": str(JOB), "name": "secret", "key": "k",
        "expires_at": "2026-01-01",
    },
    "workspaces": {"id": str(MINE), "name": "mine"},
    "workspace_limits": {"workspace_id": str(MINE), "weight": 2},
    "workspace_retention": {"workspace_id": str(MINE), "task": "sync", "failed": "90 days"},
    "api_tokens": {
        "workspace_id": str(MINE), "id": "ab", "name": "t", "secret_hash": "\\x" + "00" * 32, "scopes": ["jobs:read"]
    },
    # With details: an owner may empty them (erasing a workspace does), and write nothing else there.
    "audit_log": {
        "workspace_id": str(MINE), "actor": "ada", "action": "cancel", "target": "job:1", "details": {"secret": 1}
    },
    "kept_answers": {
        "workspace_id": str(MINE), "caller": "c", "key": "k", "fingerprint": "\\x" + "00" * 32, "answer": {"secret": 1}
    },
    "batches": {"workspace_id": str(MINE), "id": str(JOB), "name": "secret"},
    "job_edges": {"workspace_id": str(MINE), "job_id": str(JOB), "after_id": str(FOREIGN), "number": 0},
    "notices": {"workspace_id": str(MINE), "kind": "ended", "job_id": str(JOB), "status": 3},
    "endings": {"workspace_id": str(MINE), "status": 3, "ids": [str(JOB)]},
    "workspace_cells": {
        "workspace_id": str(MINE), "minutes": 1, "at": "2026-01-01", "queue": "q", "task": "secret", "status": 3,
        "outcome": "ok", "wait": 1, "run": 1, "amount": 1, "retries": 0, "wait_ms": 1, "run_ms": 1,
    },
    "workspace_totals": {
        "workspace_id": str(MINE), "minutes": 15, "at": "2026-01-01", "completed": 1, "skipped": 0, "failed": 0,
        "cancelled": 0, "retries": 0, "waits": [1], "runs": [1],
    },
    "error_groups": {
        "workspace_id": str(MINE), "fingerprint": "f", "task": "t", "error_type": "E", "message": "secret",
        "amount": 1, "first_at": "2026-01-01", "last_at": "2026-01-01", "last_job_id": str(JOB),
    },
    "workspace_keys": {
        "workspace_id": str(MINE), "key_id": 1, "wrapped_key": "\\x" + "00" * 60, "wrapped_by": "a"
    },
    "hooks": {
        "workspace_id": str(MINE), "id": str(JOB), "name": "secret", "scheme": "github", "task": "sync",
        "key_hash": "\\x" + "00" * 32, "secret": '{"$sealed":"secret"}', "made_by": "ada",
    },
    "hook_deliveries": {
        "workspace_id": str(MINE), "hook_id": str(JOB), "delivery_id": "secret", "job_id": str(JOB)
    },
    "webhook_subscriptions": {
        "workspace_id": str(MINE), "id": str(JOB), "name": "secret", "url": "https://x", "events": ["job.failed"],
        "secret": '{"$sealed":"secret"}', "made_by": "ada",
    },
    "workspace_alert_rules": {"workspace_id": str(MINE), "name": "backlog", "metric": "ready", "above": 1},
    "workspace_alerts": {"workspace_id": str(MINE), "code": "backlog", "message": "secret"},
    "schedules": {
        "workspace_id": str(MINE), "id": str(JOB), "name": "nightly", "task": "sync", "payload": {"secret": 1},
        "cron": "0 3 * * *", "made_by": "ada",
    },
    "schedule_ticks": {
        "workspace_id": str(MINE), "schedule_id": str(JOB), "tick_at": "2026-01-01", "outcome": "skipped"
    },
}  # fmt: skip

#: What refers to a connection comes after it.
OF_A_CONNECTION = ("connection_authorizations", "connection_credentials", "records", "sync_streams")


#: Tables with rows that refer to others, and how far down they are.
REFERRING = {
    **dict.fromkeys(("connection_authorizations", "connection_credentials", "records", "sync_streams", "uploads"), 1),
    "upload_chunks": 2,
}


@dataclass(frozen=True)
class Table:
    """A table with a workspace, and its row of the workspace MINE."""

    name: str
    columns: str

    def insert(self) -> str:
        return (
            f"insert into jobplatform.{self.name} ({self.columns}) overriding system value "
            f"select {self.columns} from jsonb_populate_record(null::jobplatform.{self.name}, %(row)s::jsonb)"
        )

    def statements(self) -> dict[str, str]:
        """One for each right. An update of a column to itself asks for the same rights as any other."""
        column = self.columns.split(", ")[-1]
        name = f"jobplatform.{self.name}"
        return {
            "select": f"select * from {name}",
            "insert": self.insert(),
            "update": f"update {name} set {column} = {column}",
            "delete": f"delete from {name}",
        }


def tables(engine: Engine) -> list[Table]:
    """Every table with a workspace, whoever made it."""
    with engine.connect() as connection:
        names = [row[0] for row in connection.exec_driver_sql(WITH_A_WORKSPACE)]
        return [
            Table(name, connection.exec_driver_sql(COLUMNS, {"table": f"jobplatform.{name}"}).scalar_one())
            for name in names
        ]


def populate(engine: Engine) -> dict[str, str]:
    """A row of MINE in every table, as JSON and whole. The engine is a superuser's."""
    with engine.begin() as connection:
        for table in sorted(tables(engine), key=lambda table: REFERRING.get(table.name, 0)):
            row = ROWS[table.name]
            names = ", ".join(row)
            connection.exec_driver_sql(
                f"insert into jobplatform.{table.name} ({names}) "
                f"select {names} from jsonb_populate_record(null::jobplatform.{table.name}, %(row)s::jsonb)",
                {"row": json.dumps(row)},
            )
        return {
            table.name: connection.exec_driver_sql(
                f"select to_jsonb(t)::text from jobplatform.{table.name} t"
            ).scalar_one()
            for table in tables(engine)
        }


def leaks(admin: Engine, confined: Engine, rows: Mapping[str, str], name: str | None) -> list[str]:
    """What ``confined``'s login can see or change of the workspace MINE when it says ``name``."""
    return list(_leaks(tables(admin), confined, rows, name))


def _leaks(found: list[Table], confined: Engine, rows: Mapping[str, str], name: str | None) -> Iterator[str]:
    for table in found:
        for right, statement in table.statements().items():
            if affected := attempt(confined, statement, rows[table.name], name):
                yield f"{table.name}: {right} touched {affected} row(s)"


def attempt(confined: Engine, statement: str, row: str, name: str | None) -> int:
    """How many rows a statement sees or changes in a transaction that is then undone; none when it is refused."""
    with confined.connect() as connection:
        try:
            if name is not None:
                say(connection, name)
            done = connection.exec_driver_sql(statement, {"row": row})
            return len(done.all()) if done.returns_rows else done.rowcount
        except DBAPIError as error:
            # 42501: not allowed. 22P02: that is no workspace. 23505: allowed, and there already.
            touched = {"42501": 0, "22P02": 0, "23505": 1}.get(getattr(error.orig, "sqlstate", ""))
            if touched is None:
                raise
            return touched
        finally:
            connection.rollback()


def say(connection: Connection, name: str) -> None:
    """Name a workspace as any code in the transaction could."""
    connection.exec_driver_sql("select set_config('jobplatform.workspace_id', %(name)s, true)", {"name": name})
