"""The one place that tells the database whose transaction this is.

    1. Somebody says of a Session: it is this role's, for this workspace (:func:`confine`).
    2. At the begin of each of its transactions the database is told so, in the very round trip that begins it.
    3. Both end with the transaction, so the next user of the connection, or of a pooler's, inherits nothing.

A round trip of its own would cost a short transaction 40 % (a point query on a local socket, 370 → 520 µs); sent
along with BEGIN it costs 5 %. The driver sends BEGIN by itself just before the first statement, unless a transaction
is open already; so ours opens one through the driver's own libpq connection, in one text with what there is to say.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg.pq import ExecStatus, TransactionStatus
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError, ProgrammingError
from sqlalchemy.orm import Session, SessionTransaction

from jobplatform.errors import MigrationError, SettingsError
from jobplatform.models.missing import mention_migrations
from jobplatform.models.roles import Role, may_not_act

#: What policies compare with. Never set outside a transaction.
WORKSPACE = "jobplatform.workspace_id"
#: The public id of the one token that may be looked at before anybody knows whose it is.
TOKEN = "jobplatform.token_id"

_KEY = "jobplatform.confinement"
_VISITED = "jobplatform.visited"
_TOKEN_ID = re.compile(r"[0-9A-Za-z]{0,64}\Z")
_SET_ROLE = "set local role {}"
_SET = "set local {} = '{}'"
#: Our schema behind whatever the login's search path is: handlers may say ``jobs``, and the host's own tables win.
_SEE_OUR_SCHEMA = (
    "select set_config('search_path', concat_ws(', ', nullif(current_setting('search_path'), ''), 'jobplatform'), true)"
)
_FREE = (_SET_ROLE.format("none"), _SET.format(WORKSPACE, ""), _SET.format(TOKEN, ""))
#: In milliseconds. What the session had is what counts again.
_AT_MOST = "set local statement_timeout = {}"
_UNTIMED = _AT_MOST.format("default")

# Policies let a worker and an operator see every workspace: there is nothing to visit.
_HIDES_WORKSPACES = f"""
select row_security_active('jobplatform.job_queue') and not exists (
    select
    from pg_roles r
    where r.rolname in ('{Role.WORKER}', '{Role.OPERATOR}') and pg_has_role(current_user, r.oid, 'usage')
)
"""

_row_security: weakref.WeakKeyDictionary[Engine, bool] = weakref.WeakKeyDictionary()


def confine(
    session: Session,
    role: Role,
    workspace_id: UUID | str | None = None,
    *,
    token_id: str = "",
    at_most: timedelta | None = None,
) -> Session:
    """Have every transaction of ``session``, from now on, run as ``role`` and for one workspace; answers with it.

    Without a workspace the roles ``API`` and ``HANDLER`` see no rows at all. ``token_id`` shows the API the token of
    that public id. A statement that takes longer than ``at_most`` is given up by the server: said along with the rest,
    that costs nothing. Each value counts until the Session is confined anew.
    """
    before = session.info.get(_KEY, ())
    session.info[_KEY] = _statements(role, workspace_id, token_id, at_most)
    if session.in_transaction():
        _tell(session.connection(), (*_undone(before), *session.info[_KEY]))
    return session


def confine_connection(connection: Connection, role: Role, workspace_id: UUID | str) -> None:
    """The same for the one transaction that this connection is in, or begins by this: whoever uses it is confined until
    it ends. A Session that takes part in it is to be told so, by :func:`take_part`.
    """
    _tell(connection, _statements(role, workspace_id, "", None))


def take_part(session: Session) -> Session:
    """Have the Session's transactions be as confined as the one that they are parts of; answers with it.

    Nothing is told when one of them begins, nor taken back when it ends: what goes on is not theirs.
    """
    session.info[_KEY] = ()
    return session


def set_free(session: Session) -> None:
    """Take back :func:`confine` for the transactions to come: for a Session that somebody else goes on using."""
    session.info.pop(_KEY, None)


def is_confined(session: Session) -> bool:
    """Whether the Session's transactions are told whose they are."""
    return _KEY in session.info


def needs_visits(session: Session) -> bool:
    """Whether row security hides all workspaces from this Session until it names one.

    That is so for the Session of a host application whose login is a member of our roles, or our schema's owner. The
    answer of the database is kept for each engine.
    """
    if is_confined(session):
        return False
    bind = session.get_bind()
    engine = bind.engine if isinstance(bind, Connection) else bind
    if engine not in _row_security:
        try:
            _row_security[engine] = bool(session.connection().exec_driver_sql(_HIDES_WORKSPACES).scalar())
        except ProgrammingError as error:
            mention_migrations(error)
            raise
    return _row_security[engine]


def visit(session: Session, workspace_id: UUID) -> None:
    """Let a host's own Session reach this workspace until its transaction ends, if that takes anything.

    A confined Session stays where it is: asking for another workspace is what it is kept from.
    """
    if not needs_visits(session):
        return
    # The transaction is remembered too: what was said ends with it.
    here = (session.get_transaction(), workspace_id)
    if session.info.get(_VISITED) != here or here[0] is None:
        session.connection().exec_driver_sql(_SET.format(WORKSPACE, UUID(str(workspace_id))))
        session.info[_VISITED] = (session.get_transaction(), workspace_id)


_BECOME_OPERATOR = f"select current_setting('role'), set_config('role', '{Role.OPERATOR}', true)"


@contextmanager
def reaching(session: Session, workspace_ids: Iterable[UUID]) -> Iterator[None]:
    """Let a host's own Session reach several workspaces within the block, if that takes anything.

    One is visited. For more at once the login has to become an operator meanwhile: it is the host's own code that
    names them, and what it may do to its workspaces is the host's affair.
    """
    if not needs_visits(session):
        yield
        return
    found = set(workspace_ids)
    if len(found) == 1:
        visit(session, found.pop())
        yield
        return
    connection = session.connection()
    before = connection.exec_driver_sql(_BECOME_OPERATOR).scalar_one()
    try:
        yield
    finally:
        # The end of a failed transaction does this by itself.
        if _is_sound(connection):
            connection.exec_driver_sql("select set_config('role', %(before)s, true)", {"before": before})


_BECOME = f"""
select
    current_setting('role'),
    coalesce(current_setting('{WORKSPACE}', true), ''),
    set_config('role', %(role)s, true),
    set_config('{WORKSPACE}', %(workspace_id)s, true)
"""


@contextmanager
def as_the_api(session: Session, workspace_id: UUID, *, unless: bool = False) -> Iterator[None]:
    """Let an operator's Session do within the block what the API does for this workspace, ``unless`` it may already."""
    if unless:
        yield
        return
    with _becoming(session, Role.API, workspace_id):
        yield


@contextmanager
def as_a_handler(session: Session, workspace_id: UUID) -> Iterator[None]:
    """Let a worker's Session see within the block what handlers see of this workspace. In one transaction."""
    with _becoming(session, Role.HANDLER, workspace_id):
        yield


@contextmanager
def _becoming(session: Session, role: Role, workspace_id: UUID) -> Iterator[None]:
    connection = session.connection()
    said = {"role": role.value, "workspace_id": str(workspace_id)}
    own, before, *_ = connection.exec_driver_sql(_BECOME, said).one()
    try:
        yield
    finally:
        # The end of a failed transaction does this by itself.
        if _is_sound(connection):
            connection.exec_driver_sql(
                f"select set_config('role', %(role)s, true), set_config('{WORKSPACE}', %(before)s, true)",
                {"role": own, "before": before},
            )


def _statements(
    role: Role, workspace_id: UUID | str | None, token_id: str, at_most: timedelta | None
) -> tuple[str, ...]:
    """The values become part of a text, so each is of a form that needs no quoting, or refused."""
    if not _TOKEN_ID.match(token_id):
        raise ValueError("a token's public id has letters and digits only")
    # SET LOCAL, because nothing has to be planned for it: a third of the time that a select of set_config() takes.
    # No workspace is said as well: code that made the setting the session's must not decide for a later transaction.
    workspace = "" if workspace_id is None else str(UUID(str(workspace_id)))
    found = [_SET_ROLE.format(Role(role)), _SET.format(WORKSPACE, workspace)]
    if token_id:
        found.append(_SET.format(TOKEN, token_id))
    if role is Role.HANDLER:
        found.append(_SEE_OUR_SCHEMA)
    if at_most is not None:
        found.append(_AT_MOST.format(at_most // timedelta(milliseconds=1)))
    return tuple(found)


def _undone(statements: Sequence[str]) -> Sequence[str]:
    """What takes them back within a transaction that goes on."""
    is_timed = any(statement.startswith(_AT_MOST.format("")) for statement in statements)
    return (*_FREE, _UNTIMED) if is_timed else _FREE


@event.listens_for(Session, "after_begin")
def _confine_transaction(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
    statements: tuple[str, ...] | None = session.info.get(_KEY)
    # A SAVEPOINT is within a transaction that knows already.
    if statements and not transaction.nested:
        _tell(connection, statements)


@event.listens_for(Session, "after_transaction_end")
def _free_transaction(session: Session, transaction: SessionTransaction) -> None:
    """A Session within a transaction of its caller's (a test's, say) ends before that does: give back what it was."""
    if transaction.parent is not None or not session.info.get(_KEY) or not isinstance(session.bind, Connection):
        return
    if not session.bind.closed and session.bind.in_transaction() and _is_sound(session.bind):
        _tell(session.bind, _undone(session.info[_KEY]))


def _tell(connection: Connection, statements: Sequence[str]) -> None:
    driver = connection.connection.driver_connection
    if getattr(driver, "autocommit", False):
        raise RuntimeError("a Session whose statements commit one by one cannot be confined to a workspace")
    if _begin_with(driver, statements):
        return
    try:
        # In a transaction already, or another driver, or the server refused: then this says why.
        for statement in statements:
            connection.exec_driver_sql(statement)
    except DBAPIError as error:
        raise _explained(error, statement, driver) from error


def _explained(error: DBAPIError, statement: str, driver: Any) -> Exception:
    """The two mistakes of a deployment, in words that say what to do."""
    sqlstate, message = getattr(error.orig, "sqlstate", None), str(error.orig).strip()
    if sqlstate == "22023" and "role" in message:
        return MigrationError(f"{message}: no database of this server has been migrated; run `jobplatform migrate`")
    if sqlstate == "42501" and statement.startswith(_SET_ROLE.format("")):
        # Of a transaction that has failed nothing can be asked any more; psycopg and psycopg2 know whom they are.
        login = str(getattr(getattr(driver, "info", None), "user", None) or "") or None
        role = statement.removeprefix(_SET_ROLE.format(""))
        # A worker's login is not to become an operator's for one command.
        return SettingsError([may_not_act(login, role, "connect with a login that may, or ")])
    return error


def _is_sound(connection: Connection) -> bool:
    driver = connection.connection.driver_connection
    return not isinstance(driver, psycopg.Connection) or _status(driver) is TransactionStatus.INTRANS


def _status(driver: psycopg.Connection[Any]) -> TransactionStatus:
    return driver.info.transaction_status


def _begin_with(driver: Any, statements: Sequence[str]) -> bool:
    """BEGIN and ``statements`` in one round trip. False when that cannot be done; nothing has happened then."""
    if not isinstance(driver, psycopg.Connection) or _status(driver) is not TransactionStatus.IDLE:
        return False
    if (driver.isolation_level, driver.read_only, driver.deferrable) != (None, None, None):
        return False  # The driver's own BEGIN says these things.
    result = driver.pgconn.exec_("; ".join(("begin", *statements)).encode())
    if result.status in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK):
        return True
    if _status(driver) is TransactionStatus.INERROR:
        driver.rollback()
    return False
