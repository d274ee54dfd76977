"""Workspaces: what each has to do and gets, and what it may."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response, request

from jobplatform.api.editing import tag_of_workspace_limits
from jobplatform.models import PauseKind
from jobplatform.pages.acting import done
from jobplatform.pages.charts import WIDE
from jobplatform.pages.console.limits import (
    LIMITS,
    beside_what_is_now,
    limits_in_form,
    typed_in_form,
    values_in_form,
    wrong_with,
)
from jobplatform.pages.console.overview import NAMES, SAID, SPANS, asked_span, charts, table_rows
from jobplatform.pages.console.pausing import pause_it, resume_it
from jobplatform.pages.console.plans import add_plans_to
from jobplatform.pages.problems import nothing_here
from jobplatform.pages.rendering import render
from jobplatform.pages.seen import ANOTHER, seen
from jobplatform.pages.shell import Section, ask, looking
from jobplatform.queue import find_workspace, list_plans, pages, pauses_of, read_workspace_limits

SORTS = {"backlog": "Backlog", "oldest": "Oldest job", "share": "Share", "failed": "Failures", "id": "Id"}
PER_PAGE = 50
ONE = "/workspaces/<uuid:workspace_id>"
NAMES_OF_LIMITS = (*LIMITS, "plan")


def make_workspaces() -> Section:
    section = Section("workspaces", __name__)
    section.page("/workspaces")(list_workspaces)
    section.page(ONE)(show_workspace)
    section.action(ONE + "/limits", "limit")(change_limits)
    section.action(ONE + "/pause", "pause")(pause)
    section.action(ONE + "/resume", "pause")(resume)
    add_plans_to(section)
    return section


def list_workspaces() -> Response:
    sort = request.args.get("sort", "backlog")
    sort = sort if sort in SORTS else "backlog"
    search, after = request.args.get("q", "").strip(), _uuid(request.args.get("after"))
    with looking() as session:
        found = pages.workspace_lines(session, order=sort, limit=PER_PAGE, after=after, text=search)  # type: ignore[arg-type]  # one of SORTS
    return render("workspaces.html", found=found, sort=sort, sorts=list(SORTS.items()), q=search, after=after)


def show_workspace(workspace_id: UUID) -> Response:
    return _page(workspace_id)


def _page(workspace_id: UUID, wrong: dict[str, str] | None = None, status: int = 200) -> Response:
    """``wrong``: with the form of its limits, which is shown again as it was typed."""
    span = asked_span()
    with looking() as session:
        seen = find_workspace(session, workspace_id)
        if seen is None:
            raise nothing_here()
        limits = read_workspace_limits(session, workspace_id)
        paused = pauses_of(session, PauseKind.WORKSPACE, [str(workspace_id)]).get(str(workspace_id))
        throughput = pages.throughput(session, span, workspace_id=workspace_id)
        plans = list_plans(session)
        recent = pages.find_jobs(session, pages.parse_search(f"workspace:{workspace_id}"), limit=10)
        groups = pages.error_groups(session, workspace_id=workspace_id, limit=5)
    if status == ANOTHER:
        own = {name: getattr(limits.own, name) for name in LIMITS}
        wrong = beside_what_is_now(_typed_values(), {"plan": limits.plan, **own})
    done_chart, wait, run = charts(throughput, WIDE)
    return render(
        "workspace.html",
        status=status,
        seen=seen,
        limits=limits,
        typed=typed_in_form(NAMES_OF_LIMITS, status) if wrong else {},
        wrong=wrong or {},
        tag_of=tag_of_workspace_limits,
        paused=paused,
        throughput=throughput,
        plans=[plan.name for plan in plans],
        recent=recent.jobs,
        groups=groups.groups,
        fields=LIMITS,
        done=done_chart,
        wait=wait,
        run=run,
        rows=table_rows(throughput),
        span=span,
        spans=[(one, NAMES[one]) for one in SPANS],
        said=SAID[span],
    )


def change_limits(workspace_id: UUID) -> Any:
    """An empty field clears, so that the plan's value counts again."""
    changes = limits_in_form() | {"plan": _typed_values()["plan"]}
    answer = ask("PATCH", f"/operator/workspaces/{workspace_id}/limits", changes, if_match=seen())
    if not answer.ok:
        return _page(workspace_id, wrong_with(answer, NAMES_OF_LIMITS), answer.status)
    return done(answer, "The limits count from the next claim on.")


def _typed_values() -> dict[str, Any]:
    return values_in_form() | {"plan": request.form.get("plan", "").strip() or None}


def pause(workspace_id: UUID) -> Any:
    return pause_it("workspace", str(workspace_id), "this workspace")


def resume(workspace_id: UUID) -> Any:
    return resume_it("workspace", str(workspace_id), "The workspace")


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None
