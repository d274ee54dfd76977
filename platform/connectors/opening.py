"""A connection is opened: its configuration is read, its credentials are opened, and its connector is made."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from marshmallow import Schema, ValidationError
from sqlalchemy.orm import Session

from jobplatform.connectors.asking import LONGEST_WAIT, Pause, SourceClient, pause_of
from jobplatform.connectors.credentials import find_credentials
from jobplatform.connectors.keeping import Credentials, Keeper, NobodyElse, Rate
from jobplatform.connectors.outside import LARGEST_ANSWER, LONGEST_REQUEST, OutsideClient
from jobplatform.connectors.registry import CONNECTORS, ConnectorType, unknown_type
from jobplatform.connectors.renewing import OF_PLATFORM, DatabaseKeeper, alone
from jobplatform.connectors.source import Connector
from jobplatform.errors import NeedsAttentionError, SourceError
from jobplatform.models import PLATFORM_WORKSPACE, Connection

#: Seconds for a request that somebody waits for.
LONGEST_TRY = 10.0
#: And for its turn.
SHORT_WAIT = 2.0


@dataclass(frozen=True)
class Opening:
    """One connection, for the length of one attempt: what a connector is made from.

    ``config`` is as the type's schema loads it. ``account`` is what the source counts requests by: connections of a
    workspace that say the same share a rate and the breaks that the source asks for.
    """

    workspace_id: uuid.UUID
    connection_id: uuid.UUID
    name: str
    config: dict[str, Any]
    account: str
    sealed: Credentials | None = field(default=None, repr=False)
    allow_private: bool = False
    keeper: Keeper = field(default_factory=NobodyElse)
    session: Session | None = field(default=None, repr=False)
    """For short transactions of a connector's own; None without a database. None may be open between its pages."""
    origin: str | None = None
    patient: bool = True
    """Whether a connector may take its time and ask again; somebody waits for the answer otherwise."""

    @classmethod
    def of(
        cls,
        schema: type[Schema],
        config: Mapping[str, Any],
        *,
        credentials: Mapping[str, Any] | None = None,
        allow_private: bool = False,
    ) -> Self:
        """Of a configuration alone, without a database: for trying out a connector."""
        found = None
        if credentials is not None:
            found = Credentials(str(credentials["scheme"]), {k: v for k, v in credentials.items() if k != "scheme"})
        return cls(uuid.UUID(int=0), uuid.UUID(int=0), "alone", _load(schema, config), "alone", found, allow_private)

    @property
    def credentials(self) -> Mapping[str, Any] | None:
        """Those of the connection with their ``scheme``, or None where it has none."""
        return None if self.sealed is None else {"scheme": self.sealed.scheme, **self.sealed.values}

    def client(
        self,
        *,
        rate: Rate | None = None,
        pause: Pause = pause_of,
        rest: Pause | None = None,
        headers: Mapping[str, str] | None = None,
        largest: int = LARGEST_ANSWER,
        seconds: float = LONGEST_REQUEST,
    ) -> SourceClient:
        """A client that asks on behalf of this connection. Close it with the connector.

        ``rate`` is the account's; ``pause`` reads from an answer of 429 how long the account is to be left alone, and
        ``rest`` from any other one.
        """
        outside = OutsideClient(
            allow_private=self.allow_private,
            headers=headers,
            largest=largest,
            seconds=seconds if self.patient else min(seconds, LONGEST_TRY),
        )
        return SourceClient(
            outside,
            keeper=self.keeper,
            resource=self.account,
            rate=rate,
            credentials=self.sealed,
            origin=self.origin,
            pause=pause,
            rest=rest,
            longest_wait=LONGEST_WAIT if self.patient else SHORT_WAIT,
        )


def open_connector(session: Session, connection: Connection, allow_private: bool, *, patient: bool = True) -> Connector:
    """The connector of a connection. Raises :class:`SourceError` for what cannot be opened, and
    :class:`NeedsAttentionError` for what is of no use until somebody gives it new credentials.

    The session is used between pages too, for short transactions: none may be open now, or when the connector is asked.
    """
    kind = CONNECTORS.get(connection.connector_type)
    if kind is None:
        raise SourceError(unknown_type(connection.connector_type))
    return kind.open(_opening(session, connection, kind, allow_private=allow_private, patient=patient))


def attention_of(connector_type: str, attention: str | None, *, has_credentials: bool) -> str | None:
    """Why a connection is of no use until somebody looks after it, None where it may be used: what was noted of it, or
    that it needs credentials and has none."""
    kind = CONNECTORS.get(connector_type)
    if attention is not None or has_credentials or kind is None or not kind.needs_credentials:
        return attention
    return f"the connection has no credentials; give it some ({', '.join(kind.credentials)})"


def account_of(connection: Connection, config: Mapping[str, Any]) -> str:
    """What a source counts requests by: an account that the configuration names, or else the connection."""
    return f"{connection.connector_type}:{config.get('account') or connection.id}"


def _opening(
    session: Session, connection: Connection, kind: ConnectorType, *, allow_private: bool, patient: bool
) -> Opening:
    config = _load(kind.config, connection.config)
    with alone(session):
        credentials = find_credentials(session, connection)
    reason = attention_of(connection.connector_type, connection.attention, has_credentials=credentials is not None)
    if reason is not None:
        raise NeedsAttentionError(reason)
    application = _application_of(kind, connection, credentials)
    keeper = DatabaseKeeper(
        session,
        connection,
        kind.token_url(config),
        allow_private=allow_private,
        paced_in=connection.workspace_id if application is None else PLATFORM_WORKSPACE,
    )
    return Opening(
        workspace_id=connection.workspace_id,
        connection_id=connection.id,
        name=connection.name,
        config=config,
        account=application or account_of(connection, config),
        sealed=credentials,
        allow_private=allow_private,
        keeper=keeper,
        session=session,
        origin=kind.asks(config),
        patient=patient,
    )


def _application_of(kind: ConnectorType, connection: Connection, credentials: Credentials | None) -> str | None:
    """What every workspace shares that asks as the platform's own application, where a provider counts by that."""
    if credentials is None or kind.oauth is None or not kind.oauth.counts_by_application:
        return None
    if not credentials.values.get(OF_PLATFORM):
        return None
    return f"application:{connection.connector_type}:{credentials.values['client_id']}"


def _load(schema: type[Schema], config: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return dict(schema().load(config))
    except ValidationError as error:
        raise SourceError(f"the connection's configuration is wrong: {json.dumps(error.messages)}") from error
