"""Tell webhooks: each ending of a job becomes a delivery for each subscription that wants it, exactly once.

A job whose workspace has a subscription is ``followed`` from its enqueue on, so its end leaves a notice, in the very
statement that ends it. Whoever settles the notice enqueues the deliveries in the transaction that takes it: there is
one notice for each ending, it is taken once, and a crash leaves it where it was. A job of a workspace without
subscriptions leaves no notice, and costs nothing here.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy.orm import Session

from jobplatform.models import PLATFORM_WORKSPACE
from jobplatform.queue.audit import record
from jobplatform.queue.enqueue import NewJob, enqueue_of_ours
from jobplatform.queue.statement import array, run
from jobplatform.queue.webhook_job import EVENT_OF_STATUS, WEBHOOK_TASK, event_of
from jobplatform.queue.webhooks import PLATFORM, moment_text, new_delivery

# Lateral and limited, so that no plan reads all records for the few of these endings.
# The record says how it ended, unless somebody has brought the job back since: then the notice alone does.
SUBSCRIBED = f"""
select
    e.notice_id, e.status, s.id, r.workspace_id, r.id, r.task, r.queue,
    case when r.status = e.status then r.outcome end,
    case when r.status = e.status and r.status <> 3 then r.error_type end,
    r.attempts, r.created_at,
    case when r.status = e.status then r.completed_at else jobplatform.clock() end
from (
    select *
    from unnest(%(workspace_ids)s::uuid[], %(ids)s::uuid[], %(statuses)s::smallint[], %(notice_ids)s::bigint[])
        as u(workspace_id, id, status, notice_id)
    limit cardinality(%(ids)s::uuid[])
) e
join jobplatform.webhook_subscriptions s on s.workspace_id = e.workspace_id
cross join lateral (
    select *
    from jobplatform.job_records found
    where found.workspace_id = e.workspace_id and found.id = e.id
    limit 1
) r
where s.disabled_at is null
    and s.events @> array[case e.status
        when 3 then '{EVENT_OF_STATUS[3]}' when 4 then '{EVENT_OF_STATUS[4]}' else '{EVENT_OF_STATUS[5]}'
    end]
    and (s.tasks is null or r.task = any(s.tasks))
    and r.task <> '{WEBHOOK_TASK}'
order by e.notice_id, s.id
"""

UNTOLD = f"""
select s.workspace_id, s.id, s.name, s.disabled_why
from jobplatform.webhook_subscriptions s
where s.disabled_by = '{PLATFORM}' and s.told_at is null
order by s.workspace_id, s.id
limit 100
"""
TOLD = """
update jobplatform.webhook_subscriptions
set told_at = jobplatform.clock()
where workspace_id = %(workspace_id)s and id = %(id)s and told_at is null
"""


class Ending(NamedTuple):
    """That a job ended, as its notice says it."""

    notice_id: int
    workspace_id: str
    job_id: str
    status: int


def tell_webhooks(session: Session, endings: Sequence[Ending]) -> list[NewJob]:
    """Enqueue what is to be delivered of these endings, in the transaction that takes their notices; these jobs."""
    if not endings:
        return []
    rows = run(
        session,
        SUBSCRIBED,
        workspace_ids=array(ending.workspace_id for ending in endings),
        ids=array(ending.job_id for ending in endings),
        statuses=array(ending.status for ending in endings),
        notice_ids=array(ending.notice_id for ending in endings),
    ).all()
    jobs = [_delivery(*row) for row in rows]
    enqueue_of_ours(session, jobs)
    return jobs


def tell_of_disabled(session: Session) -> list[tuple[uuid.UUID, uuid.UUID, str]]:
    """Write a line in the audit log for each webhook that the platform has disabled, once; answers with them."""
    found = run(session, UNTOLD).all()
    for workspace_id, webhook_id, name, why in found:
        run(session, TOLD, workspace_id=workspace_id, id=webhook_id)
        record(
            session,
            actor=PLATFORM,
            action="webhook.disable",
            target=f"webhook:{webhook_id}",
            workspace_id=None if workspace_id == PLATFORM_WORKSPACE else workspace_id,
            details={"name": name, "why": why},
        )
    return [(row[0], row[1], row[3]) for row in found]


def _delivery(
    notice_id: int,
    status: int,
    webhook_id: uuid.UUID,
    workspace_id: uuid.UUID,
    job_id: uuid.UUID,
    task: str,
    queue: str,
    outcome: str | None,
    error_type: str | None,
    attempts: int,
    created_at: object,
    ended_at: object,
) -> NewJob:
    kind = EVENT_OF_STATUS[status]
    data = {
        "jobId": str(job_id),
        "workspaceId": str(workspace_id),
        "jobType": task,
        "queue": queue,
        "status": kind.removeprefix("job."),
        "outcome": outcome,
        "error": None if error_type is None else {"type": error_type},
        "attempts": attempts,
        "createdAt": moment_text(created_at),  # type: ignore[arg-type]  # the database's moments
        "completedAt": moment_text(ended_at),  # type: ignore[arg-type]
    }
    return new_delivery(
        workspace_id,
        webhook_id,
        event_of(kind, data["completedAt"], data),  # type: ignore[arg-type]  # a text, just made
        # The notice is the ending: a job that is brought back and ends again is told again.
        unique_key=f"webhook:{webhook_id}:{notice_id}",
        parent_id=job_id,
    )
