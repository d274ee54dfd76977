"""Rates of resources: how many of their units are used in a period. See rows.py for what holds for every change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidLimitError, Problem, refuse
from jobplatform.models import RateLimit
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.limits.resources import resource_name_problem
from jobplatform.queue.limits.rows import delete_rows, path_of, upsert, value_problems
from jobplatform.queue.snapshot import says_it_cannot_see
from jobplatform.queue.waking import wake_workers


def list_rate_limits(session: Session) -> Sequence[RateLimit]:
    """Every limited resource, by name."""
    return session.scalars(select(RateLimit).order_by(RateLimit.resource)).all()


@checks_arguments(InvalidLimitError)
def find_rate_limit(session: Session, resource: str) -> RateLimit | None:
    """The rate of a resource, as the database has it now; None where nobody has set one."""
    return session.get(RateLimit, resource, populate_existing=True)


@checks_arguments(InvalidLimitError)
@says_it_cannot_see("rate of resource", "resource")
def set_rate_limit(session: Session, resource: str, changes: Mapping[str, Any]) -> RateLimit:
    """How many units of a resource may be used in a period. A new one needs ``units`` and ``period_ms``; its ``burst``
    is ``units`` unless it says otherwise. What has been used already stays used."""
    refuse(InvalidLimitError, [resource_name_problem(resource), *value_problems(changes, RateLimit)])
    present = session.get(RateLimit, resource, with_for_update=True, populate_existing=True)
    values = {name: getattr(present, name, None) for name in ("units", "period_ms", "burst")} | dict(changes)
    if values["burst"] is None:
        values["burst"] = values["units"]
    needed = ("units", "period_ms")
    refuse(InvalidLimitError, [Problem(path_of(name), "is needed") for name in needed if values[name] is None])
    upsert(session, RateLimit, {"resource": resource}, values)
    wake_workers(session)
    return session.get_one(RateLimit, resource, populate_existing=True)


@checks_arguments(InvalidLimitError)
@says_it_cannot_see("rate of resource", "resource")
def clear_rate_limit(session: Session, resource: str) -> bool:
    """Says whether there was anything to clear."""
    return delete_rows(session, delete(RateLimit).where(RateLimit.resource == resource))
