"""The schema's history, and the few things that are done with it.

Every process of ours asks where the schema is and few change it, so Alembic and all that it brings along (Mako,
Pygments: 7 MiB of each process) is loaded by who does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import ProgrammingError

from jobplatform.errors import MigrationError
from jobplatform.models import SCHEMA, make_engine

HERE = Path(__file__).parent

#: What PostgreSQL calls a permission that a login does not have.
NOT_ALLOWED = "42501"
WHOSE = """
select quote_ident(session_user), quote_ident(d.datname), quote_ident(pg_get_userbyid(d.datdba)),
    (select quote_ident(pg_get_userbyid(n.nspowner)) from pg_namespace n where n.nspname = :schema)
from pg_database d
where d.datname = current_database()
"""

#: Since 15 a view can ask for what its reader may see, and not its owner.
OLDEST_SERVER = 15

#: What has psql stop at the first error. In a transaction too nothing else is sure to: whoever has set
#: ON_ERROR_ROLLBACK has the rest of it done and committed, and without either psql goes on and ends as if all was well.
FOR_PSQL = """-- For psql, which is to stop at the first error; another tool has to do so without this line.
\\set ON_ERROR_STOP on

"""
FOR_PSQL_ALONE = """-- For psql: some of this is outside of transactions, so as to keep nobody waiting.
\\set ON_ERROR_STOP on

"""

__all__ = [
    "FOR_PSQL",
    "check",
    "current",
    "downgrade",
    "head",
    "include_name",
    "is_enough",
    "upgrade",
    "upgrade_sql",
    "what_is_wrong_with",
]


def upgrade(target: Engine | str, revision: str = "head", *, trusted: bool = False) -> None:
    """Bring the database to ``revision``. Safe to call from several processes at once, and while others work.

    A database without our schema gets it in one transaction. One that has it goes from migration to migration, each in
    a transaction of its own: what is done stays when a later one fails. No lock is waited for for longer than a moment
    at a time; when somebody is in the way the migration is tried again, for some minutes.

    Raises :class:`MigrationError` on a server that is too old, for a login that may not, or on a connection through a
    pooler where a session is needed (unless ``trusted``: it is a pooler in session mode); and, with their names, when
    somebody stays in the way.
    """
    from jobplatform.migrations.steps import make_schema, take_steps

    last = head() if revision == "head" else revision
    if last not in revisions():
        raise MigrationError(_why_not_from(last))
    try:
        with _connection(target) as connection:
            _refuse_old_server(connection)
            if not make_schema(connection, last):
                take_steps(connection, last, trusted=trusted)
    except ProgrammingError as error:
        raise _not_allowed(target, error) from error


def downgrade(target: Engine | str, revision: str) -> None:
    """Take the database back to ``revision`` (``"base"`` removes every table of ours, with what is in it), in one
    transaction. Not while others work."""
    from jobplatform.migrations.steps import step_back

    with _connection(target) as connection:
        step_back(connection, revision)


def upgrade_sql(begins_at: str | None = None) -> str:
    """The SQL of every migration, for a database that only its administrators may change; with ``begins_at`` of those
    after that revision.

    All of it is one transaction, for any tool that stops at the first error (:data:`FOR_PSQL` before it has psql do
    so). From a revision on each migration is one, and that SQL is for psql, as it says: indexes of tables that are in
    use are built outside. Each refuses a server that is too old and a database that is at another revision.
    Raises :class:`MigrationError` for a revision that there is none of, or nothing after.
    """
    from jobplatform.migrations.steps import write_steps

    if begins_at is not None and begins_at not in revisions()[:-1]:
        raise MigrationError(_why_not_from(begins_at))
    return write_steps(begins_at)


def head() -> str:
    """The revision that this code expects."""
    return revisions()[-1]


def current(target: Engine) -> str | None:
    """The revision that the database is at; None for a database without our schema."""
    with target.connect() as connection:
        return revision_of(connection)


def check(target: Engine) -> None:
    """Raise :class:`MigrationError` unless this code can work with the database."""
    if (wrong := what_is_wrong_with(current(target))) is not None:
        raise MigrationError(wrong)


def what_is_wrong_with(found: str | None) -> str | None:
    """What to say of a database that is at ``found``, and what to do; None when this code can work with it."""
    if is_enough(found):
        return None
    if found is None:
        return "the database has no schema of jobplatform yet; run `jobplatform migrate`"
    return (
        f"the database is at revision {found}, and this version of jobplatform needs {head()}; "
        "run `jobplatform migrate`"
    )


def is_enough(revision: str | None) -> bool:
    """Whether this code can work with a database at ``revision``: at the one it expects or a newer one, whose schema
    serves older code too. So processes go on while their database is migrated for the version after theirs."""
    return revision is not None and revision >= head()


def include_name(name: str | None, kind: str, _parents: object) -> bool:
    """Whether the autogenerate of a host's own Alembic looks at what has this name: at everything but our schema.

    For its ``env.py``: ``context.configure(..., include_schemas=True, include_name=include_name)``. Without it, what
    the host's models do not have is to be dropped, and that is all of ours.
    """
    return kind != "schema" or name != SCHEMA


@cache
def revisions() -> tuple[str, ...]:
    """All of them in order. They are numbers, and their files begin with them."""
    return tuple(sorted(file.name.partition("_")[0] for file in (HERE / "versions").glob("[0-9]*_*.py")))


def revision_of(connection: Connection) -> str | None:
    """The same by a connection."""
    if not inspect(connection).has_table("alembic_version", schema=SCHEMA):
        return None
    revision: str | None = connection.scalar(text(f"select version_num from {SCHEMA}.alembic_version"))
    return revision


def _why_not_from(revision: str) -> str:
    first, *_, last = revisions()
    if revision == last:
        return f"{revision} is the newest revision: there is nothing to do after it"
    return (
        f"there is no revision {revision!r}; they go from {first} to {last}, and `jobplatform doctor` says which it is"
    )


def _not_allowed(target: Engine | str, error: ProgrammingError) -> Exception:
    """With who may, and what lets this login: whose schema it is anybody can look up."""
    if getattr(error.orig, "sqlstate", None) != NOT_ALLOWED:
        return error
    with _connection(target) as connection:
        login, database, owner, schema_owner = connection.execute(text(WHOSE), {"schema": SCHEMA}).one()
    if schema_owner is None:
        needed = f"create a schema in the database {database}"
        ways = f"have {owner}, whose database it is, `grant create on database {database} to {login}`"
    else:
        needed = f"change the schema {SCHEMA} in the database {database}"
        ways = f"have an administrator `grant {schema_owner} to {login}`"
    said = str(error.orig).strip().splitlines()[0]
    return MigrationError(
        f"the login {login} may not {needed} ({said}); nothing was changed. Migrate with a login that may, or {ways}"
    )


def _refuse_old_server(connection: Connection) -> None:
    with connection.begin():
        version: int = connection.scalar(text("select current_setting('server_version_num')::int / 10000"))
    if version < OLDEST_SERVER:
        raise MigrationError(
            f"the server is PostgreSQL {version}, and jobplatform needs {OLDEST_SERVER} or newer; nothing was changed"
        )


@contextmanager
def _connection(target: Engine | str) -> Iterator[Connection]:
    """A connection of our own, whose session ends with the block. An engine made here leaves none open."""
    engine = (
        make_engine(target, application_name="jobplatform-migrate", pool_size=1) if isinstance(target, str) else target
    )
    try:
        # A host's engine may have every statement be a transaction of its own.
        with engine.connect().execution_options(isolation_level="READ COMMITTED") as connection:
            try:
                yield connection
            finally:
                connection.invalidate()
    finally:
        if engine is not target:
            engine.dispose()
