"""The guard before every view: who is asking, may they do this, and is it theirs.

It runs before anything of the request is read, and it refuses by default: a view says with :func:`requires`,
:func:`public` or :func:`by_key` what it wants, and an application with one that says neither does not start.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from flask import Flask, current_app, g, request

from jobplatform.api.access.principals import Principal, Scope
from jobplatform.api.access.request_rates import require_rate
from jobplatform.api.access.tokens import is_job_token, presented_id, verify_token
from jobplatform.api.mounted import Reach, let_request_reach, mounted
from jobplatform.api.problems import ProblemError, not_found, require_found
from jobplatform.models import Role
from jobplatform.queue import HookKey, read_hook_key

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

View = TypeVar("View", bound=Callable[..., Any])

_ACCESS = "_jobplatform_access"
_FOR_ONE_JOB = "_jobplatform_for_one_job"
_TOKEN_IN_QUERY = "_jobplatform_token_in_query"
_PUBLIC = object()
_BY_KEY = object()
_TOKEN = re.compile(r"(^|[?&;])token=[^&;#]*")


def requires(scope: Scope) -> Callable[[View], View]:
    """The view is for principals with this scope."""
    return _declare(scope)


def public(view: View) -> View:
    """The view is for everybody and tells nothing about anybody."""
    return _declare(_PUBLIC)(view)


def by_key(view: View) -> View:
    """The view is for whoever has the key that its path ends with; it asks nobody for a token.

    Here only the form of a key is looked at. The view finds what it is the key of, and answers 404 when there is
    nothing (:func:`presented_key`), before it does anything else.
    """
    return _declare(_BY_KEY)(view)


def for_one_job(view: View) -> View:
    """Open to a token for the one job that the path names."""
    setattr(view, _FOR_ONE_JOB, True)
    return view


def token_in_query(view: View) -> View:
    """Takes a token for one job from the query too: a browser's EventSource sends no headers."""
    setattr(view, _TOKEN_IN_QUERY, True)
    return view


def require_declarations(app: Flask, prefix: str) -> None:
    """Refuse to start when an endpoint below ``prefix`` forgot to say who may use it."""
    for endpoint, view in app.view_functions.items():
        if endpoint.startswith(f"{prefix}.") and not hasattr(view, _ACCESS):
            raise RuntimeError(f"the view {endpoint} declares no scope; use requires(Scope...), public or by_key")


def guard() -> None:
    """A ``before_request`` function: let the view run, or end the request with 401, 403, 404 or 429."""
    view = current_app.view_functions[request.endpoint or ""]
    access = getattr(view, _ACCESS)
    token = _take_from_query() if hasattr(view, _TOKEN_IN_QUERY) else ""
    if access is _PUBLIC:
        return
    if access is _BY_KEY:
        let_request_reach(Reach(Role.API, presented_key().workspace_id))
        return
    workspace_id: UUID | None = (request.view_args or {}).get("workspace_id")
    principal = _identify(workspace_id, token)
    require_rate(mounted().rates, principal)
    if workspace_id is not None and not principal.sees(workspace_id):
        raise not_found()
    if principal.job_id is not None:
        _keep_to_its_job(principal, view)
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


def presented_key() -> HookKey:
    """The key in the path, which stands there no longer for whoever logs the request. Only for views by key."""
    text = str((request.view_args or {}).get("connection_key"))
    for name in ("RAW_URI", "REQUEST_URI"):
        if text in request.environ.get(name, ""):
            request.environ[name] = request.environ[name].replace(text, "[redacted]")
    return require_found(read_hook_key(text))


def _declare(access: object) -> Callable[[View], View]:
    def decorate(view: View) -> View:
        setattr(view, _ACCESS, access)
        return view

    return decorate


def _keep_to_its_job(principal: Principal, view: Callable[..., Any]) -> None:
    job_id = (request.view_args or {}).get("job_id")
    if not hasattr(view, _FOR_ONE_JOB):
        detail = "This token is for looking at one job, and for nothing else."
        extra = {"requiredScope": getattr(view, _ACCESS).value}
        raise ProblemError(403, detail, kind="one-job-token", title="A token for one job", extra=extra)
    if job_id != principal.job_id:
        raise not_found()


def _take_from_query() -> str:
    """The token in the query, which is not there any more for whoever logs the request."""
    text = request.args.get("token", "")
    if text:
        hide_token(request.environ)
    return text if is_job_token(text) else ""


def hide_token(environ: WSGIEnvironment) -> None:
    """Take ``token=`` out of everything that a server may write into its log of requests."""
    for name in ("QUERY_STRING", "RAW_URI", "REQUEST_URI"):
        if "token=" in environ.get(name, ""):
            environ[name] = _TOKEN.sub(r"\1token=[redacted]", environ[name])


def _identify(workspace_id: UUID | None, token: str) -> Principal:
    api = mounted()
    principal = api.authorize(request, workspace_id) if api.authorize else _bearer(token)
    if principal is None:
        raise _unauthorized()
    return principal


def _bearer(in_query: str = "") -> Principal | None:
    scheme, _, text = request.headers.get("Authorization", f"Bearer {in_query}").partition(" ")
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
