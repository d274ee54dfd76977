"""Schedules: in plain words, with the next runs, what came of the last one, pausing and running now."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response, request

from jobplatform.models import PLATFORM_WORKSPACE
from jobplatform.pages.acting import done
from jobplatform.pages.console.jobs import workspace_names
from jobplatform.pages.console.schedule_form import add_forms_to
from jobplatform.pages.console.whose import asked_workspace
from jobplatform.pages.problems import nothing_here
from jobplatform.pages.rendering import render
from jobplatform.pages.shell import Section, ask, looking
from jobplatform.queue import get_schedule, list_ticks, pages, time_now

ONE = "/schedules/<uuid:workspace_id>/<uuid:schedule_id>"
PER_PAGE = 50
TICKS = 30
NEXT = 5


def make_schedules() -> Section:
    section = Section("schedules", __name__)
    section.page("/schedules")(list_schedules)
    section.page(ONE)(show_schedule)
    section.action(ONE + "/pause", "schedule.change")(pause)
    section.action(ONE + "/resume", "schedule.change")(resume)
    section.action(ONE + "/run-now", "schedule.run_now")(run_now)
    add_forms_to(section)
    return section


def list_schedules() -> Response:
    after, whose = read_pair(request.args.get("after")), asked_workspace()
    with looking() as session:
        found = pages.schedule_lines(session, workspace_id=whose, limit=PER_PAGE, after=after)
        names = workspace_names(session, [whose, *(line.schedule.workspace_id for line in found.lines)])
    return render(
        "schedules.html",
        found=found,
        names=names,
        after=after,
        whose=whose,
        next=write_pair(found.next),
        platform=PLATFORM_WORKSPACE,
    )


def show_schedule(workspace_id: UUID, schedule_id: UUID) -> Response:
    with looking() as session:
        schedule = get_schedule(session, workspace_id, schedule_id)
        if schedule is None:
            raise nothing_here()
        ticks = list_ticks(session, workspace_id, schedule_id, limit=TICKS)
        foreseen = pages.foresee(schedule, count=NEXT, after=time_now(session))
        names = workspace_names(session, [workspace_id])
    return render(
        "schedule.html",
        schedule=schedule,
        foreseen=foreseen,
        ticks=ticks,
        workspace_name=names.get(workspace_id),
        is_platform=workspace_id == PLATFORM_WORKSPACE,
    )


def pause(workspace_id: UUID, schedule_id: UUID) -> Any:
    return done(_post(workspace_id, schedule_id, "pause"), "It is paused: no more of its ticks are done.")


def resume(workspace_id: UUID, schedule_id: UUID) -> Any:
    return done(_post(workspace_id, schedule_id, "resume"), "Its ticks are done again, from now on.")


def run_now(workspace_id: UUID, schedule_id: UUID) -> Any:
    answer = _post(workspace_id, schedule_id, "run-now")
    outcome = answer.body.get("outcome") if answer.ok else ""
    words = {
        "enqueued": "A job was enqueued.",
        "replaced": "A job that waited is this one now.",
        "deduplicated": "A job of its key is unfinished or was made too recently, so no other one was enqueued.",
        "fanned_out": "Workers enqueue it for every workspace.",
    }
    return done(answer, words.get(outcome, f"The outcome is: {outcome}."))


def read_pair(text: str | None) -> tuple[UUID, UUID] | None:
    """Where a page begins, as a query has it; nonsense is the first page."""
    try:
        first, second = (text or "").split("/")
        return UUID(first), UUID(second)
    except ValueError:
        return None


def write_pair(pair: tuple[UUID, UUID] | None) -> str | None:
    return f"{pair[0]}/{pair[1]}" if pair else None


def _post(workspace_id: UUID, schedule_id: UUID, deed: str) -> Any:
    whose = "/operator" if workspace_id == PLATFORM_WORKSPACE else f"/workspaces/{workspace_id}"
    return ask("POST", f"{whose}/schedules/{schedule_id}/{deed}")
