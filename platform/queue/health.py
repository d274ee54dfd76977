"""Health: the questions that are asked at night, answered from rows."""

from __future__ import annotations

import datetime
import uuid
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy.orm import Session

from jobplatform.queue.doorbell import LISTENER
from jobplatform.queue.statement import run

# Running and waiting come from the narrow table. What ended within the hour is looked for among the records of the
# last day (by BRIN): a job that waited longer than that is missing in the rate, which is a rate and not an account.
HEALTH = """
with live as materialized (
    select
        count(*) filter (where q.state = 2) as running,
        count(*) filter (where q.state = 1) as ready,
        count(*) filter (where q.state = 0) as scheduled,
        count(*) filter (where q.state < 2 and q.epoch > 0 and q.progress ->> 'waitsFor' = 'key') as locked,
        count(*) filter (
            where q.state = 2 and q.started_at < jobplatform.clock() - make_interval(secs => %(stuck_after)s)
        ) as stuck,
        extract(epoch from jobplatform.clock() - min(q.run_after) filter (where q.state = 1))::float8 as oldest_ready
    from jobplatform.job_queue q
    where %(workspace_id)s::uuid is null or q.workspace_id = %(workspace_id)s::uuid
),
ended as materialized (
    select
        count(*) filter (where r.status = 3) as completed,
        count(*) filter (where r.status = 4) as failed
    from jobplatform.job_records r
    where r.created_at > jobplatform.clock() - interval '1 day'
        and r.completed_at > jobplatform.clock() - interval '1 hour'
        and (%(workspace_id)s::uuid is null or r.workspace_id = %(workspace_id)s::uuid)
),
alive as materialized (
    select count(*) as workers
    from jobplatform.workers
    where dead_at is null and heartbeat_at > jobplatform.clock() - interval '1 minute'
),
-- Of other logins' connections everybody may see the name, and nothing else.
ears as materialized (
    select count(*) as listening
    from pg_stat_activity
    where datname = current_database() and application_name = %(listener)s
)
select live.*, ended.*, alive.workers, ears.listening,
    array(
        select distinct
            q.task || case when q.payload_version > 1 then ' (payload version ' || q.payload_version || ')' else '' end
        from jobplatform.job_queue q
        where q.state = 1
            and (%(workspace_id)s::uuid is null or q.workspace_id = %(workspace_id)s::uuid)
            and not exists (
                select from jobplatform.workers w
                where w.dead_at is null
                    and w.heartbeat_at > jobplatform.clock() - interval '1 minute'
                    and q.task = any(w.tasks)
                    and q.payload_version <= coalesce(w.versions[array_position(w.tasks, q.task)], 32767)
                    and q.queue = any(w.queues)
            )
        limit 20
    ) as unserved,
    -- An index-only scan of what waits for a tick. A spread is in it already; two polls are not.
    (
        select count(*)
        from jobplatform.schedules s
        where s.next_run_at < jobplatform.clock() - interval '1 minute'
            and (%(workspace_id)s::uuid is null or s.workspace_id = %(workspace_id)s::uuid)
    ) as overdue
from live, ended, alive, ears
"""

#: Fewer jobs than this in an hour make no rate.
FEWEST_ENDED = 5


class Alert(NamedTuple):
    """Something that needs a person: a stable code, and what to know and try in words."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Health:
    """Counts of live jobs, of the last hour, and what is wrong. Healthy means no alerts.

    ``listening`` is how many connections hear the doorbell. With fewer of them than ``workers`` some only poll.
    """

    running: int
    ready: int
    scheduled: int
    stuck: int
    oldest_ready_seconds: float | None
    completed_last_hour: int
    failed_last_hour: int
    workers: int
    listening: int
    unserved_tasks: tuple[str, ...]
    alerts: tuple[Alert, ...]

    @property
    def healthy(self) -> bool:
        return not self.alerts

    @property
    def pending(self) -> int:
        return self.ready + self.scheduled


def queue_health(
    session: Session,
    workspace_id: uuid.UUID | None = None,
    *,
    stuck_after: datetime.timedelta = datetime.timedelta(minutes=15),
    failure_rate: float = 0.2,
    backlog: int = 100,
) -> Health:
    """How the queue is doing; of one workspace, or of all.

    Alerts: ``stuck`` (running longer than ``stuck_after``), ``failing`` (more than ``failure_rate`` of what ended in
    the last hour failed), ``backlog`` (more than ``backlog`` ready jobs), ``no_worker`` (jobs are ready and nobody
    is there), ``unserved`` (ready jobs whose task, or the version of whose payload, no live worker knows), ``no_key``
    (encrypted jobs that a worker could not open and handed back), ``overdue_schedules`` (due for more than a minute,
    and nobody does them).
    """
    parameters = {"stuck_after": stuck_after.total_seconds(), "listener": LISTENER}
    row = run(session, HEALTH, workspace_id=workspace_id, **parameters).one()
    running, ready, scheduled, locked, stuck, oldest, completed, failed, workers, listening, unserved, overdue = row
    alerts = [
        _alert(stuck > 0, "stuck", f"{stuck} job(s) run for longer than {stuck_after}"),
        _alert(
            completed + failed >= FEWEST_ENDED and failed > failure_rate * (completed + failed),
            "failing",
            f"{failed} of the {completed + failed} jobs that ended in the last hour failed",
        ),
        _alert(ready > backlog, "backlog", f"{ready} jobs are ready and wait for a slot"),
        _alert(locked > 0, "no_key", f"{locked} encrypted job(s) wait for a worker that has their key"),
        _alert(ready > 0 and workers == 0, "no_worker", f"{ready} jobs are ready and no worker is alive"),
        _alert(
            workers > 0 and bool(unserved),
            "unserved",
            f"no live worker serves the task(s) {', '.join(unserved)}",
        ),
        _alert(
            overdue > 0,
            "overdue_schedules",
            f"{overdue} schedule(s) have been due for more than a minute; is there a worker that knows their tasks?",
        ),
    ]
    return Health(
        running=running,
        ready=ready,
        scheduled=scheduled,
        stuck=stuck,
        oldest_ready_seconds=oldest,
        completed_last_hour=completed,
        failed_last_hour=failed,
        workers=workers,
        listening=listening,
        unserved_tasks=tuple(unserved),
        alerts=tuple(alert for alert in alerts if alert),
    )


def _alert(condition: bool, code: str, message: str) -> Alert | None:
    return Alert(code, message) if condition else None
