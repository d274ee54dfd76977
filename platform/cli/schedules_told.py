"""What ``jobplatform schedules`` says: a schedule in words, its state and what is wrong with it, and its next runs."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import click
from sqlalchemy.orm import Session

from jobplatform.cli.database import known_tasks
from jobplatform.cli.show import print_json, print_table
from jobplatform.errors import InvalidScheduleError, JobPlatformError
from jobplatform.models import PLATFORM_WORKSPACE, Schedule, ScheduleTick
from jobplatform.queue import NewJob, Rule, Tasks, closed_payload, rule_of, tasks_served


def owner_of(schedule: Schedule) -> str:
    """Whose jobs it enqueues."""
    if schedule.every_workspace:
        return "every workspace"
    return "platform" if schedule.workspace_id == PLATFORM_WORKSPACE else str(schedule.workspace_id)


def words_of(schedule: Schedule) -> str:
    """Its rule; the others are to be seen all the same where its time zone is unknown on this machine."""
    try:
        return rule_of(schedule).words
    except InvalidScheduleError as error:
        return f"The rule cannot be read: {error}"


def problems_of(session: Session, found: Sequence[Schedule]) -> dict[UUID, str]:
    """What keeps those that would run from coming to anything, in a few words each."""
    waiting = [one for one in found if one.next_run_at is not None]
    served = tasks_served(session) if waiting else frozenset()
    unknown = {one.id: "no worker knows its task" for one in waiting if one.task not in served}
    return unknown | _refused(session, waiting)


def _refused(session: Session, found: Sequence[Schedule]) -> dict[UUID, str]:
    """What names a connection that is not there, say. The list is to be seen all the same where the code is not."""
    try:
        tasks = known_tasks() if found else Tasks()
    except JobPlatformError:
        return {}
    jobs = {one.id: NewJob(workspace_id=one.workspace_id, task=one.task, payload=closed_payload(one)) for one in found}
    refused = tasks.refused(session, list(jobs.values()))
    return {
        schedule_id: f"its jobs come to nothing: {problem.message} (payload, {problem.path})"
        for schedule_id, job in jobs.items()
        if (problem := refused.get(job.id)) is not None
    }


def state_of(schedule: Schedule, problems: Mapping[UUID, str]) -> str:
    """Whether it is paused, over or waits, or what keeps it from coming to anything."""
    if schedule.paused_at is not None:
        return "paused"
    if schedule.next_run_at is None:
        return "over"
    return problems.get(schedule.id, "waits")


def moment_or_dash(moment: datetime.datetime | None) -> str:
    """A moment in UTC, to the second."""
    return "–" if moment is None else f"{moment.astimezone(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"


def _local(moment: datetime.datetime, zone: ZoneInfo) -> str:
    return moment.astimezone(zone).isoformat(timespec="seconds")


def schedule_as_dict(schedule: Schedule, problems: Mapping[UUID, str]) -> dict[str, Any]:
    """A schedule under the names that the API has."""
    return {
        "id": schedule.id,
        "workspaceId": schedule.workspace_id,
        "name": schedule.name,
        "jobType": schedule.task,
        "payload": closed_payload(schedule),
        "words": words_of(schedule),
        "cron": schedule.cron,
        "everyMs": schedule.every_ms,
        "runAt": schedule.run_at,
        "timezone": schedule.timezone,
        "everyWorkspace": schedule.every_workspace,
        "catchUp": schedule.catch_up,
        "ifActive": schedule.if_active,
        "spreadMs": schedule.spread_ms,
        "startWithinMs": schedule.start_within_ms,
        "madeBy": schedule.made_by,
        "madeInCode": schedule.declared_by is not None,
        "pausedAt": schedule.paused_at,
        "nextTickAt": schedule.next_tick_at,
        "nextRunAt": schedule.next_run_at,
        "state": state_of(schedule, problems),
    }


def tick_as_dict(tick: ScheduleTick) -> dict[str, Any]:
    """A tick under the names that the API has."""
    return {
        "tickAt": tick.tick_at,
        "outcome": tick.outcome,
        "reason": tick.reason,
        "jobId": tick.job_id,
        "manual": tick.manual,
    }


def tell_runs(
    rule: Rule, runs: list[tuple[datetime.datetime, datetime.datetime]], *, paused: bool, as_json: bool
) -> None:
    """Show the next runs of a rule, each as its tick and the moment of its run."""
    zone = ZoneInfo(rule.timezone)
    if as_json:
        described = [{"tickAt": tick, "local": _local(tick, zone), "runAt": run_at} for tick, run_at in runs]
        print_json({"words": rule.words, "timezone": rule.timezone, "paused": paused, "runs": described})
        return
    click.echo(f"{rule.words} ({rule.timezone})" + (" – paused" if paused else ""))
    print_table(["there", "utc", "runs at"], [(_local(tick, zone), tick, run_at) for tick, run_at in runs])
