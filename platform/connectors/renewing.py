"""OAuth2: a new access token is got with the refresh token, by one of all who want it.

    1. Who was refused locks the rows of connection and credentials, in a transaction of its own.
    2. If they are newer by now than those that were refused, somebody else has renewed them: those are taken.
    3. If not, the provider is asked for a token, and what it answers (its refresh token may be new too, and the old one
       of no use from then on) is written, sealed, in the same transaction.
    4. A grant that is gone is noted on the connection, in that transaction too.

Where people have consented to the application that the platform has registered, that one's secret is what the settings
say by now, and the one that is sealed is of use where they say nothing. A provider that does not know the application
any more has taken nothing back from anybody: that is the operator's affair, and no connection is marked for it.

The lock is held for one request of at most ``LONGEST_RENEWAL`` seconds, and never while pages are asked for. A process
that dies lets go of it at once, which a lease would not.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import urllib.parse
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from jobplatform.connectors.asking import pause_of, says_too_often
from jobplatform.connectors.credentials import find_credentials, keep_renewed
from jobplatform.connectors.keeping import Credentials, Rate
from jobplatform.connectors.outside import Answer, OutsideClient
from jobplatform.connectors.pacing import close_resource, take_turn
from jobplatform.errors import NeedsAttentionError, SourceBusyError, SourceError, SourceUnreachableError
from jobplatform.models import Connection, clock
from jobplatform.queue import is_replay, pause_schedules_of, safe_text
from jobplatform.redaction import REDACTED, redact_text
from jobplatform.settings import OAuthClient, Settings

LONGEST_RENEWAL = 10.0
LARGEST_TOKEN = 65_536
#: Seconds. One that says it is good for longer is asked for anew when it is refused.
LONGEST_TOKEN = 10 * 365 * 86_400
LONGEST_REASON = 300
LONGEST_ATTENTION = 2_000
#: By this value of their credentials it is known that they were consented to for the platform's own application.
OF_PLATFORM = "of_platform"
#: What providers call a client that they do not know, or whose secret is another one.
UNKNOWN_CLIENT = frozenset({"invalid_client", "unauthorized_client", "BAD_CLIENT_ID", "BAD_CLIENT_SECRET"})

log = logging.getLogger(__name__)

#: Asks a provider with a form and headers, and gives its answer.
PostForm = Callable[[str, Mapping[str, str], Mapping[str, str]], Answer]


class DatabaseKeeper:
    """Keeps what is shared about a connection in the database, by short transactions of a Session's.

    ``paced_in`` is whose rate and breaks they are, if they are not the workspace's own.
    """

    def __init__(
        self,
        session: Session,
        connection: Connection,
        token_url: str | None,
        *,
        allow_private: bool,
        paced_in: uuid.UUID | None = None,
    ) -> None:
        self._paced_in = paced_in or connection.workspace_id
        self._session = session
        self._connection = connection
        self._token_url = token_url
        self._allow_private = allow_private

    def turn(self, resource: str, rate: Rate | None) -> float:
        with alone(self._session) as session:
            return take_turn(session, self._paced_in, resource, rate)

    def close(self, resource: str, seconds: float) -> None:
        with alone(self._session) as session:
            close_resource(session, self._paced_in, resource, seconds)

    def needs_attention(self, reason: str, seen: Credentials | None) -> None:
        with alone(self._session) as session:
            found = locked_credentials(session, self._connection)
            if seen is None or (found is not None and found.version == seen.version):
                note_attention(session, self._connection, reason)

    def renew(self, seen: Credentials) -> Credentials:
        if is_replay(self._session):
            # What the provider answers would be forgotten, and the token that is kept may be of no use from then on.
            raise SourceError("its access token has to be renewed, which a replay leaves to a real attempt")
        application = Settings.from_env().oauth_clients.get(self._connection.connector_type)
        with alone(self._session) as session:
            renewed = renew_credentials(
                session, self._connection, seen, self._token_url, self._post_form, application=application
            )
        # Raised here, and not where it was found out: what was noted there has to be committed.
        if isinstance(renewed, NeedsAttentionError):
            raise renewed
        return renewed

    def _post_form(self, url: str, form: Mapping[str, str], more: Mapping[str, str]) -> Answer:
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json", **more}
        with OutsideClient(allow_private=self._allow_private, largest=LARGEST_TOKEN, seconds=LONGEST_RENEWAL) as client:
            return client.request("POST", url, headers=headers, content=urllib.parse.urlencode(form).encode())


@contextmanager
def alone(session: Session) -> Iterator[Session]:
    """A transaction with nothing else in it. Raises RuntimeError when one is open: a source is not asked within it."""
    if session.in_transaction():
        raise RuntimeError("a source is asked while a transaction is open; commit it first, a source takes its time")
    with session.begin():
        yield session


def renew_credentials(
    session: Session,
    connection: Connection,
    seen: Credentials,
    token_url: str | None,
    post_form: PostForm,
    *,
    application: OAuthClient | None = None,
) -> Credentials | NeedsAttentionError:
    """Newer credentials than ``seen``, or why there cannot be any; the caller commits in either case.

    ``application`` is the platform's own with this provider, as the settings have it.
    """
    found = locked_credentials(session, connection)
    if found is None:
        return NeedsAttentionError("the connection's credentials have been taken away; give it new ones")
    if found.version != seen.version and not found.are_stale:
        return found
    url = found.values.get("token_url") or token_url
    if found.scheme != "oauth2" or url is None:
        return _gone(session, connection, "the source does not accept the connection's credentials; give it new ones")
    if not found.values.get("refresh_token"):
        return _gone(session, connection, _why_no_refresh(found))
    values = with_application(found.values, application)
    answer = post_form(str(url), *grant_request(values))
    if answer.status in (400, 401, 403):
        said = what_was_said(answer, values)
        if values.get(OF_PLATFORM) and blames_the_client(answer):
            raise _unknown_application(connection, said)
        return _gone(
            session,
            connection,
            f"the source has taken back the access that the connection had ({said}); connect it again or give it new "
            "credentials",
        )
    values, expires_in = read_token(answer, values)
    return keep_renewed(session, connection, Credentials("oauth2", values), expires_in=expires_in)


def locked_credentials(session: Session, connection: Connection) -> Credentials | None:
    """Those of a connection, held until the transaction ends.

    The connection first, as whoever changes it does: two that lock in different orders would wait for each other. Not
    its key, which is what the records that are written meanwhile refer to.
    """
    mine = select(Connection.id).where(
        Connection.workspace_id == connection.workspace_id, Connection.id == connection.id
    )
    session.execute(mine.with_for_update(key_share=True))
    return find_credentials(session, connection, lock=True)


def note_attention(session: Session, connection: Connection, reason: str) -> None:
    """Say on a connection why it is of no use until it has new credentials, and pause its schedules; the first reason
    stays.
    """
    # It may have words of the source's in it.
    reason = safe_text(reason, LONGEST_ATTENTION)
    noted: Any = session.execute(
        update(Connection)
        .where(
            Connection.workspace_id == connection.workspace_id,
            Connection.id == connection.id,
            Connection.attention.is_(None),
        )
        .values(attention=reason, attention_at=clock()),
        execution_options={"synchronize_session": False},
    )
    if noted.rowcount:
        pause_schedules_of(session, connection.workspace_id, connection.id, reason)


def grant_request(values: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """The form and the headers by which a token is asked for. Who the client is stands in one of them."""
    client, headers = named_client(
        values["client_id"], values["client_secret"], in_header=values.get("client_authentication") == "header"
    )
    return {"grant_type": "refresh_token", "refresh_token": values["refresh_token"], **client}, headers


def named_client(client_id: str, client_secret: str, *, in_header: bool) -> tuple[dict[str, str], dict[str, str]]:
    """What says who the client is: a part of the form, or a header."""
    if not in_header:
        return {"client_id": client_id, "client_secret": client_secret}, {}
    pair = ":".join(urllib.parse.quote(part, safe="") for part in (client_id, client_secret))
    return {}, {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def with_application(values: Mapping[str, Any], application: OAuthClient | None) -> Mapping[str, Any]:
    """These credentials with the secret that their application has by now. One that is another application by now does
    not know their grant: then they stay as they are."""
    if application is None or not values.get(OF_PLATFORM) or values["client_id"] != application.client_id:
        return values
    return {**values, "client_secret": application.client_secret}


def blames_the_client(answer: Answer) -> bool:
    """Whether a refusal is about who asks, and says nothing of the grant."""
    body = _object_in(answer)
    if {str(body.get("error")), str(body.get("status"))} & UNKNOWN_CLIENT:
        return True
    errors = body.get("errors")
    return isinstance(errors, list) and any(
        isinstance(one, dict) and one.get("resource") == "Application" for one in errors
    )


def read_token(answer: Answer, before: Mapping[str, Any]) -> tuple[dict[str, Any], float | None]:
    """The credentials with what a provider answered in them, and for how many seconds the token is good.

    Raises :class:`SourceError` for an answer that is none: it may be another one the next time.
    """
    if says_too_often(answer):
        raise SourceBusyError(f"{answer.url} is busy (HTTP {answer.status})", pause_of(answer))
    if answer.status >= 500:
        raise SourceUnreachableError(f"{answer.url} failed (HTTP {answer.status})")
    body = answer.json() if answer.status == 200 else None
    token = body.get("access_token") if isinstance(body, dict) else None
    if not isinstance(body, dict) or not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]{1,8192}", token):
        raise SourceError(f"{answer.url} answered no access token (HTTP {answer.status})")
    refresh_token = body.get("refresh_token")
    kept = refresh_token if isinstance(refresh_token, str) and refresh_token else before["refresh_token"]
    return {**before, "access_token": token, "refresh_token": kept}, _seconds(body.get("expires_in"))


def _seconds(value: Any) -> float | None:
    """For how long a token is good, if that is said and makes sense."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LONGEST_TOKEN:
        return float(value)
    return None


def what_was_said(answer: Answer, secrets: Mapping[str, Any]) -> str:
    """The words of a refusal, as far as they are of use: never more than a line, and nothing that we said."""
    body = _object_in(answer)
    words = [str(body[name]) for name in ("error", "status", "error_description", "message") if body.get(name)]
    said = ": ".join(words) or f"HTTP {answer.status}"
    for secret in map(str, secrets.values()):
        said = said.replace(secret, REDACTED) if len(secret) > 3 else said
    return " ".join(redact_text(said).split())[:LONGEST_REASON]


def _object_in(answer: Answer) -> dict[str, Any]:
    """The answer's JSON object; an empty one where it has none."""
    try:
        body = json.loads(answer.content)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _why_no_refresh(found: Credentials) -> str:
    if found.values.get("access_token"):
        return "the source does not accept the connection's token any more, and gave none to renew it; connect it again"
    return "nobody has consented to the connection yet; have somebody do so, or give it a refresh token"


def _unknown_application(connection: Connection, said: str) -> SourceError:
    kind = connection.connector_type
    log.error("a provider refuses the platform's application", extra={"connector_type": kind, "said": said})
    return SourceError(
        f"{kind} does not accept this platform's application ({said}): whoever runs the platform looks after its entry "
        "in JOBPLATFORM_OAUTH_CLIENTS. The connection's access has not been taken back"
    )


def _gone(session: Session, connection: Connection, reason: str) -> NeedsAttentionError:
    note_attention(session, connection, reason)
    return NeedsAttentionError(reason)
