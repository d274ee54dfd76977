"""Overview: how everything is doing, on one page."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from jobplatform.queue.health.health import Health, judge
from jobplatform.queue.health.rules import STUCK, list_rules
from jobplatform.queue.numbers.counts import HOUR, Done, count_live
from jobplatform.queue.pages.charts import Span, Throughput, throughput
from jobplatform.queue.silent import lease_seconds
from jobplatform.queue.statement import run

# What ended within the hour, by queue and task: what the rules of health are about.
ENDED = """
select
    c.queue,
    c.task,
    coalesce(sum(c.amount) filter (where c.status = 3), 0)::bigint,
    coalesce(sum(c.amount) filter (where c.status = 4), 0)::bigint,
    coalesce(sum(c.amount) filter (where c.status = 5), 0)::bigint
from jobplatform.platform_cells c
where c.minutes = 1
    and c.at > jobplatform.clock() - make_interval(secs => %(within)s)
    and c.queue <> ''
    and c.task <> ''
group by 1, 2
"""
FLEET = """
select
    count(*) filter (where w.draining or w.drain_requested_at is not null),
    coalesce(sum(w.slots), 0),
    (select count(*) from jobplatform.pauses p where p.until is null or p.until > jobplatform.clock()),
    (
        select count(*)
        from jobplatform.schedules s
        where s.next_run_at < jobplatform.clock() - interval '1 minute'
    )
from jobplatform.workers w
where w.dead_at is null and w.heartbeat_at >= jobplatform.clock() - make_interval(secs => %(lease)s)
"""
RAISED = "select code, raised_at from jobplatform.alerts where resolved_at is null"


@dataclass(frozen=True, slots=True)
class RaisedAlert:
    """Something that needs a person. ``raised_at`` is None until a worker has written it down."""

    code: str
    message: str
    raised_at: datetime.datetime | None


@dataclass(frozen=True, slots=True)
class Overview:
    """What there is to do and who does it, exact; and what was done over a span, as far as it is counted.

    ``stuck`` jobs run for longer than ``stuck_after_seconds``. ``workers`` had a heartbeat within a lease.
    """

    throughput: Throughput
    ready: int
    scheduled: int
    blocked: int
    running: int
    stuck: int
    stuck_after_seconds: float
    oldest_ready_seconds: float | None
    longest_running_seconds: float | None
    overdue_schedules: int
    workers: int
    workers_draining: int
    slots: int
    paused: int
    alerts: tuple[RaisedAlert, ...]

    @property
    def pending(self) -> int:
        return self.ready + self.scheduled + self.blocked


def overview(session: Session, span: Span = "1h") -> Overview:
    """Everything at a glance, on a Session that sees all workspaces.

    Alerts are what the rules say now, from the numbers of this page; what no worker has looked at yet is among them.
    """
    rules = list_rules(session)
    stuck_after = datetime.timedelta(seconds=rules[STUCK].above)
    live = count_live(session, None, stuck_after)
    health = judge(session, rules, live, _ended(session))
    draining, slots, paused, overdue = run(session, FLEET, lease=lease_seconds()).one()
    longest = [one.longest_running_seconds for one in live if one.longest_running_seconds is not None]
    return Overview(
        throughput=throughput(session, span),
        ready=health.ready,
        scheduled=health.scheduled,
        blocked=health.blocked,
        running=health.running,
        stuck=health.stuck,
        stuck_after_seconds=stuck_after.total_seconds(),
        oldest_ready_seconds=health.oldest_ready_seconds,
        longest_running_seconds=max(longest, default=None),
        overdue_schedules=overdue,
        workers=health.workers,
        workers_draining=draining,
        slots=slots,
        paused=paused,
        alerts=_since(session, health),
    )


def health_now(session: Session) -> Health:
    """What the rules say, on a Session that sees all workspaces; of what has ended as far as it is counted.

    ``queue_health`` looks for the jobs that ended themselves, which is exact and takes longer.
    """
    rules = list_rules(session)
    live = count_live(session, None, datetime.timedelta(seconds=rules[STUCK].above))
    return judge(session, rules, live, _ended(session))


def raised_alerts(session: Session) -> tuple[RaisedAlert, ...]:
    """What is wrong now, as on the overview."""
    return _since(session, health_now(session))


def _since(session: Session, health: Health) -> tuple[RaisedAlert, ...]:
    raised = {row[0]: row[1] for row in run(session, RAISED)}
    return tuple(RaisedAlert(alert.code, alert.message, raised.get(alert.code)) for alert in health.alerts)


def _ended(session: Session) -> Sequence[Done]:
    return [Done(*row) for row in run(session, ENDED, within=HOUR.total_seconds())]
