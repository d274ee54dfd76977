"""The list of jobs: states, one box to search in, and what can be done with some of them or with all that match."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from flask import Response, redirect, request
from sqlalchemy import select
from sqlalchemy.orm import Session

from jobplatform.errors import SearchError
from jobplatform.models import Status, Workspace
from jobplatform.pages.console.bulk import begin
from jobplatform.pages.console.searching import explained
from jobplatform.pages.going_back import safe_back
from jobplatform.pages.notices import notify
from jobplatform.pages.problems import PageError
from jobplatform.pages.rendering import render
from jobplatform.pages.shell import Section, ask, looking, may, require, url
from jobplatform.queue import pages
from jobplatform.wording import plural

PER_PAGE = 50
#: What can be done with jobs of a state; of any, when none is chosen.
DEEDS = {
    None: ("retry", "cancel"),
    Status.PENDING: ("change", "cancel"),
    Status.RUNNING: ("cancel",),
    Status.FAILED: ("retry", "delete"),
    Status.CANCELLED: ("retry", "delete"),
    Status.COMPLETED: ("delete",),
}


def make_jobs() -> Section:
    section = Section("jobs", __name__)
    section.page("/jobs")(list_jobs)
    section.action("/jobs/selected", None)(act_on_selected)
    return section


def list_jobs() -> Response:
    q, tab = request.args.get("q", "").strip(), _tab()
    before = request.args.get("before")
    about: dict[str, Any] = {"q": q, "tab": tab or "", "before": before, "qualifiers": pages.QUALIFIERS}
    try:
        search = pages.parse_search(q)
    except SearchError as error:
        return render("jobs.html", status=400, complaints=explained(error), page=None, tabs=_tabs(None), **about)
    chosen = search.with_status(tab) if tab else search
    with looking() as session:
        counts = pages.count_jobs(session, search)
        page = pages.find_jobs(session, chosen, limit=PER_PAGE, before=before)
        names = workspace_names(session, (job.workspace_id for job in page.jobs))
    return render(
        "jobs.html",
        complaints="",
        page=page,
        tabs=_tabs(counts),
        names=names,
        matching=counts.of(tab) if tab and counts.of(tab).count else "",
        canonical=chosen.text,
        deeds=[deed for deed in DEEDS[tab] if may(f"job.{deed}")],
        **about,
    )


def act_on_selected() -> Any:
    """Retry or cancel each by the API, so that the answer says what became of each; deletions are workers' work."""
    deed = request.form.get("deed", "")
    if deed not in ("retry", "cancel", "delete"):
        raise PageError(400, "Nothing to do", "The form does not say what is to be done.")
    require(f"job.{deed}")
    keys = [_key(text) for text in request.form.getlist("job")[: 4 * PER_PAGE]]
    answer = redirect(safe_back(url("jobs.list_jobs")), 303)
    if not keys:
        notify(answer, "No job was selected.", "refused")
    elif deed == "delete":
        return begin("delete", "id:" + ",".join(str(job_id) for _, job_id in keys), len(keys))
    else:
        _tell(answer, deed, [_act(deed, *key) for key in keys])
    return answer


def workspace_names(session: Session, ids: Iterable[UUID | None]) -> Mapping[UUID, str]:
    """The names of those workspaces that have one."""
    wanted = {found for found in ids if found}
    rows = session.execute(select(Workspace.id, Workspace.name).where(Workspace.id.in_(wanted))) if wanted else ()
    return {row[0]: row[1] for row in rows}


def _act(deed: str, workspace_id: UUID, job_id: UUID) -> str:
    """Empty when it was done, else why not."""
    answer = ask("POST", f"/workspaces/{workspace_id}/jobs/{job_id}/{deed}")
    return "" if answer.ok else answer.complaint


def _tell(answer: Any, deed: str, complaints: list[str]) -> None:
    done = complaints.count("")
    past = {"retry": "pending again", "cancel": "cancelled or told to stop"}[deed]
    said = [f"{plural(done, 'job')} {past}."] if done else []
    rest = Counter(complaint for complaint in complaints if complaint)
    said += [f"{plural(count, 'job')} left: {complaint}" for complaint, count in rest.most_common(3)]
    notify(answer, " ".join(said), "done" if done else "refused")


def _tab() -> Status | None:
    text = request.args.get("status", "")
    return Status(text) if text in set(Status) else None


def _tabs(counts: Any) -> list[tuple[str, Any]]:
    return [("", None), *((status.value, counts.of(status) if counts else None) for status in Status)]


def _key(text: str) -> tuple[UUID, UUID]:
    workspace_id, _, job_id = text.partition("/")
    try:
        return UUID(workspace_id), UUID(job_id)
    except ValueError:
        raise PageError(400, "Nothing to do", "The form names something that is no job.") from None
