"""One job: its life as a picture, what went wrong, what it says, why it waits, and what can be done about it."""

from __future__ import annotations

import datetime
import json
import secrets
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from flask import Response, request

from jobplatform.api.reading import reader_sees_sealed
from jobplatform.models import Job, Outcome, Status
from jobplatform.pages.acting import done, key_of_form, refused
from jobplatform.pages.charts import Stretch, stretches
from jobplatform.pages.console.jobs import workspace_names
from jobplatform.pages.console.typed import change_of_job, typed_change, wrong_with_change
from jobplatform.pages.inner_api import Answer
from jobplatform.pages.problems import PageError, nothing_here
from jobplatform.pages.rendering import render
from jobplatform.pages.shell import Section, ask, current_shell, current_visit, looking, url
from jobplatform.pages.words import duration
from jobplatform.queue import CLOSED, WEBHOOK_TASK, is_own_task, list_steps, pages, reveal, time_now

JOB = "/jobs/<uuid:workspace_id>/<uuid:job_id>"
LINES = 200
#: Where a fork begins, as the form says it.
FROM_STEP, FROM_START = "step", "start"
CHIPS = {Outcome.OK: "completed", Outcome.SKIPPED: "completed", Outcome.CANCELLED: "cancelled", "running": "running"}
#: What the stretches of a timeline are, for its legend.
KINDS = {
    "wait": "waited",
    "run": "runs",
    "ok": "ran, and went well",
    "error": "ran, and went wrong",
    "cancel": "ran until it was cancelled",
}


def make_job() -> Section:
    section = Section("job", __name__)
    section.page(JOB)(show_job)
    section.page(JOB + "/events")(stream_job)
    section.action(JOB + "/retry", "job.retry")(retry)
    section.action(JOB + "/fork", "job.fork")(fork)
    section.action(JOB + "/cancel", "job.cancel")(cancel)
    section.action(JOB + "/run-now", "job.run_now")(run_now)
    section.action(JOB + "/change", "job.change")(change)
    section.action(JOB + "/enqueue-again", "job.enqueue")(enqueue_again)
    return section


def show_job(workspace_id: UUID, job_id: UUID) -> Response:
    return _page(workspace_id, job_id)


def _page(workspace_id: UUID, job_id: UUID, wrong: dict[str, str] | None = None, status: int = 200) -> Response:
    """``wrong``: with the form of a change, which is shown again as it was typed."""
    with looking() as session:
        detail = pages.job_detail(session, workspace_id, job_id, lines=LINES)
        if detail is None:
            raise nothing_here()
        reveal(session, [detail.job], to_reader=reader_sees_sealed())
        names = workspace_names(session, [workspace_id])
        now = time_now(session)
        done_steps = list_steps(session, workspace_id, job_id, largest=0) if detail.why is None else []
    job: Job = detail.job
    parts, words = _life(detail, now)
    return render(
        "job.html",
        status=status,
        job=job,
        detail=detail,
        why=detail.why,
        workspace_name=names.get(workspace_id),
        stretches=parts,
        life_words=words,
        life_kinds=[(kind, word) for kind, word in KINDS.items() if any(part.kind == kind for part in parts)],
        chip_of=chip_of,
        quoted=quoted,
        is_live=job.status in (Status.PENDING, Status.RUNNING),
        can_be_made=not is_own_task(job.job_type),
        told_to=job.payload.get("webhookId") if job.job_type == WEBHOOK_TASK else None,
        can_run_now=job.status == Status.PENDING and job.run_after > now,
        once=secrets.token_urlsafe(16),
        beginnings=_beginnings([step.name for step in done_steps]),
        typed=typed_change(request.form) if wrong else {},
        wrong=wrong or {},
    )


def stream_job(workspace_id: UUID, job_id: UUID) -> Response:
    """The API's own stream, for the session of a page."""
    principal = current_visit().visitor.as_principal(workspace_id)
    path = f"/workspaces/{workspace_id}/jobs/{job_id}/events"
    last = request.headers.get("Last-Event-ID") or request.args.get("lastEventId")
    return current_shell().api.stream(principal, path, last)


def retry(workspace_id: UUID, job_id: UUID) -> Any:
    return done(_post(workspace_id, job_id, "retry"), "The job is pending again, with all its attempts ahead of it.")


def fork(workspace_id: UUID, job_id: UUID) -> Any:
    """A new job that begins where the form says, with the payload that it says, if any."""
    try:
        payload = json.loads(request.form.get("payload", "").strip() or "null")
    except (ValueError, RecursionError) as error:
        return refused(f"The payload is not JSON: {error}.")
    begins, _, name = request.form.get("begin", "").partition(":")
    body = {
        **({"fromStep": name} if begins == FROM_STEP else {}),
        **({"fromStart": True} if begins == FROM_START else {}),
        **({} if payload is None else {"payload": payload}),
    }
    answer = ask("POST", f"/workspaces/{workspace_id}/jobs/{job_id}/fork", body, key=key_of_form())
    return _to_the_new_job(workspace_id, answer)


def cancel(workspace_id: UUID, job_id: UUID) -> Any:
    answer = _post(workspace_id, job_id, "cancel")
    is_running = answer.ok and answer.body.get("status") == Status.RUNNING
    return done(answer, "Its worker was told to stop it." if is_running else "The job is cancelled.")


def run_now(workspace_id: UUID, job_id: UUID) -> Any:
    return done(_post(workspace_id, job_id, "run-now"), "The job is ready to run.")


def change(workspace_id: UUID, job_id: UUID) -> Any:
    if wrong := wrong_with_change(request.form, {}):
        return _page(workspace_id, job_id, wrong, 422)
    answer = ask("PATCH", f"/workspaces/{workspace_id}/jobs/{job_id}", change_of_job(request.form))
    if answer.status == 422:
        return _page(workspace_id, job_id, wrong_with_change(request.form, answer.complaints), 422)
    return done(answer, "The job is changed.")


def enqueue_again(workspace_id: UUID, job_id: UUID) -> Any:
    """A new job with the same payload and options, and a guard of its own where the task has one."""
    body = _same_again(workspace_id, job_id)
    answer = ask("POST", f"/workspaces/{workspace_id}/jobs", body, key=key_of_form())
    return _to_the_new_job(workspace_id, answer)


def chip_of(outcome: str) -> str:
    """The class of an outcome's chip."""
    return CHIPS.get(outcome, "failed")


def quoted(text: str) -> str:
    """As the value of a qualifier."""
    return json.dumps(text, ensure_ascii=False) if not text.replace("-", "").replace("_", "").isalnum() else text


def _to_the_new_job(workspace_id: UUID, answer: Answer) -> Any:
    if not answer.ok:
        return done(answer, "")
    return done(
        answer, "This is the new job.", url("job.show_job", workspace_id=workspace_id, job_id=answer.body["jobId"])
    )


def _beginnings(names: Sequence[str]) -> list[tuple[str, str]]:
    """Where a job made from this one may begin: as the form has it, and in words."""
    if not names:
        return []
    steps = [(f"{FROM_STEP}:{name}", f"again from {name}") for name in names if name]
    return [("", "after what is done"), *steps, (FROM_START, "from the start")]


def _same_again(workspace_id: UUID, job_id: UUID) -> dict[str, Any]:
    with looking() as session:
        detail = pages.job_detail(session, workspace_id, job_id, lines=0)
        if detail is None:
            raise nothing_here()
        job = detail.job
        reveal(session, [job], to_reader=False)
        if job.payload == CLOSED:
            raise PageError(
                409,
                "This job cannot be enqueued again here",
                "Its payload is encrypted, and is not for an operator to read.",
            )
        return {
            "jobType": job.job_type,
            "payload": job.payload,
            "queue": job.queue,
            "priority": job.priority,
            "tags": list(job.tags),
            "maxAttempts": job.max_attempts,
            "timeoutMs": job.timeout_ms,
            **({} if job.start_within_ms is None else {"startWithinMs": job.start_within_ms}),
        }


def _post(workspace_id: UUID, job_id: UUID, deed: str) -> Answer:
    return ask("POST", f"/workspaces/{workspace_id}/jobs/{job_id}/{deed}")


def _life(detail: pages.JobDetail, now: datetime.datetime) -> tuple[tuple[Stretch, ...], str]:
    """From being made to the end, or to now: waits and runs, to scale."""
    job = detail.job
    parts: list[tuple[str, datetime.datetime, datetime.datetime, str]] = []
    at, end = job.created_at, job.completed_at or now
    for one in detail.tries:
        if one.started_at is None:
            continue
        finish = one.ended_at or end
        if one.started_at > at:
            waited = duration((one.started_at - at).total_seconds())
            parts.append(("wait", at, one.started_at, f"waited {waited}"))
        kind = {"completed": "ok", "running": "run", "cancelled": "cancel"}.get(chip_of(one.outcome), "error")
        ran = duration((finish - one.started_at).total_seconds())
        parts.append((kind, one.started_at, finish, f"attempt {one.attempt}: {one.outcome} after {ran}"))
        at = finish
    if job.completed_at is None and (not parts or parts[-1][0] != "run"):
        parts.append(("wait", at, end, f"waiting for {duration((end - at).total_seconds())}"))
    words = "From its creation on: " + "; ".join(part[3] for part in parts) + "."
    return stretches(parts, job.created_at, end), words
