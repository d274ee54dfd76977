"""Schedules of a workspace or of the platform: what both have the same routes for."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from flask import Response
from sqlalchemy.orm import Session

from jobplatform.api.access.guard import current_principal
from jobplatform.api.answers import columns_of, job_url, page_of, respond
from jobplatform.api.auditing import audit
from jobplatform.api.editing import require_still_locked, tag_of_schedule, tagged_as
from jobplatform.api.mounted import mounted
from jobplatform.api.problems import invalid, require_found
from jobplatform.api.reading import reader_sees_sealed
from jobplatform.api.schemas.jobs import ProblemSchema
from jobplatform.api.schemas.schedules import (
    RULES,
    PreviewSchema,
    SchedulePageSchema,
    ScheduleSchema,
    TickSchema,
    TicksSchema,
)
from jobplatform.errors import InvalidScheduleError, Problem
from jobplatform.models import PLATFORM_WORKSPACE, Schedule, ScheduleTick
from jobplatform.queue import (
    Cron,
    Every,
    NewJob,
    Once,
    Rule,
    change_schedule,
    create_schedule,
    default_timezone,
    delete_schedule,
    find_schedule,
    get_schedule,
    is_own_task,
    last_ticks,
    list_schedules,
    list_ticks,
    pause_schedule,
    preview,
    preview_rule,
    resume_schedule,
    rule_of,
    run_schedule_now,
    shown_payload,
    tasks_served,
    time_now,
)

_SCHEDULE, _PAGE, _TICK, _TICKS, _PREVIEW = (
    ScheduleSchema(),
    SchedulePageSchema(),
    TickSchema(),
    TicksSchema(),
    PreviewSchema(),
)
CONFLICT: dict[str, Any] = {
    "schema": ProblemSchema,
    "content_type": "application/problem+json",
    "description": "The name is taken, or the schedule is declared in code",
}
_MILLISECOND = datetime.timedelta(milliseconds=1)
#: Of a body: what makes up the rule.
_OF_RULE = (*RULES, "anchor", "timezone")


def answer_list(workspace_id: UUID, query: dict[str, Any]) -> Response:
    limit = query["limit"]
    with mounted().reading() as session:
        found = list_schedules(session, workspace_id, limit=limit + 1, after=query["cursor"])
        described = _describe(session, workspace_id, found)
    return page_of(_PAGE, described, limit, lambda item: UUID(str(item["id"])))


def make(workspace_id: UUID, body: dict[str, Any], url_of: Callable[[UUID], str]) -> Response:
    rule = _rule(body, None)
    assert rule is not None
    task = mounted().tasks.offered(body.pop("job_type"))
    with mounted().transaction() as session:
        made = create_schedule(
            session, task, rule, workspace_id=workspace_id, made_by=current_principal().name, **_options(body)
        )
        _audit(session, "schedule.create", made)
        answer = _answer(session, made, 201)
        answer.headers["Location"] = url_of(made.id)
    return answer


def answer_one(workspace_id: UUID, schedule_id: UUID) -> Response:
    with mounted().reading() as session:
        found = require_found(get_schedule(session, workspace_id, schedule_id))
        return _answer(session, found)


def change(workspace_id: UUID, schedule_id: UUID, body: dict[str, Any]) -> Response:
    with mounted().transaction() as session:
        found = _locked(session, workspace_id, schedule_id)
        require_still_locked(tag_of_schedule(found))
        rule = _rule(body, found)
        task = mounted().tasks.offered(body.pop("job_type", found.task))
        named = sorted(body) + (["rule"] if rule else [])
        changes = _options(body) | ({"rule": rule} if rule else {})
        change_schedule(session, found, task, **changes)
        _audit(session, "schedule.change", found, changed=named)
        return _answer(session, found)


def remove(workspace_id: UUID, schedule_id: UUID) -> Response:
    with mounted().transaction() as session:
        found = _locked(session, workspace_id, schedule_id)
        require_still_locked(tag_of_schedule(found))
        delete_schedule(session, found)
        _audit(session, "schedule.delete", found)
    return Response(status=204)


def pause(workspace_id: UUID, schedule_id: UUID) -> Response:
    with mounted().transaction() as session:
        found = _locked(session, workspace_id, schedule_id)
        if pause_schedule(session, found, actor=current_principal().name):
            _audit(session, "schedule.pause", found)
        return _answer(session, found)


def resume(workspace_id: UUID, schedule_id: UUID) -> Response:
    with mounted().transaction() as session:
        found = _locked(session, workspace_id, schedule_id)
        if resume_schedule(session, found):
            _audit(session, "schedule.resume", found)
        return _answer(session, found)


def run_now(workspace_id: UUID, schedule_id: UUID) -> Response:
    with mounted().transaction() as session:
        found = _locked(session, workspace_id, schedule_id)
        tick = run_schedule_now(session, found, mounted().tasks.offered(found.task))
        _audit(session, "schedule.run_now", found, outcome=tick.outcome, jobId=tick.job_id)
        described = _describe_tick(tick)
    headers = {"Location": described["status_url"]} if described["status_url"] else {}
    return respond(_TICK, described, 202, headers)


def answer_preview(workspace_id: UUID, schedule_id: UUID, query: dict[str, Any]) -> Response:
    with mounted().reading() as session:
        found = require_found(get_schedule(session, workspace_id, schedule_id))
        runs = preview(found, count=query["count"], after=time_now(session))
    return _answer_runs(rule_of(found), runs, paused=found.paused_at is not None)


def answer_preview_of_rule(body: dict[str, Any]) -> Response:
    """What a rule would mean. Nothing is made."""
    count = body.pop("count")
    rule = _rule(body, None)
    assert rule is not None
    with mounted().reading() as session:
        ticks = preview_rule(rule, count=count, after=time_now(session))
    return _answer_runs(rule, [(tick, tick) for tick in ticks], paused=False)


def _answer_runs(rule: Rule, runs: Sequence[tuple[datetime.datetime, datetime.datetime]], *, paused: bool) -> Response:
    zone = ZoneInfo(rule.timezone)
    described = [
        {"tick_at": tick, "local": tick.astimezone(zone).isoformat(timespec="seconds"), "run_at": run_at}
        for tick, run_at in runs
    ]
    return respond(_PREVIEW, {"words": rule.words, "timezone": rule.timezone, "paused": paused, "runs": described})


def answer_ticks(workspace_id: UUID, schedule_id: UUID, query: dict[str, Any]) -> Response:
    with mounted().reading() as session:
        require_found(get_schedule(session, workspace_id, schedule_id))
        found = list_ticks(session, workspace_id, schedule_id, limit=query["limit"], before=query["before"])
    return respond(_TICKS, {"items": [_describe_tick(tick) for tick in found]})


# -- bodies ------------------------------------------------------------------------------------------


def _rule(body: dict[str, Any], existing: Schedule | None) -> Rule | None:
    """The rule that a body asks for, taken out of it; None when it asks for none."""
    asked = {name: body.pop(name) for name in _OF_RULE if name in body}
    if not asked:
        return None
    try:
        return _made_rule(asked, existing)
    except InvalidScheduleError as error:
        raise invalid(error.problems) from None


def _made_rule(asked: dict[str, Any], existing: Schedule | None) -> Rule:
    if "run_at" in asked:
        return Once(asked["run_at"])
    cron = asked.get("cron") or (existing.cron if existing and "every_ms" not in asked else None)
    if cron is not None and "anchor" not in asked:
        kept = existing.timezone if existing and existing.cron else default_timezone()
        return Cron(cron, asked.get("timezone", kept))
    every_ms = asked.get("every_ms") or (existing.every_ms if existing else None)
    if every_ms is None or "timezone" in asked:
        path = "/timezone" if "timezone" in asked else "/anchor"
        raise InvalidScheduleError([Problem(path, "does not go with the schedule's rule")])
    return Every(every_ms * _MILLISECOND, asked.get("anchor", existing.anchor if existing else None))


def _options(body: dict[str, Any]) -> dict[str, Any]:
    """The rest of a body, as the queue calls it."""
    options = dict(body)
    for name, inside in (("spread_ms", "spread"), ("timeout_ms", "timeout"), ("start_within_ms", "start_within")):
        if name in options:
            value = options.pop(name)
            options[inside] = None if value is None else value * _MILLISECOND
    if "tags" in options:
        options["tags"] = tuple(options["tags"])
    return options


# -- answers -----------------------------------------------------------------------------------------


def _locked(session: Session, workspace_id: UUID, schedule_id: UUID) -> Schedule:
    return require_found(find_schedule(session, workspace_id, schedule_id))


def _answer(session: Session, schedule: Schedule, status: int = 200) -> Response:
    described = _describe(session, schedule.workspace_id, [schedule])[0]
    return tagged_as(respond(_SCHEDULE, described, status), tag_of_schedule(schedule))


def _audit(session: Session, action: str, schedule: Schedule, **details: Any) -> None:
    workspace_id = None if schedule.workspace_id == PLATFORM_WORKSPACE else schedule.workspace_id
    audit(session, action, f"schedule:{schedule.id}", workspace_id, name=schedule.name, **details)


def _describe(session: Session, workspace_id: UUID, found: Sequence[Schedule]) -> list[dict[str, Any]]:
    ticks = last_ticks(session, workspace_id, [one.id for one in found])
    served = tasks_served(session)
    payloads = {one.id: shown_payload(session, one, to_reader=reader_sees_sealed()) for one in found}
    refused = _refused(session, found, payloads)
    return [
        {**_describe_one(one, ticks.get(one.id), served, refused.get(one.id)), "payload": payloads[one.id]}
        for one in found
    ]


def _refused(session: Session, found: Sequence[Schedule], payloads: Mapping[UUID, Any]) -> dict[UUID, Problem]:
    """What would be refused at an enqueue: what a schedule names may have gone since, or never been there, of one that
    is declared in code. Of a sealed payload that the reader may not see nothing is said."""
    jobs = {
        one.id: NewJob(workspace_id=one.workspace_id, task=one.task, payload=payloads[one.id])
        for one in found
        if one.next_run_at is not None
    }
    refused = mounted().tasks.refused(session, list(jobs.values()))
    return {schedule_id: refused[job.id] for schedule_id, job in jobs.items() if job.id in refused}


def _describe_one(
    schedule: Schedule, tick: ScheduleTick | None, served: frozenset[str], refused: Problem | None
) -> dict[str, Any]:
    try:
        words, problem = rule_of(schedule).words, None
    except InvalidScheduleError as error:
        words, problem = "", f"the rule cannot be read: {error}"
    if is_own_task(schedule.task):
        problem = f"the task {schedule.task} is the platform's own: its ticks come to nothing; delete the schedule"
    elif problem is None and refused is not None:
        problem = f"its jobs come to nothing: {refused.message} (payload, {refused.path})"
    elif problem is None and schedule.next_run_at is not None and schedule.task not in served:
        problem = f"no live worker knows the task {schedule.task}: its ticks wait for one"
    return {
        **columns_of(_SCHEDULE, schedule),
        "job_type": schedule.task,
        "words": words,
        "made_in_code": schedule.declared_by is not None,
        "last_tick": _describe_tick(tick) if tick else None,
        "problem": problem,
    }


def _describe_tick(tick: ScheduleTick) -> dict[str, Any]:
    status_url = job_url(tick.workspace_id, tick.job_id) if tick.job_id else None
    return {**columns_of(_TICK, tick), "status_url": status_url}
