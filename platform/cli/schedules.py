"""``jobplatform schedules``. A schedule is given by its id or name; without ``-w`` it is a platform-wide one."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import click
from sqlalchemy.orm import Session

from jobplatform.cli.acting import actor, audit
from jobplatform.cli.amounts import Duration, Moment
from jobplatform.cli.database import find_known_workspace, known_tasks, open_session
from jobplatform.cli.show import as_json_option, print_json, print_table, tell
from jobplatform.errors import InvalidScheduleError, JobPlatformError
from jobplatform.models import PLATFORM_WORKSPACE, CatchUp, Overlap, Schedule, ScheduleTick
from jobplatform.queue import (
    Cron,
    Every,
    NewJob,
    Once,
    Rule,
    Tasks,
    closed_payload,
    create_schedule,
    default_timezone,
    delete_schedule,
    find_schedule,
    find_schedule_named,
    list_schedules,
    list_ticks,
    pause_schedule,
    preview,
    preview_rule,
    resume_schedule,
    rule_of,
    run_schedule_now,
    tasks_served,
    time_now,
)

PAGE = 200
CRON_FIELDS = 5
#: What a field of a line consists of: numbers and signs, and the names of days and months.
_NAMES = "mon|tue|wed|thu|fri|sat|sun|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_FIELD = re.compile(rf"(?:[0-9*/,?#-]|{_NAMES})+", re.IGNORECASE)
workspace_option = click.option("-w", "--workspace", help="By id or name. Default: the platform's own.")
_schedule = click.argument("schedule")


@click.group()
def schedules() -> None:
    """Make, list, pause, run and preview schedules. One is given by its id or name."""


@schedules.command()
@workspace_option
@click.option("-a", "--all", "everywhere", is_flag=True, help="Of every workspace that has any.")
@as_json_option
def ls(workspace: str | None, everywhere: bool, as_json: bool) -> None:
    """List schedules, with when they run next."""
    with open_session() as session:
        found = _list_everywhere(session) if everywhere else _list(session, _workspace(session, workspace))
        problems = _problems(session, found)
    if as_json:
        print_json([_as_dict(one, problems) for one in found])
        return
    columns = ["id", "workspace", "name", "task", "when", "zone", "next run", "state"]
    rows = [
        (
            one.id,
            _owner(one),
            one.name,
            one.task,
            _words(one),
            one.timezone,
            one.next_run_at,
            _state(one, problems),
        )
        for one in found
    ]
    print_table(columns, rows)


@schedules.command()
@click.argument("task")
@workspace_option
@click.option("--name", help="Default: the task's.")
@click.option("--cron", help="A crontab line, as in '30 2 * * mon-fri', or @hourly, @daily and so on.")
@click.option("--timezone", "--tz", help="Of the line. Default: JOBS_CRON_TZ, or UTC.")
@click.option("--every", type=Duration(), help="An interval, as in 30s or 15m.")
@click.option("--anchor", type=Moment(), help="What the interval counts from. Default: now.")
@click.option("--at", type=Moment(), help="Once, at this moment or as soon after it as a worker looks.")
@click.option("--every-workspace", is_flag=True, help="A job in each workspace.")
@click.option("-p", "--payload", default="{}", show_default=True, help="A JSON object.")
@click.option(
    "--catch-up",
    type=click.Choice([policy.value for policy in CatchUp]),
    default=CatchUp.ONE.value,
    show_default=True,
    help="What becomes of ticks that nobody looked at in time.",
)
@click.option("--spread", type=Duration(), help="A window in which each has its own place, as in 10m.")
@click.option(
    "--if-active",
    type=click.Choice([one.value for one in Overlap]),
    help="When an unfinished job holds the guard: skip the tick, or replace what waits. Default: as the task says.",
)
@click.option(
    "--start-within",
    type=Duration(),
    help="Such as 90s or 2h, from each tick: a job that has not begun by then is never started. "
    "Default: as the task says.",
)
@click.option("--queue", help="Default: the task's own.")
@click.option("--priority", type=int, help="Higher first.")
@as_json_option
def create(
    task: str,
    workspace: str | None,
    cron: str | None,
    timezone: str | None,
    every: datetime.timedelta | None,
    anchor: datetime.datetime | None,
    at: datetime.datetime | None,
    payload: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Make a schedule of TASK: say --cron, --every or --at."""
    rule = _rule(cron, timezone, every, anchor, at)
    wanted = known_tasks().offered(task)
    with open_session() as session:
        workspace_id, value = _workspace(session, workspace), _parse(payload)
        made = create_schedule(
            session, wanted, rule, workspace_id=workspace_id, made_by=actor(), payload=value, **options
        )
        _audit(session, "schedule.create", made)
        problems = _problems(session, [made])
    if as_json:
        print_json(_as_dict(made, problems))
    else:
        click.echo(f"{made.id} {made.name}: {_words(made)}; runs next at {_moment(made.next_run_at)}")


@schedules.command()
@_schedule
@workspace_option
@click.option("-n", "--limit", type=click.IntRange(1, 200), default=10, show_default=True, help="Ticks.")
@as_json_option
def show(schedule: str, workspace: str | None, limit: int, as_json: bool) -> None:
    """Show a schedule, and what came of its last ticks."""
    with open_session() as session:
        found = _find(session, schedule, workspace)
        ticks = list_ticks(session, found.workspace_id, found.id, limit=limit)
        problems = _problems(session, [found])
    if as_json:
        print_json({**_as_dict(found, problems), "ticks": [_tick_as_dict(tick) for tick in ticks]})
        return
    print_table(["", ""], list(_as_dict(found, problems).items()), title=found.name)
    rows = [(tick.tick_at, tick.outcome, tick.job_id, tick.reason) for tick in ticks]
    print_table(["tick", "outcome", "job", "reason"], rows)


@schedules.command()
@_schedule
@workspace_option
@as_json_option
def pause(schedule: str, workspace: str | None, as_json: bool) -> None:
    """Have no more of its ticks done, until it is resumed."""
    with open_session() as session:
        found = _find(session, schedule, workspace)
        if not pause_schedule(session, found, actor=actor()):
            raise click.ClickException(f"{found.name} is paused already, by {found.paused_by}")
        _audit(session, "schedule.pause", found)
        problems = _problems(session, [found])
    tell(as_json, f"{found.name} is paused", **_as_dict(found, problems))


@schedules.command()
@_schedule
@workspace_option
@as_json_option
def resume(schedule: str, workspace: str | None, as_json: bool) -> None:
    """Have its ticks done again, from now on."""
    with open_session() as session:
        found = _find(session, schedule, workspace)
        if not resume_schedule(session, found):
            raise click.ClickException(f"{found.name} is not paused")
        _audit(session, "schedule.resume", found)
        problems = _problems(session, [found])
    sentence = f"{found.name} is resumed and runs next at {_moment(found.next_run_at)}"
    tell(as_json, sentence, **_as_dict(found, problems))


@schedules.command("run-now")
@_schedule
@workspace_option
@as_json_option
def run_now(schedule: str, workspace: str | None, as_json: bool) -> None:
    """Enqueue what a tick would, besides the ticks of its rule."""
    tasks = known_tasks()
    with open_session() as session:
        found = _find(session, schedule, workspace)
        tick = run_schedule_now(session, found, tasks.offered(found.task))
        _audit(session, "schedule.run_now", found, outcome=tick.outcome, jobId=tick.job_id)
    if as_json:
        print_json(_tick_as_dict(tick))
    else:
        click.echo(f"{found.name}: {tick.outcome}" + (f" {tick.job_id}" if tick.job_id else ""))


@schedules.command("preview")
@click.argument("schedule", required=False, metavar="[SCHEDULE|CRON]")
@workspace_option
@click.option("--timezone", "--tz", help="Of a crontab line. Default: JOBS_CRON_TZ, or UTC.")
@click.option("--every", type=Duration(), help="Instead of a line: an interval, as in 30s or 15m.")
@click.option("--anchor", type=Moment(), help="What the interval counts from. Default: now.")
@click.option("-n", "--count", type=click.IntRange(1, 100), default=5, show_default=True, help="So many runs.")
@as_json_option
def preview_(
    schedule: str | None,
    workspace: str | None,
    timezone: str | None,
    every: datetime.timedelta | None,
    anchor: datetime.datetime | None,
    count: int,
    as_json: bool,
) -> None:
    """Show the next runs, in words and dates: of a schedule (id or name), or of a line that is none yet.

    As in `jobplatform schedules preview '*/5 9-17 * * mon-fri' --timezone Europe/Berlin`.
    """
    if every is not None or _is_cron(schedule) or (timezone and schedule and _seems_cron(schedule)):
        rule = _rule(schedule, timezone, every, anchor, None)
        with open_session() as session:
            runs = [(tick, tick) for tick in preview_rule(rule, count=count, after=time_now(session))]
        _tell_runs(rule, runs, paused=False, as_json=as_json)
        return
    if schedule is None or timezone or anchor:
        raise click.UsageError("say a schedule by id or name, or a crontab line (with --timezone), or --every")
    with open_session() as session:
        if _seems_cron(schedule) and find_schedule_named(session, _workspace(session, workspace), schedule) is None:
            # Which says how many fields it has to have.
            _rule(schedule, None, None, None, None)
        found = _find(session, schedule, workspace)
        runs = preview(found, count=count, after=time_now(session))
    _tell_runs(rule_of(found), runs, paused=found.paused_at is not None, as_json=as_json)


@schedules.command()
@_schedule
@workspace_option
@as_json_option
def delete(schedule: str, workspace: str | None, as_json: bool) -> None:
    """Delete a schedule; the jobs it has enqueued stay."""
    with open_session() as session:
        found = _find(session, schedule, workspace)
        delete_schedule(session, found)
        _audit(session, "schedule.delete", found)
    tell(as_json, f"{found.name} is deleted", id=found.id, name=found.name, deleted=True)


def _tell_runs(
    rule: Rule, runs: list[tuple[datetime.datetime, datetime.datetime]], *, paused: bool, as_json: bool
) -> None:
    zone = ZoneInfo(rule.timezone)
    if as_json:
        described = [{"tickAt": tick, "local": _local(tick, zone), "runAt": run_at} for tick, run_at in runs]
        print_json({"words": rule.words, "timezone": rule.timezone, "paused": paused, "runs": described})
        return
    click.echo(f"{rule.words} ({rule.timezone})" + (" – paused" if paused else ""))
    print_table(["there", "utc", "runs at"], [(_local(tick, zone), tick, run_at) for tick, run_at in runs])


# -- what is meant -----------------------------------------------------------------------------------


def _workspace(session: Session, text: str | None) -> UUID:
    return PLATFORM_WORKSPACE if text is None else find_known_workspace(session, text)


def _find(session: Session, text: str, workspace: str | None) -> Schedule:
    workspace_id = _workspace(session, workspace)
    try:
        schedule_id = UUID(text)
    except ValueError:
        named = find_schedule_named(session, workspace_id, text)
        schedule_id = named.id if named else UUID(int=0)
    found = find_schedule(session, workspace_id, schedule_id)
    if found is None:
        where = "is platform-wide" if workspace is None else "is there"
        raise click.ClickException(f"no schedule {text!r} {where}; see `jobplatform schedules ls`")
    return found


def _list(session: Session, workspace_id: UUID) -> list[Schedule]:
    found: list[Schedule] = []
    while page := list_schedules(session, workspace_id, limit=PAGE, after=found[-1].id if found else None):
        found += page
    return found


def _list_everywhere(session: Session) -> list[Schedule]:
    """All there are; whoever runs a command sees every workspace."""
    return list(session.query(Schedule).order_by(Schedule.workspace_id, Schedule.id))


def _rule(
    cron: str | None,
    timezone: str | None,
    every: datetime.timedelta | None,
    anchor: datetime.datetime | None,
    at: datetime.datetime | None,
) -> Rule:
    if sum(one is not None for one in (cron, every, at)) != 1:
        raise click.UsageError("say one of --cron, --every and --at")
    if timezone and cron is None:
        raise click.UsageError("--timezone goes with --cron")
    if anchor and every is None:
        raise click.UsageError("--anchor goes with --every")
    if cron is not None:
        return Cron(cron, timezone or default_timezone())
    if every is not None:
        return Every(every, anchor)
    assert at is not None
    return Once(at)


def _is_cron(text: str | None) -> bool:
    """Five fields, or one of the short forms; a schedule may be named like neither."""
    return text is not None and (text.startswith("@") or len(text.split()) == CRON_FIELDS)


def _seems_cron(text: str) -> bool:
    """What somebody means as a line and is none; a schedule may have such a name all the same."""
    words = text.split()
    return all(map(_FIELD.fullmatch, words)) and (len(words) > 1 or "*" in text or "/" in text)


def _parse(payload: str) -> Any:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"the payload is not JSON: {error}") from error


def _audit(session: Session, action: str, schedule: Schedule, **details: Any) -> None:
    workspace_id = None if schedule.workspace_id == PLATFORM_WORKSPACE else schedule.workspace_id
    audit(session, action, f"schedule:{schedule.id}", workspace_id, name=schedule.name, **details)


# -- how it looks ------------------------------------------------------------------------------------


def _owner(schedule: Schedule) -> str:
    if schedule.every_workspace:
        return "every workspace"
    return "platform" if schedule.workspace_id == PLATFORM_WORKSPACE else str(schedule.workspace_id)


def _words(schedule: Schedule) -> str:
    """Its rule; the others are to be seen all the same where its time zone is unknown on this machine."""
    try:
        return rule_of(schedule).words
    except InvalidScheduleError as error:
        return f"The rule cannot be read: {error}"


def _problems(session: Session, found: Sequence[Schedule]) -> dict[UUID, str]:
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


def _state(schedule: Schedule, problems: Mapping[UUID, str]) -> str:
    if schedule.paused_at is not None:
        return "paused"
    if schedule.next_run_at is None:
        return "over"
    return problems.get(schedule.id, "waits")


def _moment(moment: datetime.datetime | None) -> str:
    return "–" if moment is None else f"{moment.astimezone(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"


def _local(moment: datetime.datetime, zone: ZoneInfo) -> str:
    return moment.astimezone(zone).isoformat(timespec="seconds")


def _as_dict(schedule: Schedule, problems: Mapping[UUID, str]) -> dict[str, Any]:
    return {
        "id": schedule.id,
        "workspaceId": schedule.workspace_id,
        "name": schedule.name,
        "jobType": schedule.task,
        "payload": closed_payload(schedule),
        "words": _words(schedule),
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
        "state": _state(schedule, problems),
    }


def _tick_as_dict(tick: ScheduleTick) -> dict[str, Any]:
    return {
        "tickAt": tick.tick_at,
        "outcome": tick.outcome,
        "reason": tick.reason,
        "jobId": tick.job_id,
        "manual": tick.manual,
    }
