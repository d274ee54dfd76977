"""What limits, rates, quotas and pauses were set while the jobs ran, and which of them a claim may have seen.

Nobody outside can tell when exactly a commit is seen by others. So each change is announced before it is made and
settled after its commit was acknowledged. A transaction that began after it was settled must have seen it; one that
had done its work before it was announced cannot have. Between the two both values are right.
"""

from __future__ import annotations

import datetime
import json
import uuid
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol, TypeVar

import psycopg
from sqlalchemy import text
from sqlalchemy.orm import Session

from jobplatform.queue import (
    Adaptive,
    clear_rate_limit,
    pause,
    resume,
    set_queue_limit,
    set_rate_limit,
    set_resource_limit,
    set_task_limits,
    set_workspace_limits,
)

T = TypeVar("T")

ANNOUNCE = "insert into chaos.changes (kind, key, value) values (:kind, :key, cast(:value as jsonb)) returning seq"
SETTLE = "update chaos.changes set settled_at = clock_timestamp() where seq = :seq and settled_at is null"
READ = """
select kind, key, value, extract(epoch from asked_at)::float8, extract(epoch from settled_at)::float8
from chaos.changes
order by seq
"""

#: Limits on what runs at a time, as the history counts it.
AT_ONCE = ("workspace", "queue", "task", "here", "resource")
#: What may become of the level of an adaptive limit.
LOWERED, LEVEL_REACHED = "level lowered", "level reached"
PAUSES = {kind: f"pause {kind}" for kind in ("workspace", "queue", "task", "resource")}


class Scope(NamedTuple):
    """What a value is about. ``here`` is a task in each workspace, ``resource`` each resource of a kind, ``pace`` a
    workspace's rate, ``rate`` a resource's, ``adaptive`` the least and most of each resource of a kind, ``waiting`` a
    quota."""

    kind: str
    key: str


class Pace(NamedTuple):
    """A rate: what a bucket holds at most and what flows in."""

    size: float
    per_second: float


class Change(NamedTuple):
    """``settled_at`` is infinite for a change whose commit nobody has acknowledged."""

    value: Any
    asked_at: float
    settled_at: float


class Changes:
    """All changes of a run, each scope's in the order in which they were made. Before the first there is no limit."""

    def __init__(self, rows: Iterable[tuple[str, str, Any, float, float | None]] = ()) -> None:
        self._of: dict[Scope, list[Change]] = defaultdict(list)
        for kind, key, value, asked_at, settled_at in rows:
            self._of[Scope(kind, key)].append(Change(value, asked_at, settled_at or float("inf")))
        self.count = sum(map(len, self._of.values()))

    def __contains__(self, scope: Scope) -> bool:
        return scope in self._of

    def possible(self, scope: Scope, began: float, at: float) -> list[Any]:
        """Each value that somebody can have seen who looked once between these two moments."""
        changes = self._of.get(scope)
        if not changes:
            return [None]
        # In the order of the list, asked_at and (but for those never settled) settled_at grow.
        last = bisect_right(changes, at, key=lambda change: change.asked_at)
        values = []
        for change in reversed(changes[:last]):
            values.append(change.value)
            if change.settled_at <= began:
                return values
        return [*values, None]

    def most(self, scope: Scope, began: float, at: float) -> float:
        """The highest limit somebody can have seen."""
        return max(float("inf") if value is None else value for value in self.possible(scope, began, at))

    def certain(self, scope: Scope, began: float, at: float) -> Any:
        """The limit that everybody has seen; None if there was none, or if it just changed."""
        values = self.possible(scope, began, at)
        return values[0] if all(value == values[0] for value in values) else None


def read_changes(connection: psycopg.Connection[Any]) -> Changes:
    return Changes(connection.execute(READ).fetchall())


class Transact(Protocol):
    """Runs work in a transaction and answers once its commit was acknowledged; None if it gave up."""

    def __call__(self, work: Callable[[Session], T], /) -> T | None: ...


def change(
    transact: Transact, scope: Scope, value: Any, make: Callable[[Session, Scope, Any], None] | None = None
) -> None:
    """Announce, make and settle one change, with ``make`` or the verb for it. None is no limit, and no pause."""
    seq = transact(
        lambda session: (
            session.execute(text(ANNOUNCE), {"kind": scope.kind, "key": scope.key, "value": json.dumps(value)})
        ).scalar_one()
    )

    def do(session: Session) -> bool:
        (make or _make)(session, scope, value)
        return True

    if transact(do) and seq is not None:
        transact(lambda session: session.execute(text(SETTLE), {"seq": seq}))


def _make(session: Session, scope: Scope, value: Any) -> None:
    """The verb for it."""
    kind, key = scope
    if kind.startswith("pause "):
        _pause(session, kind.removeprefix("pause "), key, value)
    elif kind == "queue":
        set_queue_limit(session, key, value)
    elif kind in ("task", "here"):
        set_task_limits(session, key, {"max_running" if kind == "task" else "max_running_per_workspace": value})
    elif kind == "resource":
        set_resource_limit(session, key, value)
    elif kind == "adaptive":
        set_resource_limit(session, key, Adaptive(*value))
    elif kind == "rate":
        _set_rate(session, key, value)
    else:
        set_workspace_limits(session, uuid.UUID(key), _workspace_values(kind, value))


def _workspace_values(kind: str, value: Any) -> dict[str, Any]:
    if kind == "pace":
        if value is None:
            return {"rate_units": None, "rate_period_ms": None}
        size, per_second = value
        # In whole milliseconds, or the rate is another one: a thousandth of a unit too much is found.
        return {"rate_units": size, "rate_period_ms": int(size * 1000 / per_second)}
    return {{"workspace": "max_running", "waiting": "max_pending", "weight": "weight"}[kind]: value}


def _set_rate(session: Session, resource: str, value: Any) -> None:
    if value is None:
        clear_rate_limit(session, resource)
        return
    size, per_second = value
    units = max(1, per_second)
    set_rate_limit(session, resource, {"units": units, "period_ms": int(units * 1000 / per_second), "burst": size})


def _pause(session: Session, kind: str, key: str, value: Any) -> None:
    if value is None:
        resume(session, kind, key)
        return
    until = datetime.datetime.fromtimestamp(value["until"], datetime.UTC) if value["until"] else None
    pause(session, kind, key, reason="chaos", actor="monkey", until=until)
