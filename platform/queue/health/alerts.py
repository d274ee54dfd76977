"""Alerts: what health finds wrong is told once, by one worker for all, and once more when it is over.

    1. Take the turn: one process at a time, once a minute for the whole platform.
    2. Ask how the queue is doing.
    3. Write down what is newly wrong and what is over. An alert's row is its state, so an edge is seen once.
    4. Enqueue a job of the application's hook for each edge, if it has one.
    5. Write down in the audit log which webhooks the platform has given up since.

All of it is one transaction: after a crash in between nothing has happened, and the next worker does it. The hook's job
has retries, and a row that says whether somebody was told.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from jobplatform.models import PLATFORM_WORKSPACE, AlertRow
from jobplatform.queue.allowed import PRIORITIES
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.enqueue import NewJob, enqueue_of_ours
from jobplatform.queue.health.health import Alert, queue_health
from jobplatform.queue.hooks.tell_webhooks import tell_of_disabled
from jobplatform.queue.statement import one_transaction, run, text_array
from jobplatform.queue.turns import leave_turn, take_turn

CHORE = "alerts"
EVERY = datetime.timedelta(minutes=1)
#: The task that an application's hook is; see :meth:`Tasks.on_alert`.
HOOK = "jobplatform.alert"
HOOK_ATTEMPTS = 10
HOOK_TIMEOUT = datetime.timedelta(minutes=1)
#: The queue that a worker may be kept for; without one the hook's jobs are in ``default``.
HOOK_QUEUE = "alerts"

RAISED, RESOLVED = "raised", "resolved"

RAISE = """
with firing as materialized (
    select u.* from unnest(%(codes)s::text[], %(messages)s::text[]) as u(code, message)
),
going_on as (
    update jobplatform.alerts a
    set message = f.message
    from firing f
    where a.code = f.code and a.resolved_at is null and a.message <> f.message
)
insert into jobplatform.alerts as a (code, message)
select code, message from firing
on conflict (code) do update
set message = excluded.message,
    raised_at = jobplatform.clock(),
    resolved_at = null
where a.resolved_at is not null
returning code, message, raised_at
"""
RESOLVE = """
update jobplatform.alerts
set resolved_at = jobplatform.clock()
where resolved_at is null and code <> all(%(codes)s::text[])
returning code, message, resolved_at
"""
# Workers that died within the last day are asked too: their successors will know the hook.
WHERE_HOOKS_RUN = """
select case
    when bool_or(%(dedicated)s = any(queues)) then %(dedicated)s
    when bool_or('default' = any(queues)) then 'default'
    else min(queues[1])
end
from jobplatform.workers
where %(hook)s = any(tasks)
"""


@dataclass(frozen=True)
class AlertEvent:
    """What a hook is told: ``event`` is ``raised`` or ``resolved``, ``at`` the moment in ISO 8601.

    ``workspace_id`` is there when a rule of that workspace raised it; without, it is about all of the platform.
    """

    event: str
    code: str
    message: str
    at: str
    workspace_id: uuid.UUID | None = None


def settle_alerts(session: Session, *, now: bool = False) -> Sequence[AlertEvent]:
    """Look whether something is newly wrong or over, write it down and have the hook told. Answers with these edges.

    Nothing happens, and the answer is empty, until a minute after the last look of any process; unless ``now``.
    """
    with one_transaction(session):
        turn = take_turn(session, CHORE, now=now)
        if turn is None:
            return []
        events = _edges(session, queue_health(session).alerts)
        tell_hook(session, events)
        tell_of_disabled(session)
        leave_turn(session, turn, 0, EVERY)
    return events


@checks_arguments()
def list_alerts(session: Session, *, resolved: bool = False) -> Sequence[AlertRow]:
    """The alerts that are raised, longest first; with ``resolved`` also the last time of those that are over."""
    statement = select(AlertRow).order_by(AlertRow.resolved_at.is_not(None), AlertRow.raised_at, AlertRow.code)
    if not resolved:
        statement = statement.where(AlertRow.resolved_at.is_(None))
    return session.scalars(statement, execution_options={"populate_existing": True}).all()


def _edges(session: Session, alerts: Sequence[Alert]) -> list[AlertEvent]:
    codes = text_array(alert.code for alert in alerts)
    raised = run(session, RAISE, codes=codes, messages=text_array(alert.message for alert in alerts)).all()
    resolved = run(session, RESOLVE, codes=codes).all()
    return [
        AlertEvent(event, code, message, at.astimezone(datetime.UTC).isoformat())
        for event, rows in ((RAISED, raised), (RESOLVED, resolved))
        for code, message, at in rows
    ]


def tell_hook(session: Session, events: Sequence[AlertEvent]) -> None:
    """Enqueue a job of the application's hook for each event, if a worker has it."""
    queue = run(session, WHERE_HOOKS_RUN, hook=HOOK, dedicated=HOOK_QUEUE).scalar() if events else None
    if queue is None:
        return
    jobs = [
        NewJob(
            workspace_id=PLATFORM_WORKSPACE,
            task=HOOK,
            queue=queue,
            payload=_payload(event),
            priority=PRIORITIES[-1],
            max_attempts=HOOK_ATTEMPTS,
            timeout=HOOK_TIMEOUT,
        )
        for event in events
    ]
    enqueue_of_ours(session, jobs)


def _payload(event: AlertEvent) -> dict[str, str]:
    """Without a workspace as it always was, for workers of an older version."""
    return {name: str(value) for name, value in asdict(event).items() if value is not None}
