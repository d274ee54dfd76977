"""OAuth2 with somebody's consent: a connection gets its credentials without anybody having to copy a token.

    1. :func:`begin_authorization`: a state is made, which is good once and for ten minutes, and is bound to the
       workspace, the connection and whoever asked. What is kept of it is a digest, and the secret of PKCE, sealed.
    2. Whoever asked is sent to the provider with it, consents, and comes back with a code and the state.
    3. :func:`take_authorization`: the state is deleted, and committed: whatever happens next, it was used.
    4. :func:`exchange_code`: the provider changes the code into tokens. No transaction is open meanwhile.
    5. :func:`keep_authorized`: the tokens are sealed as the connection's credentials, if it is still the one that was
       consented to.

Where the provider sends people back to is a setting and never said by who asks, so that a code goes nowhere else.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import re
import secrets
import urllib.parse
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import httpx
from sqlalchemy import delete
from sqlalchemy.orm import Session

from jobplatform.connectors.connections import asked_by, get_connection
from jobplatform.connectors.credentials import give_credentials, require_key_ring
from jobplatform.connectors.outside import Answer, OutsideClient
from jobplatform.connectors.registry import CONNECTORS, Config, ConnectorType, OAuth, unknown_type
from jobplatform.connectors.renewing import LARGEST_TOKEN, LONGEST_RENEWAL, what_was_said
from jobplatform.errors import AuthorizationError, SourceError
from jobplatform.models import Connection, ConnectionAuthorization, clock, visit
from jobplatform.queue import open_secret, seal_value
from jobplatform.redaction import redact_text
from jobplatform.settings import OAuthClient

LIFETIME: Final = datetime.timedelta(minutes=10)
SECRET_BYTES: Final = 24
LONGEST_CODE: Final = 4_096
LONGEST_REASON: Final = 300

_STATE = re.compile(r"jpo_[A-Za-z0-9_-]{54}\Z")
_FIELD = "verifier"

#: What providers say in one word, in words.
REFUSALS: Final[Mapping[str, str]] = {
    "access_denied": "access was not granted",
    "invalid_scope": "it does not know a scope that was asked for",
    "unauthorized_client": "it does not let this application ask",
    "unsupported_response_type": "it does not let this application ask",
    "invalid_request": "it cannot do anything with the request",
    "server_error": "it failed",
    "temporarily_unavailable": "it is too busy just now",
}


class Begun(NamedTuple):
    """Where to send whoever asked. ``binding`` is for their browser alone; without it the code is of no use there."""

    authorize_url: str
    state: str
    binding: str
    expires_at: datetime.datetime


class Returned(NamedTuple):
    """What the provider sent back with somebody: a ``code``, or an ``error``; and what was granted, if it says so."""

    state: str
    code: str | None = None
    error: str | None = None
    error_description: str | None = None
    scope: str | None = None


@dataclass(frozen=True)
class Taken:
    """An authorisation that was begun, and is used up now."""

    workspace_id: uuid.UUID
    connection_id: uuid.UUID
    actor: str
    redirect_url: str
    origin: str | None
    scopes: Sequence[str]
    verifier: str
    connector_type: str
    token_url: str


class Tokens(NamedTuple):
    """Credentials as a connection takes them."""

    credentials: Mapping[str, Any]
    taken: Taken


def begin_authorization(
    session: Session,
    connection: Connection,
    *,
    actor: str,
    clients: Mapping[str, OAuthClient],
    redirect_url: str,
) -> Begun:
    """Begin to ask for consent on behalf of ``actor``, in the caller's transaction.

    Raises :class:`AuthorizationError` for a connector type without OAuth2, or without a client of ours, and
    :class:`KeyMissingError` where tokens could not be sealed.
    """
    kind, oauth = _asking(connection.connector_type)
    client = _client(clients, connection.connector_type)
    require_key_ring()
    config = dict(kind.config().load(connection.config))
    state, verifier, binding = _new_state(connection.workspace_id), secrets.token_urlsafe(48), secrets.token_urlsafe(24)
    visit(session, connection.workspace_id)
    _forget_old(session, connection, actor)
    row = ConnectionAuthorization(
        workspace_id=connection.workspace_id,
        state_hash=_digest(state),
        connection_id=connection.id,
        actor=actor,
        binding_hash=_digest(binding),
        sealed=seal_value(session, connection.workspace_id, _place(state), _FIELD, verifier),
        redirect_url=redirect_url,
        origin=asked_by(kind, connection.config),
        scopes=list(oauth.scopes(config)),
        expires_at=clock() + LIFETIME,
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    url = _authorize_url(oauth, config, client, row, state, verifier)
    return Begun(url, state, binding, row.expires_at)


def workspace_of_state(state: str) -> uuid.UUID | None:
    """Whose a state is, by its form; None for what is none."""
    if not _STATE.match(state):
        return None
    return uuid.UUID(bytes=base64.urlsafe_b64decode(state.removeprefix("jpo_") + "==")[:16])


def take_authorization(
    session: Session, state: str, *, actor: str | None = None, binding: str | None = None
) -> Taken | AuthorizationError:
    """Use a state up, for whoever began with it: the same ``actor``, or the browser that has the ``binding``.

    Or why it is not good. The caller commits in either case, before anything else: a state is good once.
    """
    found = _taken(session, state)
    if found is None:
        return AuthorizationError("this was begun too long ago, or has been used already; begin again", "expired")
    if not _is_theirs(found, actor, binding):
        return AuthorizationError("this was begun by somebody else, or in another browser; begin again", "not-yours")
    connection = get_connection(session, found.workspace_id, found.connection_id)
    if connection is None:
        return AuthorizationError("the connection is gone", "gone")
    kind, _ = _asking(connection.connector_type)
    config = dict(kind.config().load(connection.config))
    return Taken(
        workspace_id=found.workspace_id,
        connection_id=found.connection_id,
        actor=found.actor,
        redirect_url=found.redirect_url,
        origin=found.origin,
        scopes=tuple(found.scopes),
        verifier=open_secret(session, found.workspace_id, _place(state), _FIELD, found.sealed),
        connector_type=connection.connector_type,
        token_url=str(kind.token_url(config)),
    )


def exchange_code(
    taken: Taken, returned: Returned, *, clients: Mapping[str, OAuthClient], allow_private: bool = False
) -> Tokens:
    """Have the provider change the code into tokens. No transaction may be open: it takes its time.

    Raises :class:`AuthorizationError` with what the provider says, in words, and for what was granted too little.
    """
    if returned.error:
        raise _refused(returned)
    if not returned.code or len(returned.code) > LONGEST_CODE:
        raise AuthorizationError("the provider sent back no code", "no-code")
    client = _client(clients, taken.connector_type)
    form = {
        "grant_type": "authorization_code",
        "code": returned.code,
        "redirect_uri": taken.redirect_url,
        "client_id": client.client_id,
        "client_secret": client.client_secret,
        "code_verifier": taken.verifier,
    }
    said = _read(_ask(taken.token_url, form, allow_private=allow_private), form)
    _require_scopes(taken, said.get("scope") or returned.scope)
    credentials = {
        "scheme": "oauth2",
        "clientId": client.client_id,
        "clientSecret": client.client_secret,
        "refreshToken": said["refresh_token"],
        "accessToken": said["access_token"],
    }
    return Tokens(credentials, taken)


def keep_authorized(session: Session, tokens: Tokens) -> Connection:
    """Seal the tokens as the connection's credentials, in the caller's transaction. What needed attention does not any
    more, and its schedules go on.

    Raises :class:`AuthorizationError` where the connection is gone, or asks elsewhere by now.
    """
    taken = tokens.taken
    connection = get_connection(session, taken.workspace_id, taken.connection_id, lock=True)
    if connection is None or connection.connector_type != taken.connector_type:
        raise AuthorizationError("the connection is gone", "gone")
    kind, _ = _asking(connection.connector_type)
    if asked_by(kind, connection.config) != taken.origin:
        raise AuthorizationError("the connection was changed to ask another address meanwhile; begin again", "changed")
    give_credentials(session, connection, kind, tokens.credentials)
    connection.updated_at = clock()
    session.flush()
    session.refresh(connection)
    return connection


# --------------------------------------------------------------------------------------------------------


def _asking(connector_type: str) -> tuple[ConnectorType, OAuth]:
    kind = CONNECTORS.get(connector_type)
    if kind is None:
        raise AuthorizationError(unknown_type(connector_type), "no-oauth")
    if kind.oauth is None:
        raise AuthorizationError(
            f"connections of the type {connector_type} get their credentials from whoever makes them", "no-oauth"
        )
    return kind, kind.oauth


def _client(clients: Mapping[str, OAuthClient], connector_type: str) -> OAuthClient:
    client = clients.get(connector_type)
    if client is None:
        raise AuthorizationError(
            f"no application is registered here with {connector_type}: whoever runs the platform names it in "
            "JOBPLATFORM_OAUTH_CLIENTS",
            "no-client",
        )
    return client


class _Begun(NamedTuple):
    """What was kept of one."""

    workspace_id: uuid.UUID
    connection_id: uuid.UUID
    actor: str
    binding_hash: bytes
    sealed: str
    redirect_url: str
    origin: str | None
    scopes: Sequence[str]


def _taken(session: Session, state: str) -> _Begun | None:
    workspace_id = workspace_of_state(state)
    if workspace_id is None:
        return None
    visit(session, workspace_id)
    table = ConnectionAuthorization
    used_up = delete(table).where(table.workspace_id == workspace_id, table.state_hash == _digest(state))
    columns = [getattr(table, name) for name in _Begun._fields]
    row = session.execute(
        used_up.returning((table.expires_at > clock()).label("is_good"), *columns),
        execution_options={"synchronize_session": False},
    ).one_or_none()
    return None if row is None or not row[0] else _Begun(*row[1:])


def _new_state(workspace_id: uuid.UUID) -> str:
    said = workspace_id.bytes + secrets.token_bytes(SECRET_BYTES)
    return "jpo_" + base64.urlsafe_b64encode(said).decode().rstrip("=")


def _digest(text: str) -> bytes:
    """It has 192 random bits, so there is nothing to guess that would make a slow hash worth its time."""
    return hashlib.sha256(text.encode()).digest()


def _place(state: str) -> str:
    return f"authorization:{_digest(state).hex()}"


def _forget_old(session: Session, connection: Connection, actor: str) -> None:
    """What ran out in this workspace; and what the same person began about the same connection, and left."""
    table = ConnectionAuthorization
    mine = table.workspace_id == connection.workspace_id
    again = (table.connection_id == connection.id) & (table.actor == actor)
    session.execute(
        delete(table).where(mine, (table.expires_at <= clock()) | again),
        execution_options={"synchronize_session": False},
    )


def _authorize_url(
    oauth: OAuth, config: Config, client: OAuthClient, row: ConnectionAuthorization, state: str, verifier: str
) -> str:
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    asked = {
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": row.redirect_url,
        "scope": oauth.separator.join(row.scopes),
        "state": state,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        **oauth.also,
    }
    return str(httpx.URL(oauth.authorize_url(config), params=asked))


def _is_theirs(begun: _Begun, actor: str | None, binding: str | None) -> bool:
    if actor is not None:
        return hmac.compare_digest(begun.actor.encode(), actor.encode())
    return hmac.compare_digest(begun.binding_hash, _digest(binding or ""))


def _ask(url: str, form: Mapping[str, str], *, allow_private: bool) -> Answer:
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    try:
        with OutsideClient(allow_private=allow_private, largest=LARGEST_TOKEN, seconds=LONGEST_RENEWAL) as client:
            return client.request("POST", url, headers=headers, content=urllib.parse.urlencode(form).encode())
    except SourceError as error:
        raise AuthorizationError(f"the provider did not answer ({error}); begin again", "no-answer") from error


def _read(answer: Answer, form: Mapping[str, str]) -> dict[str, Any]:
    """What is of use of an answer with tokens."""
    if answer.status >= 500 or answer.status == 429:
        raise AuthorizationError(f"the provider failed (HTTP {answer.status}); begin again", "no-answer")
    if answer.status != 200:
        words = what_was_said(answer, {name: form[name] for name in ("code", "client_secret", "code_verifier")})
        raise AuthorizationError(f"the provider does not accept what it sent itself: {words}; begin again", "refused")
    try:
        body = answer.json()
    except SourceError:
        body = None
    found = {} if not isinstance(body, dict) else body
    for name in ("access_token", "refresh_token"):
        value = found.get(name)
        if not isinstance(value, str) or not re.fullmatch(r"[\x21-\x7e]{1,8192}", value):
            raise AuthorizationError(f"the provider answered no {name.replace('_', ' ')}", "no-token")
    scope = found.get("scope")
    return {**found, "scope": scope if isinstance(scope, str) else None}


def _require_scopes(taken: Taken, granted: str | None) -> None:
    """A provider that says nothing about scopes has granted what was asked for."""
    if granted is None:
        return
    missing = set(taken.scopes) - set(re.split(r"[\s,]+", granted))
    if missing:
        raise AuthorizationError(
            f"access was granted, but not to all that is needed; missing: {', '.join(sorted(missing))}. Begin again, "
            "and grant all of it",
            "missing-scope",
        )


def _refused(returned: Returned) -> AuthorizationError:
    code = _line(returned.error or "")
    words = REFUSALS.get(code, f"it says {code!r}")
    more = _line(returned.error_description or "")
    return AuthorizationError(f"the provider refused: {words}" + (f" ({more})" if more else ""), "refused")


def _line(text: str) -> str:
    return " ".join(redact_text(text).split())[:LONGEST_REASON]
