"""How a verb's SQL meets the caller's Session.

The statements are text, because a claim is a page of SQL whatever one writes it in, and the page should read as SQL.
They run on the driver's own parameters (``exec_driver_sql``): no row is turned into an entity and no JSON is decoded
on the way, which for a worker is five sixths of the work in Python (55 → 9 µs a job in batches,
on the prototype of this design).
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, TypeVar

from psycopg.pq import TransactionStatus
from sqlalchemy import CursorResult, inspect
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from jobplatform.models import JobRecord, UuidArray, mention_migrations

_MAPPER = inspect(JobRecord)

T = TypeVar("T")


def quick_maker(kind: type[T]) -> Callable[[Iterable[Any]], T]:
    """Make named tuples of this kind from all their fields in order, unchecked, at a third of what a call of the class
    takes. For those of which there are several for each job.
    """
    return functools.partial(tuple.__new__, kind)  # type: ignore[type-var]  # a named tuple is a tuple


#: A server that takes over from another one begins so much higher; ``first_number()`` in the database says where.
EPOCHS_APART: Final = 100_000


class Lease(NamedTuple):
    """The right to work on one attempt of a job. ``epoch`` is the fence: it is never handed out twice, not even by a
    server that took over without the last commits of the one before it.
    """

    workspace_id: str
    job_id: str
    epoch: int


def run(session: Session, sql: str, **parameters: Any) -> CursorResult[*tuple[Any, ...]]:
    """Run ``sql`` (psycopg's ``%(name)s`` style) in the caller's transaction, on the bind of our tables."""
    connection = session.connection(bind_arguments={"mapper": _MAPPER})
    try:
        return connection.exec_driver_sql(sql, parameters)
    except ProgrammingError as error:
        mention_migrations(error)
        raise


@contextmanager
def one_transaction(session: Session) -> Iterator[bool]:
    """For a verb of several statements: what one of them locks stays locked for the next.

    So it is anyway in the caller's transaction. On a connection that commits each statement they are made one here,
    which is what it says: whether the transaction is ours alone.
    """
    driver: Any = session.connection(bind_arguments={"mapper": _MAPPER}).connection.driver_connection
    if not driver.autocommit or driver.info.transaction_status is not TransactionStatus.IDLE:
        # In a transaction already, be it a verb's that uses this one: another within it would be a SAVEPOINT.
        yield False
        return
    with driver.transaction():
        yield True


@contextmanager
def savepoint(session: Session) -> Iterator[None]:
    """For a part of a verb that may fail by itself, within its transaction: what went before stays as it is."""
    driver: Any = session.connection(bind_arguments={"mapper": _MAPPER}).connection.driver_connection
    with driver.transaction():
        yield


def array(values: Iterable[object]) -> str:
    """An array literal of values that need no quoting (uuids, numbers, booleans): ready-made, so cast it in SQL."""
    return "{" + ",".join(map(str, values)) + "}"


def text_array(values: Iterable[str | None]) -> str:
    """An array literal of texts: two replacements in all where the driver's own list takes two regular expressions a
    value.
    """
    texts = list(values)
    if texts and None not in texts:
        # No text that PostgreSQL takes has a NUL in it; one that it will refuse must not become two.
        joined = "\0".join(texts)  # type: ignore[arg-type]
        if joined.count("\0") == len(texts) - 1:
            return "{" + _quoted(joined).replace("\0", '","') + "}"
    return "{" + ",".join(["null" if value is None else _quoted(value) for value in texts]) + "}"


def in_utc(moment: datetime.datetime) -> str:
    """A moment as text: the database takes no offset of 16 hours or more, nor one with parts of a second."""
    return moment.astimezone(datetime.UTC).isoformat()


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def lease_arrays(leases: Sequence[Lease]) -> dict[str, str]:
    """The three arrays that name leases in a statement: ``workspace_ids``, ``ids`` and ``epochs``."""
    workspace_ids, ids, epochs = zip(*leases, strict=True) if leases else ((), (), ())
    return {"workspace_ids": UuidArray.of(workspace_ids), "ids": UuidArray.of(ids), "epochs": array(epochs)}


def leases_of(rows: Iterable[Sequence[Any]]) -> set[Lease]:
    """The leases that a statement answered with, from the first three columns of its rows."""
    return {Lease(row[0], row[1], row[2]) for row in rows}
