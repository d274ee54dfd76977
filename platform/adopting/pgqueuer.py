"""PGQueuer: a table of what waits and runs, and a log of what became of it.

A job that is taken out leaves the table and is ``canceled`` in the log, as their own ``mark_job_as_cancelled()`` does
it, with a record that says where it went. How often one may be tried stands in their code; how often it was counts
here. Payloads are bytes there; they have to be JSON to become ours.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from jobplatform.adopting.source import (
    RUNNING,
    WAITING,
    Counted,
    Moved,
    Source,
    TheirSchedule,
    Waiting,
    counted,
    due,
    ids_of,
    onward,
    rows_of,
    see_theirs,
)


class Pgqueuer(Source):
    system = "pgqueuer"
    noun = "entrypoint"
    default_schema = "public"
    table = "pgqueuer"
    needed = frozenset(("id", "priority", "created", "execute_after", "status", "entrypoint", "payload"))
    state = "status"
    ended = "canceled"
    history = "pgqueuer_log"
    oldest = "1"

    def count(self, connection: Connection) -> list[Counted]:
        sql = f"""
select j.entrypoint, case when j.status = 'picked' then '{RUNNING}' else '{WAITING}' end, count(*)
from {self.table_named("pgqueuer")} j
where j.status in ('queued', 'picked')
group by 1, 2
order by 1, 2
"""
        return counted(rows_of(connection, sql))

    def read(
        self, connection: Connection, name: str, after: Waiting | None, limit: int, *, lock: bool
    ) -> list[Waiting]:
        # In the order of their own index, from the place where the last portion ended.
        further = """
and j.priority <= %(priority)s
and (j.priority < %(priority)s or j.id > %(id)s::bigint)"""
        sql = f"""
select
    j.id::text, j.payload, j.priority, {due("j.execute_after")},
    {self.column("attempts", "0")}, null::integer, {self.column("dedupe_key", "null::text")}, null::text,
    j.created
from {self.table_named("pgqueuer")} j
where j.entrypoint = %(name)s
and j.status = 'queued'{further if after else ""}
order by j.priority desc, j.id
limit %(limit)s
{"for update of j skip locked" if lock else ""}
"""
        rows = rows_of(connection, sql, name=name, limit=limit, **onward(after))
        return [Waiting(*row) for row in rows]

    def take_out(self, connection: Connection, name: str, moved: Sequence[Moved]) -> int:
        see_theirs(connection, self.schema)
        # The shape in which they keep the error of an attempt: their own tools show it.
        sql = f"""
with gone as (
    delete from {self.table_named("pgqueuer")} j
    using unnest(%(ids)s::bigint[], %(workspace_ids)s::text[], %(job_ids)s::text[]) as m(id, workspace_id, job_id)
    where j.id = m.id and j.entrypoint = %(name)s and j.status = 'queued'
    returning j.id, j.entrypoint, j.priority, m.workspace_id, m.job_id
)
insert into {self.table_named("pgqueuer_log")} (job_id, status, entrypoint, priority, traceback)
select
    gone.id, 'canceled', gone.entrypoint, gone.priority,
    jsonb_build_object(
        'job_id', gone.id,
        'timestamp', now(),
        'exception_type', 'MovedToJobplatform',
        'exception_message', 'moved to jobplatform, where it is the job ' || gone.job_id,
        'traceback', '',
        'additional_context', jsonb_build_object('workspaceId', gone.workspace_id, 'jobId', gone.job_id)
    )
from gone
"""
        return rows_of(connection, sql, name=name, **ids_of(moved)).rowcount

    def schedules(self, connection: Connection) -> list[TheirSchedule]:
        sql = f"select s.entrypoint, s.expression from {self.table_named('pgqueuer_schedules')} s order by 1, 2"
        return [TheirSchedule(name, "", cron) for name, cron in rows_of(connection, sql)]
