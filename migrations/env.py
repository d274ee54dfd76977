"""Alembic's environment: our schema only, with a version table of its own inside it."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from jobplatform.migrations.scripts import opening
from jobplatform.migrations.turns import set_up
from jobplatform.models import SCHEMA, Base


def migrate(connection: Connection) -> None:
    """All at once in the transaction that is open; without one, each migration in a transaction of its own."""
    beside_others = not connection.in_transaction()
    set_up(connection, beside_others=beside_others)
    if beside_others:
        connection.commit()
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        version_table_schema=SCHEMA,
        include_schemas=True,
        transaction_per_migration=beside_others,
    )
    context.run_migrations()


def write_sql() -> None:
    begins_at = context.get_starting_revision_argument()
    context.configure(
        dialect_name="postgresql",
        target_metadata=Base.metadata,
        version_table_schema=SCHEMA,
        literal_binds=True,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        for statement in opening(begins_at if begins_at is None else str(begins_at)):
            context.execute(statement)
        context.run_migrations()


if context.is_offline_mode():
    write_sql()
else:
    migrate(context.config.attributes["connection"])
