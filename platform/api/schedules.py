"""Schedules of a workspace."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response, url_for

from jobplatform.api import scheduling
from jobplatform.api.access.principals import Scope
from jobplatform.api.mounted import serving_blueprint_name
from jobplatform.api.resource import AT_ITS_URL, EDITABLE, EDITED, LISTED, QUOTA, Resource
from jobplatform.api.schemas.jobs import PageQuerySchema
from jobplatform.api.schemas.schedules import (
    A_PREVIEW,
    A_RULE,
    NewPreviewSchema,
    NewScheduleSchema,
    PreviewQuerySchema,
    PreviewSchema,
    ScheduleChangeSchema,
    SchedulePageSchema,
    ScheduleSchema,
    TickSchema,
    TicksQuerySchema,
    TicksSchema,
)

schedules = Resource("schedules", __name__, description="Schedules of a workspace")

SCHEDULES = "/workspaces/<uuid:workspaceId>/schedules"
SCHEDULE = SCHEDULES + "/<uuid:scheduleId>"

A_BODY = {"jobType": "sync", "name": "nightly", "cron": "30 2 * * *", "timezone": "Europe/Berlin"}


@schedules.endpoint("GET", SCHEDULES, Scope.SCHEDULES, refuses=(404,))
@schedules.query(PageQuerySchema)
@schedules.answers(200, SchedulePageSchema, headers=LISTED)
def list_schedules(query: dict[str, Any], workspace_id: UUID) -> Response:
    """List schedules, oldest first"""
    return scheduling.answer_list(workspace_id, query)


@schedules.endpoint("POST", SCHEDULES, Scope.SCHEDULES, refuses=(400, 404, 413, 415))
@schedules.may_answer(409, **scheduling.CONFLICT)
@schedules.body(NewScheduleSchema, example=A_BODY)
@schedules.answers(201, ScheduleSchema, headers={**AT_ITS_URL, **EDITABLE})
def create_schedule(body: dict[str, Any], workspace_id: UUID) -> Response:
    """Make a schedule for this workspace

    One of `cron` (with `timezone`), `everyMs` (from `anchor`) and `runAt` is its rule. The payload is checked as at an
    enqueue.
    """
    return scheduling.make(
        workspace_id,
        body,
        lambda made: url_for(
            f"{serving_blueprint_name()}.schedules.show_schedule", workspaceId=workspace_id, scheduleId=made
        ),
    )


@schedules.endpoint("GET", SCHEDULE, Scope.SCHEDULES, refuses=(404,))
@schedules.answers(200, ScheduleSchema, headers=EDITABLE)
def show_schedule(workspace_id: UUID, schedule_id: UUID) -> Response:
    """Show a schedule"""
    return scheduling.answer_one(workspace_id, schedule_id)


@schedules.endpoint("PATCH", SCHEDULE, Scope.SCHEDULES, refuses=(400, 404, 412, 413, 415))
@schedules.may_answer(409, **scheduling.CONFLICT)
@schedules.body(ScheduleChangeSchema, example={"cron": "30 3 * * *", "priority": None})
@schedules.answers(200, ScheduleSchema, headers=EDITABLE)
@schedules.headers(*EDITED)
def change_schedule(body: dict[str, Any], workspace_id: UUID, schedule_id: UUID) -> Response:
    """Change a schedule

    What is not named stays; a new rule counts from now on. One that is declared in code is changed there.
    """
    return scheduling.change(workspace_id, schedule_id, body)


@schedules.endpoint("DELETE", SCHEDULE, Scope.SCHEDULES, refuses=(404, 412))
@schedules.may_answer(409, **scheduling.CONFLICT)
@schedules.answers(204)
@schedules.headers(*EDITED)
def delete_schedule(workspace_id: UUID, schedule_id: UUID) -> Response:
    """Delete a schedule; the jobs it has enqueued stay"""
    return scheduling.remove(workspace_id, schedule_id)


@schedules.endpoint("POST", SCHEDULE + "/pause", Scope.SCHEDULES, refuses=(404,))
@schedules.answers(200, ScheduleSchema, headers=EDITABLE)
def pause_schedule(workspace_id: UUID, schedule_id: UUID) -> Response:
    """Have no more of its ticks done until it is resumed"""
    return scheduling.pause(workspace_id, schedule_id)


@schedules.endpoint("POST", SCHEDULE + "/resume", Scope.SCHEDULES, refuses=(404,))
@schedules.answers(200, ScheduleSchema, headers=EDITABLE)
def resume_schedule(workspace_id: UUID, schedule_id: UUID) -> Response:
    """Have its ticks done again, from now on"""
    return scheduling.resume(workspace_id, schedule_id)


@schedules.endpoint("POST", SCHEDULE + "/run-now", Scope.SCHEDULES, refuses=(404, 422))
@schedules.may_answer(429, **QUOTA)
@schedules.answers(202, TickSchema, headers=AT_ITS_URL)
def run_schedule_now(workspace_id: UUID, schedule_id: UUID) -> Response:
    """Enqueue what a tick would, besides the rule's ticks"""
    return scheduling.run_now(workspace_id, schedule_id)


@schedules.endpoint("POST", SCHEDULES + "/preview", Scope.SCHEDULES, refuses=(400, 404, 413, 415), changes=False)
@schedules.body(NewPreviewSchema, example=A_RULE)
@schedules.answers(200, PreviewSchema, example=A_PREVIEW)
def preview_rule(body: dict[str, Any], workspace_id: UUID) -> Response:  # noqa: ARG001 - the guard has looked at it
    """Show the next runs of a schedule that does not exist yet, in words and in its time zone"""
    return scheduling.answer_preview_of_rule(body)


@schedules.endpoint("GET", SCHEDULE + "/preview", Scope.SCHEDULES, refuses=(404,))
@schedules.query(PreviewQuerySchema)
@schedules.answers(200, PreviewSchema)
def preview_schedule(query: dict[str, Any], workspace_id: UUID, schedule_id: UUID) -> Response:
    """Show the next runs, in words and in the schedule's time zone"""
    return scheduling.answer_preview(workspace_id, schedule_id, query)


@schedules.endpoint("GET", SCHEDULE + "/ticks", Scope.SCHEDULES, refuses=(404,))
@schedules.query(TicksQuerySchema)
@schedules.answers(200, TicksSchema)
def list_schedule_ticks(query: dict[str, Any], workspace_id: UUID, schedule_id: UUID) -> Response:
    """List what came of its ticks, newest first"""
    return scheduling.answer_ticks(workspace_id, schedule_id, query)
