"""A look at a server before anything is done to it: does it have what a run needs, and what is it like?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import psycopg

from jobplatform.models import MAY_BECOME, Role
from jobplatform.proof.onlooker import NEEDED, connect

LOOK = f"""
select
    session_user::text,
    current_database()::text,
    r.rolsuper or r.rolcreatedb,
    r.rolsuper or r.rolcreaterole,
    array(select g.rolname::text from pg_roles g where g.rolname = any(%(roles)s)),
    array(
        select g.rolname::text
        from pg_roles g
        where g.rolname = any(%(roles)s) and {MAY_BECOME.format(role="g.oid")}
    ),
    pg_is_in_recovery(),
    has_database_privilege(current_database(), 'create'),
    current_setting('server_version_num')::int / 10000,
    current_setting('max_connections')::int,
    current_setting('superuser_reserved_connections')::int
        + coalesce(current_setting('reserved_connections', true)::int, 0),
    (select count(*)::int from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()),
    case when r.rolconnlimit >= 0 and not r.rolsuper then r.rolconnlimit end,
    (
        select count(*)::int
        from pg_class c
        where c.relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
            and c.relnamespace::regnamespace::text !~ '^pg_'
            and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e')
    ) + (
        select count(*)::int
        from pg_namespace n
        where n.nspname not in ('public', 'information_schema') and n.nspname !~ '^pg_'
            and not exists (select from pg_depend d where d.objid = n.oid and d.deptype = 'e')
    )
from pg_roles r
where r.rolname = session_user
"""

#: What says how much a server promises about what it has acknowledged, and how it was set up for this run.
SETTINGS = (
    "server_version", "fsync", "synchronous_commit", "full_page_writes", "synchronous_standby_names", "wal_level",
    "default_transaction_isolation", "data_checksums", "autovacuum", "max_connections", "shared_buffers", "jit",
)  # fmt: skip

#: As a session of ours gets them. The isolation level is the one that the login has; ours asks for none.
READ_SETTINGS = (
    "select name, current_setting(name, true) from unnest(%s::text[]) with ordinality as s(name, nth) order by nth"
)

#: Of what is free so much is left to those whose server it is.
LEFT_TO_OTHERS = 5

OLDEST_SERVER = 15


@dataclass(frozen=True, slots=True)
class Survey:
    """What there is. ``objects`` are those of the database that do not belong to the system or to an extension."""

    login: str
    database: str
    may_create_databases: bool
    may_create_roles: bool
    existing: list[str]
    member_of: list[str]
    standby: bool
    may_create_schemas: bool
    version: int
    max_connections: int
    reserved: int
    taken: int
    allowed: int | None
    objects: int
    address: str
    encrypted: bool

    @property
    def room(self) -> int:
        """How many connections a run may have here."""
        free = self.max_connections - self.reserved - self.taken - LEFT_TO_OTHERS
        return free if self.allowed is None else min(free, self.allowed)


def look_at(url: str) -> Survey:
    """Reads, and nothing else."""
    with connect(url) as connection:
        row = connection.execute(LOOK, {"roles": [str(role) for role in Role]}).fetchone()
        assert row is not None
        return Survey(*(*row, _address(connection.info), connection.pgconn.ssl_in_use))


def is_pooled(url: str) -> bool:
    """Whether a pooler answers: it makes up numbers of its own for backends."""
    with connect(url) as connection:
        return connection.execute("select pg_backend_pid()").fetchone() != (connection.info.backend_pid,)


def _address(server: psycopg.ConnectionInfo) -> str:
    return server.host if server.host.startswith("/") else f"{server.host}:{server.port}"


def settings_of(url: str) -> Mapping[str, str]:
    """The settings that matter, by name, of a session in this database."""
    with connect(url) as connection:
        return {name: value for name, value in connection.execute(READ_SETTINGS, [list(SETTINGS)]) if value is not None}


def what_is_missing(survey: Survey, *, connections: int, in_database: bool) -> list[str]:
    """What keeps a run from this server, a sentence each that says what to do; ``in_database`` if it need not make a
    database."""
    return list(_missing(survey, connections, in_database=in_database))


def _missing(survey: Survey, connections: int, *, in_database: bool) -> Iterator[str]:
    if survey.version < OLDEST_SERVER:
        yield f"the server is PostgreSQL {survey.version}, and jobplatform needs {OLDEST_SERVER} or newer"
    if survey.standby:
        yield "the server is a standby, where nobody can write: name the primary"
    if in_database and survey.objects:
        yield (
            f"the database {survey.database} is not empty ({survey.objects} tables, indexes, schemas): name one that "
            "is, since everything in it goes at the end"
        )
    if in_database and not survey.may_create_schemas:
        grant = f'alter database {survey.database} owner to "{survey.login}"'
        yield f"the login {survey.login} may not make schemas in the database {survey.database}: {grant}"
    if not in_database and not survey.may_create_databases:
        yield (
            f"the login {survey.login} may not create a database: grant it CREATEDB, or have an empty one made that "
            f'belongs to it (create database prove owner "{survey.login}") and name that with --database prove'
        )
    yield from _missing_roles(survey)
    if connections > survey.room:
        limit = f", and the login may have {survey.allowed}" if survey.allowed is not None else ""
        yield (
            f"a run has about {connections} connections at a time, and there is room for {max(0, survey.room)}: of "
            f"{survey.max_connections} (max_connections) {survey.taken} are taken and {survey.reserved} reserved, and "
            f"{LEFT_TO_OTHERS} are left to others{limit}; take fewer --workers, or raise the limit"
        )


def _missing_roles(survey: Survey) -> Iterator[str]:
    absent = [role for role in Role if role not in survey.existing]
    if absent and not survey.may_create_roles:
        yield (
            f"the login {survey.login} may not create the roles of jobplatform, of which {', '.join(absent)} "
            f'{"is" if len(absent) == 1 else "are"} not there: alter role "{survey.login}" createrole, '
            "or let an administrator run `jobplatform migrate` once in any database of the server"
        )
    lacking = [role for role in NEEDED if role in survey.existing and role not in survey.member_of]
    if lacking:
        roles = ", ".join(lacking)
        yield f'the login {survey.login} is not a member of {roles}: grant {roles} to "{survey.login}"'
