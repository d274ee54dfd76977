"""Limits of tasks, which code declares and operators change. See rows.py for what holds for every change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidLimitError, refuse
from jobplatform.models import TaskLimits
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.limits.rows import change, delete_rows, row_for_update, value_problems, word_problem
from jobplatform.queue.snapshot import says_it_cannot_see
from jobplatform.queue.statement import array, run, text_array
from jobplatform.queue.waking import wake_workers

# The rows are locked in one order, by `order by` before the upsert: workers start together.
DECLARE = """
with declared as materialized (
    select task, most, most_here
    from unnest(%(tasks)s::text[], %(most)s::integer[], %(most_here)s::integer[]) as u(task, most, most_here)
),
gone as (
    delete from jobplatform.task_limits l
    using declared d
    where l.task = d.task
        and num_nonnulls(d.most, d.most_here) = 0
        and num_nonnulls(l.code_max_running, l.code_max_running_per_workspace) > 0
        and l.max_running is not distinct from l.code_max_running
        and l.max_running_per_workspace is not distinct from l.code_max_running_per_workspace
    returning l.task
),
followed as (
    insert into jobplatform.task_limits as l (
        task, max_running, max_running_per_workspace, code_max_running, code_max_running_per_workspace
    )
    select d.task, d.most, d.most_here, d.most, d.most_here
    from declared d
    left join jobplatform.task_limits present on present.task = d.task
    where d.task not in (select task from gone)
        and (
            num_nonnulls(d.most, d.most_here) > 0
            or num_nonnulls(present.code_max_running, present.code_max_running_per_workspace) > 0
        )
    order by d.task
    on conflict (task) do update
    set max_running = case
            when l.max_running is not distinct from l.code_max_running then excluded.code_max_running
            else l.max_running
        end,
        max_running_per_workspace = case
            when l.max_running_per_workspace is not distinct from l.code_max_running_per_workspace
            then excluded.code_max_running_per_workspace
            else l.max_running_per_workspace
        end,
        code_max_running = excluded.code_max_running,
        code_max_running_per_workspace = excluded.code_max_running_per_workspace
    where l.code_max_running is distinct from excluded.code_max_running
        or l.code_max_running_per_workspace is distinct from excluded.code_max_running_per_workspace
    returning l.task
)
select task from gone
union all
select task from followed
"""


class LimitsInCode(NamedTuple):
    """How many jobs of a task run at a time, in all and in each workspace, as its code declares it; None: not said."""

    task: str
    max_running: int | None
    max_running_per_workspace: int | None


def list_task_limits(session: Session) -> Sequence[TaskLimits]:
    """Every limited task, by name."""
    return session.scalars(select(TaskLimits).order_by(TaskLimits.task)).all()


@checks_arguments(InvalidLimitError)
def find_task_limits(session: Session, task: str) -> TaskLimits | None:
    """The limits of a task, as the database has them now; None where it has none."""
    return session.get(TaskLimits, task, populate_existing=True)


@checks_arguments(InvalidLimitError)
@says_it_cannot_see("limits of task", "task")
def set_task_limits(session: Session, task: str, changes: Mapping[str, Any]) -> TaskLimits:
    """Change these fields of a task's limits: ``max_running`` in all, ``max_running_per_workspace`` in each."""
    refuse(InvalidLimitError, [word_problem(task, "task"), *value_problems(changes, TaskLimits)])
    row = row_for_update(session, TaskLimits, task=task)
    change(session, row, changes)
    return row


@checks_arguments(InvalidLimitError)
@says_it_cannot_see("limits of task", "task")
def clear_task_limits(session: Session, task: str) -> bool:
    """Says whether there was anything to clear. What the code of the task declares counts again."""
    row = session.get(TaskLimits, task, with_for_update=True, populate_existing=True)
    if row is None:
        return False
    in_code = (row.code_max_running, row.code_max_running_per_workspace)
    if in_code == (None, None):
        return delete_rows(session, delete(TaskLimits).where(TaskLimits.task == task))
    changed = (row.max_running, row.max_running_per_workspace) != in_code
    change(session, row, dict(zip(("max_running", "max_running_per_workspace"), in_code, strict=True)))
    return changed


def declare_task_limits(session: Session, declared: Sequence[LimitsInCode]) -> list[str]:
    """Have the limits of tasks follow their code, except where an operator has set others; answers what changed.

    A limit is an operator's when it is not what the code declared before. Whoever declares last is followed; for a
    task that declares nothing (any more), what its code declared is taken back. Tasks that are not named stay.
    """
    rows = run(
        session,
        DECLARE,
        tasks=text_array(one.task for one in declared),
        most=array("null" if one.max_running is None else one.max_running for one in declared),
        most_here=array(
            "null" if one.max_running_per_workspace is None else one.max_running_per_workspace for one in declared
        ),
    )
    changed = sorted(row[0] for row in rows)
    if changed:
        wake_workers(session)
    return changed
