"""A source: another queue's tables, as whoever takes its jobs over sees them.

Each system has a file of its own, which says in that system's terms what waits, what runs, and how a job is taken out
so that no worker of theirs sees it again and their own history tells of it. Rows are locked as their own workers lock
them (``for update skip locked``): whatever one of those has in its hands is not ours.
"""

from __future__ import annotations

import datetime
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, CursorResult

from jobplatform.errors import AdoptionError

#: How a job there stands, as :meth:`Source.count` says it; anything else is why one that waits is left to them.
WAITING = "waiting"
RUNNING = "running"

COLUMNS = """
select a.attname::text
from pg_attribute a
join pg_class c on c.oid = a.attrelid
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = %(schema)s and c.relname = %(table)s and a.attnum > 0 and not a.attisdropped
"""

# As what a job can be taken out: one more that came with their versions.
STATES = """
select e.enumlabel::text
from pg_enum e
join pg_attribute a on a.atttypid = e.enumtypid
join pg_class c on c.oid = a.attrelid
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = %(schema)s and c.relname = %(table)s and a.attname = %(column)s
"""

# Two databases that were made alike count alike: what else tells them apart is when the table was made in each.
IDENTITY = """
select concat_ws('/', current_database(), n.nspname, c.relname, c.oid)
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = %(schema)s and c.relname = %(table)s
"""

# A trigger of theirs may name their tables without the schema, which is no trouble for a login that is set to it.
SEE_THEIRS = """
select set_config('search_path', concat_ws(', ', %(schema)s::text, nullif(current_setting('search_path'), '')), true)
"""


class Waiting(NamedTuple):
    """A job that waits there. ``data`` is its payload as stored; of those with the same ``lock`` one runs at a time."""

    id: str
    data: str | bytes | None
    priority: int
    run_after: datetime.datetime | None
    attempts: int
    max_attempts: int | None
    unique_key: str | None
    lock: str | None
    made_at: datetime.datetime | None


class Counted(NamedTuple):
    """So many jobs of one name that stand alike."""

    name: str
    standing: str
    number: int


class Moved(NamedTuple):
    """A job of theirs, and what it is here."""

    their_id: str
    workspace_id: UUID
    job_id: UUID


class TheirSchedule(NamedTuple):
    """What repeats there. ``cron`` is None where only their code knows it, or where it is said in another way."""

    name: str
    key: str
    cron: str | None
    timezone: str | None = None
    payload: Any = None
    note: str = ""


class Source(ABC):
    """Another queue's tables, in ``schema``. Every call is part of its caller's transaction."""

    system: ClassVar[str]
    #: What they call what our tasks are.
    noun: ClassVar[str]
    default_schema: ClassVar[str]
    #: The table of jobs, and what is needed of it; other columns came or went with their versions.
    table: ClassVar[str]
    needed: ClassVar[frozenset[str]]
    #: Of its states the one in which a job is taken out, and where else that is written down.
    state: ClassVar[str]
    ended: ClassVar[str]
    history: ClassVar[str | None] = None
    oldest: ClassVar[str]

    def __init__(self, schema: str | None = None, prefix: str = "") -> None:
        self.schema = schema or self.default_schema
        self.prefix = prefix
        self.columns: set[str] = set()
        self.identity = ""

    def look(self, connection: Connection) -> None:
        """Find out what the tables are like. Raises :class:`AdoptionError` if they are not there, or too old."""
        name = self.prefix + self.table
        self.columns = self._columns_of(connection, name)
        if not self.columns:
            raise AdoptionError(f"there is no table {self.schema}.{name} here: no {self.system}, or not in this schema")
        if missing := sorted(self.needed - self.columns):
            raise self._too_old(f"{self.schema}.{name} has no column {missing[0]}")
        place = {"schema": self.schema, "table": name}
        if self.ended not in set(connection.exec_driver_sql(STATES, {**place, "column": self.state}).scalars()):
            raise self._too_old(f"no job of {self.schema}.{name} can be {self.ended}")
        if self.history is not None and not self._columns_of(connection, self.prefix + self.history):
            raise self._too_old(f"there is no table {self.schema}.{self.prefix + self.history}")
        self.identity = str(connection.exec_driver_sql(IDENTITY, place).scalar_one())

    def _columns_of(self, connection: Connection, table: str) -> set[str]:
        return set(connection.exec_driver_sql(COLUMNS, {"schema": self.schema, "table": table}).scalars())

    def _too_old(self, what: str) -> AdoptionError:
        return AdoptionError(f"{what}: this {self.system} is too old; upgrade it to {self.oldest} or newer first")

    @abstractmethod
    def count(self, connection: Connection) -> list[Counted]:
        """What waits, what is left to them and why, and what runs, by name."""

    @abstractmethod
    def read(
        self, connection: Connection, name: str, after: Waiting | None, limit: int, *, lock: bool
    ) -> list[Waiting]:
        """The next jobs of that name which wait, most important first, from behind the one that came last.

        With ``lock`` nobody else gets them meanwhile, and those that somebody has are left out.
        """

    @abstractmethod
    def take_out(self, connection: Connection, name: str, moved: Sequence[Moved]) -> int:
        """Let no worker of theirs see these again, and have their history tell; says how many there were."""

    @abstractmethod
    def schedules(self, connection: Connection) -> list[TheirSchedule]:
        """What repeats there, as far as their tables know."""

    def is_their_own(self, name: str) -> bool:
        """Whether jobs of that name are the system's own housekeeping."""
        return False

    def table_named(self, name: str) -> str:
        """A table of theirs, as it stands in a statement."""
        return f"{quoted(self.schema)}.{quoted(self.prefix + name)}"

    def column(self, name: str, otherwise: str) -> str:
        """A column that not every version has, or what to say instead."""
        return f"j.{name}" if name in self.columns else otherwise


def due(column: str) -> str:
    """When a job may begin there, null where it may already. Python has no moment that never comes: the last one that
    it has is refused by our enqueue, and the job left there alone.
    """
    return f"case when {column} > now() then least({column}, '9999-12-01T00:00:00Z'::timestamptz) end"


def quoted(name: str) -> str:
    """A name as an identifier, in the driver's style of statements."""
    return '"' + name.replace('"', '""').replace("%", "%%") + '"'


def see_theirs(connection: Connection, schema: str) -> None:
    """Let the rest of the transaction find what is named without a schema where their own connections find it."""
    connection.exec_driver_sql(SEE_THEIRS, {"schema": '"' + schema.replace('"', '""') + '"'})


def parsed(data: str | bytes | None) -> Any:
    """A payload of theirs; no payload is an empty one. Raises :class:`LookupError` for what is not JSON."""
    try:
        return json.loads(data) if data else {}
    except (ValueError, RecursionError):
        raise LookupError("its payload is not JSON") from None


def counted(rows: Iterable[Sequence[Any]]) -> list[Counted]:
    """Rows of name, standing and number."""
    return [Counted(*row) for row in rows]


def rows_of(connection: Connection, sql: str, **parameters: Any) -> CursorResult[*tuple[Any, ...]]:
    """Run a statement on the driver's own parameters, as ours run."""
    return connection.exec_driver_sql(sql, parameters)


def onward(after: Waiting | None) -> Mapping[str, Any]:
    """Where the next portion begins, as parameters."""
    return {} if after is None else {"priority": after.priority, "made_at": after.made_at, "id": after.id}


def ids_of(moved: Sequence[Moved]) -> Mapping[str, list[str]]:
    """The arrays that name moved jobs in a statement."""
    return {
        "ids": [one.their_id for one in moved],
        "workspace_ids": [str(one.workspace_id) for one in moved],
        "job_ids": [str(one.job_id) for one in moved],
    }
