"""Webhooks: make, change, rotate, disable, find and delete where we deliver to. Never commits.

What is told is found by :mod:`jobplatform.queue.hooks.tell_webhooks`, and sent by a job (``deliveries``).
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Any, Final, NamedTuple, TypedDict, Unpack
from urllib.parse import urlsplit

from sqlalchemy import select
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from jobplatform.errors import InvalidHookError, Problem, refuse
from jobplatform.models import WebhookSubscription, clock, visit
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.hooks.rules import (
    LONGEST_NAME,
    ROTATION,
    has_as_many,
    keep_secret,
    problem_of_text,
    problems_of_keeping,
)
from jobplatform.queue.hooks.webhook_job import (
    EVENTS,
    JOB_EVENTS,
    WEBHOOK_TASK,
)
from jobplatform.queue.snapshot import says_what_it_cannot_see
from jobplatform.queue.vault import seal_value
from jobplatform.settings import QUEUE_NAME
from jobplatform.webhooks import SCHEMES, new_secret
from jobplatform.wording import agreeing

#: Webhooks of one workspace: each ending is a job for each of them.
MOST_WEBHOOKS: Final = 10
MOST_TASKS: Final = 50
LONGEST_URL: Final = 1_000

_NOBODY = uuid.UUID(int=0)


class WebhookChanges(TypedDict, total=False):
    """What of a webhook can be changed."""

    name: str
    url: str
    events: Sequence[str]
    tasks: Sequence[str] | None


class NewWebhook(NamedTuple):
    """A webhook, and the secret by which its receiver knows us: shown once."""

    webhook: WebhookSubscription
    id: uuid.UUID
    secret: str


@checks_arguments(InvalidHookError)
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
    columns = {"name": name, "url": url, "events": list(events), "tasks": tasks}
    refuse(InvalidHookError, [*_problems_of_secret(secret), *_problems(columns)])
    refuse(InvalidHookError, _problem_of_number(session, workspace_id))
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


@checks_arguments(InvalidHookError)
def change_webhook(
    session: Session, webhook: WebhookSubscription, **changes: Unpack[WebhookChanges]
) -> WebhookSubscription:
    """Change ``name``, ``url``, ``events`` or ``tasks``; what is not named stays. Raises :class:`InvalidHookError`.

    How long the receiver at one URL has failed is not held against that at another.
    """
    if unknown := set(changes) - set(WebhookChanges.__annotations__):
        raise TypeError(f"a webhook's {', '.join(sorted(unknown))} cannot be changed")
    refuse(InvalidHookError, _problems(dict(changes)))
    if changes.get("url", webhook.url) != webhook.url:
        webhook.failing_since = None
    for column, value in changes.items():
        setattr(webhook, column, value)
    session.flush()
    return webhook


@checks_arguments(InvalidHookError)
def rotate_webhook_secret(
    session: Session,
    webhook: WebhookSubscription,
    secret: str | None = None,
    *,
    keep_old: datetime.timedelta = ROTATION,
) -> str:
    """Sign with another secret, and for as long as ``keep_old`` with the old one too. Answers with the new one."""
    secret = secret or new_secret()
    refuse(InvalidHookError, [*_problems_of_secret(secret), *problems_of_keeping(keep_old)])
    keep_secret(session, webhook, keep_old)
    webhook.secret = seal_value(session, webhook.workspace_id, webhook.id, "secret", secret)
    session.flush()
    return secret


@checks_arguments(InvalidHookError)
def disable_webhook(session: Session, webhook: WebhookSubscription, *, actor: str) -> bool:
    """Tell it nothing more; deliveries that wait end as skipped. Says whether that is new."""
    if webhook.disabled_at is not None:
        return False
    webhook.disabled_at = session.execute(select(clock())).scalar_one()
    webhook.disabled_by, webhook.disabled_why = actor, "by hand"
    session.flush()
    return True


@checks_arguments(InvalidHookError)
def enable_webhook(session: Session, webhook: WebhookSubscription) -> bool:
    """Tell it again, of jobs that are enqueued from now on. Says whether it was disabled."""
    if webhook.disabled_at is None:
        return False
    webhook.disabled_at = webhook.disabled_by = webhook.disabled_why = None
    webhook.failing_since = webhook.told_at = None
    session.flush()
    return True


@checks_arguments(InvalidHookError)
def delete_webhook(session: Session, webhook: WebhookSubscription) -> None:
    """Delete a webhook; deliveries that wait end as skipped."""
    session.delete(webhook)
    session.flush()


def problem_of_webhook(tasks: Iterable[str] | None, served: Set[str]) -> str | None:
    """Why a webhook of these tasks (None: of all) is told nothing, or not all; ``served``: those that workers know."""
    if WEBHOOK_TASK not in served:
        return "no live worker delivers webhooks: add_webhooks(tasks) has it do so"
    unknown = sorted(set(tasks or ()) - served)
    if not unknown:
        return None
    return f"no live worker knows the {agreeing(len(unknown), 'task')} {', '.join(unknown)}: nothing is told of that"


@checks_arguments(InvalidHookError)
def get_webhook(session: Session, workspace_id: uuid.UUID, webhook_id: uuid.UUID) -> WebhookSubscription | None:
    """A webhook of this workspace, to look at."""
    visit(session, workspace_id)
    return session.get(WebhookSubscription, (workspace_id, webhook_id), populate_existing=True)


@checks_arguments(InvalidHookError)
@says_what_it_cannot_see
def find_webhook(session: Session, workspace_id: uuid.UUID, webhook_id: uuid.UUID) -> WebhookSubscription | None:
    """A webhook of this workspace, locked until the transaction's end: for whoever changes it."""
    visit(session, workspace_id)
    return session.get(WebhookSubscription, (workspace_id, webhook_id), populate_existing=True, with_for_update=True)


@checks_arguments(InvalidHookError)
def list_webhooks(
    session: Session, workspace_id: uuid.UUID, *, limit: int = 20, after: uuid.UUID | None = None
) -> Sequence[WebhookSubscription]:
    """The webhooks of a workspace, oldest first. ``after`` is the id of the last one seen."""
    visit(session, workspace_id)
    statement = select(WebhookSubscription).where(
        WebhookSubscription.workspace_id == workspace_id, WebhookSubscription.id > (after or _NOBODY)
    )
    return session.scalars(statement.order_by(WebhookSubscription.id).limit(limit)).all()


# -- problems ----------------------------------------------------------------------------------------


def _problems_of_secret(secret: str) -> Iterator[Problem]:
    if problem := SCHEMES["standard"].problem_of_secret(secret):
        yield Problem("/secret", problem)


def _problems(columns: dict[str, Any]) -> Iterator[Problem]:
    if "name" in columns:
        yield from problem_of_text("/name", columns["name"], LONGEST_NAME)
    if "url" in columns:
        yield from problem_of_text("/url", columns["url"], LONGEST_URL)
        if problem := _problem_of_url(columns["url"]):
            yield Problem("/url", problem)
    if "events" in columns:
        yield from _problems_of_events(columns["events"])
    if columns.get("tasks") is not None:
        yield from _problems_of_tasks(columns["tasks"])


def _problem_of_url(url: str) -> str | None:
    """Without repeating it: a password may be in it."""
    try:
        parts = urlsplit(url)
        names_a_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return "must be an https URL"
    if not names_a_host or not url.startswith(("https://", "http://")) or not url.isprintable():
        return "must be an https URL"
    return "must have no user or password in it" if "@" in parts.netloc else None


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
