"""What PostgreSQL does for a verb: its plan, the pages it touches and the rows it looks at."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import psycopg
from psycopg import ClientCursor
from sqlalchemy import Connection, Engine, event
from sqlalchemy.orm import Session

from jobplatform.models import Role, confine

PARAMETER = re.compile(r"%\((\w+)\)s")
BIG_TABLES = ("job_queue", "job_records")

Node = dict[str, Any]


class _Captured(Exception):  # noqa: N818 - not an error: it carries the statement out
    def __init__(self, sql: str, parameters: dict[str, Any]) -> None:
        self.sql = sql
        self.parameters = parameters


@dataclass(frozen=True)
class Plan:
    """An executed plan. The execution was rolled back."""

    root: Node

    @property
    def nodes(self) -> list[Node]:
        return list(_walk(self.root))

    @property
    def buffers(self) -> int:
        """Pages touched, those of writing WITH queries included that nothing reads from."""
        read = {node.get("CTE Name") for node in self.nodes}
        unread = [
            node
            for node in self.root.get("Plans", [])
            if node.get("Subplan Name", "").startswith("CTE ") and node["Subplan Name"][4:] not in read
        ]
        return sum(node["Shared Hit Blocks"] + node["Shared Read Blocks"] for node in (self.root, *unread))

    @property
    def sequential_scans(self) -> list[str]:
        return [
            node["Relation Name"]
            for node in self.nodes
            if node["Node Type"] == "Seq Scan" and node["Relation Name"] in BIG_TABLES
        ]

    def rows_visited(self, table: str) -> int:
        """Rows that scans of a table produced or threw away."""
        return round(
            sum(
                (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
                for node in self.nodes
                if node.get("Relation Name") == table and node["Node Type"].endswith("Scan")
            )
        )


def explain(engine: Engine, act: Callable[[Session], object], *, workspace_id: uuid.UUID | None = None) -> Plan:
    """The generic plan of the one statement that ``act`` runs, executed with the values it runs with, on a connection
    that has run it before. With a ``workspace_id`` as the API runs it, under row security.
    """
    sql, parameters = _statement_of(engine, act, workspace_id)
    with _session(engine, workspace_id) as session:
        connection = session.connection()
        try:
            return run_generic_plan(connection, sql, parameters)
        finally:
            # What was prepared goes with the connection.
            connection.invalidate()


def explain_all(engine: Engine, act: Callable[[Session], object]) -> list[Plan]:
    """The same for an ``act`` of several statements, which it gets to run; then all of it is rolled back."""
    seen: list[tuple[str, dict[str, Any]]] = []

    def note(_connection: Any, _cursor: Any, sql: str, parameters: Any, *_rest: Any) -> None:
        # What is only planned has no plan of its own to look at.
        if not sql.lstrip().startswith("explain"):
            seen.append((sql, parameters))

    with Session(engine) as session:
        session.connection()
        event.listen(engine, "before_cursor_execute", note)
        try:
            act(session)
        finally:
            event.remove(engine, "before_cursor_execute", note)
            session.rollback()
    plans = []
    for sql, parameters in seen:
        with engine.connect() as connection:
            try:
                plans.append(run_generic_plan(connection, sql, parameters))
            finally:
                connection.invalidate()
    assert plans, "no statement was run"
    return plans


def _session(engine: Engine, workspace_id: uuid.UUID | None) -> Session:
    session = Session(engine)
    return session if workspace_id is None else confine(session, Role.API, workspace_id)


def _statement_of(
    engine: Engine, act: Callable[[Session], object], workspace_id: uuid.UUID | None
) -> tuple[str, dict[str, Any]]:
    """What ``act`` is about to run; it does not get to run it."""

    def capture(_connection: Any, _cursor: Any, sql: str, parameters: Any, *_rest: Any) -> None:
        raise _Captured(sql, parameters)

    with _session(engine, workspace_id) as session:
        session.connection()
        event.listen(engine, "before_cursor_execute", capture)
        try:
            act(session)
        except _Captured as captured:
            return captured.sql, captured.parameters
        finally:
            event.remove(engine, "before_cursor_execute", capture)
    raise AssertionError("no statement was run")


def run_generic_plan(connection: Connection, sql: str, parameters: dict[str, Any]) -> Plan:
    """Explain and run a statement in the transaction of ``connection``, as it is planned for any values."""
    names = list(dict.fromkeys(PARAMETER.findall(sql)))
    numbered = PARAMETER.sub(lambda match: f"${names.index(match[1]) + 1}", sql).replace("%%", "%")
    driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    with ClientCursor(driver) as cursor:
        cursor.execute("set local plan_cache_mode = force_generic_plan")
        cursor.execute("set local jit = off")
        cursor.execute("prepare verb as " + numbered)  # type: ignore[arg-type]
        execute = "execute verb" + ("(" + ", ".join("%s" for _ in names) + ")" if names else "")
        values = [parameters[name] for name in names]
        # The first time a connection runs a statement it reads the catalogue, which belongs to no verb.
        cursor.execute("savepoint before")
        cursor.execute(execute, values)  # type: ignore[arg-type]
        # Past the driver, which forgets all that is prepared when it sees a rollback, if it has prepared something
        # itself for whoever had the connection before.
        driver.pgconn.exec_(b"rollback to savepoint before")
        cursor.execute(f"explain (analyze, buffers, timing off, format json) {execute}", values)  # type: ignore[arg-type]
        row = cursor.fetchone()
        assert row is not None
        cursor.execute("deallocate verb")
        return Plan(row[0][0]["Plan"])


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for child in node.get("Plans", []):
        yield from _walk(child)
