"""The API as the pages use it: the same routes, guards, rules and audit lines, asked from within the process.

Whatever is done in the pages is a request to the API in the name of the visitor. So there is one place that says what
may be done, what is refused with which words, and what is written down about it.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from flask import Flask, Request, Response, request
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder, run_wsgi_app

from jobplatform.api.access.principals import Principal
from jobplatform.api.blueprint import blueprint_for
from jobplatform.api.mounted import Mounted
from jobplatform.api.requests import HEADER as REQUEST_ID
from jobplatform.api.requests import current_request_id

_PRINCIPAL = "jobplatform.pages.principal"
#: What servers say of the connection.
LENT = ("gunicorn.socket", "werkzeug.socket")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API said. ``body`` is its JSON; of a problem, the document that explains it."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.status < 400

    @property
    def complaint(self) -> str:
        """What is wrong, for the person who asked, with every field that is."""
        errors = self.body.get("errors", []) if isinstance(self.body, dict) else []
        if errors:
            return " ".join(_sentence(error) for error in errors)
        return (
            str(self.body.get("detail", "That did not work.")) if isinstance(self.body, dict) else "That did not work."
        )

    @property
    def complaints(self) -> dict[str, str]:
        """By field: the path within the body, or the name of a part of the address."""
        errors = self.body.get("errors", []) if isinstance(self.body, dict) else []
        return {_name_of(error): error["message"] for error in errors}


class InnerApi:
    """An application that only this process can ask. It is made when it is asked first."""

    def __init__(self, mounted: Mounted) -> None:
        self._mounted = mounted
        self._making = threading.Lock()
        self._made: Flask | None = None

    @property
    def app(self) -> Flask:
        with self._making:
            if self._made is None:
                self._made = _make(self._mounted)
            return self._made

    def ask(
        self,
        principal: Principal,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        key: str | None = None,
        if_match: str | None = None,
        is_new: bool = False,
    ) -> Answer:
        """Ask, and wait for the answer. ``key`` makes a repeated POST do its work once, with ``if_match`` nothing is
        changed that has another tag by now, and nothing that is there already where it ``is_new``."""
        headers = {"Idempotency-Key": key} if key else {}
        if if_match is not None:
            headers["If-Match"] = if_match
        if is_new:
            headers["If-None-Match"] = "*"
        response = self._request(principal, method, path, body, query, headers)
        return Answer(response.status_code, response.get_json(silent=True, force=True), dict(response.headers))

    def stream(self, principal: Principal, path: str, last_event_id: str | None) -> Response:
        """An answer that goes on: the API's own, so that it lets its request go where it can.

        ``last_event_id`` may have come with the address: what no header can hold is nothing.
        """
        said = last_event_id or ""
        headers = {"Last-Event-ID": said if said.isascii() and said.isprintable() else ""}
        environ = self._environ(principal, "GET", path, headers=headers)
        # What the server lends a stream (its socket) is lent on.
        environ |= {name: request.environ[name] for name in LENT if name in request.environ}
        with self.app.request_context(environ):
            response = self.app.full_dispatch_request()
        del response.headers[REQUEST_ID]
        return response

    def _request(
        self,
        principal: Principal,
        method: str,
        path: str,
        body: Any,
        query: Mapping[str, Any] | None,
        headers: Mapping[str, str],
    ) -> Response:
        chunks, status, answered = run_wsgi_app(
            self.app, self._environ(principal, method, path, body, query=query, headers=headers)
        )
        # Ours goes with the page that asked.
        kept = [(name, value) for name, value in answered if name.lower() != REQUEST_ID.lower()]
        response = Response(chunks, status, kept)
        closing = getattr(chunks, "close", None)
        if closing is not None:
            response.call_on_close(closing)
        return response

    def _environ(
        self,
        principal: Principal,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str],
    ) -> dict[str, Any]:
        sent = {**headers, REQUEST_ID: current_request_id()}
        known = {name: str(value) for name, value in (query or {}).items() if value is not None}
        builder = EnvironBuilder(path=path, method=method, query_string=known, headers=Headers(sent), json=body)
        return {**builder.get_environ(), _PRINCIPAL: principal}


def _make(mounted: Mounted) -> Flask:
    app = Flask("jobplatform.pages.api", static_folder=None)
    # The same login was examined already, and the same followers and requests are counted.
    app.register_blueprint(blueprint_for(dataclasses.replace(mounted, authorize=_already_known)))
    return app


def _already_known(asked: Request, _workspace_id: UUID | None) -> Principal | None:
    found: Principal | None = asked.environ.get(_PRINCIPAL)
    return found


def _name_of(error: Mapping[str, str]) -> str:
    return error.get("path", "").lstrip("/?").strip("{}")


def _sentence(error: Mapping[str, str]) -> str:
    name = _name_of(error)
    message = error.get("message", "")
    said = f"{name}: {message}" if name else message
    return said if said.endswith(".") else said + "."
