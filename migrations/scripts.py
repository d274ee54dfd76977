"""What stands at the beginning of each transaction of ``jobplatform migrate --sql``, for whoever runs the SQL.

Each refuses for itself: a tool that goes on after an error comes to the next one, which must not be run then either.
"""

from __future__ import annotations

from collections.abc import Iterator

from jobplatform import migrations
from jobplatform.migrations.turns import MIGRATION_LOCK
from jobplatform.models import SCHEMA, Role

#: Nobody tries again for whoever runs the SQL, and those behind it wait for as long.
PATIENCE = "2s"

# Without a format, because `%` becomes two on the way into a script.
REFUSE_OLD_SERVER = """
do $$
begin
    if current_setting('server_version_num')::int / 10000 < {oldest} then
        raise exception using message = 'the server is PostgreSQL ' || current_setting('server_version')
            || ', and jobplatform needs {oldest} or newer; nothing was changed';
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


def opening(begins_at: str | None) -> Iterator[str]:
    """What an upgrade looks at first and sets, in SQL alone."""
    yield REFUSE_OLD_SERVER.format(oldest=migrations.OLDEST_SERVER)
    if begins_at is not None:
        yield REFUSE_EMPTY
        yield from going_on(begins_at)
        return
    yield f"select pg_advisory_xact_lock({MIGRATION_LOCK})"
    yield REFUSE_MIGRATED
    yield f"create schema if not exists {SCHEMA}"
    yield "set local row_security = off"


def going_on(begins_at: str) -> Iterator[str]:
    """The same in a further transaction of the step that begins at a revision."""
    yield f"set local lock_timeout = '{PATIENCE}'"
    yield f"select pg_advisory_xact_lock({MIGRATION_LOCK})"
    yield from [f"set local role {Role.OWNER}"] if has_owner(begins_at) else []
    yield REFUSE_OTHER_REVISION.format(begins_at=begins_at)
    yield "set local row_security = off"


def has_owner(begins_at: str) -> bool:
    """Whether the schema belongs to its group, so that what is made from now on has to as well."""
    return begins_at >= "0003"
