"""Every route there is, so that a test about all of them covers a new one on the day it is written."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from flask import Flask

from jobplatform.api import Scope

PUBLIC = {
    "/healthz",
    "/livez",
    "/readyz",
    "/openapi.json",
    "/client/v1/jobplatform.js",
    "/client/v1/jobplatform.d.ts",
    "/client/v1/job-progress.js",
}
WRITING = {"POST", "PUT", "PATCH", "DELETE"}
UNKNOWN = uuid.UUID("018f0000-0000-7000-8000-000000000000")

#: A value for each parameter of a path, of the kind that it takes.
NOBODYS = {
    "workspaceId": str(UNKNOWN),
    "jobId": str(UNKNOWN),
    "batchId": str(UNKNOWN),
    "tokenId": "0" * 18,
    "scheduleId": str(UNKNOWN),
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
        return self.method in WRITING

    @property
    def is_public(self) -> bool:
        return self.path in PUBLIC

    @property
    def scope(self) -> Scope:
        """The scope that this API gives to a route by where it is and what it does."""
        if self.path.startswith("/operator/"):
            return Scope.OPERATOR
        if "/schedules" in self.path:
            return Scope.SCHEDULES
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
    return [route for route in routes(app) if not route.is_public]


def tenants(app: Flask) -> list[Route]:
    """The routes that are about one workspace and for its own tokens."""
    return [route for route in guarded(app) if route.has("workspaceId") and route.scope is not Scope.OPERATOR]
