"""Platform-wide schedules, for whoever runs the platform."""

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
    NewPlatformScheduleSchema,
    NewPreviewSchema,
    PlatformScheduleChangeSchema,
    PreviewQuerySchema,
    PreviewSchema,
    SchedulePageSchema,
    ScheduleSchema,
    TickSchema,
    TicksQuerySchema,
    TicksSchema,
)
from jobplatform.models import PLATFORM_WORKSPACE

platform_schedules = Resource("platform_schedules", __name__, description="Platform-wide schedules, for operators")

SCHEDULES = "/operator/schedules"
SCHEDULE = SCHEDULES + "/<uuid:scheduleId>"

A_BODY = {"jobType": "sync", "name": "hourly sync", "everyMs": 3_600_000, "everyWorkspace": True, "spreadMs": 600_000}


@platform_schedules.endpoint("GET", SCHEDULES, Scope.OPERATOR)
@platform_schedules.query(PageQuerySchema)
@platform_schedules.answers(200, SchedulePageSchema, headers=LISTED)
def list_platform_schedules(query: dict[str, Any]) -> Response:
    """List platform-wide schedules, oldest first"""
    return scheduling.answer_list(PLATFORM_WORKSPACE, query)


@platform_schedules.endpoint("POST", SCHEDULES, Scope.OPERATOR, refuses=(400, 413, 415))
@platform_schedules.may_answer(409, **scheduling.CONFLICT)
@platform_schedules.body(NewPlatformScheduleSchema, example=A_BODY)
@platform_schedules.answers(201, ScheduleSchema, headers={**AT_ITS_URL, **EDITABLE})
def create_platform_schedule(body: dict[str, Any]) -> Response:
    """Make a schedule for the platform, or for every workspace

    One of `cron` (with `timezone`), `everyMs` (from `anchor`) and `runAt` is its rule. The payload is checked as at an
    enqueue.
    """
    return scheduling.make(
        PLATFORM_WORKSPACE,
        body,
        lambda made: url_for(f"{serving_blueprint_name()}.platform_schedules.show_platform_schedule", scheduleId=made),
    )


@platform_schedules.endpoint("GET", SCHEDULE, Scope.OPERATOR, refuses=(404,))
@platform_schedules.answers(200, ScheduleSchema, headers=EDITABLE)
def show_platform_schedule(schedule_id: UUID) -> Response:
    """Show a schedule"""
    return scheduling.answer_one(PLATFORM_WORKSPACE, schedule_id)


@platform_schedules.endpoint("PATCH", SCHEDULE, Scope.OPERATOR, refuses=(400, 404, 412, 413, 415))
@platform_schedules.may_answer(409, **scheduling.CONFLICT)
@platform_schedules.body(PlatformScheduleChangeSchema, example={"cron": "30 3 * * *", "priority": None})
@platform_schedules.answers(200, ScheduleSchema, headers=EDITABLE)
@platform_schedules.headers(*EDITED)
def change_platform_schedule(body: dict[str, Any], schedule_id: UUID) -> Response:
    """Change a schedule

    What is not named stays; a new rule counts from now on. One that is declared in code is changed there.
    """
    return scheduling.change(PLATFORM_WORKSPACE, schedule_id, body)


@platform_schedules.endpoint("DELETE", SCHEDULE, Scope.OPERATOR, refuses=(404, 412))
@platform_schedules.may_answer(409, **scheduling.CONFLICT)
@platform_schedules.answers(204)
@platform_schedules.headers(*EDITED)
def delete_platform_schedule(schedule_id: UUID) -> Response:
    """Delete a schedule; the jobs it has enqueued stay"""
    return scheduling.remove(PLATFORM_WORKSPACE, schedule_id)


@platform_schedules.endpoint("POST", SCHEDULE + "/pause", Scope.OPERATOR, refuses=(404,))
@platform_schedules.answers(200, ScheduleSchema, headers=EDITABLE)
def pause_platform_schedule(schedule_id: UUID) -> Response:
    """Have no more of its ticks done until it is resumed"""
    return scheduling.pause(PLATFORM_WORKSPACE, schedule_id)


@platform_schedules.endpoint("POST", SCHEDULE + "/resume", Scope.OPERATOR, refuses=(404,))
@platform_schedules.answers(200, ScheduleSchema, headers=EDITABLE)
def resume_platform_schedule(schedule_id: UUID) -> Response:
    """Have its ticks done again, from now on"""
    return scheduling.resume(PLATFORM_WORKSPACE, schedule_id)


@platform_schedules.endpoint("POST", SCHEDULE + "/run-now", Scope.OPERATOR, refuses=(404, 422))
@platform_schedules.may_answer(429, **QUOTA)
@platform_schedules.answers(202, TickSchema, headers=AT_ITS_URL)
def run_platform_schedule_now(schedule_id: UUID) -> Response:
    """Enqueue what a tick would, besides the rule's ticks; for every workspace, the workers do it"""
    return scheduling.run_now(PLATFORM_WORKSPACE, schedule_id)


@platform_schedules.endpoint("POST", SCHEDULES + "/preview", Scope.OPERATOR, refuses=(400, 413, 415), changes=False)
@platform_schedules.body(NewPreviewSchema, example=A_RULE)
@platform_schedules.answers(200, PreviewSchema, example=A_PREVIEW)
def preview_platform_rule(body: dict[str, Any]) -> Response:
    """Show the next runs of a schedule that does not exist yet, in words and in its time zone"""
    return scheduling.answer_preview_of_rule(body)


@platform_schedules.endpoint("GET", SCHEDULE + "/preview", Scope.OPERATOR, refuses=(404,))
@platform_schedules.query(PreviewQuerySchema)
@platform_schedules.answers(200, PreviewSchema)
def preview_platform_schedule(query: dict[str, Any], schedule_id: UUID) -> Response:
    """Show the next runs, in words and in the schedule's time zone"""
    return scheduling.answer_preview(PLATFORM_WORKSPACE, schedule_id, query)


@platform_schedules.endpoint("GET", SCHEDULE + "/ticks", Scope.OPERATOR, refuses=(404,))
@platform_schedules.query(TicksQuerySchema)
@platform_schedules.answers(200, TicksSchema)
def list_platform_schedule_ticks(query: dict[str, Any], schedule_id: UUID) -> Response:
    """List what came of its ticks, newest first"""
    return scheduling.answer_ticks(PLATFORM_WORKSPACE, schedule_id, query)
