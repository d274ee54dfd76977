"""Rows of limits: how each kind of them is looked for, changed and refused.

A change names fields and their new values: what it does not name stays, and null clears. Every function works in the
caller's transaction. One that raises :class:`InvalidLimitError` may have left a row without values in it: roll back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from sqlalchemy import Delete, literal
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidLimitError, Problem, refuse
from jobplatform.models import Plan, QueueLimits, RateLimit, ResourceLimits, TaskLimits, WorkspaceLimits
from jobplatform.queue.allowed import COUNTS
from jobplatform.queue.waking import wake_workers
from jobplatform.settings import QUEUE_NAME

Row = TypeVar("Row", Plan, WorkspaceLimits, TaskLimits, QueueLimits, RateLimit, ResourceLimits)

WEIGHTS = range(1, 101)
UNITS = range(1, 2**31)
#: A rate over more than a year is a contract.
PERIODS = range(1, 366 * 86_400_000)
RANGES = {
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


def row_for_update(session: Session, model: type[Row], **key: Any) -> Row:
    """The row, locked; made first when it is missing, so that two who make it at once change one after the other."""
    # One that is there is locked by this statement already: until the next one somebody else could delete it.
    session.execute(insert(model).values(**key).on_conflict_do_update(index_elements=list(key), set_=key))
    return session.get_one(model, next(iter(key.values())), with_for_update=True, populate_existing=True)


def change(session: Session, row: Row, changes: Mapping[str, Any]) -> None:
    """Set these fields of a row, and have workers look again. Raises :class:`InvalidLimitError`."""
    for name, value in changes.items():
        setattr(row, name, value)
    if isinstance(row, Plan | WorkspaceLimits):
        refuse(InvalidLimitError, [_rate_problem(row)])
    session.flush()
    wake_workers(session)


def upsert(session: Session, model: type[Row], key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Make the row with these values, or give them to the one there is."""
    statement = insert(model).values(**key, **values)
    session.execute(statement.on_conflict_do_update(index_elements=list(key), set_=dict(values)))


def delete_rows(session: Session, statement: Delete) -> bool:
    """Less of a limit is as good as a higher one for jobs that wait."""
    deleted = session.execute(statement.returning(literal(1)), execution_options={"synchronize_session": False}).first()
    if deleted:
        wake_workers(session)
    return deleted is not None


def value_problems(values: Mapping[str, Any], model: type[Any]) -> list[Problem | None]:
    """What is wrong with each of the values, as limits of ``model``; None where nothing is."""
    known = set(model.__annotations__) & {*RANGES, "shed"}
    return [_value_problem(name, value, known) for name, value in values.items()]


def word_problem(word: str, kind: str) -> Problem | None:
    """What is wrong with the name of a ``kind`` of thing, as a queue or a task."""
    return None if QUEUE_NAME.match(word) else Problem(f"/{kind}", f"is not a {kind} name")


def path_of(name: str) -> str:
    """Where the API has that field."""
    return _PATHS.get(name, f"/{name}")


def _value_problem(name: str, value: Any, known: set[str]) -> Problem | None:
    if name not in known:
        return Problem(path_of(name), "is not a limit of this")
    if value is None:
        return None
    if name == "shed":
        return None if isinstance(value, bool) else Problem("/shed", "must be true or false")
    allowed = RANGES[name]
    if isinstance(value, int) and not isinstance(value, bool) and value in allowed:
        return None
    return Problem(path_of(name), f"must be a whole number from {allowed[0]} to {allowed[-1]}")


def _rate_problem(row: Plan | WorkspaceLimits) -> Problem | None:
    if (row.rate_units is None) == (row.rate_period_ms is None):
        return None
    missing = "rate_units" if row.rate_units is None else "rate_period_ms"
    return Problem(path_of(missing), "is needed: rateUnits and ratePeriodMs make sense only together")
