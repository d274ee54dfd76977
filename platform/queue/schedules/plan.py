"""Plan: what somebody asks of a schedule, checked before there is a row. No I/O."""

from __future__ import annotations

import datetime
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from jobplatform.errors import InvalidPayloadError, InvalidScheduleError, Problem, refuse
from jobplatform.models import PLATFORM_WORKSPACE, CatchUp, Overlap, Schedule
from jobplatform.queue.kinds import kinds_of, problems_of_fields
from jobplatform.queue.safe_json import strict_json
from jobplatform.queue.schedules.recurrence import Rule
from jobplatform.queue.schedules.row import rule_columns, rule_of
from jobplatform.queue.seal import MARK

if TYPE_CHECKING:
    from jobplatform.queue.enqueue import NewJob
    from jobplatform.queue.tasks.task import Task

LONGEST_NAME: Final = 100
#: It is copied into a job at every tick.
LARGEST_PAYLOAD: Final = 64 << 10
LONGEST_SPREAD: Final = datetime.timedelta(hours=24)
#: Over so much time the jobs of a schedule for every workspace are spread, unless it says otherwise.
SPREAD_OF_FAN_OUT: Final = datetime.timedelta(minutes=1)

#: What ``if_active`` means to an enqueue.
ON_CONFLICT: Final = {Overlap.SKIP.value: "return", Overlap.REPLACE.value: "replace"}

_MILLISECOND = datetime.timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a schedule does, as somebody asks for it: which task, when, and how its jobs are to be.

    ``spread`` is a window: each schedule, or each workspace of one for every workspace, has its own fixed place in it,
    so that what thousands have at the full hour does not start in one second. ``start_within`` counts from a tick, or
    from its place in the spread, and not from when somebody looks. What is None of the job's options is the task's
    default at the time.
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
    start_within: datetime.timedelta | None = None
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
            "start_within": self.start_within,
            "unique_key": self.unique_key,
            "tags": self.tags or None,
        }

    def columns(self, task: Task[Any, Any], workspace_id: uuid.UUID) -> dict[str, Any]:
        """The columns of a row, all of it checked. Raises :class:`InvalidScheduleError` or :class:`InvalidJobError`."""
        refuse(InvalidScheduleError, problems_of_fields(self, _KINDS))
        refuse(InvalidScheduleError, self._problems(task, workspace_id))
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
            "start_within_ms": None if self.start_within is None else self.start_within // _MILLISECOND,
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


#: What each field of a plan has to be.
_KINDS: Final = kinds_of(Plan.__annotations__, globals())


def plan_of(schedule: Schedule, rule: Rule | None = None) -> Plan:
    """What a row was asked for. With the ``rule`` that it is to have, its own is not read: that may be unknown here."""
    return Plan(
        rule=rule or rule_of(schedule),
        name=schedule.name,
        payload=schedule.payload,
        every_workspace=schedule.every_workspace,
        catch_up=schedule.catch_up,
        spread=schedule.spread_ms * _MILLISECOND,
        queue=schedule.queue,
        priority=schedule.priority,
        max_attempts=schedule.max_attempts,
        timeout=None if schedule.timeout_ms is None else schedule.timeout_ms * _MILLISECOND,
        start_within=None if schedule.start_within_ms is None else schedule.start_within_ms * _MILLISECOND,
        unique_key=schedule.unique_key,
        if_active=schedule.if_active,
        tags=tuple(schedule.tags),
    )


def _storable(payload: Any) -> Any:
    """A value that cannot be stored or enqueued is found here, and not at the tick."""
    if len(strict_json(payload)) > LARGEST_PAYLOAD:
        raise InvalidPayloadError([Problem("", f"is larger than {LARGEST_PAYLOAD:,} characters of JSON")])
    if isinstance(payload, dict) and MARK in payload:
        raise InvalidPayloadError([Problem(f"/{MARK}", "is a reserved name")])
    return payload


def _name_problem(name: str | None) -> Problem | None:
    if name is None:
        return None
    return None if 1 <= len(name) <= LONGEST_NAME else Problem("/name", f"must be 1 to {LONGEST_NAME} characters")


def _spread_problem(spread: datetime.timedelta | None) -> Problem | None:
    if spread is None or datetime.timedelta(0) <= spread <= LONGEST_SPREAD:
        return None
    return Problem("/spreadMs", "must be from 0 to 24 hours")
