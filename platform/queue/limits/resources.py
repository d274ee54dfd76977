"""Limits of resources, which code declares and operators change. See rows.py for what holds for every change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidLimitError, Problem, refuse
from jobplatform.models import ResourceLimits
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.limits.rows import change, delete_rows, row_for_update, value_problems
from jobplatform.queue.snapshot import says_it_cannot_see
from jobplatform.queue.statement import array, run, text_array
from jobplatform.queue.tasks.resources import LONGEST_RESOURCE, Adaptive, resource_problem
from jobplatform.queue.waking import wake_workers

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


def list_resource_limits(session: Session) -> Sequence[ResourceLimits]:
    """How many jobs use a resource at a time: every one of which that is said, by name."""
    return session.scalars(select(ResourceLimits).order_by(ResourceLimits.resource)).all()


@checks_arguments(InvalidLimitError)
def find_resource_limit(session: Session, resource: str) -> ResourceLimits | None:
    """The limit of a resource, as the database has it now; None where there is none."""
    return session.get(ResourceLimits, resource, populate_existing=True)


@checks_arguments(InvalidLimitError)
@says_it_cannot_see("limit of resource", "resource")
def set_resource_limit(session: Session, resource: str, max_running: int | Adaptive | None) -> ResourceLimits:
    """How many jobs that use a resource, or each of a kind by itself (``hubspot:*``), run at a time, everywhere: a
    number, or between which two each finds it for itself. None for no limit, also where its kind, or the code of a
    task, has one. Stops nothing that runs."""
    most, least = (max_running.most, max_running.least) if isinstance(max_running, Adaptive) else (max_running, None)
    values = {"max_running": most, "min_running": least}
    refuse(InvalidLimitError, [resource_name_problem(resource), *value_problems(values, ResourceLimits)])
    refuse(InvalidLimitError, [_adaptive_problem(most, least)])
    row = row_for_update(session, ResourceLimits, resource=resource)
    change(session, row, values)
    return row


@checks_arguments(InvalidLimitError)
@says_it_cannot_see("limit of resource", "resource")
def clear_resource_limit(session: Session, resource: str) -> bool:
    """Says whether there was anything to clear. What the code of a task declares, or its kind has, counts again."""
    row = session.get(ResourceLimits, resource, with_for_update=True, populate_existing=True)
    if row is None:
        return False
    if row.declared_by is None:
        return delete_rows(session, delete(ResourceLimits).where(ResourceLimits.resource == resource))
    in_code = {"max_running": row.code_max_running, "min_running": row.code_min_running}
    changed = (row.max_running, row.min_running) != tuple(in_code.values())
    change(session, row, in_code)
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


def resource_name_problem(resource: str) -> Problem | None:
    """A star stands for the rest of a name and for nothing else: ``hubspot:*``."""
    kind, _, rest = resource.partition(":")
    if not 1 <= len(resource) <= LONGEST_RESOURCE:
        return Problem("/resource", f"must be 1 to {LONGEST_RESOURCE} characters")
    if "*" in kind or ("*" in rest and rest != "*") or not kind:
        return Problem("/resource", "must be a resource, or a kind of them and a star, as in hubspot:*")
    # What no job's resource can be called would never be used.
    problem = resource_problem(resource)
    return Problem("/resource", problem) if problem else None


def _adaptive_problem(most: int | None, least: int | None) -> Problem | None:
    if least is None or (most is not None and least <= most):
        return None
    return Problem("/minRunning", "must not be more than maxRunning, and makes sense only with it")
