"""One job of the workspace: how far it is, live, and what came of it, source by source."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response, request
from sqlalchemy.orm import Session

from jobplatform.api.reading import reader_sees_sealed
from jobplatform.models import Job, Status
from jobplatform.pages.acting import done
from jobplatform.pages.portal.wording import STATES, errors_of, message_of, results_of, share_of, title_of
from jobplatform.pages.problems import nothing_here
from jobplatform.pages.rendering import render
from jobplatform.pages.shell import Section, ask, current_shell, current_visit, looking
from jobplatform.queue import get_job, pages, reveal

JOB = "/<uuid:tenant_id>/jobs/<uuid:job_id>"
#: Errors on the page; the file has them all.
SHOWN = 20


def make_own_job() -> Section:
    section = Section("own_job", __name__)
    section.page(JOB)(show_job)
    section.page(JOB + "/events")(stream_job)
    section.page(JOB + "/errors.txt")(download_errors)
    section.action(JOB + "/retry", "job.retry")(retry)
    section.action(JOB + "/cancel", "job.cancel")(cancel)
    return section


def show_job(tenant_id: UUID, job_id: UUID) -> Response:
    with looking() as session:
        job = _find(session, tenant_id, job_id)
        line = pages.activity_line(job)
    errors = errors_of(job.result)
    return render(
        "portal_job.html",
        line=line,
        title=title_of(line.task),
        state=STATES[line.status],
        message=message_of(line.progress),
        share=share_of(line.progress),
        is_live=line.status in (Status.PENDING, Status.RUNNING),
        results=results_of(job.result),
        errors=errors[:SHOWN],
        more_errors=max(0, len(errors) - SHOWN),
    )


def stream_job(tenant_id: UUID, job_id: UUID) -> Response:
    """The API's own stream, for the session of a page."""
    principal = current_visit().visitor.as_principal(tenant_id)
    last = request.headers.get("Last-Event-ID") or request.args.get("lastEventId")
    return current_shell().api.stream(principal, f"/workspaces/{tenant_id}/jobs/{job_id}/events", last)


def download_errors(tenant_id: UUID, job_id: UUID) -> Response:
    """Every error of a sync, one a line, to give to whoever looks after the source."""
    with looking() as session:
        errors = errors_of(_find(session, tenant_id, job_id).result)
    if not errors:
        raise nothing_here()
    lines = "".join(" ".join(error.split()) + "\n" for error in errors)
    answer = Response(lines, content_type="text/plain; charset=utf-8")
    answer.headers["Content-Disposition"] = f'attachment; filename="errors-{str(job_id)[-8:]}.txt"'
    return answer


def retry(tenant_id: UUID, job_id: UUID) -> Any:
    return done(ask("POST", f"/workspaces/{tenant_id}/jobs/{job_id}/retry"), "It is tried again.")


def cancel(tenant_id: UUID, job_id: UUID) -> Any:
    answer = ask("POST", f"/workspaces/{tenant_id}/jobs/{job_id}/cancel")
    stops = answer.ok and answer.body.get("status") == Status.RUNNING
    return done(answer, "It is being stopped." if stops else "It is called off.")


def _find(session: Session, tenant_id: UUID, job_id: UUID) -> Job:
    job = get_job(session, tenant_id, job_id)
    if job is None:
        raise nothing_here()
    reveal(session, [job], to_reader=reader_sees_sealed())
    return job
