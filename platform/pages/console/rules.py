"""Rules of alerts in words and in forms: what one looks at, in which unit, and what of it a form says."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

from flask import request

from jobplatform.pages.console.typed import ungrouped
from jobplatform.pages.seen import CHANGED, CHANGED_TO_THE_SAME
from jobplatform.pages.words import as_typed, duration
from jobplatform.queue import AlertRule

#: What rules compare, as their table calls it.
MEASURES: Final = {
    "ready": "jobs that are ready",
    "scheduled": "jobs that wait for a later moment",
    "blocked": "jobs that wait for other jobs",
    "pending": "jobs that are pending",
    "running": "jobs that run",
    "oldest_ready_seconds": "how long the oldest ready job has waited",
    "longest_running_seconds": "how long a job has run",
    "completed_last_hour": "jobs that completed within an hour",
    "failed_last_hour": "jobs that failed within an hour",
    "failure_rate": "share of the jobs of an hour that failed",
}
#: What those are about that compare nothing.
FACTS: Final = {
    "no_worker": "jobs are ready, or seem to run, and no worker is there",
    "unserved": "jobs are ready and nobody serves their task or queue",
    "no_key": "jobs are encrypted and nobody has their key",
    "overdue_schedules": "schedules are due and nobody does them",
    "webhooks_disabled": "webhooks were given up, because their receivers are gone",
}


def looks_at(rule: AlertRule) -> str:
    """What a rule looks at, in words."""
    if rule.name in FACTS:
        return FACTS[rule.name]
    of_queue = f", of the queue {rule.queue}" if rule.queue else ""
    of_task = f", of the task {rule.task}" if rule.task else ""
    return MEASURES.get(rule.metric, rule.metric) + of_queue + of_task


def fires_above(rule: AlertRule) -> str:
    """Its threshold in the unit of what it looks at; a dash where it has none."""
    if rule.name in FACTS:
        return "–"
    if rule.metric.endswith("_seconds"):
        return duration(rule.above)
    # All its digits: 1,234,567 is no 1.23457e+06, and 20.5 % are not 20.
    return f"{rule.above * 100:.12g} %" if rule.metric.endswith("_rate") else f"{rule.above:,.15g}"


def unit_of(metric: str) -> str:
    """What a number for it means, as the API takes it and as it is typed."""
    if metric.endswith("_seconds"):
        return "Seconds"
    return "A share, from 0 to 1" if metric.endswith("_rate") else "Jobs"


def said_of_rule(fields: Iterable[str]) -> dict[str, Any]:
    """What a form says of a rule, as the API takes it. An empty field says nothing, but for a number that is needed."""
    said = {name: request.form.get(name, "").strip() for name in fields}
    values: dict[str, Any] = {name: text for name, text in said.items() if text and name != "above"}
    if "above" in said:
        values["above"] = _number(said["above"])
    return values


def now_of_rule(rule: AlertRule) -> dict[str, str]:
    """What is to be read beside a form for its threshold that somebody else has been quicker with."""
    if said_of_rule(("above",))["above"] == rule.above:
        return {"": CHANGED_TO_THE_SAME}
    return {"": CHANGED, "above": f"It is {as_typed(rule.above)} now."}


def _number(text: str) -> Any:
    """A number where it is one; else as it is, and the API says what is wrong with it."""
    try:
        number = float(ungrouped(text))
    except ValueError:
        return text or None
    return number if math.isfinite(number) else text
