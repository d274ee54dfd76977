"""What happens by itself in this workspace: when, when next, and what came of the last time."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response

from jobplatform.pages.acting import done
from jobplatform.pages.portal.wording import title_of
from jobplatform.pages.rendering import render
from jobplatform.pages.shell import Section, ask, looking
from jobplatform.queue import pages

ONE = "/<uuid:tenant_id>/schedules/<uuid:schedule_id>"
MOST = 100


def make_own_schedules() -> Section:
    section = Section("own_schedules", __name__)
    section.page("/<uuid:tenant_id>/schedules")(list_schedules)
    section.action(ONE + "/pause", "schedule.change")(pause)
    section.action(ONE + "/resume", "schedule.change")(resume)
    section.action(ONE + "/run-now", "schedule.run_now")(run_now)
    return section


def list_schedules(tenant_id: UUID) -> Response:
    with looking() as session:
        found = pages.schedule_lines(session, workspace_id=tenant_id, limit=MOST)
    return render("portal_schedules.html", found=found, title_of=title_of)


def pause(tenant_id: UUID, schedule_id: UUID) -> Any:
    return done(_post(tenant_id, schedule_id, "pause"), "It is paused.")


def resume(tenant_id: UUID, schedule_id: UUID) -> Any:
    return done(_post(tenant_id, schedule_id, "resume"), "It goes on from now.")


def run_now(tenant_id: UUID, schedule_id: UUID) -> Any:
    answer = _post(tenant_id, schedule_id, "run-now")
    began = answer.ok and answer.body.get("outcome") == "enqueued"
    return done(answer, "It has begun." if began else "It is under way already.")


def _post(tenant_id: UUID, schedule_id: UUID, deed: str) -> Any:
    return ask("POST", f"/workspaces/{tenant_id}/schedules/{schedule_id}/{deed}")
