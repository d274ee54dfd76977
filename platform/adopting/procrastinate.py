"""Procrastinate, from version 2.6 on: jobs and the events of each.

A job that is taken out is ``cancelled``, as their own ``cancel_job_by_id()`` leaves it, and their trigger writes the
event. How often one may be tried stands in their code; how often it was counts here.
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

#: What they would not run yet either: a lock lets one through at a time.
LOCKED = """
j.lock is not null and exists (
    select from {jobs} other where other.lock = j.lock and other.status {runs}
)"""


class Procrastinate(Source):
    system = "procrastinate"
    noun = "task"
    default_schema = "public"
    table = "procrastinate_jobs"
    needed = frozenset(("id", "task_name", "priority", "lock", "queueing_lock", "args", "status", "scheduled_at"))
    state = "status"
    ended = "cancelled"
    history = "procrastinate_events"
    oldest = "2.6"

    def is_their_own(self, name: str) -> bool:
        return name.startswith(("builtin:procrastinate.", "procrastinate."))

    def count(self, connection: Connection) -> list[Counted]:
        sql = f"""
select
    j.task_name,
    case
        when j.status <> 'todo' then '{RUNNING}'
        when {self._is_locked()} then 'one of its lock runs there'
        else '{WAITING}'
    end,
    count(*)
from {self._jobs()} j
where j.status in ('todo', 'doing', 'aborting')
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
    j.id::text, j.args::text, j.priority, {due("j.scheduled_at")},
    j.attempts, null::integer, j.queueing_lock, j.lock,
    (select min(e.at) from {self.table_named("procrastinate_events")} e where e.job_id = j.id and e.type = 'deferred')
from {self._jobs()} j
where j.task_name = %(name)s
and j.status = 'todo'
and not ({self._is_locked()}){further if after else ""}
order by j.priority desc, j.id
limit %(limit)s
{"for update of j skip locked" if lock else ""}
"""
        rows = rows_of(connection, sql, name=name, limit=limit, **onward(after))
        return [Waiting(*row) for row in rows]

    def take_out(self, connection: Connection, name: str, moved: Sequence[Moved]) -> int:
        see_theirs(connection, self.schema)
        sql = f"""
update {self._jobs()} j
set status = 'cancelled'
where j.id = any(%(ids)s::bigint[]) and j.task_name = %(name)s and j.status = 'todo'
"""
        return rows_of(connection, sql, name=name, ids=ids_of(moved)["ids"]).rowcount

    def schedules(self, connection: Connection) -> list[TheirSchedule]:
        sql = f"""
select distinct d.task_name, d.periodic_id
from {self.table_named("procrastinate_periodic_defers")} d
order by 1, 2
"""
        note = "its line stands in their code, at @app.periodic(cron=…)"
        return [TheirSchedule(name, key, None, note=note) for name, key in rows_of(connection, sql)]

    def _jobs(self) -> str:
        return self.table_named(self.table)

    def _is_locked(self) -> str:
        # Before version 3 what was to be aborted had a state of its own, which is in no index of today.
        runs = "= 'doing'" if "abort_requested" in self.columns else "in ('doing', 'aborting')"
        return LOCKED.format(jobs=self._jobs(), runs=runs)
