"""Connections that somebody consents to: begun with a token, ended by the browser that comes back from the provider.

What ends it is asked for by nobody's token. It is opened by the state, which is good once, and by a cookie that only
the browser has which began: a link that somebody else has begun with connects nothing to their workspace.
"""

from __future__ import annotations

import hashlib
import logging
from typing import Any
from uuid import UUID

from flask import Response, request
from markupsafe import escape
from marshmallow import fields

from jobplatform.api.access.guard import current_principal
from jobplatform.api.access.principals import Principal, Scope
from jobplatform.api.answers import respond
from jobplatform.api.auditing import audit
from jobplatform.api.mounted import Reach, mounted, serving_url
from jobplatform.api.problems import PROBLEM_JSON, ProblemError, require_found, unavailable
from jobplatform.api.requests import current_request_id
from jobplatform.api.resource import Resource
from jobplatform.api.schemas.fields import CamelSchema, Moment
from jobplatform.api.schemas.jobs import ProblemSchema
from jobplatform.connectors import (
    Begun,
    Returned,
    Taken,
    begin_authorization,
    exchange_code,
    get_connection,
    keep_authorized,
    take_authorization,
    workspace_of_state,
)
from jobplatform.errors import AuthorizationError, KeyMissingError
from jobplatform.models import Role
from jobplatform.queue import record
from jobplatform.settings import Settings

log = logging.getLogger("jobplatform.api")

authorizing = Resource("authorizing", __name__, description="Connections that somebody consents to")

AUTHORIZE = "/workspaces/<uuid:workspaceId>/connections/<uuid:connectionId>/authorize"
CALLBACK = "/oauth/callback"
#: Where people come back to from the provider of a connection's own client.
OWN_CALLBACK = CALLBACK + "/<uuid:connectionId>"
#: As long as a state is good.
COOKIE_SECONDS = 600

#: The page has nothing that is loaded or run.
POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title></head><body><main><h1>{title}</h1><p>{words}</p></main></body></html>
"""
RETURNED = [
    {"name": name, "in": "query", "schema": {"type": "string"}}
    for name in ("state", "code", "scope", "error", "error_description")
]


class BegunSchema(CamelSchema):
    """Where to send whoever is to consent, with the browser that asked."""

    authorize_url = fields.String(required=True)
    expires_at = Moment(required=True)


class NotAuthorizedSchema(ProblemSchema):
    """The problem of a connection that nobody can be asked to consent to; or of an Idempotency-Key used for another."""

    reason = fields.String()


_BEGUN = BegunSchema()
AN_ANSWER = {
    "authorizeUrl": "https://app.hubspot.com/oauth/authorize?response_type=code&client_id=…&state=jpo_…",
    "expiresAt": "2026-01-05T09:10:00.000000Z",
}


@authorizing.endpoint("POST", AUTHORIZE, Scope.CONNECTIONS, refuses=(404,), shows_secret=True)
@authorizing.may_answer(422, schema=NotAuthorizedSchema, content_type=PROBLEM_JSON, description="Nobody can be asked")
@authorizing.answers(201, BegunSchema, example=AN_ANSWER)
def authorize_connection(workspace_id: UUID, connection_id: UUID) -> Response:
    """Begin to have somebody consent to a connection at its provider

    Send the browser that asked this to `authorizeUrl`; it comes back within ten minutes, to `/oauth/callback`, and the
    connection has its credentials. Where the client is the connection's own it is `/oauth/callback/{connectionId}`.
    """
    settings = Settings.from_env()
    if settings.oauth_callback is None:
        words = "It is not known here how this API is reached from outside (JOBPLATFORM_PUBLIC_URL)."
        raise _problem(AuthorizationError(words, "no-callback"))
    with mounted().transaction() as session:
        found = require_found(get_connection(session, workspace_id, connection_id))
        try:
            begun = begin_authorization(
                session,
                found,
                actor=_actor(current_principal()),
                clients=settings.oauth_clients,
                redirect_url=settings.oauth_callback,
            )
        except AuthorizationError as error:
            raise _problem(error) from None
        except KeyMissingError as error:
            raise unavailable(f"Tokens cannot be kept here. {error}", reason="no-key-ring") from None
        audit(session, "connection.begin_authorization", f"connection:{found.id}", workspace_id, name=found.name)
    answer = respond(_BEGUN, {"authorize_url": begun.authorize_url, "expires_at": begun.expires_at}, 201)
    _bind(answer, begun, settings.oauth_callback)
    return answer


@authorizing.endpoint("GET", CALLBACK, None, refuses=(422,))
@authorizing.about(parameters=RETURNED)
@authorizing.may_answer(403, content_type="text/html", description="A page that says why nothing came of it")
@authorizing.answers(200, content_type="text/html", description="A page that says that it is connected")
def end_authorization() -> Response:
    """Where a provider sends people back to"""
    return _show_end(None)


@authorizing.endpoint("GET", OWN_CALLBACK, None, refuses=(404, 422))
@authorizing.about(parameters=RETURNED)
@authorizing.may_answer(403, content_type="text/html", description="A page that says why nothing came of it")
@authorizing.answers(200, content_type="text/html", description="A page that says that it is connected")
def end_own_authorization(connection_id: UUID) -> Response:
    """Where the provider of a connection's own client sends people back to"""
    return _show_end(connection_id)


def _show_end(connection_id: UUID | None) -> Response:
    said = {name: request.args.get(name) for name in ("code", "scope", "error", "error_description")}
    returned = Returned(request.args.get("state", ""), **said)
    try:
        name = _end(returned, connection_id)
    except (AuthorizationError, KeyMissingError) as error:
        log.warning("connection.not_authorized", extra={"reason": str(error), "request_id": current_request_id()})
        words = str(error)
        return _page(403, "Not connected", words[:1].upper() + words[1:] + ".", returned)
    return _page(200, "Connected", f"{name} is connected. You can close this window.", returned)


def _end(returned: Returned, connection_id: UUID | None) -> str:
    """Use the state up; ask the provider; keep what it says. Each in its own time. The connection's name."""
    settings = Settings.from_env()
    reach = Reach(Role.API, workspace_of_state(returned.state))
    with mounted().transaction(reach) as session:
        binding = request.cookies.get(_cookie(returned.state), "")
        taken = take_authorization(session, returned.state, binding=binding, connection_id=connection_id)
    if isinstance(taken, AuthorizationError):
        raise taken
    tokens = exchange_code(taken, returned, clients=settings.oauth_clients)
    with mounted().transaction(reach) as session:
        connection = keep_authorized(session, tokens)
        record(
            session,
            actor=taken.actor,
            action="connection.authorize",
            target=f"connection:{connection.id}",
            workspace_id=taken.workspace_id,
            request_id=current_request_id(),
            details=_told(taken, connection.name),
        )
        return connection.name


def _told(taken: Taken, name: str) -> dict[str, Any]:
    return {"name": name, "scopes": list(taken.scopes)}


def _actor(principal: Principal) -> str:
    return f"{principal.name} ({principal.token_id})" if principal.token_id else principal.name


def _problem(error: AuthorizationError) -> ProblemError:
    words = str(error)
    return ProblemError(
        422,
        words[:1].upper() + words[1:],
        kind="authorization-refused",
        title="Not authorised",
        extra={"reason": error.reason},
    )


def _bind(answer: Response, begun: Begun, callback: str) -> None:
    answer.set_cookie(
        _cookie(begun.state),
        begun.binding,
        max_age=COOKIE_SECONDS,
        path=serving_url("authorizing.end_authorization"),
        secure=callback.startswith("https:"),
        httponly=True,
        # It comes along when the provider sends the browser back, and with nothing that another site asks for.
        samesite="Lax",
    )


def _cookie(state: str) -> str:
    """One for each, so that two can be under way."""
    return f"jobplatform_oauth_{hashlib.sha256(state.encode()).hexdigest()[:16]}"


def _page(status: int, title: str, words: str, returned: Returned) -> Response:
    answer = Response(PAGE.format(title=escape(title), words=escape(words)), status, content_type="text/html")
    answer.headers["Content-Security-Policy"] = POLICY
    answer.headers["X-Content-Type-Options"] = "nosniff"
    # The code is in the address.
    answer.headers["Referrer-Policy"] = "no-referrer"
    answer.headers["Cache-Control"] = "no-store"
    answer.delete_cookie(_cookie(returned.state), path=serving_url("authorizing.end_authorization"))
    return answer
