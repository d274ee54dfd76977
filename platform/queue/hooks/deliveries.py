"""Deliveries: what is told to a webhook is a job each time, and how it went is noted. Never commits."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import literal, select
from sqlalchemy.orm import Session, aliased

from jobplatform.errors import InvalidHookError, WebhookDisabledError
from jobplatform.models import Job, WebhookSubscription, clock, visit
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.enqueue import NewJob, enqueue_of_ours
from jobplatform.queue.hooks.webhook_job import (
    ATTEMPTS,
    TEST_EVENT,
    WEBHOOK_QUEUE,
    WEBHOOK_TASK,
    delivery_id,
    event_of,
)
from jobplatform.queue.moments import moment_text
from jobplatform.queue.statement import run
from jobplatform.queue.vault import open_secret

#: A receiver that has answered nothing well for so long is told nothing more.
FAILING_DAYS: Final = 5
#: Deliveries of a workspace that are looked at for those to one of its webhooks.
LOOK: Final = 20_000
#: Who has disabled a webhook that nobody disabled by hand.
PLATFORM: Final = "jobplatform"

SENDING = """
select s.url, s.secret, case when s.previous_until > jobplatform.clock() then s.previous_secret end,
    s.disabled_at is not null, extract(epoch from jobplatform.clock())::bigint
from jobplatform.webhook_subscriptions s
where s.workspace_id = %(workspace_id)s and s.id = %(id)s
"""
# What went well is written only when something had not: most rows are never touched.
WENT_WELL = """
update jobplatform.webhook_subscriptions
set failing_since = null
where workspace_id = %(workspace_id)s and id = %(id)s and failing_since is not null
"""
WENT_WRONG = f"""
update jobplatform.webhook_subscriptions s
set failing_since = coalesce(s.failing_since, jobplatform.clock()),
    disabled_at = case when d.why is not null then jobplatform.clock() end,
    disabled_by = case when d.why is not null then '{PLATFORM}' end,
    disabled_why = d.why
from (
    select
        case
            when %(gone)s then 'gone'
            when f.failing_since < jobplatform.clock() - interval '{FAILING_DAYS} days' then 'failing'
        end as why
    from jobplatform.webhook_subscriptions f
    where f.workspace_id = %(workspace_id)s and f.id = %(id)s
) d
where s.workspace_id = %(workspace_id)s and s.id = %(id)s and s.disabled_at is null
returning s.disabled_why
"""


class Sending(NamedTuple):
    """What it takes to send. ``now`` is the database's moment, in seconds."""

    url: str
    secrets: Sequence[str]
    is_disabled: bool
    now: int


@checks_arguments(InvalidHookError)
def send_test(session: Session, webhook: WebhookSubscription) -> uuid.UUID:
    """Enqueue a delivery of the event ``webhook.test``, and answer with its job.

    Raises :class:`WebhookDisabledError`: its delivery would end as skipped, which looks like one that arrived.
    """
    if webhook.disabled_at is not None:
        raise WebhookDisabledError(webhook.name)
    now = session.execute(select(clock())).scalar_one()
    data = {"webhookId": str(webhook.id), "name": webhook.name}
    job = new_delivery(webhook.workspace_id, webhook.id, event_of(TEST_EVENT, moment_text(now), data))
    enqueue_of_ours(session, [job])
    return job.id


def redeliver(session: Session, webhook: WebhookSubscription, delivery: Job) -> uuid.UUID:
    """Tell once more what a delivery that has ended told, under its id, and answer with the new delivery's job.

    Raises :class:`WebhookDisabledError`.
    """
    if webhook.disabled_at is not None:
        raise WebhookDisabledError(webhook.name)
    told_as = delivery_id(delivery.id, delivery.payload.get("deliveryId"))
    event = delivery.payload["event"]
    job = new_delivery(webhook.workspace_id, webhook.id, event, parent_id=delivery.parent_id, repeats=told_as)
    enqueue_of_ours(session, [job])
    return job.id


@checks_arguments(InvalidHookError)
def find_delivery(session: Session, webhook: WebhookSubscription, job_id: uuid.UUID) -> Job | None:
    """A delivery to this webhook, by its job's id."""
    visit(session, webhook.workspace_id)
    statement = select(Job).where(
        Job.workspace_id == webhook.workspace_id, Job.id == job_id, Job.job_type == WEBHOOK_TASK
    )
    job = session.scalars(statement, execution_options={"populate_existing": True}).one_or_none()
    return job if job is not None and job.payload.get("webhookId") == str(webhook.id) else None


@checks_arguments(InvalidHookError)
def list_webhook_jobs(
    session: Session, workspace_id: uuid.UUID, webhook_id: uuid.UUID, *, limit: int = 100
) -> Sequence[Job]:
    """The last deliveries to a webhook, newest first: they are jobs, among the workspace's last 20,000 deliveries."""
    visit(session, workspace_id)
    # Not as a parameter: a plan that is made for any task knows of no index for this one.
    is_delivery = Job.job_type == literal(WEBHOOK_TASK, literal_execute=True)
    found = select(Job).where(Job.workspace_id == workspace_id, is_delivery).order_by(Job.id.desc()).limit(LOOK)
    delivery = aliased(Job, found.subquery("delivery"))
    statement = (
        select(delivery)
        .where(delivery.payload["webhookId"].astext == str(webhook_id))
        .order_by(delivery.id.desc())
        .limit(limit)
    )
    return session.scalars(statement, execution_options={"populate_existing": True}).all()


def new_delivery(
    workspace_id: uuid.UUID,
    webhook_id: uuid.UUID,
    event: dict[str, Any],
    *,
    unique_key: str | None = None,
    parent_id: uuid.UUID | None = None,
    repeats: str | None = None,
) -> NewJob:
    """The job that tells ``event`` to a webhook. ``repeats`` is the id of a delivery that told it before."""
    return NewJob(
        workspace_id=workspace_id,
        task=WEBHOOK_TASK,
        queue=WEBHOOK_QUEUE,
        payload={"webhookId": str(webhook_id), "event": event, **({"deliveryId": repeats} if repeats else {})},
        max_attempts=ATTEMPTS,
        timeout=datetime.timedelta(minutes=1),
        unique_key=unique_key,
        parent_id=parent_id,
    )


def prepare_sending(session: Session, workspace_id: uuid.UUID, webhook_id: uuid.UUID) -> Sending | None:
    """What it takes to send to a webhook now; None when there is none of this id."""
    row = run(session, SENDING, workspace_id=workspace_id, id=webhook_id).one_or_none()
    if row is None:
        return None
    url, *sealed, is_disabled, now = row
    secrets = [
        open_secret(session, workspace_id, webhook_id, "secret", one)
        for one in ([] if is_disabled else sealed)
        if one is not None
    ]
    return Sending(url, secrets, is_disabled, now)


def note_went_well(session: Session, workspace_id: uuid.UUID, webhook_id: uuid.UUID) -> None:
    """A delivery arrived."""
    run(session, WENT_WELL, workspace_id=workspace_id, id=webhook_id)


def note_went_wrong(
    session: Session, workspace_id: uuid.UUID, webhook_id: uuid.UUID, *, gone: bool = False
) -> str | None:
    """A delivery did not arrive, or its receiver is ``gone``. Answers with why the webhook is disabled now, if so."""
    row = run(session, WENT_WRONG, workspace_id=workspace_id, id=webhook_id, gone=gone).one_or_none()
    return None if row is None else row[0]
