"""What happened to every job, written down by the database itself and not by the code that is on trial.

Triggers keep each change of a queue row, a record and a worker's death. They exist only in databases made for chaos.
A row's lock is held until its change commits, so the numbers of one job's events are in the order of their commits.
Between two jobs that does not hold, and clocks prove nothing either; what must hold *between* rows (uniqueness, pairs)
is looked at by the watcher, in snapshots.

Of a claim it is kept how many jobs run beside the claimed ones under each limit that could concern them. That is
counted inside the claim's own transaction, after everything of it was written: what it finds running has committed,
so the count is what a snapshot would show if the transaction committed at that moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg

from jobplatform.models import Role
from jobplatform.proof.onlooker import as_role

INSTALL = """
create schema chaos;

create table chaos.history (
    seq bigint generated always as identity primary key,
    source text not null,
    job_id text,
    transaction text not null default pg_current_xact_id()::text,
    began timestamptz not null default now(),
    at timestamptz not null default clock_timestamp(),
    before jsonb,
    after jsonb,
    running jsonb
);

-- What was set while the jobs ran: between the two moments nobody can say whether a claim sees it already.
create table chaos.changes (
    seq bigint generated always as identity primary key,
    kind text not null,
    key text not null,
    value jsonb,
    asked_at timestamptz not null default clock_timestamp(),
    settled_at timestamptz
);

create function chaos.remember() returns trigger language plpgsql security definer as $$
declare
    noise constant text[] := '{payload,payload_version,tags,priority,timeout_ms,run_after,request_id,
        trace_parent,created_at,started_at,completed_at,heartbeat_at,host,version,queues,tasks,slots,draining}';
    was constant jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) - noise end;
    becomes constant jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) - noise end;
begin
    insert into chaos.history (source, job_id, before, after, running)
    values (
        tg_table_name, coalesce(becomes, was) ->> 'id', was, becomes,
        case when tg_table_name = 'job_queue' and was ->> 'state' = '1' and becomes ->> 'state' = '2' then (
            select jsonb_build_object(
                'workspace', count(*) filter (where q.workspace_id = (becomes ->> 'workspace_id')::uuid),
                'queue', count(*) filter (where q.queue = becomes ->> 'queue'),
                'task', count(*) filter (where q.task = becomes ->> 'task'),
                'here', count(*) filter (
                    where q.workspace_id = (becomes ->> 'workspace_id')::uuid and q.task = becomes ->> 'task'
                ),
                'resource', count(*) filter (where q.resource = becomes ->> 'resource')
            )
            from jobplatform.job_queue q
            where q.state = 2
        ) end
    );
    return null;
end
$$;

-- What handlers write in the transaction in which they complete their job.
create table chaos.effects (
    seq bigint generated always as identity primary key,
    workspace_id uuid not null,
    job_id text not null,
    epoch int not null
);
-- What handlers write with the note that it is done.
create table chaos.pages (
    seq bigint generated always as identity primary key,
    workspace_id uuid not null,
    job_id text not null,
    epoch int not null,
    page text not null
);
grant usage on schema chaos to jobplatform_owner, jobplatform_operator, jobplatform_worker, jobplatform_handler;
grant select, insert on chaos.effects, chaos.pages to jobplatform_handler;
grant select, insert, update on chaos.changes to jobplatform_operator;

-- Whoever changes a row, it is remembered with the rights of a worker, who counts in all workspaces.
grant create on schema chaos to jobplatform_worker;
grant insert on chaos.history to jobplatform_worker;
alter function chaos.remember() owner to jobplatform_worker;
revoke create on schema chaos from jobplatform_worker;
"""

#: The tables are their owner's, and so is who may say what happens when they change.
TRIGGERS = """
create trigger remember after insert or update or delete on jobplatform.job_queue
for each row execute function chaos.remember();
create trigger remember after insert or update or delete on jobplatform.job_records
for each row execute function chaos.remember();
create trigger remember after insert or update or delete on jobplatform.resource_levels
for each row execute function chaos.remember();
create trigger remember after insert or update of dead_at or delete on jobplatform.workers
for each row execute function chaos.remember();
"""

READ = """
select
    seq, source, job_id, transaction, before, after,
    extract(epoch from began)::float8, extract(epoch from at)::float8, running
from chaos.history
order by seq
"""


@dataclass(frozen=True, slots=True)
class Event:
    """One change of one row. ``source`` is its table; ``before`` is None for an insert, ``after`` for a delete.

    Its transaction ``began`` before its first snapshot was taken, in seconds, and the change was made ``at`` or a
    little before. ``running``, of a claim: how many jobs ran, with those of this claim, in the job's workspace, in its
    queue, of its task, and of its task there.
    """

    seq: int
    source: str
    job_id: str
    transaction: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    began: float = 0.0
    at: float = 0.0
    running: dict[str, int] | None = None

    def __str__(self) -> str:
        return f"{self.seq:>8} {self.source:<12} {_told(self.before)} -> {_told(self.after)}"


def install(connection: psycopg.Connection[Any]) -> None:
    """Begin to keep the history of this database. The login needs no right but those of the roles that it has."""
    with connection.transaction():
        connection.execute(INSTALL)
    with as_role(connection, Role.OWNER):
        connection.execute(TRIGGERS)


def read_history(connection: psycopg.Connection[Any]) -> list[Event]:
    """Everything that happened, in order."""
    return [Event(*row) for row in connection.execute(READ)]


def _told(row: dict[str, Any] | None) -> str:
    if row is None:
        return "(none)"
    names = (
        "state", "status", "outcome", "epoch", "attempts", "max_attempts", "crash_count", "worker_id", "dead_at",
        "cancel_requested_at", "unique_key", "progress", "result", "error_type", "error",
    )  # fmt: skip
    return "{" + ", ".join(f"{name}={row[name]}" for name in names if row.get(name) is not None) + "}"
