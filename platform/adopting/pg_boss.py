"""pg-boss, from version 10 on: one table of jobs, partitioned by the name of their queue.

A job that is taken out is ``cancelled``, as their own ``cancel()`` leaves it, with an output that says where it went;
their maintenance deletes it like any other. Its retries are those of each job: what it has tried counts.
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
    parsed,
    rows_of,
)

#: Of these policies one job of a key may wait at a time, or wait or run: our guard says the same.
GUARDED = ("short", "stately", "exclusive")
#: And of these one runs at a time; in the last one it also has to succeed before the next.
IN_TURN = ("singleton", "stately", "exclusive", "key_strict_fifo")
OUT_OF_TURN = "its turn comes after one of its key that runs there, or failed"


class PgBoss(Source):
    system = "pg-boss"
    noun = "queue"
    default_schema = "pgboss"
    table = "job"
    needed = frozenset(
        (
            *("id", "name", "priority", "data", "state", "retry_limit", "retry_count"),
            *("policy", "singleton_key", "start_after", "started_on", "created_on"),
        )
    )
    state = "state"
    ended = "cancelled"
    oldest = "10"

    def is_their_own(self, name: str) -> bool:
        return name.startswith("__pgboss__")

    def count(self, connection: Connection) -> list[Counted]:
        sql = f"""
select
    j.name,
    case when j.state = 'active' then '{RUNNING}' else coalesce({self._left()}, '{WAITING}') end,
    count(*)
from {self.table_named("job")} j
where j.state <= 'active'
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
and (j.priority < %(priority)s or (j.created_on, j.id) > (%(made_at)s::timestamptz, %(id)s::uuid))"""
        # A retry of theirs counts when it begins: one that waits for it has made an attempt more than is written.
        sql = f"""
select
    j.id::text, j.data::text, j.priority, {due("j.start_after")},
    j.retry_count + case when j.started_on is null then 0 else 1 end,
    j.retry_limit + 1,
    case when j.policy in {GUARDED} then j.singleton_key end,
    case when j.policy in {IN_TURN} then concat_ws('/', j.name, j.singleton_key) end,
    j.created_on
from {self.table_named("job")} j
where j.name = %(name)s
and j.state < 'active'
and {self._is_free()}{further if after else ""}
order by j.priority desc, j.created_on, j.id
limit %(limit)s
{"for update of j skip locked" if lock else ""}
"""
        rows = rows_of(connection, sql, name=name, limit=limit, **onward(after))
        return [Waiting(*row) for row in rows]

    def take_out(self, connection: Connection, name: str, moved: Sequence[Moved]) -> int:
        sql = f"""
update {self.table_named("job")} j
set
    state = 'cancelled',
    completed_on = now(),
    output = jsonb_build_object(
        'movedTo', jsonb_build_object('system', 'jobplatform', 'workspaceId', m.workspace_id, 'jobId', m.job_id)
    )
from unnest(%(ids)s::uuid[], %(workspace_ids)s::text[], %(job_ids)s::text[]) as m(id, workspace_id, job_id)
where j.name = %(name)s and j.id = m.id and j.state < 'active'
"""
        return rows_of(connection, sql, name=name, **ids_of(moved)).rowcount

    def schedules(self, connection: Connection) -> list[TheirSchedule]:
        # Columns that not every version has.
        sql = f"""
select line.name, to_jsonb(line) ->> 'key', to_jsonb(line) ->> 'kind', line.cron, line.timezone, line.data::text
from {self.table_named("schedule")} line
order by 1, 2
"""
        return [
            TheirSchedule(name, key or "", cron, timezone, parsed(data))
            if kind in (None, "cron")
            else TheirSchedule(name, key or "", None, note=f"a recurrence rule: {cron}")
            for name, key, kind, cron, timezone, data in rows_of(connection, sql)
        ]

    def _is_free(self) -> str:
        """Whether a job that waits is ours to take. As conditions of its own, for the planner to know that most are:
        of an expression that says why not, it thinks that nearly none is."""
        conditions = [f"not j.{name}" for name in ("blocked", "blocking") if name in self.columns]
        conditions.append(f"case when j.policy in {IN_TURN} then not exists ({self._before_it()}) else true end")
        return "\nand ".join(conditions)

    def _left(self) -> str:
        """Why a job that waits is not ours to take; null of any other."""
        return f"""case
        when {self.column("blocked", "false")} then 'waits for other jobs there'
        when {self.column("blocking", "false")} then 'other jobs there wait for it'
        when j.policy in {IN_TURN} then
            case when exists ({self._before_it()}) then '{OUT_OF_TURN}' end
    end"""

    def _before_it(self) -> str:
        return f"""
    select
    from {self.table_named("job")} other
    where other.name = j.name
    and coalesce(other.singleton_key, '') = coalesce(j.singleton_key, '')
    and (other.state = 'active' or (j.policy = 'key_strict_fifo' and other.state = 'failed'))
"""
