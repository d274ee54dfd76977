"""Tell webhooks: what happens becomes a delivery for each subscription that wants it, exactly once.

A job whose workspace has a subscription is ``followed`` from its enqueue on, so its end leaves a notice, in the very
statement that ends it. Whoever settles the notice enqueues the deliveries in the transaction that takes it: there is
one notice for each ending, it is taken once, and a crash leaves it where it was. A job of a workspace without
subscriptions leaves no notice, and costs nothing here.

A batch is counted by who settles, with its row locked, and its end is told in the transaction that counts it. An alert
is told in the transaction that writes down that it is raised, or over.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy.orm import Session

from jobplatform.models import PLATFORM_WORKSPACE
from jobplatform.queue.audit import record
from jobplatform.queue.enqueue import NewJob, enqueue_of_ours
from jobplatform.queue.hooks.deliveries import PLATFORM, new_delivery
from jobplatform.queue.hooks.webhook_job import EVENT_OF_STATUS, WEBHOOK_TASK, event_of
from jobplatform.queue.moments import moment_text
from jobplatform.queue.statement import array, run, text_array

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

# By the counts that were just written, in the transaction that wrote them.
ENDED_BATCHES = """
select s.id, seen.*
from (
    select
        b.workspace_id, b.id, b.name, b.total, b.completed, b.failed, b.cancelled, b.created_at, b.ended_at,
        case
            when b.completed = b.total then 'batch.completed'
            when b.cancelled_at is not null then 'batch.cancelled'
            else 'batch.failed'
        end as kind
    from unnest(%(workspace_ids)s::uuid[], %(ids)s::uuid[]) as u(workspace_id, id)
    join jobplatform.batches b on b.workspace_id = u.workspace_id and b.id = u.id
) seen
join jobplatform.webhook_subscriptions s on s.workspace_id = seen.workspace_id
where s.disabled_at is null and s.events @> array[seen.kind]
order by seen.id, s.id
"""

HEAR_ALERTS = """
select s.id, u.workspace_id, u.nth::int
from unnest(%(workspace_ids)s::uuid[], %(kinds)s::text[]) with ordinality as u(workspace_id, kind, nth)
join jobplatform.webhook_subscriptions s on s.workspace_id = u.workspace_id
where s.disabled_at is null and s.events @> array[u.kind]
order by u.nth, s.id
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


class Told(NamedTuple):
    """That an alert about a workspace was ``raised`` or ``resolved``."""

    workspace_id: uuid.UUID
    event: str
    code: str
    message: str
    at: datetime.datetime


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


def tell_of_batches(session: Session, places: Sequence[tuple[str, str]]) -> list[NewJob]:
    """Enqueue what is to be delivered of these batches, which have just been counted to their end; these jobs."""
    if not places:
        return []
    rows = run(
        session,
        ENDED_BATCHES,
        workspace_ids=array(place[0] for place in places),
        ids=array(place[1] for place in places),
    ).all()
    jobs = [_delivery_of_batch(*row) for row in rows]
    enqueue_of_ours(session, jobs)
    return jobs


def tell_of_alerts(session: Session, alerts: Sequence[Told]) -> list[NewJob]:
    """Enqueue what is to be delivered of alerts about workspaces, in the transaction that writes them down."""
    if not alerts:
        return []
    rows = run(
        session,
        HEAR_ALERTS,
        workspace_ids=array(alert.workspace_id for alert in alerts),
        kinds=text_array(f"alert.{alert.event}" for alert in alerts),
    ).all()
    jobs = [_delivery_of_alert(webhook_id, workspace_id, alerts[nth - 1]) for webhook_id, workspace_id, nth in rows]
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


def _delivery_of_batch(
    webhook_id: uuid.UUID,
    workspace_id: uuid.UUID,
    batch_id: uuid.UUID,
    name: str | None,
    total: int,
    completed: int,
    failed: int,
    cancelled: int,
    created_at: datetime.datetime,
    ended_at: datetime.datetime,
    kind: str,
) -> NewJob:
    data = {
        "batchId": str(batch_id),
        "workspaceId": str(workspace_id),
        "name": name,
        "status": kind.removeprefix("batch."),
        "total": total,
        "completed": completed,
        "failed": failed,
        "cancelled": cancelled,
        "createdAt": moment_text(created_at),
        "endedAt": moment_text(ended_at),
    }
    return new_delivery(workspace_id, webhook_id, event_of(kind, moment_text(ended_at), data))


def _delivery_of_alert(webhook_id: uuid.UUID, workspace_id: uuid.UUID, alert: Told) -> NewJob:
    at = moment_text(alert.at)
    data = {"workspaceId": str(workspace_id), "code": alert.code, "message": alert.message, "at": at}
    return new_delivery(workspace_id, webhook_id, event_of(f"alert.{alert.event}", at, data))
