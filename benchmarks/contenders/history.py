"""A platform that has run for a week: finished and live jobs of many workspaces, made inside the server."""

from __future__ import annotations

import psycopg
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from jobplatform.queue import count_endings

WORKSPACES = """
insert into jobplatform.workspaces (id, name)
select md5('workspace' || i)::uuid, 'Workspace ' || i from generate_series(0, %(workspaces)s::int - 1) i
"""

# Ids in time order, as UUIDv7 makes them. A tenth of all is one workspace's; 5 % failed, 2 % were cancelled.
FINISHED = """
with source as materialized (
    select
        i,
        md5('workspace' || case when i %% 10 = 0 then 0 else hashint4(i) & 2147483647 end %% %(workspaces)s)::uuid
            as workspace_id,
        now() - interval '7 days' * (1 - (i + 1)::float8 / %(jobs)s) - interval '1 minute' as made_at,
        case when i %% 20 = 3 then 4 when i %% 50 = 7 then 5 else 3 end as status,
        make_interval(secs => 0.01 * exp(6 * random())) as wait,
        make_interval(secs => 0.02 * exp(6 * random())) as run
    from generate_series(%(first)s::int, %(last)s::int - 1) i
),
failed as (
    insert into jobplatform.job_attempts (
        workspace_id, job_id, epoch, attempt, worker_id, started_at, ended_at, outcome, final, error_type, error,
        traceback
    )
    select
        workspace_id, {id}, 1, 1, 1 + i %% 20, made_at + wait, made_at + wait + run, 'error', true,
        'Error' || i %% 7, {error}, repeat('line of a traceback' || chr(10), 20)
    from source
    where status = 4
)
insert into jobplatform.job_records (
    workspace_id, id, task, queue, payload, priority, tags, status, outcome, result, error_type, error, attempts,
    epoch, created_at, run_after, started_at, completed_at
)
select
    workspace_id, {id}, 'task-' || i %% 20, 'queue-' || i %% 6, jsonb_build_object('number', i), i %% 10,
    case when i %% 100 = 0 then array['rare'] else array['eu', 'plan-' || i %% 5] end,
    status,
    case status when 3 then 'ok' when 4 then 'error' else 'cancelled' end,
    case when status = 3 then '{{"records": 12}}'::jsonb end,
    case when status = 4 then 'Error' || i %% 7 end,
    case when status = 4 then {error} end,
    1, 1, made_at, made_at, made_at + wait, least(made_at + wait + run, now())
from source
order by i
""".format(
    id="(lpad(to_hex((extract(epoch from made_at) * 1000)::bigint), 12, '0') || '7000' || '8000' "
    "|| lpad(to_hex(i), 12, '0'))::uuid",
    error="'cannot read page ' || i || ' of ' || chr(97 + i %% 17) || 'ccounts'",
)

LIVE = """
with source as materialized (
    select
        i,
        md5('workspace' || case when i %% 2 = 0 then i %% 10 else hashint4(i) & 2147483647 end %% %(workspaces)s)::uuid
            as workspace_id,
        now() - make_interval(secs => (%(jobs)s - i) * 0.02) as made_at,
        case when i < 160 then 2 when i %% 10 = 9 then 0 else 1 end as state
    from generate_series(0, %(jobs)s::int - 1) i
),
queued as (
    insert into jobplatform.job_queue (
        workspace_id, id, queue, task, state, priority, max_attempts, timeout_ms, run_after, attempts, epoch,
        worker_id, started_at
    )
    select
        workspace_id, {id}, 'queue-' || i %% 6, 'task-' || i %% 20, state, i %% 10, 3, 600000,
        case when state = 0 then now() + interval '1 hour' else made_at end,
        case when state = 2 then 1 else 0 end, case when state = 2 then 1 else 0 end,
        case when state = 2 then 1 + i %% 20 end, case when state = 2 then now() - make_interval(secs => i) end
    from source
)
insert into jobplatform.job_records (workspace_id, id, queue, task, payload, priority, tags, created_at, run_after)
select
    workspace_id, {id}, 'queue-' || i %% 6, 'task-' || i %% 20, '{{}}', i %% 10,
    case when i %% 100 = 0 then array['rare'] else array['eu'] end, made_at, made_at
from source
order by i
""".format(
    id="(lpad(to_hex((extract(epoch from made_at) * 1000)::bigint), 12, '0') || '7000' || '9000' "
    "|| lpad(to_hex(i), 12, '0'))::uuid"
)

ENDINGS = """
insert into jobplatform.endings (workspace_id, status, ended_at, ids)
select workspace_id, status, completed_at, array[id] from jobplatform.job_records where status is not null
"""
AROUND = (
    """
    insert into jobplatform.workers (name, host, pid, version, queues, tasks, slots)
    select 'worker', 'host-' || i, 1000 + i, 'bench',
        array(select 'queue-' || n from generate_series(0, 5) n),
        array(select 'task-' || n from generate_series(0, 19) n), 8
    from generate_series(1, 20) i
    """,
    """
    insert into jobplatform.job_logs (workspace_id, job_id, epoch, line, level, message)
    select r.workspace_id, r.id, 1, n, 'info', 'a line of a handler'
    from (select workspace_id, id from jobplatform.job_records order by id desc limit 200) r, generate_series(1, 500) n
    """,
    """
    insert into jobplatform.schedules (
        workspace_id, id, name, task, payload, every_ms, anchor, made_by, next_tick_at, next_run_at
    )
    select id, gen_random_uuid(), 'hourly', 'task-1', '{}', 3600000, now(), 'bench', now() + interval '1 hour',
        now() + interval '1 hour'
    from jobplatform.workspaces
    """,
    """
    insert into jobplatform.schedule_ticks (workspace_id, schedule_id, tick_at, outcome)
    select s.workspace_id, s.id, now() - make_interval(hours => n), 'skipped'
    from jobplatform.schedules s, generate_series(1, 20) n
    """,
    """
    insert into jobplatform.connections (workspace_id, id, connector_type, name, config)
    select id, md5('connection' || id::text)::uuid, 'http_json', 'CRM', '{}' from jobplatform.workspaces
    """,
    """
    insert into jobplatform.sync_logs (workspace_id, id, job_id, mode, status, total_records, results, ended_at)
    select
        w.id,
        (lpad(to_hex(1750000000000 + n), 12, '0') || '70008000' || substr(md5(w.id::text || n), 1, 12))::uuid,
        gen_random_uuid(), 'incremental', 'completed', 12,
        jsonb_build_array(
            jsonb_build_object(
                'connectionId', md5('connection' || w.id::text)::uuid, 'status', 'completed', 'records', 12
            )
        ),
        now()
    from jobplatform.workspaces w, generate_series(1, 20) n
    """,
    """
    insert into jobplatform.records (workspace_id, connection_id, stream, external_id, data)
    select id, md5('connection' || id::text)::uuid, 's', n::text, '{}'
    from jobplatform.workspaces, generate_series(1, 20) n
    """,
    """
    insert into jobplatform.audit_log (actor, workspace_id, action, target)
    select 'actor-' || n %% 50, md5('workspace' || n %% 5000)::uuid, 'job.cancel', 'job:' || n
    from generate_series(1, 100000) n
    """,
)
#: Finished jobs that one statement makes.
PORTION = 200_000


def fill(url: str, finished: int, live: int, workspaces: int) -> None:
    """Everything but what the counting makes of it."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(WORKSPACES, {"workspaces": workspaces})
        for first in range(0, finished, PORTION):
            portion = {"first": first, "last": min(first + PORTION, finished)}
            connection.execute(FINISHED, {**portion, "jobs": finished, "workspaces": workspaces})
        connection.execute(LIVE, {"jobs": live, "workspaces": workspaces})
        for statement in AROUND:
            connection.execute(statement, {})
        connection.execute(ENDINGS)


def count_all(engine: Engine) -> tuple[int, int]:
    """Let it be counted as workers would; how many jobs, and in how many rounds."""
    jobs = rounds = 0
    with Session(engine) as session:
        while (counted := count_endings(session)).more or counted.jobs:
            jobs, rounds = jobs + counted.jobs, rounds + 1
    return jobs, rounds
