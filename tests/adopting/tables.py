"""Other queues' tables, as they really are: Procrastinate's and PGQueuer's are made by their own packages.

pg-boss is a package for Node. Its tables are written down here as those of its version 12.38 (its schema's number 46)
are: the same columns, types and unique indexes, read from a database that it had made; what it fills for its monitoring
is left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import quote

import procrastinate
import psycopg
from pgqueuer.db import PsycopgDriver
from pgqueuer.queries import Queries

T = TypeVar("T")

#: They are not in public here: a schema goes with all that it holds, so that the database can be used again.
SCHEMA = "theirs"

PG_BOSS = """
create schema pgboss;
create type pgboss.job_state as enum ('created', 'retry', 'active', 'completed', 'cancelled', 'failed');
create table pgboss.queue (name text primary key, policy text not null);
create table pgboss.schedule (
    name text not null references pgboss.queue on delete cascade,
    key text not null default '',
    kind text not null default 'cron' check (kind in ('cron', 'rrule')),
    cron text not null,
    timezone text default 'UTC',
    data jsonb,
    options jsonb,
    primary key (name, key)
);
create table pgboss.job (
    id uuid not null default gen_random_uuid(),
    name text not null,
    priority integer not null default 0,
    data jsonb,
    state pgboss.job_state not null default 'created',
    retry_limit integer not null default 2,
    retry_count integer not null default 0,
    retry_delay integer not null default 0,
    retry_backoff boolean not null default false,
    retry_delay_max integer,
    expire_seconds integer not null default 900,
    deletion_seconds integer not null default 604800,
    singleton_key text,
    singleton_on timestamp without time zone,
    group_id text,
    group_tier text,
    start_after timestamp with time zone not null default now(),
    created_on timestamp with time zone not null default now(),
    started_on timestamp with time zone,
    completed_on timestamp with time zone,
    keep_until timestamp with time zone not null default now() + interval '14 days',
    output jsonb,
    dead_letter text,
    policy text,
    heartbeat_on timestamp with time zone,
    heartbeat_seconds integer,
    blocked boolean not null default false,
    blocking boolean not null default false,
    pending_dependencies integer not null default 0,
    source_name text,
    source_id uuid,
    source_created_on timestamp with time zone,
    source_retry_count integer,
    source_output jsonb,
    source_root_id uuid,
    trace_context jsonb,
    upsert_by_key boolean
) partition by list (name);
create table pgboss.job_common partition of pgboss.job default;
alter table pgboss.job_common add primary key (name, id);
alter table pgboss.job_common add foreign key (name) references pgboss.queue deferrable initially deferred;
create unique index job_common_i1 on pgboss.job_common (name, coalesce(singleton_key, ''))
    where state = 'created' and policy = 'short';
create unique index job_common_i3 on pgboss.job_common (name, state, coalesce(singleton_key, ''))
    where state <= 'active' and policy = 'stately';
create unique index job_common_i6 on pgboss.job_common (name, coalesce(singleton_key, ''))
    where state <= 'active' and policy = 'exclusive';
create index job_common_i11 on pgboss.job_common (name, priority desc, created_on, start_after)
    where state < 'active' and not blocked;
create index job_common_i14 on pgboss.job_common (name, state, blocked, start_after)
    where state in ('created', 'retry', 'active', 'failed');
insert into pgboss.queue values
    ('send-email', 'standard'), ('refresh', 'exclusive'), ('report', 'standard'), ('__pgboss__send-it', 'standard');
"""


def make_pg_boss(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(PG_BOSS)


def procrastinate_app(url: str, schema: str = SCHEMA) -> procrastinate.App:
    """An application of theirs, on asynchronous connections."""
    return procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=seeing(url, schema), max_size=5))


def make_procrastinate(url: str, schema: str = SCHEMA) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(f"create schema if not exists {schema}")
    with procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=seeing(url, schema))).open() as app:
        app.schema_manager.apply_schema()


def make_pgqueuer(url: str, schema: str = SCHEMA) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(f"create schema if not exists {schema}")
    ask_pgqueuer(url, lambda queries: queries.install(), schema)


def ask_pgqueuer(url: str, ask: Callable[[Queries], Awaitable[T]], schema: str = SCHEMA) -> T:
    """What their own client answers."""

    async def run() -> T:
        async with await psycopg.AsyncConnection.connect(seeing(url, schema), autocommit=True) as connection:
            return await ask(Queries(PsycopgDriver(connection)))

    return asyncio.run(run())


def seeing(url: str, schema: str) -> str:
    return f"{url}&options={quote(f'-csearch_path={schema}')}"


def ask(url: str, sql: str, *values: Any) -> list[Any]:
    """Rows of a database of theirs."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(sql, values or None)
        return cursor.fetchall() if cursor.description else []
