"""What goes over the wire about schedules."""

from __future__ import annotations

from typing import Any

from marshmallow import ValidationError, fields, validate, validates_schema

from jobplatform.api.schemas.fields import (
    CamelSchema,
    Digits,
    Flag,
    Moment,
    WholeNumber,
    camel,
    max_attempts,
    milliseconds,
    priority,
    queue_name,
    start_within_ms,
    tags,
    timeout_ms,
    unique_key,
)
from jobplatform.api.schemas.jobs import PAGE_LIMIT
from jobplatform.models import CatchUp, Overlap, TickOutcome
from jobplatform.queue import LONGEST_INTERVAL, LONGEST_SPREAD, MOST_PREVIEWED

RULES = ("cron", "every_ms", "run_at")

_catch_up = validate.OneOf([policy.value for policy in CatchUp])
_if_active = validate.OneOf([one.value for one in Overlap])
_outcomes = validate.OneOf([outcome.value for outcome in TickOutcome])


def _about(text: str) -> dict[str, str]:
    return {"description": text}


def _refuse_two_rules(data: dict[str, Any]) -> None:
    named = [name for name in RULES if name in data]
    if len(named) > 1:
        raise ValidationError("Only one of cron, everyMs and runAt can be given.", camel(named[1]))
    if "timezone" in data and named not in ([], ["cron"]):
        raise ValidationError("Goes with cron only.", "timezone")
    if "anchor" in data and named not in ([], ["every_ms"]):
        raise ValidationError("Goes with everyMs only.", "anchor")


def _need_a_rule(data: dict[str, Any]) -> None:
    if not any(name in data for name in RULES):
        raise ValidationError("One of cron, everyMs and runAt is needed.", "cron")


class TickSchema(CamelSchema):
    """What came of a tick. ``deduplicated``: an unfinished job holds the guard, and this is it."""

    tick_at = Moment(required=True)
    outcome = fields.String(required=True, validate=_outcomes)
    reason = fields.String(required=True, allow_none=True)
    job_id = fields.UUID(required=True, allow_none=True)
    status_url = fields.String(required=True, allow_none=True)
    manual = fields.Boolean(required=True)
    fired_at = Moment(required=True)


class TicksSchema(CamelSchema):
    """Ticks, newest first."""

    items = fields.List(fields.Nested(TickSchema), required=True)


class ScheduleSchema(CamelSchema):
    """A rule that enqueues. One of ``cron``, ``everyMs`` and ``runAt`` is not null."""

    id = fields.UUID(required=True)
    workspace_id = fields.UUID(required=True)
    name = fields.String(required=True)
    job_type = fields.String(required=True)
    payload = fields.Raw(required=True, allow_none=True)
    cron = fields.String(required=True, allow_none=True)
    every_ms = fields.Integer(required=True, allow_none=True)
    anchor = Moment(required=True, allow_none=True)
    run_at = Moment(required=True, allow_none=True)
    timezone = fields.String(required=True)
    words = fields.String(required=True, metadata=_about("The rule, as one would say it"))
    every_workspace = fields.Boolean(required=True)
    catch_up = fields.String(required=True, validate=_catch_up)
    spread_ms = fields.Integer(required=True)
    queue = fields.String(required=True, allow_none=True)
    priority = fields.Integer(required=True, allow_none=True)
    max_attempts = fields.Integer(required=True, allow_none=True)
    timeout_ms = fields.Integer(required=True, allow_none=True)
    start_within_ms = fields.Integer(required=True, allow_none=True)
    unique_key = fields.String(required=True, allow_none=True)
    if_active = fields.String(required=True, allow_none=True, validate=_if_active)
    tags = fields.List(fields.String(), required=True)
    made_by = fields.String(required=True)
    made_in_code = fields.Boolean(required=True)
    created_at = Moment(required=True)
    updated_at = Moment(required=True)
    paused_at = Moment(required=True, allow_none=True)
    paused_by = fields.String(required=True, allow_none=True)
    paused_why = fields.String(
        required=True, allow_none=True, metadata={"description": "When its connection is of no use: why, until it is"}
    )
    next_tick_at = Moment(required=True, allow_none=True)
    next_run_at = Moment(required=True, allow_none=True)
    last_tick = fields.Nested(TickSchema, required=True, allow_none=True)
    problem = fields.String(
        required=True, allow_none=True, metadata=_about("Why its ticks wait, if something is wrong")
    )


class SchedulePageSchema(CamelSchema):
    """One page of schedules; ``nextCursor`` is null on the last."""

    items = fields.List(fields.Nested(ScheduleSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class ScheduleChangeSchema(CamelSchema):
    """A change. What is not named stays, and null goes back to the task's default."""

    name = fields.String(validate=validate.Length(1, 100))
    job_type = fields.String(validate=validate.Length(1, 100))
    payload = fields.Raw(allow_none=True)
    cron = fields.String(validate=validate.Length(1, 200), metadata=_about("Five fields, or @hourly, @daily and so on"))
    every_ms = milliseconds(1000, LONGEST_INTERVAL)
    anchor = Moment(metadata=_about("What an interval counts from; default: when the schedule was made"))
    run_at = Moment(metadata=_about("Once, at this moment or as soon after it as a worker looks"))
    timezone = fields.String(validate=validate.Length(1, 100), metadata=_about("Of a cron line: Europe/Berlin"))
    catch_up = fields.String(validate=_catch_up)
    spread_ms = milliseconds(0, LONGEST_SPREAD)
    queue = queue_name(allow_none=True)
    priority = priority(allow_none=True)
    max_attempts = max_attempts(allow_none=True)
    timeout_ms = timeout_ms(allow_none=True)
    start_within_ms = start_within_ms(
        allow_none=True,
        metadata=_about("From each tick, or its place in the spread: a job that has not begun by then never does"),
    )
    unique_key = unique_key(allow_none=True)
    if_active = fields.String(
        allow_none=True,
        validate=_if_active,
        metadata=_about("When an unfinished job holds the guard: skip the tick, or replace what waits by it"),
    )
    tags = tags()

    @validates_schema
    def one_rule(self, data: dict[str, Any], **_: Any) -> None:
        _refuse_two_rules(data)


class NewScheduleSchema(ScheduleChangeSchema):
    """A schedule to be made. It is named after its task unless it says otherwise."""

    job_type = fields.String(required=True, validate=validate.Length(1, 100))

    @validates_schema
    def some_rule(self, data: dict[str, Any], **_: Any) -> None:
        _need_a_rule(data)


class NewPlatformScheduleSchema(NewScheduleSchema):
    """A platform-wide schedule to be made: one job in the platform's own workspace, or one in every workspace."""

    every_workspace = Flag(metadata=_about("A job for each workspace, spread over a minute or spreadMs"))


class PlatformScheduleChangeSchema(ScheduleChangeSchema):
    """A change of a platform-wide schedule."""

    every_workspace = Flag()


class PreviewQuerySchema(CamelSchema):
    """How many runs to show."""

    count = Digits(load_default=5, validate=validate.Range(1, MOST_PREVIEWED))


class NewPreviewSchema(CamelSchema):
    """A rule to be looked at before there is a schedule."""

    cron = fields.String(validate=validate.Length(1, 200), metadata=_about("Five fields, or @hourly, @daily and so on"))
    every_ms = milliseconds(1000, LONGEST_INTERVAL)
    anchor = Moment(metadata=_about("What an interval counts from; default: now"))
    run_at = Moment()
    timezone = fields.String(validate=validate.Length(1, 100), metadata=_about("Of a cron line: Europe/Berlin"))
    count = WholeNumber(load_default=5, validate=validate.Range(1, MOST_PREVIEWED))

    @validates_schema
    def one_rule(self, data: dict[str, Any], **_: Any) -> None:
        _refuse_two_rules(data)
        _need_a_rule(data)


class RunSchema(CamelSchema):
    """A run to come: the moment that the rule names, there and in UTC, and when it is done."""

    tick_at = Moment(required=True)
    local = fields.String(required=True, metadata=_about("The tick on a clock in the schedule's time zone"))
    run_at = Moment(required=True, metadata=_about("The tick, and the schedule's place in its spread"))


class PreviewSchema(CamelSchema):
    """The next runs, in words and dates."""

    words = fields.String(required=True)
    timezone = fields.String(required=True)
    paused = fields.Boolean(required=True)
    runs = fields.List(fields.Nested(RunSchema), required=True)


A_RULE = {"cron": "*/5 * * * *", "timezone": "Europe/Berlin", "count": 2}
A_PREVIEW = {
    "words": "Every fifth minute of every hour",
    "timezone": "Europe/Berlin",
    "paused": False,
    "runs": [
        {
            "tickAt": "2026-01-05T09:00:00.000000Z",
            "local": "2026-01-05T10:00:00+01:00",
            "runAt": "2026-01-05T09:00:00.000000Z",
        },
        {
            "tickAt": "2026-01-05T09:05:00.000000Z",
            "local": "2026-01-05T10:05:00+01:00",
            "runAt": "2026-01-05T09:05:00.000000Z",
        },
    ],
}


class TicksQuerySchema(CamelSchema):
    """Which ticks."""

    limit = Digits(load_default=PAGE_LIMIT, validate=validate.Range(1, 200))
    before = Moment(load_default=None, metadata=_about("The tickAt of the last one seen"))
