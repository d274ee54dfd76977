"""Alembic's environment: our schema only, with a version table of its own inside it."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, text

from jobplatform.models import SCHEMA, Base, Role

#: Two migrations at once take turns instead of colliding.
MIGRATION_LOCK = 7_246_180_001

OWNED_BY = "select pg_get_userbyid(nspowner)::text as owner from pg_namespace where nspname = :schema"


def migrate(connection: Connection) -> None:
    connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
    # A statement that cannot have its table lock at once would make every query behind it wait.
    connection.execute(text("set local lock_timeout = '5s'"))
    _own_schema(connection)
    # Row security is forced on the owner as well: a migration that would change only some of the rows fails instead.
    connection.execute(text("set local row_security = off"))
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        version_table_schema=SCHEMA,
        include_schemas=True,
    )
    context.run_migrations()


def _own_schema(connection: Connection) -> None:
    """Make the schema where there is none; else become the group that owns it (since 0003), so that what is made from
    now on belongs to it too."""
    found = connection.execute(text(OWNED_BY), {"schema": SCHEMA}).one_or_none()
    if found is None:
        connection.execute(text(f"create schema {SCHEMA}"))
    elif found.owner == Role.OWNER:
        connection.execute(text(f"set local role {Role.OWNER}"))


def write_sql() -> None:
    context.configure(
        dialect_name="postgresql",
        target_metadata=Base.metadata,
        version_table_schema=SCHEMA,
        literal_binds=True,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.execute(f"create schema if not exists {SCHEMA}")
        context.run_migrations()


if context.is_offline_mode():
    write_sql()
else:
    migrate(context.config.attributes["connection"])
