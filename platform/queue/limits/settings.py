"""Limits: what an operator sets about workspaces, plans, queues, tasks and resources, while everything runs.

A change names fields and their new values: what it does not name stays, and null clears. Every function works in the
caller's transaction. One that raises :class:`InvalidLimitError` may have left a row without values in it: roll back.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Delete, delete, func, literal, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidLimitError, Problem
from jobplatform.models import Plan, QueueLimits, RateLimit, ResourceLimits, TaskLimits, WorkspaceLimits, clock, visit
from jobplatform.queue.allowed import COUNTS
from jobplatform.queue.safe_json import text_problem
from jobplatform.queue.snapshot import says_it_cannot_see
from jobplatform.queue.statement import array, run, text_array
from jobplatform.queue.tasks.resources import LONGEST_RESOURCE, Adaptive, resource_problem
from jobplatform.queue.waking import wake_workers
from jobplatform.settings import QUEUE_NAME

Row = TypeVar("Row", Plan, WorkspaceLimits, TaskLimits, QueueLimits, RateLimit, ResourceLimits)

WEIGHTS = range(1, 101)
UNITS = range(1, 2**31)
#: A rate over more than a year is a contract.
PERIODS = range(1, 366 * 86_400_000)
LONGEST_NAME = 100
#: How many of a plan's workspaces a refusal to delete it names.
MOST_NAMED = 100

_RANGES = {
    "weight": WEIGHTS,
    "max_running": COUNTS,
    "min_running": UNITS,
    "max_pending": COUNTS,
    "max_running_per_workspace": COUNTS,
    "rate_units": UNITS,
    "rate_period_ms": PERIODS,
    "units": UNITS,
    "period_ms": PERIODS,
    "burst": UNITS,
}
_PATHS = {
    "max_running": "/maxRunning",
    "min_running": "/minRunning",
    "max_pending": "/maxPending",
    "max_running_per_workspace": "/maxRunningPerWorkspace",
    "rate_units": "/rateUnits",
    "rate_period_ms": "/ratePeriodMs",
    "period_ms": "/periodMs",
}


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


# What the same code declared before and does not any more is taken back; an operator's own value stays.
DECLARE_RESOURCES = """
with declared as materialized (
    select resource, most, least
    from unnest(%(resources)s::text[], %(most)s::integer[], %(least)s::integer[]) as u(resource, most, least)
),
left_out as materialized (
    select
        l.resource,
        (l.max_running, l.min_running) is not distinct from (l.code_max_running, l.code_min_running) as followed
    from jobplatform.resource_limits l
    where l.declared_by = %(declared_by)s and l.resource not in (select resource from declared)
    order by l.resource
    for update
),
gone as (
    delete from jobplatform.resource_limits l
    using left_out
    where l.resource = left_out.resource and left_out.followed
    returning l.resource
),
let_go as (
    update jobplatform.resource_limits l
    set code_max_running = null, code_min_running = null, declared_by = null
    from left_out
    where l.resource = left_out.resource and not left_out.followed
    returning l.resource
),
followed as (
    insert into jobplatform.resource_limits as l (
        resource, max_running, min_running, code_max_running, code_min_running, declared_by
    )
    select d.resource, d.most, d.least, d.most, d.least, %(declared_by)s
    from declared d
    order by d.resource
    on conflict (resource) do update
    set (max_running, min_running) = (
            select
                case when of_code then excluded.code_max_running else l.max_running end,
                case when of_code then excluded.code_min_running else l.min_running end
            from (
                select
                    l.code_max_running is not null
                    and (l.max_running, l.min_running) is not distinct from (l.code_max_running, l.code_min_running)
                        as of_code
            ) o
        ),
        code_max_running = excluded.code_max_running,
        code_min_running = excluded.code_min_running,
        declared_by = excluded.declared_by
    where l.code_max_running is distinct from excluded.code_max_running
        or l.code_min_running is distinct from excluded.code_min_running
        or l.declared_by is distinct from excluded.declared_by
    returning l.resource
)
select resource from gone
union all
select resource from let_go
union all
select resource from followed
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """The share and the limits of a workspace, or the preset of a plan. None: nothing is said about that here."""

    weight: int | None = None
    max_running: int | None = None
    max_pending: int | None = None
    shed: bool | None = None
    rate_units: int | None = None
    rate_period_ms: int | None = None


#: What is so for a workspace that neither says anything itself nor is on a plan that does.
DEFAULTS = Limits(weight=1, shed=False)


@dataclass(frozen=True, slots=True)
class LimitsOfWorkspace:
    """``effective`` is what counts: for each field the workspace's own value, else its plan's, else the default.
    ``rate_units`` and ``rate_period_ms`` come together from one of them."""

    workspace_id: uuid.UUID
    plan: str | None
    own: Limits
    effective: Limits


class PlanDeletion(NamedTuple):
    """``existed`` is false for a plan nobody knows. One that workspaces are on stays: some of them, and how many."""

    existed: bool
    used_by: Sequence[uuid.UUID] = ()
    uses: int = 0

    @property
    def deleted(self) -> bool:
        return self.existed and not self.uses


def list_plans(session: Session) -> Sequence[Plan]:
    """Every plan, by name."""
    return session.scalars(select(Plan).order_by(Plan.name), execution_options={"populate_existing": True}).all()


def find_plan(session: Session, name: str) -> Plan | None:
    return session.get(Plan, name, populate_existing=True)


@says_it_cannot_see("plan", "name")
def set_plan(session: Session, name: str, changes: Mapping[str, Any]) -> Plan:
    """Make a plan, or change these fields of it. It counts at once for every workspace on it."""
    _refuse([_name_problem(name), *_value_problems(changes, Limits)])
    plan = _row_for_update(session, Plan, name=name)
    _change(session, plan, changes)
    return plan


@says_it_cannot_see("plan", "name")
def delete_plan(session: Session, name: str) -> PlanDeletion:
    """Delete a plan that no workspace is on. Otherwise the answer names who is."""
    # Locked, so that nobody is put on it between our look and the delete: that takes a key share of this row.
    if session.get(Plan, name, with_for_update=True) is None:
        return PlanDeletion(existed=False)
    on_it = select(WorkspaceLimits.workspace_id).where(WorkspaceLimits.plan == name)
    uses = session.scalar(select(func.count()).select_from(on_it.subquery())) or 0
    if uses:
        named = session.scalars(on_it.order_by(WorkspaceLimits.workspace_id).limit(MOST_NAMED)).all()
        return PlanDeletion(existed=True, used_by=named, uses=uses)
    session.execute(delete(Plan).where(Plan.name == name))
    return PlanDeletion(existed=True)


def read_workspace_limits(session: Session, workspace_id: uuid.UUID) -> LimitsOfWorkspace:
    """What counts for a workspace, and why. Every id has an answer: without a row it is the defaults."""
    visit(session, workspace_id)
    return limits_of_workspaces(session, [workspace_id])[workspace_id]


def limits_of_workspaces(session: Session, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, LimitsOfWorkspace]:
    """The same for many at once."""
    statement = (
        select(WorkspaceLimits, Plan)
        .outerjoin(Plan, Plan.name == WorkspaceLimits.plan)
        .where(WorkspaceLimits.workspace_id.in_(ids))
    )
    rows = session.execute(statement, execution_options={"populate_existing": True})
    found = {row.workspace_id: (row, plan) for row, plan in rows}
    return {workspace_id: _combine(workspace_id, *found.get(workspace_id, (None, None))) for workspace_id in ids}


def _combine(workspace_id: uuid.UUID, row: WorkspaceLimits | None, plan: Plan | None) -> LimitsOfWorkspace:
    own = _limits_of(row)
    effective = _over(own, _over(_limits_of(plan), DEFAULTS))
    return LimitsOfWorkspace(workspace_id, row.plan if row else None, own, effective)


@says_it_cannot_see("limits")
def set_workspace_limits(session: Session, workspace_id: uuid.UUID, changes: Mapping[str, Any]) -> LimitsOfWorkspace:
    """Change these fields of a workspace's limits; ``plan`` is one of them. They count from the next claim on."""
    visit(session, workspace_id)
    values = {name: value for name, value in changes.items() if name != "plan"}
    _refuse(_value_problems(values, Limits))
    _refuse([_plan_problem(session, changes.get("plan"))])
    row = _row_for_update(session, WorkspaceLimits, workspace_id=workspace_id)
    row.updated_at = clock()
    _change(session, row, changes)
    return read_workspace_limits(session, workspace_id)


@says_it_cannot_see("limits")
def clear_workspace_limits(session: Session, workspace_id: uuid.UUID) -> bool:
    """Take a workspace off its plan and back to the defaults. Says whether there was anything to clear."""
    visit(session, workspace_id)
    return _delete(session, delete(WorkspaceLimits).where(WorkspaceLimits.workspace_id == workspace_id))


def list_queue_limits(session: Session) -> Sequence[QueueLimits]:
    """Every limited queue, by name."""
    return session.scalars(select(QueueLimits).order_by(QueueLimits.queue)).all()


@says_it_cannot_see("limit of queue", "queue")
def set_queue_limit(session: Session, queue: str, max_running: int | None) -> None:
    """How many jobs of a queue run at a time, everywhere; None for no limit."""
    _refuse([_word_problem(queue, "queue"), *_value_problems({"max_running": max_running}, QueueLimits)])
    if max_running is None:
        session.execute(delete(QueueLimits).where(QueueLimits.queue == queue))
    else:
        _upsert(session, QueueLimits, {"queue": queue}, {"max_running": max_running})
    wake_workers(session, queue)


def list_task_limits(session: Session) -> Sequence[TaskLimits]:
    """Every limited task, by name."""
    return session.scalars(select(TaskLimits).order_by(TaskLimits.task)).all()


def find_task_limits(session: Session, task: str) -> TaskLimits | None:
    return session.get(TaskLimits, task, populate_existing=True)


@says_it_cannot_see("limits of task", "task")
def set_task_limits(session: Session, task: str, changes: Mapping[str, Any]) -> TaskLimits:
    """Change these fields of a task's limits: ``max_running`` in all, ``max_running_per_workspace`` in each."""
    _refuse([_word_problem(task, "task"), *_value_problems(changes, TaskLimits)])
    row = _row_for_update(session, TaskLimits, task=task)
    _change(session, row, changes)
    return row


@says_it_cannot_see("limits of task", "task")
def clear_task_limits(session: Session, task: str) -> bool:
    """Says whether there was anything to clear. What the code of the task declares counts again."""
    row = session.get(TaskLimits, task, with_for_update=True, populate_existing=True)
    if row is None:
        return False
    in_code = (row.code_max_running, row.code_max_running_per_workspace)
    if in_code == (None, None):
        return _delete(session, delete(TaskLimits).where(TaskLimits.task == task))
    changed = (row.max_running, row.max_running_per_workspace) != in_code
    _change(session, row, dict(zip(("max_running", "max_running_per_workspace"), in_code, strict=True)))
    return changed


class LimitsInCode(NamedTuple):
    """How many jobs of a task run at a time, in all and in each workspace, as its code declares it; None: not said."""

    task: str
    max_running: int | None
    max_running_per_workspace: int | None


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


def list_resource_limits(session: Session) -> Sequence[ResourceLimits]:
    """How many jobs use a resource at a time: every one of which that is said, by name."""
    return session.scalars(select(ResourceLimits).order_by(ResourceLimits.resource)).all()


def find_resource_limit(session: Session, resource: str) -> ResourceLimits | None:
    return session.get(ResourceLimits, resource, populate_existing=True)


@says_it_cannot_see("limit of resource", "resource")
def set_resource_limit(session: Session, resource: str, max_running: int | Adaptive | None) -> ResourceLimits:
    """How many jobs that use a resource, or each of a kind by itself (``hubspot:*``), run at a time, everywhere: a
    number, or between which two each finds it for itself. None for no limit, also where its kind, or the code of a
    task, has one. Stops nothing that runs."""
    most, least = (max_running.most, max_running.least) if isinstance(max_running, Adaptive) else (max_running, None)
    values = {"max_running": most, "min_running": least}
    _refuse([_resource_problem(resource), *_value_problems(values, ResourceLimits)])
    _refuse([_adaptive_problem(most, least)])
    row = _row_for_update(session, ResourceLimits, resource=resource)
    _change(session, row, values)
    return row


@says_it_cannot_see("limit of resource", "resource")
def clear_resource_limit(session: Session, resource: str) -> bool:
    """Says whether there was anything to clear. What the code of a task declares, or its kind has, counts again."""
    row = session.get(ResourceLimits, resource, with_for_update=True, populate_existing=True)
    if row is None:
        return False
    if row.declared_by is None:
        return _delete(session, delete(ResourceLimits).where(ResourceLimits.resource == resource))
    in_code = {"max_running": row.code_max_running, "min_running": row.code_min_running}
    changed = (row.max_running, row.min_running) != tuple(in_code.values())
    _change(session, row, in_code)
    return changed


def declare_resource_limits(session: Session, declared: Mapping[str, int | Adaptive], declared_by: str) -> list[str]:
    """Have the limits of resources follow the code of an application, ``declared_by``, except where an operator has set
    others; answers what changed. What it declared before and does not any more is taken back.
    """
    rows = run(
        session,
        DECLARE_RESOURCES,
        resources=text_array(declared),
        most=array(one.most if isinstance(one, Adaptive) else one for one in declared.values()),
        least=array(one.least if isinstance(one, Adaptive) else "null" for one in declared.values()),
        declared_by=declared_by,
    )
    changed = sorted(row[0] for row in rows)
    if changed:
        wake_workers(session)
    return changed


def list_rate_limits(session: Session) -> Sequence[RateLimit]:
    """Every limited resource, by name."""
    return session.scalars(select(RateLimit).order_by(RateLimit.resource)).all()


def find_rate_limit(session: Session, resource: str) -> RateLimit | None:
    return session.get(RateLimit, resource, populate_existing=True)


@says_it_cannot_see("rate of resource", "resource")
def set_rate_limit(session: Session, resource: str, changes: Mapping[str, Any]) -> RateLimit:
    """How many units of a resource may be used in a period. A new one needs ``units`` and ``period_ms``; its ``burst``
    is ``units`` unless it says otherwise. What has been used already stays used."""
    _refuse([_resource_problem(resource), *_value_problems(changes, RateLimit)])
    present = session.get(RateLimit, resource, with_for_update=True, populate_existing=True)
    values = {name: getattr(present, name, None) for name in ("units", "period_ms", "burst")} | dict(changes)
    if values["burst"] is None:
        values["burst"] = values["units"]
    _refuse([Problem(_path(name), "is needed") for name in ("units", "period_ms") if values[name] is None])
    _upsert(session, RateLimit, {"resource": resource}, values)
    wake_workers(session)
    return session.get_one(RateLimit, resource, populate_existing=True)


@says_it_cannot_see("rate of resource", "resource")
def clear_rate_limit(session: Session, resource: str) -> bool:
    """Says whether there was anything to clear."""
    return _delete(session, delete(RateLimit).where(RateLimit.resource == resource))


def _limits_of(row: Plan | WorkspaceLimits | None) -> Limits:
    return Limits(**{field.name: getattr(row, field.name) for field in fields(Limits)}) if row else Limits()


def _over(first: Limits, second: Limits) -> Limits:
    return replace(second, **{name: value for name, value in asdict(first).items() if value is not None})


def _row_for_update(session: Session, model: type[Row], **key: Any) -> Row:
    """The row, locked; made first when it is missing, so that two who make it at once change one after the other."""
    # One that is there is locked by this statement already: until the next one somebody else could delete it.
    session.execute(insert(model).values(**key).on_conflict_do_update(index_elements=list(key), set_=key))
    return session.get_one(model, next(iter(key.values())), with_for_update=True, populate_existing=True)


def _change(session: Session, row: Row, changes: Mapping[str, Any]) -> None:
    for name, value in changes.items():
        setattr(row, name, value)
    if isinstance(row, Plan | WorkspaceLimits):
        _refuse([_rate_problem(row)])
    session.flush()
    wake_workers(session)


def _upsert(session: Session, model: type[Row], key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    statement = insert(model).values(**key, **values)
    session.execute(statement.on_conflict_do_update(index_elements=list(key), set_=dict(values)))


def _delete(session: Session, statement: Delete) -> bool:
    """Less of a limit is as good as a higher one for jobs that wait."""
    deleted = session.execute(statement.returning(literal(1)), execution_options={"synchronize_session": False}).first()
    if deleted:
        wake_workers(session)
    return deleted is not None


def _value_problems(values: Mapping[str, Any], model: type[Any]) -> list[Problem | None]:
    known = set(model.__annotations__) & {*_RANGES, "shed"}
    return [_value_problem(name, value, known) for name, value in values.items()]


def _value_problem(name: str, value: Any, known: set[str]) -> Problem | None:
    if name not in known:
        return Problem(_path(name), "is not a limit of this")
    if value is None:
        return None
    if name == "shed":
        return None if isinstance(value, bool) else Problem("/shed", "must be true or false")
    allowed = _RANGES[name]
    if isinstance(value, int) and not isinstance(value, bool) and value in allowed:
        return None
    return Problem(_path(name), f"must be a whole number from {allowed[0]} to {allowed[-1]}")


def _rate_problem(row: Plan | WorkspaceLimits) -> Problem | None:
    if (row.rate_units is None) == (row.rate_period_ms is None):
        return None
    missing = "rate_units" if row.rate_units is None else "rate_period_ms"
    return Problem(_path(missing), "is needed: rateUnits and ratePeriodMs make sense only together")


def _adaptive_problem(most: int | None, least: int | None) -> Problem | None:
    if least is None or (most is not None and least <= most):
        return None
    return Problem("/minRunning", "must not be more than maxRunning, and makes sense only with it")


def _plan_problem(session: Session, plan: str | None) -> Problem | None:
    """Locked until the caller commits, so that the plan cannot be deleted meanwhile."""
    if plan is None:
        return None
    found = session.get(Plan, plan, with_for_update={"read": True, "key_share": True})
    return None if found else Problem("/plan", f"there is no plan {plan!r}")


def _name_problem(name: str) -> Problem | None:
    problem = text_problem(name) if 1 <= len(name) <= LONGEST_NAME else f"must be 1 to {LONGEST_NAME} characters"
    return Problem("/name", problem) if problem else None


def _word_problem(word: str, kind: str) -> Problem | None:
    return None if QUEUE_NAME.match(word) else Problem(f"/{kind}", f"is not a {kind} name")


def _resource_problem(resource: str) -> Problem | None:
    """A star stands for the rest of a name and for nothing else: ``hubspot:*``."""
    kind, _, rest = resource.partition(":")
    if not 1 <= len(resource) <= LONGEST_RESOURCE:
        return Problem("/resource", f"must be 1 to {LONGEST_RESOURCE} characters")
    if "*" in kind or ("*" in rest and rest != "*") or not kind:
        return Problem("/resource", "must be a resource, or a kind of them and a star, as in hubspot:*")
    # What no job's resource can be called would never be used.
    problem = resource_problem(resource)
    return Problem("/resource", problem) if problem else None


def _path(name: str) -> str:
    return _PATHS.get(name, f"/{name}")


def _refuse(problems: Sequence[Problem | None]) -> None:
    found = [problem for problem in problems if problem]
    if found:
        raise InvalidLimitError(found)
