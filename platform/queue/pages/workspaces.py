"""Workspaces: who has how much to do, and gets how much of what there is."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy.orm import Session

from jobplatform.models import Pause, PauseKind
from jobplatform.queue.limits.pause import pauses_of
from jobplatform.queue.limits.workspaces import LimitsOfWorkspace, limits_of_workspaces
from jobplatform.queue.numbers.overview import WORKSPACES
from jobplatform.queue.statement import array, run

Order = Literal["id", "backlog", "oldest", "running", "share", "failed"]

#: Names that are looked through for a text.
MOST_NAMES: Final = 20_000
RECENT: Final = datetime.timedelta(hours=1)

BY_ID: Final = WORKSPACES + "select id from page order by id"

# All live jobs are counted once: the narrow table is small by design. Each row is added to one sum, of its state, and
# what is shown of those that come first is counted with them.
_SUMS = """
select
    c.workspace_id,
    coalesce(sum(c.amount) filter (where c.state = 1), 0)::bigint as ready,
    coalesce(sum(c.amount) filter (where c.state = 0), 0)::bigint as scheduled,
    coalesce(sum(c.amount) filter (where c.state = -1), 0)::bigint as blocked,
    coalesce(sum(c.amount) filter (where c.state = 2), 0)::bigint as running,
    extract(epoch from jobplatform.clock() - min(c.due_at) filter (where c.state = 1))::float8 as oldest
from (
    select q.workspace_id, q.state, count(*) as amount, min(q.run_after) as due_at
    from jobplatform.job_queue q
    {which}
    group by q.workspace_id, q.state
) c
group by c.workspace_id
"""
BY_LIVE: Final = f"""
select *
from ({_SUMS.format(which="")}) s
where {{which}}
order by {{value}} desc, s.workspace_id
limit %(limit)s
"""
LIVE_OF: Final = _SUMS.format(which="where q.workspace_id = any(%(ids)s::uuid[])")
# Cells of what workspaces did of late, by moment.
BY_DONE: Final = """
select c.workspace_id
from jobplatform.workspace_cells c
where c.minutes = 1 and c.at > jobplatform.clock() - make_interval(secs => %(recent)s)
group by c.workspace_id
having {value} > 0
order by {value} desc, c.workspace_id
limit %(limit)s
"""
_BACKLOG: Final = "(s.ready + s.scheduled + s.blocked)"
LIVE_ORDERS: Final[dict[str, str]] = {
    "backlog": BY_LIVE.format(which=f"{_BACKLOG} > 0", value=_BACKLOG),
    "oldest": BY_LIVE.format(which="s.oldest is not null", value="s.oldest"),
    "running": BY_LIVE.format(which="s.running > 0", value="s.running"),
}
DONE_ORDERS: Final[dict[str, str]] = {
    "share": BY_DONE.format(value="sum(c.run_ms)"),
    "failed": BY_DONE.format(value="coalesce(sum(c.amount) filter (where c.status = 4), 0)"),
}
NAMED: Final = f"""
select w.id
from (select id, name from jobplatform.workspaces where id > %(after)s::uuid order by id limit {MOST_NAMES}) w
where strpos(lower(w.name), lower(%(text)s)) > 0
order by w.id
limit %(limit)s
"""

#: Ready, scheduled, blocked, running, and how long the oldest ready one has waited.
_NOTHING_LIVE: Final = (0, 0, 0, 0, None)

LINES: Final = """
with page as materialized (
    select u.id, u.nth from unnest(%(ids)s::uuid[]) with ordinality as u(id, nth)
    limit cardinality(%(ids)s::uuid[])
)
select page.id, w.name, w.created_at, done.completed, done.failed, done.run_ms
from page
left join jobplatform.workspaces w on w.id = page.id
cross join lateral (
    select
        coalesce(sum(c.amount) filter (where c.status = 3), 0)::bigint as completed,
        coalesce(sum(c.amount) filter (where c.status = 4), 0)::bigint as failed,
        coalesce(sum(c.run_ms), 0)::bigint as run_ms
    from jobplatform.workspace_cells c
    where c.workspace_id = page.id
        and c.minutes = 1
        and c.at > jobplatform.clock() - make_interval(secs => %(recent)s)
) done
order by page.nth
"""
ALL_RUN_MS: Final = """
select coalesce(sum(run_ms), 0)::bigint
from jobplatform.platform_cells
where queue = '' and task = '' and minutes = 1 and at > jobplatform.clock() - make_interval(secs => %(recent)s)
"""


@dataclass(frozen=True, slots=True)
class WorkspaceLine:
    """A workspace: what it has to do, and what was done for it within the hour, as far as it is counted.

    ``share``: how much of the time that handlers ran was for it, from 0 to 1; None when none ran. Without a name it has
    jobs or limits, and no row of its own.
    """

    id: uuid.UUID
    name: str | None
    created_at: datetime.datetime | None
    ready: int
    scheduled: int
    blocked: int
    running: int
    oldest_ready_seconds: float | None
    completed: int
    failed: int
    share: float | None
    limits: LimitsOfWorkspace
    paused: Pause | None

    @property
    def pending(self) -> int:
        return self.ready + self.scheduled + self.blocked


@dataclass(frozen=True, slots=True)
class WorkspacePage:
    """Workspaces in order. ``next``: what the next page is ``after``; None at the end, and for the first of an order
    that has no pages."""

    lines: tuple[WorkspaceLine, ...]
    next: uuid.UUID | None


def workspace_lines(
    session: Session, *, order: Order = "id", limit: int = 50, after: uuid.UUID | None = None, text: str = ""
) -> WorkspacePage:
    """Workspaces by id, a page at a time; or the first ``limit`` of those that have the largest backlog, the oldest
    ready job, the most running jobs, the largest share or the most failures.

    ``text``: those whose name has it in it, or whose id it is. On a Session that sees all workspaces.
    """
    searched = text.strip()
    if order in LIVE_ORDERS and not searched:
        live = _live(run(session, LIVE_ORDERS[order], limit=limit))
        return WorkspacePage(_lines(session, list(live), live), None)
    ids = _choose(session, order, limit + 1, after or uuid.UUID(int=0), searched)
    page = ids[:limit]
    has_pages = order == "id" or bool(searched)
    return WorkspacePage(_lines(session, page), page[-1] if has_pages and len(ids) > limit else None)


def workspace_line(session: Session, workspace_id: uuid.UUID) -> WorkspaceLine:
    """One workspace; every id has an answer."""
    (line,) = _lines(session, [workspace_id])
    return line


def _choose(session: Session, order: Order, limit: int, after: uuid.UUID, text: str) -> Sequence[uuid.UUID]:
    if text:
        try:
            return [uuid.UUID(text)]
        except ValueError:
            return run(session, NAMED, after=after, text=text, limit=limit).scalars().all()
    if order == "id":
        return run(session, BY_ID, after=after, limit=limit).scalars().all()
    return run(session, DONE_ORDERS[order], limit=limit, recent=RECENT.total_seconds()).scalars().all()


def _lines(
    session: Session, ids: Sequence[uuid.UUID], live: Mapping[uuid.UUID, Sequence[Any]] | None = None
) -> tuple[WorkspaceLine, ...]:
    """``live``: what is known of their live jobs already."""
    if not ids:
        return ()
    recent = RECENT.total_seconds()
    limits = limits_of_workspaces(session, ids)
    pauses = pauses_of(session, PauseKind.WORKSPACE, [str(found) for found in ids])
    all_run_ms = run(session, ALL_RUN_MS, recent=recent).scalar_one()
    live = _live(run(session, LIVE_OF, ids=array(ids))) if live is None else live
    rows = run(session, LINES, ids=array(ids), recent=recent)
    return tuple(
        _line(row, live.get(row[0], _NOTHING_LIVE), all_run_ms, limits[row[0]], pauses.get(str(row[0]))) for row in rows
    )


def _live(rows: Iterable[Any]) -> dict[uuid.UUID, Sequence[Any]]:
    return {row[0]: row[1:] for row in rows}


def _line(
    row: Any, live: Sequence[Any], all_run_ms: int, limits: LimitsOfWorkspace, paused: Pause | None
) -> WorkspaceLine:
    *who, completed, failed, run_ms = row
    values = [*who, *live, completed, failed, run_ms / all_run_ms if all_run_ms else None, limits, paused]
    return WorkspaceLine(*values)
