"""The guard before every view: who is asking, may they do this, and is it theirs.

It runs before anything of the request is read, and it refuses by default: a view says with :func:`requires`
or :func:`public` what it wants, and an application with one that says neither does not start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from uuid import UUID

from flask import Flask, current_app, g, request

from jobplatform.api.mounted import Reach, let_request_reach, mounted
from jobplatform.api.principals import Principal, Scope
from jobplatform.api.problems import ProblemError, not_found
from jobplatform.api.tokens import presented_id, verify_token
from jobplatform.models import Role

View = TypeVar("View", bound=Callable[..., Any])

_ACCESS = "_jobplatform_access"
_PUBLIC = object()


def requires(scope: Scope) -> Callable[[View], View]:
    """The view is for principals with this scope."""
    return _declare(scope)


def public(view: View) -> View:
    """The view is for everybody and tells nothing about anybody."""
    return _declare(_PUBLIC)(view)


def require_declarations(app: Flask, prefix: str) -> None:
    """Refuse to start when an endpoint below ``prefix`` forgot to say who may use it."""
    for endpoint, view in app.view_functions.items():
        if endpoint.startswith(f"{prefix}.") and not hasattr(view, _ACCESS):
            raise RuntimeError(f"the view {endpoint} declares no scope; use requires(Scope...) or public")


def guard() -> None:
    """A ``before_request`` function: let the view run, or end the request with 401, 403 or 404."""
    access = getattr(current_app.view_functions[request.endpoint or ""], _ACCESS)
    if access is _PUBLIC:
        return
    workspace_id: UUID | None = (request.view_args or {}).get("workspace_id")
    principal = _identify(workspace_id)
    if workspace_id is not None and not principal.sees(workspace_id):
        raise not_found()
    if not principal.may(access):
        raise _missing_scope(access)
    g.jobplatform_principal = principal
    let_request_reach(_reach(principal, access, workspace_id))


def _reach(principal: Principal, access: object, workspace_id: UUID | None) -> Reach:
    """The workspace it is about; all of them only for an operator, where there is none or only operators may."""
    if principal.is_operator and (workspace_id is None or access is Scope.OPERATOR):
        return Reach(Role.OPERATOR)
    return Reach(Role.API, workspace_id or principal.workspace_id)


def current_principal() -> Principal:
    """Who the guard let in. Only in views that are not public."""
    principal: Principal = g.jobplatform_principal
    return principal


def _declare(access: object) -> Callable[[View], View]:
    def decorate(view: View) -> View:
        setattr(view, _ACCESS, access)
        return view

    return decorate


def _identify(workspace_id: UUID | None) -> Principal:
    api = mounted()
    principal = api.authorize(request, workspace_id) if api.authorize else _bearer()
    if principal is None:
        raise _unauthorized()
    return principal


def _bearer() -> Principal | None:
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    # Whose token it is nobody knows yet, so its own row is all there is to be seen.
    with mounted().transaction(Reach(token_id=presented_id(text.strip()))) as session:
        return verify_token(session, text.strip())


def _unauthorized() -> ProblemError:
    """One answer for no token and for every kind of bad one."""
    detail = "This needs a valid token: Authorization: Bearer jp_…"
    return ProblemError(401, detail, headers={"WWW-Authenticate": 'Bearer realm="jobplatform"'})


def _missing_scope(scope: Scope) -> ProblemError:
    detail = f"The token lacks the scope {scope}."
    extra = {"requiredScope": scope.value}
    return ProblemError(403, detail, kind="missing-scope", title="Missing scope", extra=extra)
