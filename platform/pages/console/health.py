"""Health: what the doctor finds."""

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
from jobplatform.queue import Finding, Severity, examine_queue, examine_schema, examine_server, pages


def make_health() -> Section:
    section = Section("health", __name__)
    section.page("/health")(show_health)
    return section


def show_health() -> Response:
    with looking() as session:
        unserved = pages.health_now(session).unserved_tasks
    examine_jobs = functools.partial(examine_queue, unserved=unserved)
    findings = [*_examined(examine_schema), *_examined(examine_jobs), *_examined(examine_server)]
    order = {severity: number for number, severity in enumerate(Severity)}
    findings.sort(key=lambda finding: order[finding.severity])
    return render(
        "health.html",
        findings=findings,
        wrong=any(one.severity is not Severity.INFO for one in findings),
        revision=head(),
    )


def _examined(examine: Callable[[Session], Iterator[Finding]]) -> list[Finding]:
    """Each by itself: where one cannot look, the others still do."""
    try:
        with looking() as session:
            return list(examine(session))
    except (DBAPIError, JobPlatformError) as error:
        seen = f"something could not be looked at: {str(getattr(error, 'orig', error)).strip().splitlines()[0]}"
        return [Finding(Severity.WARNING, "not_examined", seen, "This part is missing below.", "jobplatform doctor")]
