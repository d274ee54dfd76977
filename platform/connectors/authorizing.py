"""OAuth2 with somebody's consent: a connection gets its credentials without anybody having to copy a token.

    1. :func:`begin_authorization`: a state is made, which is good once and for ten minutes, and is bound to the
       workspace, the connection and whoever asked. What is kept of it is a digest, and the secret of PKCE, sealed.
    2. Whoever asked is sent to the provider with it, consents, and comes back with a code and the state.
    3. :func:`take_authorization`: the state is deleted, and committed: whatever happens next, it was used.
    4. :func:`exchange_code`: the provider changes the code into tokens. No transaction is open meanwhile.
    5. :func:`keep_authorized`: the tokens are sealed as the connection's credentials, if it is still the one that was
       consented to.

Who asks for consent is the application that the platform has registered with the provider (``hubspot``, ``strava``),
or a client of the connection's own: credentials of the scheme ``oauth2`` with an ``authorizeUrl``.

Where the provider sends people back to is a setting and never said by who asks, so that a code goes nowhere else. A
client of a connection's own has an address of its own there: whose provider a workspace has chosen must not be able to
have the code of another provider sent to where its own codes go, and be given that one with it.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import json
import re
import secrets
import urllib.parse
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import httpx
from sqlalchemy import delete
from sqlalchemy.orm import Session

from jobplatform.connectors.allowing import allows_private
from jobplatform.connectors.connections import asked_by, get_connection
from jobplatform.connectors.credentials import find_credentials, keep_credentials, require_key_ring
from jobplatform.connectors.keeping import Credentials
from jobplatform.connectors.outside import Answer, OutsideClient
from jobplatform.connectors.registry import CONNECTORS, ConnectorType, unknown_type
from jobplatform.connectors.renewing import (
    LARGEST_TOKEN,
    LONGEST_RENEWAL,
    OF_PLATFORM,
    blames_the_client,
    named_client,
    what_was_said,
)
from jobplatform.errors import AuthorizationError, SourceError
from jobplatform.models import Connection, ConnectionAuthorization, clock, visit
from jobplatform.queue import open_secret, seal_value
from jobplatform.redaction import redact_text
from jobplatform.settings import OAuthClient

LIFETIME: Final = datetime.timedelta(minutes=10)
SECRET_BYTES: Final = 24
LONGEST_CODE: Final = 4_096
LONGEST_REASON: Final = 300
TOKENS: Final = ("access_token", "refresh_token")
CLIENT_CHANGED: Final = "the connection has been given another client meanwhile; begin again"

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
    connector_type: str
    verifier: str = field(repr=False)
    token_url: str
    own: Credentials | None = None
    """Those with the client, where it is the connection's own."""


@dataclass(frozen=True)
class Tokens:
    """What a code was changed into: values of credentials, and for whom they are.

    ``also`` is what the provider said besides: whose account it is, as Strava's ``athlete``, or where its API lives.
    """

    values: Mapping[str, Any] = field(repr=False)
    taken: Taken
    also: Mapping[str, Any] = field(default_factory=dict, repr=False)


def begin_authorization(
    session: Session,
    connection: Connection,
    *,
    actor: str,
    clients: Mapping[str, OAuthClient],
    redirect_url: str,
) -> Begun:
    """Begin to ask for consent on behalf of ``actor``, in the caller's transaction.

    ``redirect_url`` is where people come back to; for a client of the connection's own it is what is below it with the
    connection's id (``…/callback/<id>``). Raises :class:`AuthorizationError` where there is nobody who could ask: no
    OAuth2, or no client; and :class:`KeyMissingError` where tokens could not be sealed.
    """
    require_key_ring()
    asker = _asker(session, connection, clients)
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
        redirect_url=redirect_url if asker.client_hash is None else f"{redirect_url}/{connection.id}",
        origin=asked_by(CONNECTORS[connection.connector_type], connection.config),
        scopes=list(asker.scopes),
        expires_at=clock() + LIFETIME,
        client_hash=asker.client_hash,
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    return Begun(_authorize_url(asker, row, state, verifier), state, binding, row.expires_at)


def workspace_of_state(state: str) -> uuid.UUID | None:
    """Whose a state is, by its form; None for what is none."""
    if not _STATE.match(state):
        return None
    return uuid.UUID(bytes=base64.urlsafe_b64decode(state.removeprefix("jpo_") + "==")[:16])


def take_authorization(
    session: Session,
    state: str,
    *,
    actor: str | None = None,
    binding: str | None = None,
    connection_id: uuid.UUID | None = None,
) -> Taken | AuthorizationError:
    """Use a state up, for whoever began with it: the same ``actor``, or the browser that has the ``binding``.

    ``connection_id`` is from the address that they came back to, where it is one of a connection's own client. Or why
    it is not good. The caller commits in either case, before anything else: a state is good once.
    """
    try:
        begun = _use_up(session, state)
        _require_theirs(begun, actor, binding, connection_id)
        return _taken(session, begun, state)
    except AuthorizationError as error:
        return error


def exchange_code(
    taken: Taken, returned: Returned, *, clients: Mapping[str, OAuthClient], allow_private: bool | None = None
) -> Tokens:
    """Have the provider change the code into tokens. No transaction may be open: it takes its time.

    Raises :class:`AuthorizationError` with what the provider says, in words, and for what was granted too little.
    """
    if returned.error:
        raise _refused(returned)
    if not returned.code or len(returned.code) > LONGEST_CODE:
        raise AuthorizationError("the provider sent back no code", "no-code")
    client = _client_of(taken, clients)
    form = {
        "grant_type": "authorization_code",
        "code": returned.code,
        "redirect_uri": taken.redirect_url,
        "code_verifier": taken.verifier,
    }
    in_header = taken.own is not None and taken.own.values.get("client_authentication") == "header"
    named, headers = named_client(client.client_id, client.client_secret, in_header=in_header)
    answer = _ask(taken.token_url, form | named, headers, allow_private=allows_private(allow_private))
    said = _read(answer, {**form, "client_secret": client.client_secret}, taken)
    tokens = {name: said[name] for name in TOKENS if _is_token(said.get(name))}
    if taken.own is None:
        # Others leave out what is usual (offline_access), or call it otherwise than they want it called.
        _require_scopes(taken, said.get("scope") or returned.scope)
    also = {name: value for name, value in said.items() if name not in (*TOKENS, "id_token")}
    if taken.own is not None:
        return Tokens(tokens, taken, also)
    ours = {"client_id": client.client_id, "client_secret": client.client_secret, OF_PLATFORM: True}
    return Tokens({**ours, **tokens}, taken, also)


def keep_authorized(session: Session, tokens: Tokens) -> Connection:
    """Seal the tokens as the connection's credentials, in the caller's transaction. What needed attention does not any
    more, and its schedules go on.

    Raises :class:`AuthorizationError` where the connection is gone, or asks elsewhere by now.
    """
    taken = tokens.taken
    connection = get_connection(session, taken.workspace_id, taken.connection_id, lock=True)
    if connection is None or connection.connector_type != taken.connector_type:
        raise AuthorizationError("the connection is gone", "gone")
    if asked_by(CONNECTORS[connection.connector_type], connection.config) != taken.origin:
        raise AuthorizationError("the connection was changed to ask another address meanwhile; begin again", "changed")
    if taken.own is not None:
        there = _own(session, connection, lock=True)
        if there is None or _client_hash(there) != _client_hash(taken.own):
            raise AuthorizationError(CLIENT_CHANGED, "changed")
        keep_credentials(session, connection, "oauth2", {**there.values, **tokens.values})
    else:
        keep_credentials(session, connection, "oauth2", tokens.values)
    connection.updated_at = clock()
    session.flush()
    session.refresh(connection)
    return connection


# --------------------------------------------------------------------------------------------------------


class _Asker(NamedTuple):
    """Who asks for consent, and where. ``client_hash`` is of the client, if it is the connection's own."""

    authorize_url: str
    client_id: str
    scopes: Sequence[str]
    separator: str = " "
    also: Mapping[str, str] = {}
    client_hash: bytes | None = None


def _asker(session: Session, connection: Connection, clients: Mapping[str, OAuthClient]) -> _Asker:
    kind = CONNECTORS.get(connection.connector_type)
    if kind is None:
        raise AuthorizationError(unknown_type(connection.connector_type), "no-oauth")
    if kind.oauth is None:
        return _own_asker(session, connection, kind)
    client = _client(clients, connection.connector_type)
    config = dict(kind.config().load(connection.config))
    oauth = kind.oauth
    return _Asker(oauth.authorize_url(config), client.client_id, oauth.scopes(config), oauth.separator, oauth.also)


def _own_asker(session: Session, connection: Connection, kind: ConnectorType) -> _Asker:
    if "oauth2" not in kind.credentials:
        raise AuthorizationError(
            f"connections of the type {connection.connector_type} get their credentials from whoever makes them",
            "no-oauth",
        )
    found = _own(session, connection)
    if found is None:
        raise AuthorizationError(
            "nobody can be asked for consent to this connection yet: give it credentials of the scheme oauth2 with "
            "clientId, clientSecret, tokenUrl and authorizeUrl",
            "no-oauth",
        )
    values = found.values
    return _Asker(
        values["authorize_url"],
        values["client_id"],
        values.get("scopes", []),
        also=values.get("authorize_parameters", {}),
        client_hash=_client_hash(found),
    )


def _own(session: Session, connection: Connection, *, lock: bool = False) -> Credentials | None:
    """The connection's credentials, where there is a client of its own in them and somewhere to consent to it."""
    try:
        found = find_credentials(session, connection, lock=lock)
    except SourceError as error:
        raise AuthorizationError(str(error), "no-client") from error
    return found if found is not None and found.scheme == "oauth2" and "authorize_url" in found.values else None


def _client_hash(own: Credentials) -> bytes:
    """Of who asks, and of whom: a code is changed into tokens where it was asked for and nowhere else. The secret is
    not in it, nor the tokens, which may be renewed meanwhile."""
    return _digest(json.dumps([own.values[name] for name in ("client_id", "authorize_url", "token_url")]))


def _token_url(connection: Connection) -> str:
    kind = CONNECTORS[connection.connector_type]
    return str(kind.token_url(dict(kind.config().load(connection.config))))


def _client_of(taken: Taken, clients: Mapping[str, OAuthClient]) -> OAuthClient:
    if taken.own is None:
        return _client(clients, taken.connector_type)
    return OAuthClient(taken.own.values["client_id"], taken.own.values["client_secret"])


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
    client_hash: bytes | None


def _use_up(session: Session, state: str) -> _Begun:
    expired = AuthorizationError("this was begun too long ago, or has been used already; begin again", "expired")
    workspace_id = workspace_of_state(state)
    if workspace_id is None:
        raise expired
    visit(session, workspace_id)
    table = ConnectionAuthorization
    used_up = delete(table).where(table.workspace_id == workspace_id, table.state_hash == _digest(state))
    columns = [getattr(table, name) for name in _Begun._fields]
    row = session.execute(
        used_up.returning((table.expires_at > clock()).label("is_good"), *columns),
        execution_options={"synchronize_session": False},
    ).one_or_none()
    if row is None or not row[0]:
        raise expired
    return _Begun(*row[1:])


def _require_theirs(begun: _Begun, actor: str | None, binding: str | None, connection_id: uuid.UUID | None) -> None:
    if not _is_theirs(begun, actor, binding):
        raise AuthorizationError("this was begun by somebody else, or in another browser; begin again", "not-yours")
    if connection_id != (None if begun.client_hash is None else begun.connection_id):
        raise AuthorizationError("this came back to the address of another provider; begin again", "not-yours")


def _is_theirs(begun: _Begun, actor: str | None, binding: str | None) -> bool:
    if actor is not None:
        return hmac.compare_digest(begun.actor.encode(), actor.encode())
    return hmac.compare_digest(begun.binding_hash, _digest(binding or ""))


def _taken(session: Session, begun: _Begun, state: str) -> Taken:
    connection = get_connection(session, begun.workspace_id, begun.connection_id)
    if connection is None:
        raise AuthorizationError("the connection is gone", "gone")
    own = None if begun.client_hash is None else _own(session, connection)
    if begun.client_hash is not None and (own is None or _client_hash(own) != begun.client_hash):
        raise AuthorizationError(CLIENT_CHANGED, "changed")
    return Taken(
        workspace_id=begun.workspace_id,
        connection_id=begun.connection_id,
        actor=begun.actor,
        redirect_url=begun.redirect_url,
        origin=begun.origin,
        scopes=tuple(begun.scopes),
        verifier=open_secret(session, begun.workspace_id, _place(state), _FIELD, begun.sealed),
        connector_type=connection.connector_type,
        token_url=_token_url(connection) if own is None else str(own.values["token_url"]),
        own=own,
    )


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


def _authorize_url(asker: _Asker, row: ConnectionAuthorization, state: str, verifier: str) -> str:
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    asked = {
        **asker.also,
        "response_type": "code",
        "client_id": asker.client_id,
        "redirect_uri": row.redirect_url,
        "state": state,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    if row.scopes:
        asked["scope"] = asker.separator.join(row.scopes)
    # Beside what the address may say itself.
    return str(httpx.URL(asker.authorize_url).copy_merge_params(asked))


def _ask(url: str, form: Mapping[str, str], more: Mapping[str, str], *, allow_private: bool) -> Answer:
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json", **more}
    try:
        with OutsideClient(allow_private=allow_private, largest=LARGEST_TOKEN, seconds=LONGEST_RENEWAL) as client:
            return client.request("POST", url, headers=headers, content=urllib.parse.urlencode(form).encode())
    except SourceError as error:
        raise AuthorizationError(f"the provider did not answer ({error}); begin again", "no-answer") from error


def _read(answer: Answer, sent: Mapping[str, str], taken: Taken) -> dict[str, Any]:
    """What an answer with tokens says."""
    if answer.status >= 500 or answer.status == 429:
        raise AuthorizationError(f"the provider failed (HTTP {answer.status}); begin again", "no-answer")
    if answer.status != 200:
        raise _not_accepted(answer, sent, taken)
    try:
        body = answer.json()
    except SourceError:
        body = None
    found = body if isinstance(body, dict) else {}
    # Not every provider gives a refresh token: then the access token is used as long as it is accepted.
    for name in TOKENS[: 1 if taken.own is not None else 2]:
        if not _is_token(found.get(name)):
            raise AuthorizationError(f"the provider answered no {name.replace('_', ' ')}", "no-token")
    scope = found.get("scope")
    return {**found, "scope": scope if isinstance(scope, str) else None}


def _not_accepted(answer: Answer, sent: Mapping[str, str], taken: Taken) -> AuthorizationError:
    words = what_was_said(answer, {name: sent[name] for name in ("code", "client_secret", "code_verifier")})
    if not blames_the_client(answer):
        return AuthorizationError(f"the provider does not accept what it sent itself: {words}; begin again", "refused")
    whose = "that is registered here (JOBPLATFORM_OAUTH_CLIENTS)" if taken.own is None else "of the connection"
    return AuthorizationError(f"the provider does not accept the client {whose}: {words}", "client-refused")


def _is_token(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[\x21-\x7e]{1,8192}", value) is not None


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
