"""Health: what the doctor finds, and which alert rules there are."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

from flask import Response
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from jobplatform.errors import JobPlatformError
from jobplatform.migrations import head
from jobplatform.pages.rendering import render
from jobplatform.pages.shell import Section, looking
from jobplatform.pages.words import duration, percent
from jobplatform.queue import (
    AlertRule,
    Finding,
    Severity,
    examine_queue,
    examine_schema,
    examine_server,
    list_rules,
    pages,
)

#: From here on: an alert that is switched on and off, and compares nothing.
NO_THRESHOLD = 1e12
#: What rules compare, as their table calls it.
MEASURES = {
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


def make_health() -> Section:
    section = Section("health", __name__)
    section.page("/health")(show_health)
    return section


def show_health() -> Response:
    with looking() as session:
        rules = list_rules(session)
        health = pages.health_now(session)
    examine_jobs = functools.partial(examine_queue, unserved=health.unserved_tasks)
    findings = [*_examined(examine_schema), *_examined(examine_jobs), *_examined(examine_server)]
    order = {severity: number for number, severity in enumerate(Severity)}
    findings.sort(key=lambda finding: order[finding.severity])
    return render(
        "health.html",
        findings=findings,
        wrong=any(one.severity is not Severity.INFO for one in findings),
        rules=rules,
        alerts={alert.code: alert for alert in health.alerts},
        revision=head(),
        measure_of=measure_of,
        threshold_of=threshold_of,
    )


def measure_of(rule: AlertRule) -> str:
    """What a rule looks at, in words."""
    if rule.above >= NO_THRESHOLD:
        return "–"
    of_queue = f", of the queue {rule.queue}" if rule.queue else ""
    of_task = f", of the task {rule.task}" if rule.task else ""
    return MEASURES.get(rule.metric, rule.metric) + of_queue + of_task


def threshold_of(rule: AlertRule) -> str:
    """In the unit of what it looks at."""
    if rule.above >= NO_THRESHOLD:
        return "–"
    if rule.metric.endswith("_seconds"):
        return duration(rule.above)
    return percent(rule.above) if rule.metric.endswith("_rate") else f"{rule.above:,g}"


def _examined(examine: Callable[[Session], Iterator[Finding]]) -> list[Finding]:
    """Each by itself: where one cannot look, the others still do."""
    try:
        with looking() as session:
            return list(examine(session))
    except (DBAPIError, JobPlatformError) as error:
        seen = f"something could not be looked at: {str(getattr(error, 'orig', error)).strip().splitlines()[0]}"
        return [Finding(Severity.WARNING, "not_examined", seen, "This part is missing below.", "jobplatform doctor")]
