"""Health: the questions that are asked at night, answered from rows."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from sqlalchemy.orm import Session

from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.doorbell import LISTENER
from jobplatform.queue.health.rules import BACKLOG, FAILING, STUCK, AlertRule, list_rules
from jobplatform.queue.numbers.counts import HOUR, LONGEST_REACH, Done, Live, count_done, count_live, likely_reach
from jobplatform.queue.silent import lease_seconds
from jobplatform.queue.statement import array, run, text_array
from jobplatform.wording import agreeing, plural

# Of other logins' connections everybody may see the name, and nothing else.
WORKERS = """
with alive as materialized (
    select count(*) as workers
    from jobplatform.workers
    where dead_at is null and heartbeat_at >= jobplatform.clock() - make_interval(secs => %(lease)s)
),
ears as materialized (
    select count(*) as listening
    from pg_stat_activity
    where datname = current_database() and application_name = %(listener)s
)
select alive.workers, ears.listening,
    -- Of the kinds of jobs that are ready.
    array(
        select distinct k.task || case when k.version > 1 then ' (payload version ' || k.version || ')' else '' end
        from unnest(%(tasks)s::text[], %(queues)s::text[], %(versions)s::int[]) as k(task, queue, version)
        where not exists (
            select from jobplatform.workers w
            where w.dead_at is null
                and w.heartbeat_at >= jobplatform.clock() - make_interval(secs => %(lease)s)
                and k.task = any(w.tasks)
                and k.version <= coalesce(w.versions[array_position(w.tasks, k.task)], 32767)
                and k.queue = any(w.queues)
        )
        limit 20
    ) as unserved,
    -- An index-only scan of what waits for a tick. A spread is in it already; two polls are not.
    (
        select count(*)
        from jobplatform.schedules s
        where s.next_run_at < jobplatform.clock() - interval '1 minute'
            and (%(workspace_id)s::uuid is null or s.workspace_id = %(workspace_id)s::uuid)
    ) as overdue,
    (
        select count(*)
        from jobplatform.webhook_subscriptions s
        where s.disabled_by = 'jobplatform' and s.disabled_at > jobplatform.clock() - interval '1 day'
            and (%(workspace_id)s::uuid is null or s.workspace_id = %(workspace_id)s::uuid)
    ) as given_up
from alive, ears
"""


class Alert(NamedTuple):
    """Something that needs a person: a stable code, and what to know and try in words."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Health:
    """Counts of live jobs, of the last hour, and what is wrong. Healthy means no alerts.

    ``listening`` is how many connections hear the doorbell. With fewer of them than ``workers`` some only poll.
    """

    running: int
    ready: int
    scheduled: int
    blocked: int
    stuck: int
    oldest_ready_seconds: float | None
    completed_last_hour: int
    failed_last_hour: int
    workers: int
    listening: int
    unserved_tasks: tuple[str, ...]
    alerts: tuple[Alert, ...]

    @property
    def healthy(self) -> bool:
        return not self.alerts

    @property
    def pending(self) -> int:
        return self.ready + self.scheduled + self.blocked


@checks_arguments()
def queue_health(
    session: Session,
    workspace_id: uuid.UUID | None = None,
    *,
    stuck_after: datetime.timedelta | None = None,
    failure_rate: float | None = None,
    backlog: int | None = None,
) -> Health:
    """How the queue is doing; of one workspace, or of all.

    Alerts of rules: ``stuck`` (running longer than 15 minutes), ``failing`` (more than 20 % of what ended in the last
    hour failed), ``backlog`` (more than 100 ready jobs), and those that the application declares. Their thresholds
    are rows (:func:`set_rule`); what is given here wins over them. And, without a threshold: ``no_worker`` (jobs are
    ready, or run by their rows, and nobody is there), ``unserved`` (ready jobs whose task, or payload version, no
    live worker knows, or whose queue none of those serves), ``no_key`` (encrypted jobs that a worker could not open
    and handed back), ``overdue_schedules`` (due for more than a minute, and nobody does them), ``webhooks_disabled``
    (by the platform, within the last day).
    """
    seconds = None if stuck_after is None else stuck_after.total_seconds()
    rules = _with_thresholds(list_rules(session), {STUCK: seconds, FAILING: failure_rate, BACKLOG: backlog})
    live = count_live(session, workspace_id, datetime.timedelta(seconds=rules[STUCK].above))
    done = count_done(session, workspace_id, likely_reach(live))
    if any(rule.metric == "failure_rate" and rule.broken_by(live, done) for rule in rules.values()):
        # Before anybody is alarmed, what went well is looked for as far back as ever.
        done = count_done(session, workspace_id, LONGEST_REACH)
    return judge(session, rules, live, done, workspace_id)


def unserved_tasks(session: Session) -> tuple[str, ...]:
    """The tasks of ready jobs that no live worker knows, of all workspaces; up to 20."""
    return judge(session, {}, count_live(session, None, HOUR), ()).unserved_tasks


def judge(
    session: Session,
    rules: Mapping[str, AlertRule],
    live: Sequence[Live],
    done: Sequence[Done],
    workspace_id: uuid.UUID | None = None,
) -> Health:
    """What the rules say of these counts, and who is there to do something about them."""
    asked = {"workspace_id": workspace_id, "listener": LISTENER, "lease": lease_seconds()}
    row = run(session, WORKERS, **asked, **_ready_kinds(live)).one()
    workers, listening, unserved, overdue, given_up = row
    oldest = [one.oldest_ready_seconds for one in live if one.oldest_ready_seconds is not None]
    health = Health(
        running=sum(one.running for one in live),
        ready=sum(one.ready for one in live),
        scheduled=sum(one.scheduled for one in live),
        blocked=sum(one.blocked for one in live),
        stuck=sum(one.stuck for one in live),
        oldest_ready_seconds=max(oldest, default=None),
        completed_last_hour=sum(one.completed for one in done),
        failed_last_hour=sum(one.failed for one in done),
        workers=workers,
        listening=listening,
        unserved_tasks=tuple(unserved),
        alerts=(),
    )
    alerts = [*_alerts_of_rules(rules, live, done), *_plain_alerts(rules, live, health, overdue, given_up)]
    return replace(health, alerts=tuple(alerts))


def _ready_kinds(live: Iterable[Live]) -> dict[str, str]:
    kinds = [(one.task, one.queue, version) for one in live for version in one.ready_versions]
    return {
        "tasks": text_array(task for task, _, _ in kinds),
        "queues": text_array(queue for _, queue, _ in kinds),
        "versions": array(version for _, _, version in kinds),
    }


def _with_thresholds(rules: Mapping[str, AlertRule], given: Mapping[str, float | None]) -> dict[str, AlertRule]:
    wanted = {name: value for name, value in given.items() if value is not None}
    return {name: replace(rule, above=wanted.get(name, rule.above)) for name, rule in rules.items()}


def _alerts_of_rules(rules: Mapping[str, AlertRule], live: Sequence[Live], done: Sequence[Done]) -> Iterator[Alert]:
    for name, rule in rules.items():
        message = rule.broken_by(live, done) if rule.enabled else None
        if message:
            yield Alert(name, message)


def _plain_alerts(
    rules: Mapping[str, AlertRule], live: Sequence[Live], health: Health, overdue: int, given_up: int
) -> Iterator[Alert]:
    locked = sum(one.locked for one in live)
    found = {
        "no_key": (locked > 0, _no_key(locked)),
        "no_worker": (health.workers == 0 and health.ready + health.running > 0, _no_worker(health)),
        "unserved": (health.workers > 0 and bool(health.unserved_tasks), _unserved(health.unserved_tasks)),
        "overdue_schedules": (overdue > 0, _overdue(overdue)),
        "webhooks_disabled": (given_up > 0, _given_up(given_up)),
    }
    for code, (is_so, message) in found.items():
        if is_so and (code not in rules or rules[code].enabled):
            yield Alert(code, message)


def _no_worker(health: Health) -> str:
    if health.ready:
        return f"{plural(health.ready, 'job is', 'jobs are')} ready and no worker is alive"
    said = plural(health.running, "job is running by its row", "jobs are running by their rows")
    return f"{said} and no worker is alive to take {agreeing(health.running, 'it', 'them')} back"


def _no_key(jobs: int) -> str:
    told = plural(jobs, "encrypted job waits", "encrypted jobs wait")
    return f"{told} for a worker that has {agreeing(jobs, 'its', 'their')} key"


def _unserved(tasks: Sequence[str]) -> str:
    named = f"{agreeing(len(tasks), 'task')} {', '.join(tasks)}"
    where = agreeing(len(tasks), "the queue where it waits", "the queues where they wait")
    return f"no live worker serves the {named} in {where}"


def _overdue(schedules: int) -> str:
    due = plural(schedules, "schedule has", "schedules have")
    whose = agreeing(schedules, "its task", "their tasks")
    return f"{due} been due for more than a minute; is there a worker that knows {whose}?"


def _given_up(webhooks: int) -> str:
    told = plural(webhooks, "webhook was", "webhooks were")
    why = agreeing(webhooks, "its receiver is gone, or has", "their receivers are gone, or have")
    return f"{told} disabled within a day: {why} failed for days"
