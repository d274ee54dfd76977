"""Schedules: make, change, pause, resume, run now, preview and delete the rules that enqueue. Never commits.

A schedule is a row, so it changes while everything runs; :mod:`jobplatform.queue.fire` does what they say.
Platform-wide ones belong to :data:`PLATFORM_WORKSPACE` and enqueue there, or for every workspace.
"""

from __future__ import annotations

import datetime
import itertools
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from jobplatform.errors import (
    InvalidPayloadError,
    InvalidScheduleError,
    Problem,
    ScheduleMadeInCodeError,
    ScheduleNameTakenError,
    TooManySchedulesError,
)
from jobplatform.models import PLATFORM_WORKSPACE, CatchUp, Overlap, Schedule, ScheduleTick, clock, visit
from jobplatform.queue.recurrence import Cron, Every, Once, Rule, offset_in, ticks_after
from jobplatform.queue.safe_json import strict_json, text_problem
from jobplatform.queue.seal import close, sealed_form
from jobplatform.queue.statement import array, run
from jobplatform.queue.vault import is_encrypting, open_payload, reveal_value, seal_for_schedule

if TYPE_CHECKING:
    from jobplatform.queue.enqueue import Enqueued, NewJob
    from jobplatform.queue.task import Task

#: Schedules of one workspace.
MOST_SCHEDULES: Final = 500
LONGEST_NAME: Final = 100
#: It is copied into a job at every tick.
LARGEST_PAYLOAD: Final = 64 << 10
LONGEST_SPREAD: Final = datetime.timedelta(hours=24)
#: Over so much time the jobs of a schedule for every workspace are spread, unless it says otherwise.
SPREAD_OF_FAN_OUT: Final = datetime.timedelta(minutes=1)
MOST_PREVIEWED: Final = 100

#: What ``if_active`` means to an enqueue.
ON_CONFLICT: Final = {Overlap.SKIP.value: "return", Overlap.REPLACE.value: "replace"}

_MILLISECOND = datetime.timedelta(milliseconds=1)
_NOBODY = uuid.UUID(int=0)
_RULES = ("cron", "every_ms", "anchor", "run_at", "timezone")

# Two that are made at once must not both find the last place free: they take turns until their ends.
TAKE_TURNS = "select pg_advisory_xact_lock(724618005, hashtext(%(workspace_id)s::text))"
# In a statement of its own, which sees what the lock's last holder committed.
COUNT = """
select
    (select count(*) from jobplatform.schedules where workspace_id = %(workspace_id)s),
    exists (select from jobplatform.schedules where workspace_id = %(workspace_id)s and name = %(name)s),
    jobplatform.clock()
"""

LAST_TICKS = """
select t.*
from unnest(%(ids)s::uuid[]) as wanted(id)
cross join lateral (
    select workspace_id, schedule_id, tick_at, outcome, reason, job_id, manual, fired_at
    from jobplatform.schedule_ticks
    where workspace_id = %(workspace_id)s and schedule_id = wanted.id
    order by tick_at desc
    limit 1
) t
"""
SERVED = """
select distinct unnest(w.tasks)
from jobplatform.workers w
where w.dead_at is null and w.heartbeat_at > jobplatform.clock() - interval '1 minute'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a schedule does, as somebody asks for it: which task, when, and how its jobs are to be.

    ``spread`` is a window: each schedule, or each workspace of one for every workspace, has its own fixed place in it,
    so that what thousands have at the full hour does not start in one second. What is None of the job's options is the
    task's default at the time.
    """

    rule: Rule
    name: str | None = None
    payload: Any = None
    every_workspace: bool = False
    catch_up: str = CatchUp.ONE
    spread: datetime.timedelta | None = None
    queue: str | None = None
    priority: int | None = None
    max_attempts: int | None = None
    timeout: datetime.timedelta | None = None
    unique_key: str | None = None
    if_active: str | None = None
    tags: tuple[str, ...] = ()

    def job_options(self) -> dict[str, Any]:
        """As :meth:`Task.new_job` takes them."""
        return {
            "if_active": None if self.if_active is None else ON_CONFLICT[self.if_active],
            "queue": self.queue,
            "priority": self.priority,
            "max_attempts": self.max_attempts,
            "timeout": self.timeout,
            "unique_key": self.unique_key,
            "tags": self.tags or None,
        }

    def columns(self, task: Task[Any, Any], workspace_id: uuid.UUID) -> dict[str, Any]:
        """The columns of a row, all of it checked. Raises :class:`InvalidScheduleError` or :class:`InvalidJobError`."""
        _refuse(self._problems(task, workspace_id))
        # The task's own functions name guard and resource, for this payload; a worker's own process has no such code.
        job: NewJob = task.new_job(self.payload, workspace_id=workspace_id, **self.job_options())
        return {
            "name": task.name if self.name is None else self.name,
            "task": task.name,
            "payload": _storable(job.payload),
            "payload_version": job.payload_version,
            **rule_columns(self.rule),
            "every_workspace": self.every_workspace,
            "catch_up": CatchUp(self.catch_up).value,
            "spread_ms": (SPREAD_OF_FAN_OUT if self._spreads_by_itself else self.spread or _MILLISECOND * 0)
            // _MILLISECOND,
            "queue": self.queue,
            "priority": self.priority,
            "max_attempts": self.max_attempts,
            "timeout_ms": None if self.timeout is None else self.timeout // _MILLISECOND,
            "unique_key": job.unique_key,
            "if_active": self.if_active,
            "resource": job.resource,
            "units": job.units,
            "tags": list(job.tags),
        }

    @property
    def _spreads_by_itself(self) -> bool:
        return self.spread is None and self.every_workspace

    def _problems(self, task: Task[Any, Any], workspace_id: uuid.UUID) -> list[Problem | None]:
        return [
            _name_problem(self.name),
            None if self.catch_up in list(CatchUp) else Problem("/catchUp", f"must be one of {', '.join(CatchUp)}"),
            _spread_problem(self.spread),
            Problem("/everyWorkspace", "is for platform-wide schedules only")
            if self.every_workspace and workspace_id != PLATFORM_WORKSPACE
            else None,
            Problem(
                "/everyWorkspace",
                f"cannot be of {task.name}, an encrypted task: each workspace's payload would have to be sealed by its "
                "own key, and no key is there at a tick; let a scheduled job of another task enqueue it",
            )
            if task.options.encrypted and self.every_workspace
            else None,
            None
            if self.if_active in (None, *Overlap)
            else Problem("/ifActive", f"must be one of {', '.join(Overlap)}"),
        ]


def create_schedule(
    session: Session,
    task: Task[Any, Any],
    rule: Rule,
    *,
    workspace_id: uuid.UUID = PLATFORM_WORKSPACE,
    made_by: str = "code",
    **options: Any,
) -> Schedule:
    """Make a schedule in the caller's transaction; its first tick is the first one after now.

    ``options`` are the fields of :class:`Plan`. Without a workspace it is platform-wide: its jobs are the platform's
    own, or with ``every_workspace`` one for each workspace that has a row and is not paused. Of an encrypted task, and
    in a workspace that has everything encrypted, the payload is sealed in the row. Raises
    :class:`InvalidScheduleError`, :class:`InvalidJobError`, :class:`ScheduleNameTakenError`,
    :class:`TooManySchedulesError` or :class:`KeyMissingError`; none of them has written anything.
    """
    visit(session, workspace_id)
    columns = Plan(rule=rule, **options).columns(task, workspace_id)
    schedule_id = uuid7()
    if task.options.encrypted or is_encrypting(session, workspace_id):
        columns["payload"] = seal_for_schedule(session, workspace_id, schedule_id, columns["payload"])
    now = _take_place(session, workspace_id, columns["name"])
    made = Schedule(
        workspace_id=workspace_id, id=schedule_id, made_by=made_by, created_at=now, updated_at=now, **columns
    )
    if made.every_ms is not None and made.anchor is None:
        made.anchor = now
    await_next(made, now)
    session.add(made)
    session.flush()
    return made


def change_schedule(session: Session, schedule: Schedule, task: Task[Any, Any], **changes: Any) -> Schedule:
    """Change fields of a schedule's :class:`Plan`; what is not named stays. A new rule counts from now on.

    Raises what :func:`create_schedule` does, and :class:`ScheduleMadeInCodeError`.
    """
    require_not_in_code(schedule)
    sealed = sealed_form(schedule.payload) is not None
    before = replace(plan_of(schedule), payload=open_payload(session, schedule.workspace_id, schedule.payload))
    if _is_derived(schedule.unique_key, schedule.task):
        # Made from the payload by the task: it is to be made from the new one.
        before = replace(before, unique_key=None)
    columns = replace(before, **changes).columns(task, schedule.workspace_id)
    if sealed or task.options.encrypted or is_encrypting(session, schedule.workspace_id):
        columns["payload"] = seal_for_schedule(session, schedule.workspace_id, schedule.id, columns["payload"])
    if columns["name"] != schedule.name:
        _take_place(session, schedule.workspace_id, columns["name"], new=False)
    now = time_now(session)
    if columns.get("every_ms") is not None and columns["anchor"] is None:
        columns["anchor"] = schedule.anchor or now
    is_new_rule = any(getattr(schedule, name) != columns[name] for name in _RULES)
    is_new_place = schedule.spread_ms != columns["spread_ms"]
    for name, value in columns.items():
        setattr(schedule, name, value)
    schedule.updated_at = now
    if (is_new_rule or is_new_place) and schedule.paused_at is None:
        await_next(schedule, now)
    session.flush()
    return schedule


def delete_schedule(session: Session, schedule: Schedule) -> None:
    """Delete a schedule; jobs it has enqueued stay, and so do its ticks for as long as ticks are kept.

    Raises :class:`ScheduleMadeInCodeError` for one that the next worker would only make again.
    """
    require_not_in_code(schedule)
    session.delete(schedule)
    session.flush()


def pause_schedule(session: Session, schedule: Schedule, *, actor: str) -> bool:
    """Have no more ticks of it done, until it is resumed; says whether that is new. What was enqueued stays."""
    if schedule.paused_at is not None:
        return False
    schedule.paused_at, schedule.paused_by = time_now(session), actor
    schedule.next_tick_at = schedule.next_run_at = schedule.fan_tick_at = schedule.fan_after = None
    session.flush()
    return True


def resume_schedule(session: Session, schedule: Schedule) -> bool:
    """Have its ticks done again, from now on: what was to be during the pause is not caught up with.

    A single moment that has passed meanwhile is done at once. Says whether it was paused.
    """
    if schedule.paused_at is None:
        return False
    schedule.paused_at = schedule.paused_by = schedule.paused_why = None
    await_next(schedule, time_now(session), done=_was_done(session, schedule))
    session.flush()
    return True


def run_schedule_now(session: Session, schedule: Schedule, task: Task[Any, Any]) -> ScheduleTick:
    """Enqueue what a tick would, besides the ticks of its rule; paused or not. The answer says what came of it.

    One for every workspace is enqueued by the workers, beginning at once. Raises :class:`QuotaExceededError` as any
    enqueue does.
    """
    now = time_now(session)
    if schedule.every_workspace:
        return _fan_out_now(session, schedule, now)
    plan = plan_of(schedule)
    answer = task.enqueue(
        session,
        open_payload(session, schedule.workspace_id, schedule.payload),
        workspace_id=schedule.workspace_id,
        request_id=request_id_of(schedule.id, now),
        **plan.job_options(),
    )
    tick = ScheduleTick(
        workspace_id=schedule.workspace_id,
        schedule_id=schedule.id,
        tick_at=now,
        outcome=outcome_of(answer),
        job_id=answer.job_id,
        manual=True,
        fired_at=now,
    )
    session.add(tick)
    session.flush()
    return tick


def find_schedule(session: Session, workspace_id: uuid.UUID, schedule_id: uuid.UUID) -> Schedule | None:
    """A schedule of this workspace, locked: nobody does its ticks, or changes it, until the transaction's end."""
    visit(session, workspace_id)
    statement = select(Schedule).where(Schedule.workspace_id == workspace_id, Schedule.id == schedule_id)
    return session.scalars(statement.with_for_update(), execution_options={"populate_existing": True}).one_or_none()


def get_schedule(session: Session, workspace_id: uuid.UUID, schedule_id: uuid.UUID) -> Schedule | None:
    """A schedule of this workspace, to look at."""
    visit(session, workspace_id)
    return session.get(Schedule, (workspace_id, schedule_id), populate_existing=True)


def find_schedule_named(session: Session, workspace_id: uuid.UUID, name: str) -> Schedule | None:
    """The schedule of this workspace that has the name."""
    visit(session, workspace_id)
    statement = select(Schedule).where(Schedule.workspace_id == workspace_id, Schedule.name == name)
    return session.scalars(statement, execution_options={"populate_existing": True}).one_or_none()


def list_schedules(
    session: Session, workspace_id: uuid.UUID, *, limit: int = 20, after: uuid.UUID | None = None
) -> Sequence[Schedule]:
    """The schedules of a workspace, oldest first. ``after`` is the id of the last one seen."""
    visit(session, workspace_id)
    statement = select(Schedule).where(Schedule.workspace_id == workspace_id, Schedule.id > (after or _NOBODY))
    return session.scalars(statement.order_by(Schedule.id).limit(limit)).all()


def list_ticks(
    session: Session,
    workspace_id: uuid.UUID,
    schedule_id: uuid.UUID,
    *,
    limit: int = 20,
    before: datetime.datetime | None = None,
) -> Sequence[ScheduleTick]:
    """The ticks of a schedule in a workspace, newest first. ``before`` is the moment of the last one seen."""
    visit(session, workspace_id)
    statement = select(ScheduleTick).where(
        ScheduleTick.workspace_id == workspace_id, ScheduleTick.schedule_id == schedule_id
    )
    if before is not None:
        statement = statement.where(ScheduleTick.tick_at < before)
    return session.scalars(statement.order_by(ScheduleTick.tick_at.desc()).limit(limit)).all()


def last_ticks(session: Session, workspace_id: uuid.UUID, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, ScheduleTick]:
    """The newest tick of each of these schedules that has one, by schedule."""
    found = run(session, LAST_TICKS, workspace_id=workspace_id, ids=array(ids))
    return {row.schedule_id: ScheduleTick(**row._mapping) for row in found}


def shown_payload(session: Session, schedule: Schedule, *, to_reader: bool = True) -> Any:
    """The payload for whoever looks at a schedule: a sealed one is opened, or closed to those who may not see it."""
    return reveal_value(session, schedule.workspace_id, None, "payload", schedule.payload, to_reader=to_reader)


def closed_payload(schedule: Schedule) -> Any:
    """The same for whoever has no Session at hand: of a sealed one, that it is sealed."""
    return close(schedule.payload)


def tasks_served(session: Session) -> frozenset[str]:
    """The tasks that some live worker knows. What is due of others waits."""
    return frozenset(run(session, SERVED).scalars())


def time_now(session: Session) -> datetime.datetime:
    """The moment by which schedules are done: the database's."""
    return session.execute(select(clock())).scalar_one()


def preview(
    schedule: Schedule, *, count: int = 5, after: datetime.datetime
) -> list[tuple[datetime.datetime, datetime.datetime]]:
    """The next ticks after a moment, each with when it is done: later by the schedule's place in its spread.

    Of one for every workspace that is when the first job may start. A paused schedule has them too: what would be.
    """
    rule, offset = rule_of(schedule), offset_of(schedule)
    if isinstance(rule, Once) and schedule.next_tick_at == rule.at:
        return [(rule.at, max(rule.at + offset, after))]
    return [(tick, tick + offset) for tick in itertools.islice(ticks_after(rule, after - offset), count)]


def preview_rule(rule: Rule, *, count: int = 5, after: datetime.datetime) -> list[datetime.datetime]:
    """The ticks of a schedule that does not exist yet, if it were made at this moment."""
    if isinstance(rule, Once):
        return [rule.at]
    if isinstance(rule, Every) and rule.anchor is None:
        rule = replace(rule, anchor=after)
    return list(itertools.islice(ticks_after(rule, after), count))


# -- a row and what it says --------------------------------------------------------------------------


def rule_of(schedule: Schedule) -> Rule:
    """The rule of a row."""
    if schedule.cron is not None:
        return Cron(schedule.cron, schedule.timezone)
    if schedule.every_ms is not None:
        return Every(schedule.every_ms * _MILLISECOND, schedule.anchor or schedule.created_at)
    assert schedule.run_at is not None
    return Once(schedule.run_at)


def rule_columns(rule: Rule) -> dict[str, Any]:
    """A rule as columns. An interval whose anchor nobody named has none here: it is when the schedule is made."""
    columns: dict[str, Any] = {
        "cron": None,
        "every_ms": None,
        "anchor": None,
        "run_at": None,
        "timezone": rule.timezone,
    }
    if isinstance(rule, Cron):
        columns["cron"] = rule.line
    elif isinstance(rule, Every):
        columns["every_ms"] = rule.interval // _MILLISECOND
        columns["anchor"] = rule.anchor
    else:
        columns["run_at"] = rule.at
    return columns


def plan_of(schedule: Schedule) -> Plan:
    """What a row was asked for."""
    return Plan(
        rule=rule_of(schedule),
        name=schedule.name,
        payload=schedule.payload,
        every_workspace=schedule.every_workspace,
        catch_up=schedule.catch_up,
        spread=schedule.spread_ms * _MILLISECOND,
        queue=schedule.queue,
        priority=schedule.priority,
        max_attempts=schedule.max_attempts,
        timeout=None if schedule.timeout_ms is None else schedule.timeout_ms * _MILLISECOND,
        unique_key=schedule.unique_key,
        if_active=schedule.if_active,
        tags=tuple(schedule.tags),
    )


def offset_of(schedule: Schedule) -> datetime.timedelta:
    """Its place in its spread. One for every workspace has none: its workspaces have."""
    if schedule.every_workspace:
        return datetime.timedelta(0)
    return offset_in(schedule.spread_ms * _MILLISECOND, schedule.workspace_id, schedule.id)


def request_id_of(schedule_id: object, tick: datetime.datetime) -> str:
    """What a scheduled job has as its request id: by whose tick it is there."""
    return f"schedule:{schedule_id}:{tick.astimezone(datetime.UTC).isoformat().replace('+00:00', 'Z')}"


def outcome_of(answer: Enqueued) -> str:
    """What a tick came to."""
    return "enqueued" if answer.created else "replaced" if answer.replaced else "deduplicated"


def await_next(schedule: Schedule, now: datetime.datetime, *, done: bool = False) -> None:
    """Wait for the first tick after now; for a single moment that was not ``done``, for that."""
    rule = rule_of(schedule)
    tick = (None if done else rule.at) if isinstance(rule, Once) else rule.next_after(now)
    schedule.next_tick_at = tick
    schedule.next_run_at = None if tick is None else tick + offset_of(schedule)
    schedule.fan_tick_at = schedule.fan_after = None


def require_not_in_code(schedule: Schedule) -> None:
    if schedule.declared_by is not None:
        raise ScheduleMadeInCodeError(schedule.name)


# -- steps -------------------------------------------------------------------------------------------


def _take_place(session: Session, workspace_id: uuid.UUID, name: str, *, new: bool = True) -> datetime.datetime:
    """See that there is room and the name is free, and keep both until the transaction's end."""
    run(session, TAKE_TURNS, workspace_id=workspace_id)
    count, taken, now = run(session, COUNT, workspace_id=workspace_id, name=name).one()
    if taken:
        raise ScheduleNameTakenError(name)
    if new and count >= MOST_SCHEDULES:
        raise TooManySchedulesError(MOST_SCHEDULES)
    return now  # type: ignore[no-any-return]  # the database's moment


def _fan_out_now(session: Session, schedule: Schedule, now: datetime.datetime) -> ScheduleTick:
    """Leave it to the workers. While a tick is being enqueued for every workspace, that one is the answer."""
    if schedule.fan_tick_at is None:
        schedule.fan_tick_at, schedule.fan_after, schedule.next_run_at = now, _NOBODY, now
        tick = ScheduleTick(
            workspace_id=schedule.workspace_id,
            schedule_id=schedule.id,
            tick_at=now,
            outcome="fanned_out",
            manual=True,
            fired_at=now,
        )
        session.add(tick)
        session.flush()
        return tick
    return session.get_one(ScheduleTick, (schedule.workspace_id, schedule.id, schedule.fan_tick_at))


def _is_derived(key: str | None, task: str) -> bool:
    return key is not None and f"{key}:".startswith(f"{task}:")


def _was_done(session: Session, schedule: Schedule) -> bool:
    if schedule.run_at is None:
        return False
    return session.get(ScheduleTick, (schedule.workspace_id, schedule.id, schedule.run_at)) is not None


def _storable(payload: Any) -> Any:
    """A value that cannot be stored is found here and not by the database."""
    if len(strict_json(payload)) > LARGEST_PAYLOAD:
        raise InvalidPayloadError([Problem("", f"is larger than {LARGEST_PAYLOAD:,} characters of JSON")])
    return payload


def _name_problem(name: str | None) -> Problem | None:
    if name is None:
        return None
    problem = text_problem(name) if 1 <= len(name) <= LONGEST_NAME else f"must be 1 to {LONGEST_NAME} characters"
    return Problem("/name", problem) if problem else None


def _spread_problem(spread: datetime.timedelta | None) -> Problem | None:
    if spread is None or datetime.timedelta(0) <= spread <= LONGEST_SPREAD:
        return None
    return Problem("/spreadMs", "must be from 0 to 24 hours")


def _refuse(problems: Sequence[Problem | None]) -> None:
    found = [problem for problem in problems if problem]
    if found:
        raise InvalidScheduleError(found)
