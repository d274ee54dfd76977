"""Every row of every table of ours, to see that nothing has happened."""

from __future__ import annotations

from collections import defaultdict
from functools import cache

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

#: For no line of the audit log a number is left. Unlike a change of the table that is undone for the next test.
NO_LINE_CAN_BE_WRITTEN = "select setval(pg_get_serial_sequence('jobplatform.audit_log', 'id'), 9223372036854775807)"

TABLES = "select tablename from pg_tables where schemaname = 'jobplatform' order by tablename"


def everything(session: Session) -> dict[str, list[str]]:
    """The rows of each table that has any, in one look."""
    found = defaultdict(list)
    for table, row in session.execute(_look_at(tuple(session.scalars(text(TABLES))))):
        found[table].append(row)
    return {table: sorted(rows) for table, rows in found.items()}


@cache
def _look_at(tables: tuple[str, ...]) -> TextClause:
    return text(" union all ".join(f"select '{table}', t::text from jobplatform.{table} t" for table in tables))
