"""Hooks and webhooks: what an operator reads of them. Neither secrets nor whole URLs, which are secrets themselves."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy import Select, select, tuple_
from sqlalchemy.orm import Session

from jobplatform.models import Hook, WebhookSubscription, visit
from jobplatform.queue.hooks.webhook_job import WEBHOOK_TASK
from jobplatform.queue.hooks.webhooks import problem_of_webhook
from jobplatform.queue.schedules import tasks_served
from jobplatform.queue.statement import array, run

LAST_DELIVERIES: Final = """
select asked.id, last.received_at, last.answer, last.job_id
from unnest(%(workspace_ids)s::uuid[], %(ids)s::uuid[]) as asked(workspace_id, id)
cross join lateral (
    select d.received_at, d.answer, d.job_id
    from jobplatform.hook_deliveries d
    where d.workspace_id = asked.workspace_id and d.hook_id = asked.id
    order by d.received_at desc
    limit 1
) last
"""

#: A workspace, and one of its hooks or webhooks.
Pair = tuple[uuid.UUID, uuid.UUID]


@dataclass(frozen=True, slots=True)
class HookLine:
    """A hook. ``answer``, ``received_at`` and ``job_id`` are of the last delivery that was believed, if any is kept."""

    workspace_id: uuid.UUID
    id: uuid.UUID
    name: str
    scheme: str
    task: str
    created_at: datetime.datetime
    disabled_at: datetime.datetime | None
    disabled_by: str | None
    served: bool
    received_at: datetime.datetime | None
    answer: int | None
    job_id: uuid.UUID | None


@dataclass(frozen=True, slots=True)
class HookPage:
    """Hooks by workspace and id. ``next`` is what the next page is ``after``."""

    lines: tuple[HookLine, ...]
    next: Pair | None


@dataclass(frozen=True, slots=True)
class WebhookLine:
    """A webhook. ``origin`` is scheme and host of its URL; ``problem`` says why it is told less than others are."""

    workspace_id: uuid.UUID
    id: uuid.UUID
    name: str
    origin: str
    events: tuple[str, ...]
    tasks: tuple[str, ...] | None
    created_at: datetime.datetime
    failing_since: datetime.datetime | None
    disabled_at: datetime.datetime | None
    disabled_why: str | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class WebhookPage:
    """Webhooks by workspace and id. Unless they ``are_delivered`` by a live worker nobody is told anything. ``next`` is
    what the next page is ``after``.
    """

    lines: tuple[WebhookLine, ...]
    are_delivered: bool
    next: Pair | None


def hook_lines(
    session: Session, *, workspace_id: uuid.UUID | None = None, limit: int = 50, after: Pair | None = None
) -> HookPage:
    """A page of the hooks of a workspace, or of all, each with its last delivery."""
    table = Hook.__table__.c
    statement = select(
        table.workspace_id,
        table.id,
        table.name,
        table.scheme,
        table.task,
        table.created_at,
        table.disabled_at,
        table.disabled_by,
    )
    page, following = _page(session, statement, table, workspace_id, limit, after)
    keys = {"workspace_ids": array(row.workspace_id for row in page), "ids": array(row.id for row in page)}
    last = {row[0]: row[1:] for row in run(session, LAST_DELIVERIES, **keys)} if page else {}
    served = tasks_served(session)
    lines = []
    for row in page:
        received_at, answer, job_id = last.get(row.id, (None, None, None))
        said = {"received_at": received_at, "answer": answer, "job_id": job_id}
        lines.append(HookLine(**row._mapping, served=row.task in served, **said))
    return HookPage(tuple(lines), following)


def webhook_lines(
    session: Session, *, workspace_id: uuid.UUID | None = None, limit: int = 50, after: Pair | None = None
) -> WebhookPage:
    """A page of the webhooks of a workspace, or of all."""
    table = WebhookSubscription.__table__.c
    statement = select(
        table.workspace_id,
        table.id,
        table.name,
        table.url,
        table.events,
        table.tasks,
        table.created_at,
        table.failing_since,
        table.disabled_at,
        table.disabled_why,
    )
    page, following = _page(session, statement, table, workspace_id, limit, after)
    served = tasks_served(session)
    are_delivered = WEBHOOK_TASK in served
    lines = tuple(
        WebhookLine(
            workspace_id=row.workspace_id,
            id=row.id,
            name=row.name,
            origin=_origin(row.url),
            events=tuple(row.events),
            tasks=None if row.tasks is None else tuple(row.tasks),
            created_at=row.created_at,
            failing_since=row.failing_since,
            disabled_at=row.disabled_at,
            disabled_why=row.disabled_why,
            problem=problem_of_webhook(row.tasks, served) if are_delivered else None,
        )
        for row in page
    )
    return WebhookPage(lines, are_delivered, following)


def _page(
    session: Session,
    statement: Select[Any],
    table: Any,
    workspace_id: uuid.UUID | None,
    limit: int,
    after: Pair | None,
) -> tuple[Sequence[Any], Pair | None]:
    if workspace_id is not None:
        visit(session, workspace_id)
        statement = statement.where(table.workspace_id == workspace_id)
    if after is not None:
        statement = statement.where(tuple_(table.workspace_id, table.id) > after)
    found = session.execute(statement.order_by(table.workspace_id, table.id).limit(limit + 1)).all()
    page = found[:limit]
    return page, (page[-1].workspace_id, page[-1].id) if len(found) > limit else None


def _origin(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        # Kept by a version that took it. The page is about all the others too.
        return "no URL"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
