"""Every route there is, so that a test about all of them covers a new one on the day it is written."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from flask import Flask

from jobplatform.api import Scope
from jobplatform.queue.hooks.key import new_hook_key

PUBLIC = {
    "/healthz",
    "/livez",
    "/readyz",
    "/openapi.json",
    "/client/v1/jobplatform.js",
    "/client/v1/jobplatform.d.ts",
    "/client/v1/job-progress.js",
    # A browser comes back from a provider; the state in the query and its cookie are all there is.
    "/oauth/callback",
    "/oauth/callback/{connectionId}",
    "/docs",
    "/docs/start.js",
    "/docs/swagger-ui-bundle.js",
    "/docs/swagger-ui.css",
    # The token in the path is all there is.
    "/exports/{token}",
}
#: For whoever has the key that the path ends with; nobody's token is asked for.
BY_KEY = {"/hooks/{connectionKey}"}
#: They look at what would not fit into a query.
LOOKING = ("/schedules/preview",)
WRITING = {"POST", "PUT", "PATCH", "DELETE"}
UNKNOWN = uuid.UUID("018f0000-0000-7000-8000-000000000000")

#: A value for each parameter of a path, of the kind that it takes.
NOBODYS = {
    "workspaceId": str(UNKNOWN),
    "jobId": str(UNKNOWN),
    "batchId": str(UNKNOWN),
    "tokenId": "0" * 18,
    "scheduleId": str(UNKNOWN),
    "connectionId": str(UNKNOWN),
    "exportId": str(UNKNOWN),
    "syncLogId": str(UNKNOWN),
    "recordId": "WyJzIiwiMSJd",
    "token": "nobodys",
    "hookId": str(UNKNOWN),
    "webhookId": str(UNKNOWN),
    "connectionKey": new_hook_key(UNKNOWN, UNKNOWN),
    "workerId": "2147483647",
    "name": "gold",
    "queue": "default",
    "task": "echo",
    "resource": "hubspot:4711",
    "kind": "queue",
    "key": "default",
    "worker": 4711,
}

_PARAMETER = re.compile(r"<(?:[^:<>]*:)?(\w+)>")


class Route(NamedTuple):
    """A method and a path, with its parameters as ``{name}``."""

    method: str
    path: str

    @property
    def writes(self) -> bool:
        return self.method in WRITING and not self.path.endswith(LOOKING)

    @property
    def is_public(self) -> bool:
        return self.path in PUBLIC

    @property
    def is_by_key(self) -> bool:
        return self.path in BY_KEY

    @property
    def scope(self) -> Scope:
        """The scope that this API gives to a route by where it is and what it does."""
        if self.path.startswith("/operator/") or self.path == "/metrics":
            return Scope.OPERATOR
        if "/schedules" in self.path:
            return Scope.SCHEDULES
        if any(f"/{kind}" in self.path for kind in ("connections", "exports", "hooks", "webhooks")):
            return Scope.CONNECTIONS
        # A token for one job can do less than what it is made with.
        reads = not self.writes or self.path.endswith("/jobs/{jobId}/token")
        return Scope.JOBS_READ if reads else Scope.JOBS_WRITE

    def has(self, parameter: str) -> bool:
        return f"{{{parameter}}}" in self.path

    def url(self, values: Mapping[str, object] | None = None, **more: object) -> str:
        """The path with values for its parameters; what is not given is nobody's."""
        return self.path.format(**{**NOBODYS, **(values or {}), **more})


def routes(app: Flask) -> Iterator[Route]:
    """Every route of the API."""
    for rule in app.url_map.iter_rules():
        # The pages beside it are tested in tests/pages.
        if not rule.endpoint.startswith("jobplatform."):
            continue
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            yield Route(method, _PARAMETER.sub(r"{\1}", rule.rule))


def guarded(app: Flask) -> list[Route]:
    return [route for route in routes(app) if not (route.is_public or route.is_by_key)]


def by_key(app: Flask) -> list[Route]:
    return [route for route in routes(app) if route.is_by_key]


def tenants(app: Flask) -> list[Route]:
    """The routes that are about one workspace and for its own tokens."""
    return [route for route in guarded(app) if route.has("workspaceId") and route.scope is not Scope.OPERATOR]
