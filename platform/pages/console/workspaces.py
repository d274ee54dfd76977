"""Workspaces: what each has to do and gets, and what it may."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response, request

from jobplatform.api.fields import camel
from jobplatform.models import PauseKind
from jobplatform.pages.acting import done
from jobplatform.pages.console.overview import asked_span, charts
from jobplatform.pages.console.pausing import pause_it, resume_it
from jobplatform.pages.problems import nothing_here
from jobplatform.pages.rendering import render
from jobplatform.pages.shell import Section, ask, looking
from jobplatform.queue import find_workspace, list_plans, pages, pauses_of, read_workspace_limits

SORTS = {"backlog": "Backlog", "oldest": "Oldest job", "share": "Share", "failed": "Failures", "id": "Id"}
PER_PAGE = 50
#: What a form may set, with what it is called and what is said about it.
LIMITS = {
    "weight": ("Weight", "Its share of the slots against others', 1 to 100"),
    "max_running": ("Running at most", "Jobs at a time"),
    "max_pending": ("Waiting at most", "Jobs; more are refused"),
    "rate_units": ("Rate: jobs", "Jobs that start in each period"),
    "rate_period_ms": ("Rate: period, ms", "1000 is a second"),
}
ONE = "/workspaces/<uuid:workspace_id>"


def make_workspaces() -> Section:
    section = Section("workspaces", __name__)
    section.page("/workspaces")(list_workspaces)
    section.page(ONE)(show_workspace)
    section.action(ONE + "/limits", "limit")(change_limits)
    section.action(ONE + "/pause", "pause")(pause)
    section.action(ONE + "/resume", "pause")(resume)
    return section


def list_workspaces() -> Response:
    sort = request.args.get("sort", "backlog")
    sort = sort if sort in SORTS else "backlog"
    search, after = request.args.get("q", "").strip(), _uuid(request.args.get("after"))
    with looking() as session:
        found = pages.workspace_lines(session, order=sort, limit=PER_PAGE, after=after, text=search)  # type: ignore[arg-type]  # one of SORTS
    return render("workspaces.html", found=found, sort=sort, sorts=list(SORTS.items()), q=search, after=after)


def show_workspace(workspace_id: UUID) -> Response:
    with looking() as session:
        seen = find_workspace(session, workspace_id)
        if seen is None:
            raise nothing_here()
        limits = read_workspace_limits(session, workspace_id)
        paused = pauses_of(session, PauseKind.WORKSPACE, [str(workspace_id)]).get(str(workspace_id))
        throughput = pages.throughput(session, asked_span(), workspace_id=workspace_id)
        plans = list_plans(session)
        recent = pages.find_jobs(session, pages.parse_search(f"workspace:{workspace_id}"), limit=10)
        groups = pages.error_groups(session, workspace_id=workspace_id, limit=5)
    done_chart, wait, run = charts(throughput)
    return render(
        "workspace.html",
        seen=seen,
        limits=limits,
        paused=paused,
        throughput=throughput,
        plans=[plan.name for plan in plans],
        recent=recent.jobs,
        groups=groups.groups,
        fields=LIMITS,
        done=done_chart,
        wait=wait,
        run=run,
    )


def change_limits(workspace_id: UUID) -> Any:
    """An empty field clears, so that the plan's value counts again."""
    changes: dict[str, Any] = {camel(name): _value(request.form.get(name, "")) for name in LIMITS}
    changes["plan"] = request.form.get("plan", "").strip() or None
    answer = ask("PATCH", f"/operator/workspaces/{workspace_id}/limits", changes)
    return done(answer, "The limits count from the next claim on.")


def pause(workspace_id: UUID) -> Any:
    return pause_it("workspace", str(workspace_id))


def resume(workspace_id: UUID) -> Any:
    return resume_it("workspace", str(workspace_id))


def _value(text: str) -> Any:
    """A number where it is one; else as it is, and the API says what is wrong with it."""
    text = text.strip().replace(",", "")
    if not text:
        return None
    return int(text) if text.lstrip("-").isdecimal() and len(text) < 16 else text


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None
