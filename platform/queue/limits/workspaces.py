"""Limits of workspaces, and the plans that they are on. See rows.py for what holds for every change."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, NamedTuple

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidLimitError, Problem, refuse
from jobplatform.models import Plan, WorkspaceLimits, clock, visit
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.limits.rows import change, delete_rows, row_for_update, value_problems
from jobplatform.queue.safe_json import text_problem
from jobplatform.queue.snapshot import says_it_cannot_see

LONGEST_NAME = 100
#: How many of a plan's workspaces a refusal to delete it names.
MOST_NAMED = 100


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


@checks_arguments(InvalidLimitError)
def find_plan(session: Session, name: str) -> Plan | None:
    """The plan of that name, as the database has it now; None where there is none."""
    return session.get(Plan, name, populate_existing=True)


@checks_arguments(InvalidLimitError)
@says_it_cannot_see("plan", "name")
def set_plan(session: Session, name: str, changes: Mapping[str, Any]) -> Plan:
    """Make a plan, or change these fields of it. It counts at once for every workspace on it."""
    refuse(InvalidLimitError, [_name_problem("/name", name), *value_problems(changes, Limits)])
    plan = row_for_update(session, Plan, name=name)
    change(session, plan, changes)
    return plan


@checks_arguments(InvalidLimitError)
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


@checks_arguments(InvalidLimitError)
def read_workspace_limits(session: Session, workspace_id: uuid.UUID) -> LimitsOfWorkspace:
    """What counts for a workspace, and why. Every id has an answer: without a row it is the defaults."""
    visit(session, workspace_id)
    return limits_of_workspaces(session, [workspace_id])[workspace_id]


@checks_arguments(InvalidLimitError)
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


@checks_arguments(InvalidLimitError)
@says_it_cannot_see("limits")
def set_workspace_limits(session: Session, workspace_id: uuid.UUID, changes: Mapping[str, Any]) -> LimitsOfWorkspace:
    """Change these fields of a workspace's limits; ``plan`` is one of them. They count from the next claim on."""
    visit(session, workspace_id)
    values = {name: value for name, value in changes.items() if name != "plan"}
    refuse(InvalidLimitError, value_problems(values, Limits))
    refuse(InvalidLimitError, [_plan_problem(session, changes.get("plan"))])
    row = row_for_update(session, WorkspaceLimits, workspace_id=workspace_id)
    row.updated_at = clock()
    change(session, row, changes)
    return read_workspace_limits(session, workspace_id)


@checks_arguments(InvalidLimitError)
@says_it_cannot_see("limits")
def clear_workspace_limits(session: Session, workspace_id: uuid.UUID) -> bool:
    """Take a workspace off its plan and back to the defaults. Says whether there was anything to clear."""
    visit(session, workspace_id)
    return delete_rows(session, delete(WorkspaceLimits).where(WorkspaceLimits.workspace_id == workspace_id))


def _combine(workspace_id: uuid.UUID, row: WorkspaceLimits | None, plan: Plan | None) -> LimitsOfWorkspace:
    own = _limits_of(row)
    effective = _over(own, _over(_limits_of(plan), DEFAULTS))
    return LimitsOfWorkspace(workspace_id, row.plan if row else None, own, effective)


def _limits_of(row: Plan | WorkspaceLimits | None) -> Limits:
    return Limits(**{field.name: getattr(row, field.name) for field in fields(Limits)}) if row else Limits()


def _over(first: Limits, second: Limits) -> Limits:
    return replace(second, **{name: value for name, value in asdict(first).items() if value is not None})


def _plan_problem(session: Session, plan: str | None) -> Problem | None:
    """Locked until the caller commits, so that the plan cannot be deleted meanwhile."""
    if plan is None:
        return None
    if problem := _name_problem("/plan", plan):
        return problem
    found = session.get(Plan, plan, with_for_update={"read": True, "key_share": True})
    return None if found else Problem("/plan", f"names none: there is no plan {plan!r}")


def _name_problem(path: str, name: str) -> Problem | None:
    if problem := text_problem(name):
        return Problem(path, problem)
    return None if 1 <= len(name) <= LONGEST_NAME else Problem(path, f"must be 1 to {LONGEST_NAME} characters")
