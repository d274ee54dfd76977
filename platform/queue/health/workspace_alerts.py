"""Alerts about single workspaces: for those that have rules of their own, what is wrong is told once, and its end.

    1. Take the turn: one process at a time, once a minute. A round looks at so many workspaces, and the next goes on.
    2. Count what they have to do and what has ended, all of them in two statements.
    3. Compare with their rules, and write down what is newly wrong and what is over.
    4. Enqueue a job of the application's hook for each edge, and a delivery for each webhook that wants it.

All of it is one transaction, as for alerts about the whole platform (:mod:`jobplatform.queue.health.alerts`). What has
ended is read from what is counted for the charts, so it may be a quarter of a minute behind.
"""

from __future__ import annotations

import datetime
import uuid
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from jobplatform.models import WorkspaceAlert, visit
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.health.alerts import RAISED, RESOLVED, AlertEvent, tell_hook
from jobplatform.queue.health.rules import STUCK, AlertRule
from jobplatform.queue.hooks.tell_webhooks import Told, tell_of_alerts
from jobplatform.queue.numbers.counts import Done, Live
from jobplatform.queue.statement import array, one_transaction, run, text_array
from jobplatform.queue.turns import leave_turn, take_turn

CHORE = "workspace-alerts"
EVERY = datetime.timedelta(minutes=1)
AGAIN = datetime.timedelta(0)
#: Workspaces that a round looks at.
MOST = 200

# Those with an alert too: when its rule is gone, somebody has to say that it is over.
WORKSPACES = """
select workspace_id
from (
    select workspace_id from jobplatform.workspace_alert_rules
    union
    select workspace_id from jobplatform.workspace_alerts where resolved_at is null
) found
order by workspace_id
offset %(position)s
limit %(most)s
"""
RULES = """
select r.workspace_id, r.name, r.metric, r.above, r.queue, r.task
from unnest(%(workspace_ids)s::uuid[]) as w(workspace_id)
join jobplatform.workspace_alert_rules r on r.workspace_id = w.workspace_id
where r.enabled
order by r.workspace_id, r.name
"""
LIVE = """
select
    q.workspace_id,
    q.queue,
    q.task,
    count(*) filter (where q.state = 1),
    count(*) filter (where q.state = 0),
    count(*) filter (where q.state = -1),
    count(*) filter (where q.state = 2),
    count(*) filter (
        where q.state = 2 and q.started_at < jobplatform.clock() - make_interval(secs => w.stuck_after)
    ),
    extract(epoch from jobplatform.clock() - min(q.run_after) filter (where q.state = 1))::float8,
    extract(epoch from jobplatform.clock() - min(q.started_at) filter (where q.state = 2))::float8
from unnest(%(workspace_ids)s::uuid[], %(stuck_after)s::float8[]) as w(workspace_id, stuck_after)
join jobplatform.job_queue q on q.workspace_id = w.workspace_id
group by q.workspace_id, q.queue, q.task
"""
DONE = """
select
    c.workspace_id,
    c.queue,
    c.task,
    coalesce(sum(c.amount) filter (where c.status = 3), 0)::bigint,
    coalesce(sum(c.amount) filter (where c.status = 4), 0)::bigint,
    coalesce(sum(c.amount) filter (where c.status = 5), 0)::bigint
from unnest(%(workspace_ids)s::uuid[]) as w(workspace_id)
join jobplatform.workspace_cells c on c.workspace_id = w.workspace_id
where c.minutes = 1 and c.at > jobplatform.clock() - interval '1 hour'
group by c.workspace_id, c.queue, c.task
"""

RAISE = """
with firing as materialized (
    select u.*
    from unnest(%(workspace_ids)s::uuid[], %(codes)s::text[], %(messages)s::text[]) as u(workspace_id, code, message)
),
going_on as (
    update jobplatform.workspace_alerts a
    set message = f.message
    from firing f
    where a.workspace_id = f.workspace_id and a.code = f.code and a.resolved_at is null and a.message <> f.message
)
insert into jobplatform.workspace_alerts as a (workspace_id, code, message)
select workspace_id, code, message from firing
on conflict (workspace_id, code) do update
set message = excluded.message,
    raised_at = jobplatform.clock(),
    resolved_at = null
where a.resolved_at is not null
returning workspace_id, code, message, raised_at
"""
RESOLVE = """
update jobplatform.workspace_alerts a
set resolved_at = jobplatform.clock()
where a.resolved_at is null
    and a.workspace_id = any(%(looked_at)s::uuid[])
    and not exists (
        select
        from unnest(%(workspace_ids)s::uuid[], %(codes)s::text[]) as f(workspace_id, code)
        where f.workspace_id = a.workspace_id and f.code = a.code
    )
returning workspace_id, code, message, resolved_at
"""


class WorkspaceAlerts(NamedTuple):
    """What a round has found new. ``more``: there are workspaces that it has not come to; the next one does."""

    events: Sequence[AlertEvent] = ()
    more: bool = False


def settle_workspace_alerts(session: Session, *, now: bool = False) -> WorkspaceAlerts:
    """Look whether something is newly wrong, or over, of workspaces with rules; write it down and have it told.

    Nothing happens until a minute after all were looked at last; unless ``now``. A worker calls it.
    """
    with one_transaction(session):
        turn = take_turn(session, CHORE, now=now)
        if turn is None:
            return WorkspaceAlerts()
        looked_at = [row[0] for row in run(session, WORKSPACES, position=turn.position, most=MOST)]
        events = _look_at(session, looked_at) if looked_at else []
        more = len(looked_at) >= MOST
        leave_turn(session, turn, turn.position + MOST if more else 0, AGAIN if more else EVERY)
    return WorkspaceAlerts(events, more)


@checks_arguments()
def list_workspace_alerts(
    session: Session, workspace_id: uuid.UUID, *, resolved: bool = False
) -> Sequence[WorkspaceAlert]:
    """The alerts about a workspace, longest first; with ``resolved`` also the last time of those that are over."""
    visit(session, workspace_id)
    alert = WorkspaceAlert
    statement = select(alert).where(alert.workspace_id == workspace_id)
    statement = statement.order_by(alert.resolved_at.is_not(None), alert.raised_at, alert.code)
    if not resolved:
        statement = statement.where(alert.resolved_at.is_(None))
    return session.scalars(statement, execution_options={"populate_existing": True}).all()


def _look_at(session: Session, workspace_ids: Sequence[uuid.UUID]) -> list[AlertEvent]:
    rules = _rules(session, workspace_ids)
    live, done = _live(session, rules), _done(session, rules)
    firing = [
        (workspace_id, rule.name, message)
        for workspace_id, mine in rules.items()
        for rule in mine
        if (message := rule.broken_by(live[workspace_id], done[workspace_id]))
    ]
    edges = _edges(session, workspace_ids, firing)
    events = [
        AlertEvent(edge.event, edge.code, edge.message, edge.at.astimezone(datetime.UTC).isoformat(), edge.workspace_id)
        for edge in edges
    ]
    tell_hook(session, events)
    tell_of_alerts(session, edges)
    return events


def _rules(session: Session, workspace_ids: Sequence[uuid.UUID]) -> Mapping[uuid.UUID, list[AlertRule]]:
    found: dict[uuid.UUID, list[AlertRule]] = defaultdict(list)
    for workspace_id, name, metric, above, queue, task in run(session, RULES, workspace_ids=array(workspace_ids)):
        found[workspace_id].append(AlertRule(name, metric, above, queue, task))
    return found


def _live(session: Session, rules: Mapping[uuid.UUID, Sequence[AlertRule]]) -> Mapping[uuid.UUID, list[Live]]:
    found: dict[uuid.UUID, list[Live]] = defaultdict(list)
    stuck_after = array(_stuck_after(mine) for mine in rules.values())
    rows = run(session, LIVE, workspace_ids=array(rules), stuck_after=stuck_after)
    for workspace_id, queue, task, ready, scheduled, blocked, running, stuck, *oldest in rows:
        # Whether a key is missing is asked for the whole platform.
        found[workspace_id].append(Live(queue, task, ready, scheduled, blocked, running, 0, stuck, *oldest))
    return found


def _done(session: Session, rules: Collection[uuid.UUID]) -> Mapping[uuid.UUID, list[Done]]:
    found: dict[uuid.UUID, list[Done]] = defaultdict(list)
    for workspace_id, *counts in run(session, DONE, workspace_ids=array(rules)):
        found[workspace_id].append(Done(*counts))
    return found


def _stuck_after(rules: Sequence[AlertRule]) -> float:
    return next((rule.above for rule in rules if rule.name == STUCK), 0.0)


def _edges(
    session: Session, looked_at: Sequence[uuid.UUID], firing: Sequence[tuple[uuid.UUID, str, str]]
) -> list[Told]:
    places = {"workspace_ids": array(one[0] for one in firing), "codes": text_array(one[1] for one in firing)}
    raised = run(session, RAISE, **places, messages=text_array(one[2] for one in firing)).all()
    resolved = run(session, RESOLVE, **places, looked_at=array(looked_at)).all()
    return [
        Told(workspace_id, event, code, message, at)
        for event, rows in ((RAISED, raised), (RESOLVED, resolved))
        for workspace_id, code, message, at in rows
    ]
