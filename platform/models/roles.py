"""The database's roles: who may do what, and whether the login of a process keeps to it.

The roles are groups without a login; they belong to the server and are shared by all databases on it. Migration 0003
makes them. A process has a login that is a member of one, and assumes that one whatever else the login may do.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from jobplatform.embedded import CLUSTER_NAME, DATABASE, SUPERUSER, EmbeddedServer
from jobplatform.errors import SettingsError


class Role(enum.StrEnum):
    """The groups. ``API`` and ``HANDLER`` see one workspace at a time, ``OPERATOR`` and ``WORKER`` all of them."""

    OWNER = "jobplatform_owner"
    API = "jobplatform_api"
    OPERATOR = "jobplatform_operator"
    WORKER = "jobplatform_worker"
    HANDLER = "jobplatform_handler"


#: Whether the login may become a ``role``, an SQL expression. Since 16 whoever has made one may give it away, and need
#: not be able to become it.
MAY_BECOME = """
pg_has_role(
    session_user, {role}, case when current_setting('server_version_num')::int >= 160000 then 'set' else 'member' end
)
"""

# Every table with a workspace is asked for, whatever version made it. What a view shows depends on its reader's rights.
LOGIN = f"""
select
    session_user::text,
    r.rolsuper,
    r.rolbypassrls,
    -- Set when a server starts: no session can claim it.
    current_setting('cluster_name') = %(embedded)s,
    array(
        select g.rolname::text
        from pg_roles g
        where g.rolname = any(%(roles)s) and {MAY_BECOME.format(role="g.oid")}
    ),
    array(select g.rolname::text from pg_roles g where g.rolname = any(%(roles)s)),
    array(
        select g.rolname::text
        from pg_roles g
        where g.rolname = any(%(roles)s) and (g.rolsuper or g.rolbypassrls or g.rolcanlogin)
    ),
    array(
        select m.rolname || ' inherits ' || g.rolname
        from pg_roles m, pg_roles g
        where m.rolname in ('jobplatform_api', 'jobplatform_handler')
            and g.rolname in ('jobplatform_operator', 'jobplatform_worker', 'jobplatform_owner')
            and pg_has_role(m.oid, g.oid, 'usage')
    ),
    array(
        select c.relname::text
        from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = 'jobplatform'
            and c.relkind in ('r', 'p')
            and not (c.relrowsecurity and c.relforcerowsecurity)
            and (
                c.relname = 'workspaces'
                or exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'workspace_id')
            )
        order by 1
    ),
    exists (select from pg_policies where schemaname = 'jobplatform' and tablename = 'job_queue')
from pg_roles r
where r.rolname = session_user
"""


class Login(NamedTuple):
    """What the server says of the login behind a connection, of our roles and of our tables."""

    name: str
    superuser: bool
    bypasses: bool
    embedded: bool
    may_become: Sequence[str]
    existing: Sequence[str]
    dangerous: Sequence[str]
    inheriting: Sequence[str]
    unprotected: Sequence[str]
    migrated: bool


def require_roles(engine: Engine, *roles: Role, trust_login: bool = False) -> bool:
    """Refuse a login that cannot assume ``roles``, or by which a process could see past its workspace.

    Raises :class:`SettingsError` with all there is to correct. ``trust_login`` accepts a login that could bypass row
    security (a superuser, for development); so does a server that is our own embedded one. A database that cannot be
    reached or is not migrated yet has nothing to show: the answer is False then, and processes wait for it as ever.
    Leaves no connection open: a server may fork after this, and two processes would read each other's answers.
    """
    try:
        return may_serve(engine, *roles, trust_login=trust_login)
    except OperationalError:
        return False
    finally:
        engine.dispose()


def may_serve(engine: Engine, *roles: Role, trust_login: bool = False) -> bool:
    """The same for an engine that is in use: one connection of it is borrowed, and OperationalError means unreachable.

    False: the schema is not there yet. Raises :class:`SettingsError` with all there is to correct.
    """
    with engine.connect() as connection:
        parameters = {"embedded": CLUSTER_NAME, "roles": [str(role) for role in Role]}
        login = Login(*connection.exec_driver_sql(LOGIN, parameters).one())
    if login.migrated and (problems := problems_of(login, roles, trust_login=trust_login)):
        raise SettingsError(problems)
    return login.migrated


def problems_of(login: Login, roles: Sequence[Role], *, trust_login: bool) -> list[str]:
    """What is wrong with a login for a process of ``roles``, a sentence each."""
    return list(_problems(login, roles, trust_login=trust_login))


def may_not_act(login: str | None, role: str, instead: str = "") -> str:
    """That a login is no member of a role, and what an administrator of the server runs about it."""
    if login is None:
        return f"the database login of this process may not act as {role}: {instead}grant {role} to it"
    return f'the database login {login!r} may not act as {role}: {instead}grant {role} to "{login}"'


def _problems(login: Login, roles: Sequence[Role], *, trust_login: bool) -> Iterator[str]:
    if (login.superuser or login.bypasses) and not (trust_login or login.embedded):
        what = "is a superuser" if login.superuser else "has BYPASSRLS"
        yield (
            f"the database login {login.name!r} {what} and could see every workspace: connect with one that is only a "
            f"member of {roles[0]} (for development, JOBPLATFORM_TRUST_LOGIN=true accepts it)"
        )
    for role in roles:
        if role not in login.existing:
            yield f"the role {role} does not exist on this server: run `jobplatform migrate`"
        elif role not in login.may_become:
            yield may_not_act(login.name, role)
    for name in login.dangerous:
        yield f"the role {name} may log in or bypass row security: alter role {name} nologin nosuperuser nobypassrls"
    for found in login.inheriting:
        yield f"the role {found} and would always see every workspace: revoke that, then run `jobplatform migrate`"
    for table in login.unprotected:
        yield (
            f"row security is not forced on jobplatform.{table}: "
            f"alter table jobplatform.{table} enable row level security, force row level security"
        )


#: The logins of an embedded server, by what a process wants to be.
LOGINS = {
    (Role.API,): "api",
    (Role.WORKER,): "worker",
    (Role.API, Role.WORKER): "api_and_worker",
}


def embedded_login(server: EmbeddedServer, *roles: Role) -> str:
    """The URL by which a process of these roles uses an embedded server: a login that may do that and nothing more.

    On a machine for daily work the application's own tables are everybody's, so there is nothing to grant.
    """
    for members, login in LOGINS.items():
        server.provide_login(login, *members)
    server.share_tables(DATABASE, [SUPERUSER, *LOGINS.values()], [*LOGINS.values(), Role.HANDLER])
    return server.url(DATABASE, LOGINS[roles])
