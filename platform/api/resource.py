"""A group of routes that belong together, declared once for Flask and for the OpenAPI document."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

import flask_smorest  # type: ignore[import-untyped]  # it ships no types
from flask import request
from marshmallow import Schema

from jobplatform.api.access.guard import by_key as opened_by_key
from jobplatform.api.access.guard import for_one_job, public, requires, token_in_query
from jobplatform.api.access.principals import Scope
from jobplatform.api.bodies import StrictParser
from jobplatform.api.once import PARAMETER as IDEMPOTENCY_KEY
from jobplatform.api.once import once
from jobplatform.api.problems import PROBLEM_JSON, ProblemError
from jobplatform.api.schemas.fields import camel
from jobplatform.api.schemas.jobs import ConflictSchema, ProblemSchema, QuotaSchema

View = TypeVar("View", bound=Callable[..., Any])

#: What every request with a token can meet, whatever it asks for.
ALWAYS = (401, 403, 429, 500, 503)
#: What a request with an Idempotency-Key can meet: it is under way, or the key was used for another.
ONCE = frozenset({409, 422})
SECURITY_SCHEME = "bearer"


#: Says of a view how many bytes it reads.
LARGEST_BODY = "_jobplatform_largest_body"


_PROBLEM, _CONFLICT, _QUOTA = ProblemSchema(), ConflictSchema(), QuotaSchema()


def _problem(status: int) -> dict[str, Any]:
    phrase = HTTPStatus(status).phrase
    return {"schema": _PROBLEM, "content_type": PROBLEM_JSON, "description": phrase}


CONFLICT: dict[str, Any] = {
    "schema": _CONFLICT,
    "content_type": PROBLEM_JSON,
    "description": "Another job, the status of this one, or the same request still under way stands in the way",
}
RETRY_AFTER = {"description": "Seconds after which to look again", "schema": {"type": "integer"}}


def _header(description: str, **schema: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string", **schema}}


def _parameter(name: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "header", "schema": {"type": "string", **schema}, "description": description}


DUPLICATE: dict[str, Any] = {
    **CONFLICT,
    "headers": {
        "Location": _header("The other job's URL", format="uri-reference"),
        "Retry-After": {
            "description": "When that was made too recently: seconds after which there may be another",
            "schema": {"type": "integer"},
        },
    },
}
RATE_LIMITS = {
    "Retry-After": RETRY_AFTER,
    "RateLimit-Policy": _header("The quota that is used up: its name, its size (q) and its window in seconds (w)"),
    "RateLimit": _header("What is left of it (r), and in how many seconds there will be more (t)"),
}
QUOTA: dict[str, Any] = {
    "schema": _QUOTA,
    "content_type": PROBLEM_JSON,
    "description": "As many jobs of the workspace wait as may wait, or the token has made as many requests as it may",
    "headers": RATE_LIMITS,
}
RATE: dict[str, Any] = {**QUOTA, "description": "The token has made as many requests in this minute as it may"}
LOCATED = {"Location": _header("The job's URL", format="uri-reference"), "Retry-After": RETRY_AFTER}
AT_ITS_URL = {"Location": _header("Its URL", format="uri-reference")}
LISTED = {"Link": _header('The next page, as rel="next"')}
TAGGED = {"ETag": _header("The tag of this state of the job"), "Retry-After": RETRY_AFTER}
CONDITIONAL = [_parameter("If-None-Match", "A tag from an earlier answer: 304 if the job is still in that state")]
#: The same for what is changed.
GUARDED = [
    _parameter("If-Match", "A tag from an earlier answer: 412, and nothing is changed, if the job is not in that state")
]
#: The same of what can be changed as a whole.
EDITABLE = {"ETag": _header("The tag of what can be changed about it")}
EDITED = [
    _parameter(
        "If-Match", "A tag from an earlier answer: 412, and nothing is changed, if somebody has changed it since"
    )
]
#: The same of what is made and replaced in one way.
PUT = [
    *EDITED,
    _parameter("If-None-Match", "Make it: 412, and nothing is changed, if it is there already", enum=["*"]),
]


def _needs_body(view: View) -> View:
    @functools.wraps(view)
    def refusing_none(*args: Any, **kwargs: Any) -> Any:
        if not request.get_data(cache=True):
            raise ProblemError(400, "This needs a body of JSON.")
        return view(*args, **kwargs)

    return refusing_none  # type: ignore[return-value]  # the same signature


def _declared(view: Callable[..., Any]) -> set[int]:
    """The statuses that the view itself says more about than that they are problems."""
    responses = getattr(view, "_apidoc", {}).get("response", {}).get("responses", {})
    return {int(status) for status in responses}


class Resource(flask_smorest.Blueprint):  # type: ignore[misc]  # see the import
    """A blueprint whose views say in one line where they are, who may use them and how they can refuse."""

    ARGUMENTS_PARSER = StrictParser()

    def endpoint(
        self,
        method: str,
        rule: str,
        scope: Scope | None,
        refuses: Sequence[int] = (),
        *,
        shows_secret: bool = False,
        one_job: bool = False,
        query_token: bool = False,
        largest_body: int | None = None,
        by_key: bool = False,
        changes: bool = True,
        keyed: bool = False,
    ) -> Callable[[View], View]:
        """Serve ``rule``, for principals with ``scope`` (None: for all). ``refuses`` are its own problems.

        A POST is done once for each ``Idempotency-Key``, and so is what is ``keyed``; what ``shows_secret`` is not
        answered again. ``one_job`` opens it to tokens for one job, ``query_token`` to those in the query; ``by_key`` to
        whoever has the key in the path, and to nobody's token. ``largest_body`` is for a view that reads a larger one
        than usual, by itself. Without ``changes`` a POST only looks, at what would not fit into a query. The outermost
        decorator, as flask-smorest's ``route`` is.
        """
        repeatable = keyed or (method == "POST" and scope is not None and changes)
        statuses = {*refuses, *(ALWAYS if scope else (500,)), *((404, 503) if by_key else ())}

        def decorate(view: View) -> View:
            refused = statuses - (_declared(view) & {429})
            if repeatable:
                refused |= ONCE - _declared(view)
                view = self.about(parameters=[IDEMPOTENCY_KEY])(once(view, keeps_answer=not shows_secret))
            documented = self._documented(view, scope, sorted(refused))
            unscoped = opened_by_key if by_key else public
            guarded = requires(scope)(documented) if scope else unscoped(documented)
            guarded = for_one_job(guarded) if one_job else guarded
            guarded = token_in_query(guarded) if query_token else guarded
            if largest_body is not None:
                setattr(guarded, LARGEST_BODY, largest_body)
            self.add_url_rule(rule, view.__name__, guarded, methods=[method], tags=[self.name])
            return view

        return decorate

    def body(self, schema: type[Schema], *, required: bool = True, **about: Any) -> Callable[[View], View]:
        """The view's first argument is the body, as ``schema`` loads it. ``about`` is for the document.

        Without a body the view is not reached, or what is not ``required`` is loaded as empty.
        """
        read: Callable[[View], View] = self.arguments(schema, required=required, **about)
        return (lambda view: _needs_body(read(view))) if required else read

    def query(self, schema: type[Schema]) -> Callable[[View], View]:
        """The view's first argument is the query, as ``schema`` loads it."""
        decorate: Callable[[View], View] = self.arguments(schema, location="query")
        return decorate

    def answers(
        self, status: int, schema: type[Schema] | dict[str, Any] | None = None, **about: Any
    ) -> Callable[[View], View]:
        """What the view answers; for the document, as the view makes its own response."""
        decorate: Callable[[View], View] = self.response(status, schema, **about)
        return decorate

    def may_answer(self, status: int, **about: Any) -> Callable[[View], View]:
        """What else the view may answer."""
        decorate: Callable[[View], View] = self.alt_response(status, **about)
        return decorate

    def headers(self, *parameters: dict[str, Any]) -> Callable[[View], View]:
        """Headers that the view reads by itself; for the document, beside the parameters of its query."""

        def decorate(view: View) -> View:
            about: dict[str, Any] = view.__dict__.setdefault("_apidoc", {})
            about.setdefault("arguments", {}).setdefault("parameters", []).extend(parameters)
            return view

        return decorate

    def about(self, **operation: Any) -> Callable[[View], View]:
        """More for the document."""
        decorate: Callable[[View], View] = self.doc(**operation)
        return decorate

    def _documented(self, view: View, scope: Scope | None, statuses: Sequence[int]) -> View:
        documented = view
        for status in statuses:
            documented = self.may_answer(status, **(RATE if status == 429 else _problem(status)))(documented)
        security = [{SECURITY_SCHEME: [scope.value]}] if scope else []
        return self.about(security=security, operationId=camel(view.__name__))(documented)
