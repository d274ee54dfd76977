"""Credentials of a connection: given, taken away, and opened for the connector. Nothing here commits.

They are sealed with the workspace's key for this very connection: moved to another one they do not open. Where there
is no key ring there are no credentials either; they are never written in the clear.
"""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from jobplatform.connectors.keeping import Credentials
from jobplatform.connectors.registry import ConnectorType
from jobplatform.connectors.schemas import problems_of
from jobplatform.errors import (
    EncryptionError,
    InvalidConnectionError,
    KeyMissingError,
    Problem,
    SourceError,
    refuse,
)
from jobplatform.models import Connection, ConnectionCredentials, clock
from jobplatform.queue import key_ring, resume_schedules_of, seal_of, seal_value

FIELD = "credentials"
#: Access tokens are renewed so many seconds before their end: a request takes its time, too.
MARGIN = 30.0

NO_KEY_RING = (
    "credentials are kept sealed or not at all, and this process has no key ring: whoever runs the platform installs "
    "jobplatform[encryption] and gives every process JOBPLATFORM_ENCRYPTION_KEYS (from `jobplatform keys generate`)"
)


def require_key_ring() -> None:
    """Raise :class:`KeyMissingError` in words that say what to do, where nothing can be sealed."""
    if key_ring() is None:
        raise KeyMissingError(None, NO_KEY_RING)


def credentials_problems(kind: ConnectorType, given: Any, path: str = "/credentials") -> list[Problem]:
    """What is wrong with credentials as somebody writes them, ``{"scheme": "bearer", "token": "…"}``."""
    if not kind.credentials:
        return [Problem(path, "This connector type takes no credentials.")]
    if not isinstance(given, Mapping):
        return [Problem(path, "Must be an object.")]
    scheme = given.get("scheme")
    if not isinstance(scheme, str) or scheme not in kind.credentials:
        return [Problem(f"{path}/scheme", f"Must be one of: {', '.join(kind.credentials)}.")]
    return problems_of(kind.credentials[scheme], _without_scheme(given), path)


def give_credentials(session: Session, connection: Connection, kind: ConnectorType, given: Mapping[str, Any]) -> None:
    """Keep these, in place of any there were; what needed attention for want of them does not any more.

    Raises :class:`InvalidConnectionError` with paths, and :class:`KeyMissingError` where nothing can be sealed.
    """
    refuse(InvalidConnectionError, credentials_problems(kind, given))
    require_key_ring()
    scheme = str(given["scheme"])
    keep_credentials(session, connection, scheme, dict(kind.credentials[scheme]().load(_without_scheme(given))))


def keep_credentials(session: Session, connection: Connection, scheme: str, values: Mapping[str, Any]) -> None:
    """:func:`give_credentials` for values that nobody has written by hand."""
    row = insert(ConnectionCredentials).values(
        workspace_id=connection.workspace_id,
        connection_id=connection.id,
        scheme=scheme,
        sealed=_sealed(session, connection, scheme, values),
    )
    session.execute(
        row.on_conflict_do_update(
            index_elements=[ConnectionCredentials.workspace_id, ConnectionCredentials.connection_id],
            set_={
                "scheme": row.excluded.scheme,
                "sealed": row.excluded.sealed,
                "version": ConnectionCredentials.version + 1,
                "set_at": clock(),
                "renewed_at": None,
                "expires_at": None,
            },
        )
    )
    end_attention(session, connection)


def end_attention(session: Session, connection: Connection) -> None:
    """Whatever was wrong may not be any more: its schedules go on, and the next sync finds out."""
    connection.attention = connection.attention_at = None
    resume_schedules_of(session, connection.workspace_id, connection.id)


def take_credentials(session: Session, connection: Connection) -> bool:
    """Forget them. Says whether there were any."""
    found: Any = session.execute(
        delete(ConnectionCredentials).where(*_of(connection)), execution_options={"synchronize_session": False}
    )
    return bool(found.rowcount)


def find_credentials(session: Session, connection: Connection, *, lock: bool = False) -> Credentials | None:
    """Those of a connection, opened; None where it has none.

    ``lock`` holds up everybody else who wants to renew or change them, until the transaction ends. Raises
    :class:`SourceError` where they cannot be opened.
    """
    expires_in = func.extract("epoch", ConnectionCredentials.expires_at - clock())
    statement = select(
        ConnectionCredentials.scheme, ConnectionCredentials.sealed, ConnectionCredentials.version, expires_in
    ).where(*_of(connection))
    row = session.execute(statement.with_for_update() if lock else statement).one_or_none()
    if row is None:
        return None
    scheme, sealed, version = row[:3]
    seconds: Any = row[3]
    good_until = None if seconds is None else time.monotonic() + float(seconds) - MARGIN
    return Credentials(scheme, _opened(session, connection, scheme, sealed), version, good_until)


def keep_renewed(
    session: Session, connection: Connection, renewed: Credentials, *, expires_in: float | None
) -> Credentials:
    """Write credentials that were renewed, over those that they were made from. Their row is locked by the caller."""
    version = session.execute(
        update(ConnectionCredentials)
        .where(*_of(connection))
        .values(
            sealed=_sealed(session, connection, renewed.scheme, renewed.values),
            version=ConnectionCredentials.version + 1,
            renewed_at=clock(),
            expires_at=None if expires_in is None else clock() + datetime.timedelta(seconds=expires_in),
        )
        .returning(ConnectionCredentials.version),
        execution_options={"synchronize_session": False},
    ).scalar_one()
    good_until = None if expires_in is None else time.monotonic() + expires_in - MARGIN
    return Credentials(renewed.scheme, renewed.values, version, good_until, is_new=True)


def _of(connection: Connection) -> tuple[Any, Any]:
    return (
        ConnectionCredentials.workspace_id == connection.workspace_id,
        ConnectionCredentials.connection_id == connection.id,
    )


def _without_scheme(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name != "scheme"}


def _place(connection: Connection) -> str:
    """Never changes: what is sealed opens nowhere else."""
    return f"connection:{connection.id}"


def _sealed(session: Session, connection: Connection, scheme: str, values: Mapping[str, Any]) -> str:
    text = json.dumps({"scheme": scheme, **values})
    return seal_value(session, connection.workspace_id, _place(connection), FIELD, text)


def _opened(session: Session, connection: Connection, scheme: str, sealed: str) -> dict[str, Any]:
    form = json.loads(sealed)["$sealed"]
    try:
        text = seal_of(session, connection.workspace_id, _place(connection), form).open(FIELD, form)
    except EncryptionError as error:
        raise SourceError(f"the connection's credentials cannot be opened here: {error}") from error
    values: dict[str, Any] = json.loads(text)
    if values.pop("scheme") != scheme:
        raise SourceError("the connection's credentials are not of the scheme that their row says")
    return values
