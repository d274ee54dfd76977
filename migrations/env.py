"""Alembic's environment: our schema only, with a version table of its own inside it."""

from __future__ import annotations

from collections.abc import Iterator

from alembic import context
from sqlalchemy import Connection, text

from jobplatform.migrations import OLDEST_SERVER
from jobplatform.models import SCHEMA, Base, Role

#: Two migrations at once take turns instead of colliding.
MIGRATION_LOCK = 7_246_180_001

# Without a format, because `%` becomes two on the way into a script.
REFUSE_OLD_SERVER = f"""
do $$
begin
    if current_setting('server_version_num')::int / 10000 < {OLDEST_SERVER} then
        raise exception using message = 'the server is PostgreSQL ' || current_setting('server_version')
            || ', and jobplatform needs {OLDEST_SERVER} or newer; nothing was changed';
    end if;
end
$$
"""
# Asked of the catalogue, which everybody may read: before we are the owner, the schema itself may be closed to us.
IS_MIGRATED = f"""exists (
    select from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = '{SCHEMA}' and c.relname = 'alembic_version'
)"""
REFUSE_EMPTY = f"""
do $$
begin
    if not {IS_MIGRATED} then
        raise exception using message = 'there is no jobplatform in this database to go on from; '
            || 'the SQL without --from makes it; nothing was changed';
    end if;
end
$$
"""
REFUSE_MIGRATED = f"""
do $$
begin
    if {IS_MIGRATED} then
        raise exception using message = 'there is a jobplatform in this database already; '
            || 'the SQL with --from and its revision goes on from there; nothing was changed';
    end if;
end
$$
"""
REFUSE_OTHER_REVISION = f"""
do $$
declare
    found text := (select version_num from {SCHEMA}.alembic_version);
begin
    if found is distinct from '{{begins_at}}' then
        raise exception using message = 'the database is at revision ' || coalesce(found, '(none)')
            || ', and this SQL goes on from {{begins_at}}; nothing was changed';
    end if;
end
$$
"""
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
    begins_at = context.get_starting_revision_argument()
    with context.begin_transaction():
        for statement in _before(begins_at):
            context.execute(statement)
        context.run_migrations()


def _before(begins_at: object) -> Iterator[str]:
    """What :func:`migrate` and whoever calls it look at first and set, for whoever runs the SQL."""
    yield REFUSE_OLD_SERVER
    yield f"select pg_advisory_xact_lock({MIGRATION_LOCK})"
    yield "set local lock_timeout = '5s'"
    if begins_at is None:
        yield REFUSE_MIGRATED
        yield f"create schema if not exists {SCHEMA}"
    else:
        yield REFUSE_EMPTY
        # What is made from now on belongs to the group that owns the schema; before 0003 there is none.
        yield from [f"set local role {Role.OWNER}"] if str(begins_at) >= "0003" else []
        yield REFUSE_OTHER_REVISION.format(begins_at=begins_at)
    yield "set local row_security = off"


if context.is_offline_mode():
    write_sql()
else:
    migrate(context.config.attributes["connection"])
