"""Schedules declared in code, beside the task that they enqueue.

>>> tasks = Tasks()
>>> @tasks.cron("0 3 * * *", timezone="Europe/Berlin")
... @tasks.task("audit.retention")
... def retention(job: RunningJob, payload: dict[str, Any]) -> None: ...
>>> [declared.name for declared in tasks.schedules]
['audit.retention']

A declaration is checked where it is made, so that a line which cannot be read stops the deployment and not the night.
A worker that starts writes it down (:mod:`jobplatform.queue.schedules.settle`).
"""

from __future__ import annotations

import datetime
import hashlib
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from jobplatform.errors import InvalidJobError, InvalidScheduleError, Problem, TaskDefinitionError
from jobplatform.models import PLATFORM_WORKSPACE
from jobplatform.queue.schedules.plan import Plan
from jobplatform.queue.schedules.recurrence import Cron, Every, Once, Rule
from jobplatform.queue.schedules.zones import default_timezone

if TYPE_CHECKING:
    from jobplatform.queue.tasks.task import Task

CLEAR = "is an encrypted task: no key is there to seal the payload; make the schedule with create_schedule()"

T = TypeVar("T", bound="Task[Any, Any]")


@dataclass(frozen=True, slots=True)
class Declared:
    """A schedule as code declares it: a row of JSON values, and whose it is. ``connection_id``: what its payload names,
    if its task asks for that to be there."""

    workspace_id: uuid.UUID
    name: str
    columns: dict[str, Any]
    connection_id: uuid.UUID | None = None

    @property
    def fingerprint(self) -> str:
        """The same for the same declaration, in whatever process."""
        text = json.dumps([str(self.workspace_id), self.columns], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def as_dict(self) -> dict[str, Any]:
        named = None if self.connection_id is None else str(self.connection_id)
        return {
            "workspace_id": str(self.workspace_id),
            "name": self.name,
            "columns": self.columns,
            "connection_id": named,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Declared:
        named = values["connection_id"]
        connection_id = None if named is None else uuid.UUID(named)
        return cls(uuid.UUID(values["workspace_id"]), values["name"], values["columns"], connection_id)


class Declarations:
    """The part of :class:`Tasks` that declares schedules."""

    def __init__(self) -> None:
        self.schedules: list[Declared] = []

    def cron(self, line: str, *, timezone: str | None = None, **options: Any) -> Callable[[T], T]:
        """Enqueue the task below at the moments of a crontab line, in a time zone (default: ``JOBS_CRON_TZ``, or UTC).

        ``options`` are ``name`` (default: the task's), ``payload``, ``workspace_id`` (default: the platform's own),
        ``every_workspace``, ``catch_up``, ``spread``, ``if_active`` (``skip`` or ``replace``), and what a job may be
        given: ``queue``, ``priority``, ``max_attempts``, ``timeout``, ``start_within``, ``unique_key``,
        ``tags``. Raises :class:`TaskDefinitionError` for what cannot be.
        """
        return self._declaring(lambda: Cron(line, default_timezone() if timezone is None else timezone), options)

    def every(
        self, interval: datetime.timedelta, *, anchor: datetime.datetime | None = None, **options: Any
    ) -> Callable[[T], T]:
        """Enqueue the task below every so often, from ``anchor`` on (default: when the schedule is first seen).

        ``options`` are those of :meth:`cron`.
        """
        return self._declaring(lambda: Every(interval, anchor), options)

    def once(self, moment: datetime.datetime, **options: Any) -> Callable[[T], T]:
        """Enqueue the task below once, at this moment or as soon after it as a worker runs.

        ``options`` are those of :meth:`cron`.
        """
        return self._declaring(lambda: Once(moment), options)

    def _declaring(self, rule: Callable[[], Rule], options: dict[str, Any]) -> Callable[[T], T]:
        def declare(task: T) -> T:
            if not hasattr(task, "new_job"):
                raise TaskDefinitionError("a schedule is declared above @tasks.task(...), not below it")
            self.schedules.append(self._declared(task, rule, dict(options)))
            return task

        return declare

    def _declared(self, task: Task[Any, Any], rule: Callable[[], Rule], options: dict[str, Any]) -> Declared:
        workspace_id = options.pop("workspace_id", PLATFORM_WORKSPACE)
        try:
            plan = Plan(rule=rule(), **options)
            if task.options.encrypted:
                raise InvalidScheduleError([Problem("/jobType", CLEAR)])
            columns = {name: plain(value) for name, value in plan.columns(task, workspace_id).items()}
        except (InvalidScheduleError, InvalidJobError, TypeError) as error:
            raise TaskDefinitionError(f"a schedule of task {task.name!r}: {error}") from None
        named = None if task.payload.refuse is None else _connection_in(columns["payload"])
        declared = Declared(workspace_id, columns["name"], columns, named)
        if any((one.workspace_id, one.name) == (workspace_id, declared.name) for one in self.schedules):
            raise TaskDefinitionError(f"two schedules are named {declared.name!r}; give one of them a name=")
        return declared


def _connection_in(payload: Any) -> uuid.UUID | None:
    try:
        return uuid.UUID(payload["connectionId"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def plain(value: Any) -> Any:
    """A column as JSON has it: moments as text, which is how they reach the worker's own process."""
    return value.astimezone(datetime.UTC).isoformat() if isinstance(value, datetime.datetime) else value
