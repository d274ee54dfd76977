"""How long jobs are kept after they ended, by task and by workspace.

For each status the most specific that says something counts: the row of the workspace and the task, the row of the
workspace, the row of the task, what the task's code declares, and last the settings. A workspace comes before a task
because it is somebody's contract, and a task is a habit.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidLimitError, Problem, refuse
from jobplatform.models import TaskRetention, WorkspaceRetention, clock, visit
from jobplatform.queue.allowed import duration_problem
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.snapshot import says_it_cannot_see
from jobplatform.queue.statement import run, text_array
from jobplatform.settings import QUEUE_NAME

LONGEST = datetime.timedelta(days=36_500)
STATUSES = ("completed", "failed", "cancelled")

DECLARE = """
with said as materialized (
    select u.*
    from unnest(
        %(tasks)s::text[], %(completed)s::interval[], %(failed)s::interval[], %(cancelled)s::interval[]
    ) as u(task, completed, failed, cancelled)
),
silent as (
    update jobplatform.task_retention t
    set declared_completed = null, declared_failed = null, declared_cancelled = null
    from said
    where t.task = said.task
        and num_nonnulls(said.completed, said.failed, said.cancelled) = 0
        and num_nonnulls(t.declared_completed, t.declared_failed, t.declared_cancelled) > 0
)
insert into jobplatform.task_retention as t (task, declared_completed, declared_failed, declared_cancelled)
select task, completed, failed, cancelled
from said
where num_nonnulls(completed, failed, cancelled) > 0
order by task
on conflict (task) do update
set declared_completed = excluded.declared_completed,
    declared_failed = excluded.declared_failed,
    declared_cancelled = excluded.declared_cancelled
where (t.declared_completed, t.declared_failed, t.declared_cancelled)
    is distinct from (excluded.declared_completed, excluded.declared_failed, excluded.declared_cancelled)
"""


@dataclass(frozen=True, slots=True)
class Keep:
    """How long jobs are kept, by how they ended. None says nothing; ``cancelled`` is then as ``failed``.

    >>> Keep(completed=datetime.timedelta(hours=1)).failed is None
    True
    """

    completed: datetime.timedelta | None = None
    failed: datetime.timedelta | None = None
    cancelled: datetime.timedelta | None = None

    def __post_init__(self) -> None:
        refuse(InvalidLimitError, [_problem(name, getattr(self, name)) for name in STATUSES])

    def as_seconds(self) -> dict[str, float | None]:
        """As JSON can say it."""
        return {name: None if (kept := getattr(self, name)) is None else kept.total_seconds() for name in STATUSES}


class RetentionRule(NamedTuple):
    """A rule that there is: for a task, a workspace, or a task in a workspace; ``declared`` by the code or set."""

    workspace_id: uuid.UUID | None
    task: str | None
    keep: Keep
    declared: bool


@checks_arguments(InvalidLimitError)
@says_it_cannot_see("retention", "task")
def set_retention(
    session: Session,
    changes: Mapping[str, datetime.timedelta | None],
    *,
    workspace_id: uuid.UUID | None = None,
    task: str | None = None,
) -> Keep:
    """Change how long jobs are kept: of a workspace, of a task, or of a task in a workspace. Answers with all of it.

    ``changes`` has durations for ``completed``, ``failed`` and ``cancelled``; what it does not name stays, and None
    clears. It counts from the next round of deletion on, also for what ended before. Raises :class:`InvalidLimitError`.
    """
    _refuse(changes, workspace_id, task)
    model, key = _place(workspace_id, task)
    if workspace_id is not None:
        visit(session, workspace_id)
    values = dict(changes) | ({"updated_at": clock()} if model is WorkspaceRetention else {})
    statement = insert(model).values(**key, **values).on_conflict_do_update(index_elements=list(key), set_=values)
    row = session.execute(statement.returning(model.completed, model.failed, model.cancelled)).one()
    return Keep(*row)


@checks_arguments(InvalidLimitError)
@says_it_cannot_see("retention", "task")
def clear_retention(session: Session, *, workspace_id: uuid.UUID | None = None, task: str | None = None) -> bool:
    """Take back what was set for exactly this. What a task's code declares stays. Says whether there was anything."""
    if workspace_id is None:
        return _clear_task(session, task or "")
    visit(session, workspace_id)
    _, key = _place(workspace_id, task)
    where = [getattr(WorkspaceRetention, name) == value for name, value in key.items()]
    return bool(session.execute(delete(WorkspaceRetention).where(*where).returning(WorkspaceRetention.task)).first())


@checks_arguments(InvalidLimitError)
def list_retention(session: Session, *, workspace_id: uuid.UUID | None = None) -> Sequence[RetentionRule]:
    """Every rule there is; or those of one workspace, the more specific last."""
    theirs = select(WorkspaceRetention).order_by(WorkspaceRetention.workspace_id, WorkspaceRetention.task)
    fresh = {"populate_existing": True}
    if workspace_id is not None:
        visit(session, workspace_id)
        theirs = theirs.where(WorkspaceRetention.workspace_id == workspace_id)
        everywhere: Sequence[TaskRetention] = ()
    else:
        of_tasks = select(TaskRetention).order_by(TaskRetention.task)
        everywhere = session.scalars(of_tasks, execution_options=fresh).all()
    found = [kept for row in everywhere for kept in _of_task(row)]
    return [*found, *(_of_workspace(row) for row in session.scalars(theirs, execution_options=fresh))]


def declare_retention(session: Session, keeps: Mapping[str, Mapping[str, float | None]]) -> None:
    """Write down what the code of these tasks asks for, in seconds. A task that asks for nothing takes it back."""
    if not keeps:
        return
    columns = {name: text_array(_interval(keep.get(name)) for keep in keeps.values()) for name in STATUSES}
    run(session, DECLARE, tasks=text_array(keeps), **columns)


def _interval(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds} seconds"


def _place(workspace_id: uuid.UUID | None, task: str | None) -> tuple[type[Any], dict[str, Any]]:
    if workspace_id is None:
        return TaskRetention, {"task": task}
    return WorkspaceRetention, {"workspace_id": workspace_id, "task": task or ""}


def _clear_task(session: Session, task: str) -> bool:
    row = session.get(TaskRetention, task, with_for_update=True, populate_existing=True)
    if row is None or not any(getattr(row, name) is not None for name in STATUSES):
        return False
    for name in STATUSES:
        setattr(row, name, None)
    if not any(getattr(row, f"declared_{name}") is not None for name in STATUSES):
        session.delete(row)
    session.flush()
    return True


def _of_task(row: TaskRetention) -> Iterable[RetentionRule]:
    declared = Keep(row.declared_completed, row.declared_failed, row.declared_cancelled)
    own = Keep(row.completed, row.failed, row.cancelled)
    if declared != Keep():
        yield RetentionRule(None, row.task, declared, declared=True)
    if own != Keep():
        yield RetentionRule(None, row.task, own, declared=False)


def _of_workspace(row: WorkspaceRetention) -> RetentionRule:
    keep = Keep(row.completed, row.failed, row.cancelled)
    return RetentionRule(row.workspace_id, row.task or None, keep, declared=False)


def _refuse(changes: Mapping[str, Any], workspace_id: uuid.UUID | None, task: str | None) -> None:
    problems = [_problem(name, value) for name, value in changes.items()]
    if workspace_id is None and task is None:
        problems.append(Problem("/task", "is needed, or a workspace; for everything, change the settings"))
    if task is not None and not QUEUE_NAME.match(task):
        problems.append(Problem("/task", "is not a task name"))
    if not changes:
        problems.append(Problem("", "say how long completed, failed or cancelled jobs are kept"))
    refuse(InvalidLimitError, problems)


def _problem(name: str, value: Any) -> Problem | None:
    if name not in STATUSES:
        return Problem(f"/{name}", f"is not one of {', '.join(STATUSES)}")
    if value is None:
        return None
    if isinstance(value, datetime.timedelta) and datetime.timedelta(0) <= value <= LONGEST:
        return None
    if problem := duration_problem(name, value):
        return Problem(f"/{name}", problem)
    return Problem(f"/{name}", f"must be a duration from nothing to {LONGEST.days} days")
