"""A backlog of our jobs, made inside the server: a million through the front door would take minutes."""

from __future__ import annotations

import functools
import json
import uuid
from typing import Any

import psycopg

# Ids in time order, as UUIDv7 makes them. With a noisy workspace nine jobs in ten are its own.
LOAD = """
with source as materialized (
    select
        (lpad(to_hex(1750000000000 + i), 12, '0') || '7' || substr(md5(i::text), 1, 3)
            || '8' || substr(md5(i::text), 5, 15))::uuid as id,
        md5('workspace' || case
            when not %(noisy)s then i %% %(workspaces)s
            when i %% 10 < 9 then 0
            else 1 + (i / 10) %% greatest(%(workspaces)s - 1, 1)
        end)::uuid as workspace_id,
        now() - make_interval(secs => (%(first)s::int + %(jobs)s - i) * 0.001) as run_after
    from generate_series(%(first)s::int, %(first)s::int + %(jobs)s - 1) i
),
queued as (
    insert into jobplatform.job_queue (
        workspace_id, id, queue, task, state, priority, max_attempts, timeout_ms, run_after
    )
    select workspace_id, id, 'default', %(task)s, 1, 0, 3, 600000, run_after from source
)
insert into jobplatform.job_records (workspace_id, id, queue, task, payload, created_at, run_after)
select workspace_id, id, 'default', %(task)s, %(payload)s::jsonb, run_after, run_after from source
"""


def load_backlog(
    url: str, jobs: int, workspaces: int, payload: object, noisy: bool = False, task: str = "noop"
) -> None:
    """``jobs`` jobs of ``workspaces`` workspaces, all of them ready."""
    with psycopg.connect(url) as connection:
        load_more(connection, 0, jobs, workspaces, payload, noisy, task)


def load_more(
    connection: psycopg.Connection[Any],
    first: int,
    jobs: int,
    workspaces: int,
    payload: object,
    noisy: bool = False,
    task: str = "noop",
) -> None:
    """The same beside others, whose numbers are below ``first``."""
    facts = {"first": first, "jobs": jobs, "workspaces": workspaces, "noisy": noisy, "task": task}
    connection.execute(LOAD, facts | {"payload": json.dumps(payload)})


@functools.cache
def workspace(name: str) -> uuid.UUID:
    return uuid.uuid5(uuid.NAMESPACE_OID, name)
