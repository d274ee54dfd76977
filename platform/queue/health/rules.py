"""Rules of health: when a number is too large. Built in, declared in code, and changed by operators while all runs."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidLimitError, Problem, refuse
from jobplatform.models import HealthRule
from jobplatform.queue.allowed import is_number
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.numbers.counts import Done, Live
from jobplatform.queue.snapshot import says_it_cannot_see
from jobplatform.queue.statement import array, run, text_array
from jobplatform.wording import agreeing, plural

RULE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}\Z")
#: Fewer jobs than this in an hour make no rate.
FEWEST_ENDED = 5

#: What can be compared with a threshold, and how an alert about it reads.
METRICS = {
    "ready": "{value:,.0f} jobs{where} are ready and wait for a slot",
    "scheduled": "{value:,.0f} jobs{where} wait for a later moment",
    "blocked": "{value:,.0f} jobs{where} wait for other jobs",
    "pending": "{value:,.0f} jobs{where} are pending",
    "running": "{value:,.0f} jobs{where} run",
    "oldest_ready_seconds": "the oldest ready job{where} has waited for {value:.0f} s",
    "longest_running_seconds": "a job{where} has run for {value:.0f} s",
    "completed_last_hour": "{value:,.0f} jobs{where} completed in the last hour",
    "failed_last_hour": "{value:,.0f} jobs{where} failed in the last hour",
    "failure_rate": "{value:.0%} of the jobs{where} that ended in the last hour failed",
}
#: How it reads about one job, where jobs are counted.
_OF_ONE = {
    "ready": "1 job{where} is ready and waits for a slot",
    "scheduled": "1 job{where} waits for a later moment",
    "blocked": "1 job{where} waits for other jobs",
    "pending": "1 job{where} is pending",
    "running": "1 job{where} runs",
    "completed_last_hour": "1 job{where} completed in the last hour",
    "failed_last_hour": "1 job{where} failed in the last hour",
}

STUCK, FAILING, BACKLOG = "stuck", "failing", "backlog"
#: Alerts without a threshold; they can be switched off.
PLAIN = ("no_worker", "unserved", "no_key", "overdue_schedules", "webhooks_disabled")

DECLARE = """
with said as materialized (
    select u.*
    from unnest(
        %(names)s::text[], %(metrics)s::text[], %(queues)s::text[], %(tasks)s::text[], %(above)s::float8[]
    ) as u(name, metric, queue, task, above)
),
gone as (
    delete from jobplatform.health_rules h
    where h.declared_by = %(declared_by)s and not exists (select from said where said.name = h.name)
)
insert into jobplatform.health_rules as h (name, metric, queue, task, declared_above, declared_by)
select name, metric, queue, task, above, %(declared_by)s
from said
order by name
on conflict (name) do update
set metric = excluded.metric,
    queue = excluded.queue,
    task = excluded.task,
    declared_above = excluded.declared_above,
    declared_by = excluded.declared_by
where (h.metric, h.queue, h.task, h.declared_above, h.declared_by)
    is distinct from (excluded.metric, excluded.queue, excluded.task, excluded.declared_above, excluded.declared_by)
"""


def _name_problems(name: object) -> list[Problem]:
    return (
        []
        if isinstance(name, str) and RULE_NAME.match(name)
        else [Problem("/name", "must be letters, digits and underscores, at most 100")]
    )


def _metric_problems(metric: str) -> list[Problem]:
    if str(metric) in METRICS:
        return []
    near = difflib.get_close_matches(str(metric), METRICS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return [Problem("/metric", f"must be one of {', '.join(METRICS)}{hint}")]


def _above_problems(above: object) -> list[Problem]:
    return [] if is_number(above) and 0 <= above <= 1e12 else [Problem("/above", "must be a number from 0")]


def rate_problems(metric: str, above: float | None) -> list[Problem]:
    """Who says 20 means 20 %, and would never be told. Of what is set now; older rows are read as they are."""
    if metric != "failure_rate" or above is None or not 1 < above <= 1e12:
        return []
    meant = f"; {above:g} % is {above / 100:g}" if above <= 100 else ""
    return [Problem("/above", f"a rate is from 0 to 1{meant}")]


@dataclass(frozen=True, slots=True)
class AlertRule:
    """Alert as ``name`` when ``metric``, of a ``queue`` or a ``task`` or of everything, is above ``above``.

    Raises :class:`InvalidLimitError` for what cannot be.
    """

    name: str
    metric: str
    above: float
    queue: str | None = None
    task: str | None = None
    enabled: bool = True

    def __post_init__(self) -> None:
        problems = [*_name_problems(self.name), *_metric_problems(self.metric), *_above_problems(self.above)]
        refuse(InvalidLimitError, problems)

    def broken_by(self, live: Sequence[Live], done: Sequence[Done]) -> str | None:
        """What to tell, if the numbers break the rule."""
        mine = [one for one in live if self._covers(one)]
        ended = [one for one in done if self._covers(one)]
        value = _value(self.metric, mine, ended)
        if value is None or value <= self.above:
            return None
        if self.name in BUILT_IN and self.queue is None and self.task is None:
            return _builtin_message(self, mine, ended)
        sentences = METRICS | _OF_ONE if value == 1 else METRICS
        return sentences[self.metric].format(value=value, where=self._where())

    def _covers(self, one: Live | Done) -> bool:
        return self.queue in (None, one.queue) and self.task in (None, one.task)

    def _where(self) -> str:
        named = [f"{kind} {name}" for kind, name in (("queue", self.queue), ("task", self.task)) if name]
        return f" of {' and '.join(named)}" if named else ""


#: What counts without anybody saying anything.
BUILT_IN: Mapping[str, AlertRule] = {
    STUCK: AlertRule(STUCK, "longest_running_seconds", 15 * 60),
    FAILING: AlertRule(FAILING, "failure_rate", 0.2),
    BACKLOG: AlertRule(BACKLOG, "ready", 100),
}


def list_rules(session: Session) -> dict[str, AlertRule]:
    """Every rule by name, as it counts now; those that are switched off too."""
    rules = dict(BUILT_IN)
    statement = select(HealthRule).order_by(HealthRule.name)
    for row in session.scalars(statement, execution_options={"populate_existing": True}):
        rule = rules.get(row.name)
        above = row.above if row.above is not None else row.declared_above
        if rule is None and row.name in PLAIN:
            rules[row.name] = without_threshold(row.name, enabled=row.enabled)
        elif rule is None and row.metric in METRICS and above is not None:
            rules[row.name] = AlertRule(row.name, row.metric, above, row.queue, row.task, row.enabled)
        elif rule is not None:
            rules[row.name] = replace(rule, above=rule.above if above is None else above, enabled=row.enabled)
    return rules


def find_rule(session: Session, name: str) -> AlertRule | None:
    """A rule as it counts now; also one without a threshold that nobody has changed."""
    return list_rules(session).get(name) or (without_threshold(name) if name in PLAIN else None)


def changed_rules(session: Session) -> frozenset[str]:
    """The names of those that an operator has changed: what :func:`clear_rule` would bring back."""
    statement = select(HealthRule.name).where(HealthRule.above.is_not(None) | ~HealthRule.enabled)
    return frozenset(session.scalars(statement))


@checks_arguments(InvalidLimitError)
@says_it_cannot_see("rule", "name")
def set_rule(session: Session, name: str, *, above: float | None = None, enabled: bool | None = None) -> AlertRule:
    """Change the threshold of a rule, or switch it off and on. It counts at once; the answer is what counts now.

    Raises :class:`InvalidLimitError` for a name that nobody has, with the nearest one.
    """
    rules = list_rules(session)
    known = [*rules, *PLAIN]
    problems = [] if name in known else [Problem("/name", unknown_rule(name, known))]
    problems += _above_problems(above) if above is not None else []
    problems += rate_problems(rules[name].metric, above) if name in rules else []
    if above is not None and name in PLAIN:
        problems.append(Problem("/above", "this rule has no threshold; it can be switched off"))
    refuse(InvalidLimitError, problems)
    values: dict[str, Any] = {} if above is None else {"above": above}
    values |= {} if enabled is None else {"enabled": enabled}
    if values:
        statement = insert(HealthRule).values(name=name, **values)
        session.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))
    return list_rules(session).get(name) or without_threshold(name)


def without_threshold(name: str, *, enabled: bool = True) -> AlertRule:
    """One of :data:`PLAIN`. Only whether it is switched off is of interest: no number is above this."""
    return AlertRule(name, "pending", 1e12, enabled=enabled)


@checks_arguments(InvalidLimitError)
@says_it_cannot_see("rule", "name")
def clear_rule(session: Session, name: str) -> bool:
    """Back to what is built in or declared. Says whether there was anything to clear."""
    row = session.get(HealthRule, name, with_for_update=True, populate_existing=True)
    if row is None or (row.above is None and row.enabled):
        return False
    if row.declared_by is None:
        session.delete(row)
    else:
        row.above, row.enabled = None, True
    session.flush()
    return True


def declare_rules(session: Session, rules: Iterable[Mapping[str, Any]], declared_by: str) -> None:
    """Write down the rules of an application; those it had before and has no more go."""
    found = list(rules)
    run(
        session,
        DECLARE,
        names=text_array(rule["name"] for rule in found),
        metrics=text_array(rule["metric"] for rule in found),
        queues=text_array(rule["queue"] for rule in found),
        tasks=text_array(rule["task"] for rule in found),
        above=array(rule["above"] for rule in found),
        declared_by=declared_by,
    )


def _value(metric: str, live: Sequence[Live], done: Sequence[Done]) -> float | None:
    if metric == "failure_rate":
        return failure_rate(done, fewest=FEWEST_ENDED)
    if metric in ("completed_last_hour", "failed_last_hour"):
        return sum(one.completed if metric.startswith("completed") else one.failed for one in done)
    if metric == "pending":
        return sum(one.ready + one.scheduled + one.blocked for one in live)
    if metric.endswith("_seconds"):
        return float(max((getattr(one, metric) or 0.0 for one in live), default=0.0))
    return float(sum(getattr(one, metric) for one in live))


def failure_rate(done: Sequence[Done], *, fewest: int = 1) -> float | None:
    """How much of what ended failed; None when too little ended."""
    failed, completed = sum(one.failed for one in done), sum(one.completed for one in done)
    return failed / (failed + completed) if failed + completed >= fewest else None


def _builtin_message(rule: AlertRule, live: Sequence[Live], done: Sequence[Done]) -> str:
    failed, completed = sum(one.failed for one in done), sum(one.completed for one in done)
    stuck, ready, minutes = sum(one.stuck for one in live), sum(one.ready for one in live), rule.above / 60
    messages = {
        STUCK: f"{plural(stuck, 'job runs', 'jobs run')} for longer than {minutes:g} {agreeing(minutes, 'minute')}",
        FAILING: f"{failed} of the {plural(completed + failed, 'job')} that ended in the last hour failed",
        BACKLOG: plural(ready, "job is ready and waits for a slot", "jobs are ready and wait for a slot"),
    }
    return messages[rule.name]


def unknown_rule(name: str, known: Sequence[str]) -> str:
    """That nobody has this rule, with the nearest one."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"there is no rule {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
