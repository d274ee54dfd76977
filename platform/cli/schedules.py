"""``jobplatform schedules``. A schedule is given by its id or name; without ``-w`` it is a platform-wide one."""

from __future__ import annotations

import datetime
import json
import re
from typing import Any
from uuid import UUID

import click
from sqlalchemy.orm import Session

from jobplatform.cli.acting import actor, audit
from jobplatform.cli.amounts import Duration, Moment
from jobplatform.cli.database import find_known_workspace, known_tasks, open_session
from jobplatform.cli.schedules_told import (
    moment_or_dash,
    owner_of,
    problems_of,
    schedule_as_dict,
    state_of,
    tell_runs,
    tick_as_dict,
    words_of,
)
from jobplatform.cli.show import as_json_option, print_json, print_table, tell
from jobplatform.models import PLATFORM_WORKSPACE, CatchUp, Overlap, Schedule
from jobplatform.queue import (
    Cron,
    Every,
    Once,
    Rule,
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
        problems = problems_of(session, found)
    if as_json:
        print_json([schedule_as_dict(one, problems) for one in found])
        return
    columns = ["id", "workspace", "name", "task", "when", "zone", "next run", "state"]
    rows = [
        (
            one.id,
            owner_of(one),
            one.name,
            one.task,
            words_of(one),
            one.timezone,
            one.next_run_at,
            state_of(one, problems),
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
        problems = problems_of(session, [made])
    if as_json:
        print_json(schedule_as_dict(made, problems))
    else:
        click.echo(f"{made.id} {made.name}: {words_of(made)}; runs next at {moment_or_dash(made.next_run_at)}")


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
        problems = problems_of(session, [found])
    if as_json:
        print_json({**schedule_as_dict(found, problems), "ticks": [tick_as_dict(tick) for tick in ticks]})
        return
    print_table(["", ""], list(schedule_as_dict(found, problems).items()), title=found.name)
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
        problems = problems_of(session, [found])
    tell(as_json, f"{found.name} is paused", **schedule_as_dict(found, problems))


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
        problems = problems_of(session, [found])
    sentence = f"{found.name} is resumed and runs next at {moment_or_dash(found.next_run_at)}"
    tell(as_json, sentence, **schedule_as_dict(found, problems))


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
        print_json(tick_as_dict(tick))
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
        tell_runs(rule, runs, paused=False, as_json=as_json)
        return
    if schedule is None or timezone or anchor:
        raise click.UsageError("say a schedule by id or name, or a crontab line (with --timezone), or --every")
    with open_session() as session:
        if _seems_cron(schedule) and find_schedule_named(session, _workspace(session, workspace), schedule) is None:
            # Which says how many fields it has to have.
            _rule(schedule, None, None, None, None)
        found = _find(session, schedule, workspace)
        runs = preview(found, count=count, after=time_now(session))
    tell_runs(rule_of(found), runs, paused=found.paused_at is not None, as_json=as_json)


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
