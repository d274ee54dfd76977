"""Webhooks: make, change, rotate, test, disable and delete where we deliver to. Never commits.

What is told is found by :mod:`jobplatform.queue.hooks.tell_webhooks`, and sent by a job.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Any, Final, NamedTuple

from sqlalchemy import literal, select
from sqlalchemy.orm import Session, aliased
from uuid_utils.compat import uuid7

from jobplatform.errors import Problem, WebhookDisabledError
from jobplatform.models import Job, WebhookSubscription, clock, visit
from jobplatform.queue.enqueue import NewJob, enqueue_of_ours
from jobplatform.queue.hooks.rules import (
    LONGEST_NAME,
    ROTATION,
    has_as_many,
    keep_secret,
    problem_of_text,
    problems_of_keeping,
    refuse,
)
from jobplatform.queue.hooks.webhook_job import (
    ATTEMPTS,
    EVENTS,
    JOB_EVENTS,
    TEST_EVENT,
    WEBHOOK_QUEUE,
    WEBHOOK_TASK,
    delivery_id,
    event_of,
)
from jobplatform.queue.snapshot import says_what_it_cannot_see
from jobplatform.queue.statement import run
from jobplatform.queue.vault import open_secret, seal_value
from jobplatform.settings import QUEUE_NAME
from jobplatform.webhooks import SCHEMES, new_secret
from jobplatform.wording import agreeing

#: Webhooks of one workspace: each ending is a job for each of them.
MOST_WEBHOOKS: Final = 10
MOST_TASKS: Final = 50
LONGEST_URL: Final = 1_000
#: A receiver that has answered nothing well for so long is told nothing more.
FAILING_DAYS: Final = 5
#: Deliveries of a workspace that are looked at for those to one of its webhooks.
LOOK: Final = 20_000
PLATFORM: Final = "jobplatform"

_NOBODY = uuid.UUID(int=0)
_CHANGEABLE = ("name", "url", "events", "tasks")

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


class NewWebhook(NamedTuple):
    """A webhook, and the secret by which its receiver knows us: shown once."""

    webhook: WebhookSubscription
    id: uuid.UUID
    secret: str


class Sending(NamedTuple):
    """What it takes to send. ``now`` is the database's moment, in seconds."""

    url: str
    secrets: Sequence[str]
    is_disabled: bool
    now: int


def create_webhook(
    session: Session,
    *,
    workspace_id: uuid.UUID,
    name: str,
    url: str,
    events: Sequence[str] = JOB_EVENTS,
    tasks: Sequence[str] | None = None,
    secret: str | None = None,
    made_by: str = "code",
) -> NewWebhook:
    """Have endings of the workspace's jobs told to ``url``: of those jobs that are enqueued from the commit on.

    ``events`` may also name those of batches, and alerts about the workspace. ``tasks`` names the tasks whose jobs are
    told of (all, without). A secret is made if none is given. Raises :class:`InvalidHookError`
    with every problem, and :class:`KeyMissingError` where this process has no key to seal the secret with. That the
    address is one that may be asked is seen when it is.
    """
    visit(session, workspace_id)
    secret = secret or new_secret()
    columns = {"name": name, "url": url, "events": list(events), "tasks": None if tasks is None else list(tasks)}
    refuse([*_problems_of_secret(secret), *_problems(columns)])
    refuse(_problem_of_number(session, workspace_id))
    webhook_id = uuid7()
    made = WebhookSubscription(
        workspace_id=workspace_id,
        id=webhook_id,
        secret=seal_value(session, workspace_id, webhook_id, "secret", secret),
        made_by=made_by,
        **columns,
    )
    session.add(made)
    session.flush()
    session.refresh(made)
    return NewWebhook(made, webhook_id, secret)


def change_webhook(session: Session, webhook: WebhookSubscription, **changes: Any) -> WebhookSubscription:
    """Change ``name``, ``url``, ``events`` or ``tasks``; what is not named stays. Raises :class:`InvalidHookError`.

    How long the receiver at one URL has failed is not held against that at another.
    """
    if unknown := set(changes) - set(_CHANGEABLE):
        raise TypeError(f"a webhook's {', '.join(sorted(unknown))} cannot be changed")
    refuse(_problems(changes))
    if changes.get("url", webhook.url) != webhook.url:
        webhook.failing_since = None
    for column, value in changes.items():
        setattr(webhook, column, list(value) if isinstance(value, tuple) else value)
    session.flush()
    return webhook


def rotate_webhook_secret(
    session: Session,
    webhook: WebhookSubscription,
    secret: str | None = None,
    *,
    keep_old: datetime.timedelta = ROTATION,
) -> str:
    """Sign with another secret, and for as long as ``keep_old`` with the old one too. Answers with the new one."""
    secret = secret or new_secret()
    refuse([*_problems_of_secret(secret), *problems_of_keeping(keep_old)])
    keep_secret(session, webhook, keep_old)
    webhook.secret = seal_value(session, webhook.workspace_id, webhook.id, "secret", secret)
    session.flush()
    return secret


def disable_webhook(session: Session, webhook: WebhookSubscription, *, actor: str) -> bool:
    """Tell it nothing more; deliveries that wait end as skipped. Says whether that is new."""
    if webhook.disabled_at is not None:
        return False
    webhook.disabled_at = session.execute(select(clock())).scalar_one()
    webhook.disabled_by, webhook.disabled_why = actor, "by hand"
    session.flush()
    return True


def enable_webhook(session: Session, webhook: WebhookSubscription) -> bool:
    """Tell it again, of jobs that are enqueued from now on. Says whether it was disabled."""
    if webhook.disabled_at is None:
        return False
    webhook.disabled_at = webhook.disabled_by = webhook.disabled_why = None
    webhook.failing_since = webhook.told_at = None
    session.flush()
    return True


def delete_webhook(session: Session, webhook: WebhookSubscription) -> None:
    """Delete a webhook; deliveries that wait end as skipped."""
    session.delete(webhook)
    session.flush()


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


def find_delivery(session: Session, webhook: WebhookSubscription, job_id: uuid.UUID) -> Job | None:
    """A delivery to this webhook, by its job's id."""
    visit(session, webhook.workspace_id)
    statement = select(Job).where(
        Job.workspace_id == webhook.workspace_id, Job.id == job_id, Job.job_type == WEBHOOK_TASK
    )
    job = session.scalars(statement, execution_options={"populate_existing": True}).one_or_none()
    return job if job is not None and job.payload.get("webhookId") == str(webhook.id) else None


def problem_of_webhook(tasks: Iterable[str] | None, served: Set[str]) -> str | None:
    """Why a webhook of these tasks (None: of all) is told nothing, or not all; ``served``: those that workers know."""
    if WEBHOOK_TASK not in served:
        return "no live worker delivers webhooks: add_webhooks(tasks) has it do so"
    unknown = sorted(set(tasks or ()) - served)
    if not unknown:
        return None
    return f"no live worker knows the {agreeing(len(unknown), 'task')} {', '.join(unknown)}: nothing is told of that"


def get_webhook(session: Session, workspace_id: uuid.UUID, webhook_id: uuid.UUID) -> WebhookSubscription | None:
    """A webhook of this workspace, to look at."""
    visit(session, workspace_id)
    return session.get(WebhookSubscription, (workspace_id, webhook_id), populate_existing=True)


@says_what_it_cannot_see
def find_webhook(session: Session, workspace_id: uuid.UUID, webhook_id: uuid.UUID) -> WebhookSubscription | None:
    """A webhook of this workspace, locked until the transaction's end: for whoever changes it."""
    visit(session, workspace_id)
    return session.get(WebhookSubscription, (workspace_id, webhook_id), populate_existing=True, with_for_update=True)


def list_webhooks(
    session: Session, workspace_id: uuid.UUID, *, limit: int = 20, after: uuid.UUID | None = None
) -> Sequence[WebhookSubscription]:
    """The webhooks of a workspace, oldest first. ``after`` is the id of the last one seen."""
    visit(session, workspace_id)
    statement = select(WebhookSubscription).where(
        WebhookSubscription.workspace_id == workspace_id, WebhookSubscription.id > (after or _NOBODY)
    )
    return session.scalars(statement.order_by(WebhookSubscription.id).limit(limit)).all()


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


# -- deliveries --------------------------------------------------------------------------------------


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


def moment_text(moment: datetime.datetime) -> str:
    """A moment as the API writes it."""
    return moment.astimezone(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


# -- problems ----------------------------------------------------------------------------------------


def _problems_of_secret(secret: str) -> Iterator[Problem]:
    if problem := SCHEMES["standard"].problem_of_secret(secret):
        yield Problem("/secret", problem)


def _problems(columns: dict[str, Any]) -> Iterator[Problem]:
    if "name" in columns:
        yield from problem_of_text("/name", columns["name"], LONGEST_NAME)
    if "url" in columns:
        yield from problem_of_text("/url", columns["url"], LONGEST_URL)
        if not columns["url"].startswith(("https://", "http://")) or not columns["url"].isprintable():
            yield Problem("/url", "must be an https URL")
    if "events" in columns:
        yield from _problems_of_events(columns["events"])
    if columns.get("tasks") is not None:
        yield from _problems_of_tasks(columns["tasks"])


def _problems_of_events(events: Sequence[str]) -> Iterator[Problem]:
    if not events:
        yield Problem("/events", "must name at least one")
    for number, event in enumerate(events):
        if event not in EVENTS:
            yield Problem(f"/events/{number}", f"must be one of {', '.join(EVENTS)}")


def _problems_of_tasks(tasks: Sequence[str]) -> Iterator[Problem]:
    if not 1 <= len(tasks) <= MOST_TASKS:
        yield Problem("/jobTypes", f"must be 1 to {MOST_TASKS}, or none for all")
    for number, task in enumerate(tasks):
        if not QUEUE_NAME.match(task):
            yield Problem(f"/jobTypes/{number}", "is not a task name")


def _problem_of_number(session: Session, workspace_id: uuid.UUID) -> Iterator[Problem]:
    if has_as_many(session, WebhookSubscription, workspace_id, MOST_WEBHOOKS):
        yield Problem("", f"a workspace may have {MOST_WEBHOOKS} webhooks, and this one has; delete one first")
