"""What PostgreSQL's catalogue says of our schema."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, text

from jobplatform.models import SCHEMA

# What the definition of a check, an index or a storage option is, as PostgreSQL itself writes it down.
CHECKS = """
select c.conrelid::regclass::text, c.conname, pg_get_constraintdef(c.oid)
from pg_constraint c
where c.connamespace = %(schema)s::regnamespace
order by 1, 2
"""
INDEXES = """
select tablename, indexname, indexdef from pg_indexes where schemaname = %(schema)s order by 1, 2
"""
STORAGE = """
select relname, array(select unnest(reloptions) order by 1)
from pg_class
where relnamespace = %(schema)s::regnamespace and relkind = 'r'
order by 1
"""
COLUMNS = """
select table_name, column_name, udt_name, is_nullable, column_default, is_identity, identity_generation
from information_schema.columns
where table_schema = %(schema)s
order by 1, 2
"""
FACTS = {"checks": CHECKS, "indexes": INDEXES, "storage": STORAGE, "columns": COLUMNS}


def facts_of(connection: Connection, kind: str) -> list[tuple[Any, ...]]:
    """What the catalogue knows, the views and Alembic's own table left out."""
    rows = connection.exec_driver_sql(FACTS[kind], {"schema": SCHEMA})
    return [tuple(row) for row in rows if row[0].removeprefix(f"{SCHEMA}.") not in ("jobs", "alembic_version")]


def owners_in(connection: Connection) -> dict[str, str]:
    """Whose each table, view, sequence and index is."""
    statement = text("select relname, pg_get_userbyid(relowner) from pg_class where relnamespace = to_regnamespace(:s)")
    return {row[0]: row[1] for row in connection.execute(statement, {"s": SCHEMA})}
