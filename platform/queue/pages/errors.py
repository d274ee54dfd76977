"""Errors: jobs that failed, by what they have in common."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from jobplatform.errors import Problem, SearchError
from jobplatform.models import visit
from jobplatform.queue.find import Capped
from jobplatform.queue.statement import run

MOST_WORKSPACES = 1_000

# How many workspaces a group has hit is looked up for those that are shown.
OF_PLATFORM = f"""
select
    g.fingerprint, g.task, g.error_type, g.message, g.amount, g.first_at, g.last_at, g.last_workspace_id,
    g.last_job_id, (
        select count(*)
        from (
            select
            from jobplatform.error_groups w
            where w.fingerprint = g.fingerprint
            limit {MOST_WORKSPACES} + 1
        ) hit
    )
from jobplatform.platform_error_groups g
where {{which}}
order by g.last_at desc, g.fingerprint desc
limit %(limit)s
"""
OF_WORKSPACE = """
select
    g.fingerprint, g.task, g.error_type, g.message, g.amount, g.first_at, g.last_at, g.workspace_id, g.last_job_id, 1
from jobplatform.error_groups g
where g.workspace_id = %(workspace_id)s and {which}
order by g.last_at desc, g.fingerprint desc
limit %(limit)s
"""


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Failed jobs of a task whose errors have their type and what does not vary of their message in common.

    ``count`` is how many failed since ``first_at``; retention may have deleted some. The job that failed last is there
    to be looked at.
    """

    fingerprint: str
    task: str
    error_type: str
    message: str
    count: int
    first_at: datetime.datetime
    last_at: datetime.datetime
    last_workspace_id: uuid.UUID
    last_job_id: uuid.UUID
    workspaces: Capped

    @property
    def search(self) -> str:
        """What finds its jobs."""
        return f"error:{self.fingerprint}"


@dataclass(frozen=True, slots=True)
class ErrorPage:
    """Groups, the one that failed last first. ``next`` is what the next page is ``before``."""

    groups: tuple[ErrorGroup, ...]
    next: str | None


def error_groups(
    session: Session,
    *,
    workspace_id: uuid.UUID | None = None,
    task: str | None = None,
    within: datetime.timedelta = datetime.timedelta(days=7),
    limit: int = 50,
    before: str | None = None,
) -> ErrorPage:
    """The groups in which something failed ``within`` this, of a workspace or of all."""
    conditions = ["g.last_at > jobplatform.clock() - make_interval(secs => %(within)s)"]
    parameters: dict[str, Any] = {"within": within.total_seconds()}
    if task is not None:
        conditions.append("g.task = %(task)s")
        parameters["task"] = task
    if before is not None:
        last_at, fingerprint = _cursor(before)
        conditions.append("(g.last_at, g.fingerprint) < (%(last_at)s, %(fingerprint)s)")
        parameters |= {"last_at": last_at, "fingerprint": fingerprint}
    found = _find(session, workspace_id, " and ".join(conditions), limit + 1, parameters)
    page = tuple(found[:limit])
    following = f"{page[-1].last_at.isoformat()}_{page[-1].fingerprint}" if len(found) > limit else None
    return ErrorPage(page, following)


def error_group(session: Session, fingerprint: str, *, workspace_id: uuid.UUID | None = None) -> ErrorGroup | None:
    """One group, or None: nothing failed like this for a month, or nobody has counted it yet."""
    which = "g.fingerprint = %(fingerprint)s"
    found = _find(session, workspace_id, which, 1, {"fingerprint": fingerprint})
    return found[0] if found else None


def _find(
    session: Session, workspace_id: uuid.UUID | None, which: str, limit: int, parameters: dict[str, Any]
) -> Sequence[ErrorGroup]:
    if workspace_id is not None:
        visit(session, workspace_id)
    sql = (OF_PLATFORM if workspace_id is None else OF_WORKSPACE).format(which=which)
    rows = run(session, sql, limit=limit, workspace_id=workspace_id, **parameters)
    return [_group(*row) for row in rows]


def _group(*row: Any) -> ErrorGroup:
    *facts, hit = row
    values = [*facts, Capped(min(hit, MOST_WORKSPACES), more=hit > MOST_WORKSPACES)]
    return ErrorGroup(*values)


def _cursor(text: str) -> tuple[datetime.datetime, str]:
    moment, _, fingerprint = text.rpartition("_")
    try:
        return datetime.datetime.fromisoformat(moment), fingerprint
    except ValueError:
        raise SearchError([Problem("/before", "is no cursor of ours; begin with the first page")]) from None
