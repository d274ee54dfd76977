"""The guard before every page: who is there, may they see this, and did the form come from us.

It refuses by default. Somebody who is not known learns nothing, not even whether there is a page: they are sent to the
sign-in, or, where nobody could sign in at all, answered as for any path that the application does not have.
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote
from uuid import UUID

from flask import Response, g, redirect, request
from sqlalchemy import select

from jobplatform.api.mounted import Reach, let_request_reach
from jobplatform.api.problems import DATABASE_TROUBLE
from jobplatform.models import ApiToken, Role, clock
from jobplatform.pages.forms import require_own_form
from jobplatform.pages.problems import AbsentError, PageError, nothing_here
from jobplatform.pages.sessions import session_token_id, visitor_of_session
from jobplatform.pages.shell import Shell, Visit, current_shell, declared_of, require, url
from jobplatform.pages.visitors import Visitor

#: Seconds for which it is remembered whether anybody could sign in.
REMEMBERED = 5.0
#: A form of ours is short.
LARGEST_FORM = 1_000_000


def guard() -> Any:
    """A ``before_request`` function: let the page be made, or answer in its place."""
    request.max_content_length = LARGEST_FORM
    shell = current_shell()
    declared = declared_of(request.endpoint)
    workspace_id: UUID | None = (request.view_args or {}).get("tenant_id")
    if declared.is_open:
        return _open(shell)
    visitor = find_visitor(shell, workspace_id)
    if visitor is None:
        return _send_to_sign_in(shell)
    if not _is_theirs(shell, visitor, workspace_id):
        raise nothing_here()
    let_in(visitor, workspace_id)
    _require_text()
    if request.method == "POST":
        require_own_form()
    if declared.verb is not None:
        require(declared.verb)
    return None


def let_in(visitor: Visitor, workspace_id: UUID | None) -> None:
    """From here on the request is theirs: what it may reach, and in whose name it is written down."""
    g.jobplatform_visit = Visit(visitor, workspace_id)
    g.jobplatform_principal = visitor.as_principal(workspace_id or _first(visitor))
    let_request_reach(
        Reach(Role.OPERATOR) if workspace_id is None and visitor.operator else Reach(Role.API, workspace_id)
    )


def find_visitor(shell: Shell, workspace_id: UUID | None) -> Visitor | None:
    """Who is there: as the host application says, where it does, else by the session's cookie."""
    if shell.access is not None:
        return shell.access(request, workspace_id)
    text = request.cookies.get(shell.cookie, "")
    token_id = session_token_id(text)
    if not token_id:
        return None
    with shell.mounted.transaction(Reach(token_id=token_id)) as session:
        return visitor_of_session(session, text)


def somebody_could_sign_in(shell: Shell) -> bool:
    """Whether there is a token of the kind that opens these pages. Asked every few seconds at most."""
    known = shell.openness
    if time.monotonic() - known.asked_at > REMEMBERED:
        known.answer = _is_there_a_token(shell)
        known.asked_at = time.monotonic()
    return known.answer


def _is_there_a_token(shell: Shell) -> bool:
    wanted = ApiToken.workspace_id.is_(None) if shell.for_operators else ApiToken.workspace_id.is_not(None)
    alive = ApiToken.revoked_at.is_(None) & (ApiToken.expires_at.is_(None) | (ApiToken.expires_at > clock()))
    with shell.mounted.transaction(Reach(Role.OPERATOR)) as session:
        return session.scalar(select(ApiToken.id).where(wanted, alive).limit(1)) is not None


def _open(shell: Shell) -> None:
    is_sign_in = request.path.endswith("/sign-in")
    try:
        if is_sign_in if shell.access is not None else not somebody_could_sign_in(shell):
            raise AbsentError
    except DATABASE_TROUBLE:
        # The page that says that the database is away has its looks all the same.
        if not request.path.startswith(shell.prefix + "/assets/"):
            raise


def _send_to_sign_in(shell: Shell) -> Response:
    if shell.access is not None or not somebody_could_sign_in(shell):
        raise AbsentError
    if request.method not in ("GET", "HEAD") or request.headers.get("X-Live"):
        raise PageError(401, "Your session is over", "Sign in again, then repeat what you did.")
    here = request.path.removeprefix(shell.prefix) + (
        f"?{request.query_string.decode(errors='replace')}" if request.query_string else ""
    )
    then = f"?next={quote(here, safe='/')}" if here.strip("/") else ""
    return redirect(url("signing_in.sign_in") + then, 303)  # type: ignore[return-value]  # werkzeug's is Flask's here


def _is_theirs(shell: Shell, visitor: Visitor, workspace_id: UUID | None) -> bool:
    if shell.for_operators:
        return visitor.operator
    return workspace_id is None or visitor.sees(workspace_id)


def _require_text() -> None:
    """No text of the database has this character in it, so nothing is found by it."""
    asked = (request.path, *(value for _, value in request.args.items(multi=True)))
    if any("\0" in text for text in asked):
        raise PageError(400, "This address leads nowhere", "There is a character in it that no text may have.")


def _first(visitor: Visitor) -> UUID | None:
    return None if visitor.operator else next(iter(visitor.workspaces))
