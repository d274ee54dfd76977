"""Whatever is sent to a route, it does not fail for that, and what it refuses is refused as a problem."""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from jobplatform.api import Scope
from jobplatform.key_ring import generate_key
from tests.api.conftest import PROBLEM, Client, MintToken
from tests.api.routes import Route, routes

#: Thousands of requests: a slow machine that is busy with other tests has not answered all of them in two minutes.
SECONDS = 400

TENANT_SCOPES = tuple(scope.value for scope in Scope if scope is not Scope.OPERATOR)
#: Its answer is 503 where something is wrong, and an endless stream is tested with the others.
BY_THEMSELVES = ("/jobs/health", "/events", "/jobs/stream/")

#: Each set goes with one request.
HEADERS: tuple[Mapping[str, str], ...] = (
    {"If-Match": '"another"', "If-None-Match": '"another"', "Accept": "", "Range": "bytes=9-1"},
    {"If-Match": "*", "If-None-Match": "*", "Accept": "a/b;q=nan", "Range": "bytes=-", "Accept-Encoding": ";q="},
    {"If-Match": 'W/"', "If-None-Match": ",", "Cookie": 'a="\\000"', "Accept-Language": "*;q=1e400"},
    {"If-Match": '"a",,,"b"', "If-None-Match": "\xff", "Idempotency-Key": "\xff", "If-Range": "x"},
    {"If-Match": ',"' * 3_000, "X-Request-Id": "\xff", "traceparent": "\xff" * 300, "Cookie": ";" * 5_000},
    {"Idempotency-Key": "a" * 60_000, "If-Modified-Since": "Mon, 01 Jan 99999 00:00:00 GMT", "Origin": "http://["},
    {"Host": "a:b:c", "X-Forwarded-Host": "[::1", "X-Forwarded-Proto": "\xff", "Last-Event-ID": "9" * 30 + "-1"},
)
AUTHORIZATIONS = (
    "",
    "Bearer",
    "bearer  jp_",
    f"Bearer jp_{'0' * 18}_\xff",
    "Bearer jpj_" + "A" * 60_000,
    'Digest a="\\',
)
QUERIES = (
    "", "%00", "%ff", "%ED%A0%80", "1_0", "%D9%A1", "-1", "99999999999999999999", "1e3", "x" * 5_000,
    "AAAAAAAAAAAAAAAAAAAAAA", "W251bGwsbnVsbF0", "2030-01-01T00:00:00%2B23:59", "2030-01-01T00:00:00.1234567Z",
)  # fmt: skip
#: As they stand in a body.
VALUES = (
    "null", "true", "-0.0", "1.0", "-1", "1e400", "2147483648", "9223372036854775808", "9" * 400, '""', '"\\u0000"',
    '"a\\ud800"', '"\\u0661"', '"infinity"', '"2030-01-01T00:00:00+23:59"', '"9999-12-31T23:59:59Z"', '"http://["',
    '"' + "x" * 200_000 + '"', "[null]", '[""]', '{"":[[{}]]}', "[" * 50 + "]" * 50,
)  # fmt: skip


@pytest.fixture(autouse=True)
def ring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBPLATFORM_ENCRYPTION_KEYS", generate_key("a"))


class Walk:
    """Every route with whoever may use it, and with a job that there is."""

    def __init__(self, app: Flask, tenant: Client, operator: Client, workspace_id: uuid.UUID) -> None:
        self.app, self.tenant, self.operator, self.workspace_id = app, tenant, operator, workspace_id
        self.paths = operator.get("/openapi.json").get_json()["paths"]
        self.schemas = operator.get("/openapi.json").get_json()["components"]["schemas"]
        answer = tenant.post(f"/workspaces/{workspace_id}/jobs", {"jobType": "echo", "payload": {}, "delayMs": 60_000})
        self.job_id = answer.get_json()["jobId"]

    def routes(self) -> Iterator[tuple[Route, str, Client, Any]]:
        for route in routes(self.app):
            if not any(part in route.path for part in BY_THEMSELVES):
                url = route.url(workspaceId=self.workspace_id, jobId=self.job_id)
                client = self.operator if route.scope is Scope.OPERATOR else self.tenant
                yield route, url, client, self.paths[route.path][route.method.lower()]


@pytest.fixture
def walk(app: Flask, operator: Client, mint: MintToken, workspace_id: uuid.UUID) -> Walk:
    return Walk(app, Client(app.test_client(), mint(workspace_id, TENANT_SCOPES)), operator, workspace_id)


def require_sensible(answer: TestResponse, *about: object) -> None:
    assert answer.status_code < 500, (about, answer.text)
    assert answer.status_code < 400 or answer.content_type == PROBLEM or "/oauth/" in str(about), (about, answer.text)


def test_no_header_makes_a_route_fail(walk: Walk) -> None:
    for route, url, client, operation in walk.routes():
        body = json.dumps(_example(operation) or {}) if route.writes else None
        for headers in HEADERS:
            answer = client.request(
                route.method, url, headers, data=body, content_type="application/json" if body else None
            )
            require_sensible(answer, route, headers)


def test_no_credentials_make_a_route_fail(walk: Walk, nobody: Client) -> None:
    for route, url, _client, _operation in walk.routes():
        if not (route.is_public or route.is_by_key):
            for text in AUTHORIZATIONS:
                answer = nobody.request(route.method, url, {"Authorization": text})
                assert (answer.status_code, answer.content_type) == (401, PROBLEM), (route, text)


@pytest.mark.thorough
@pytest.mark.timeout(SECONDS)
@pytest.mark.direct("what a request brings is refused before the database is asked, or by it")
def test_no_query_makes_a_route_fail(walk: Walk) -> None:
    for route, url, client, operation in walk.routes():
        names = [
            one["name"] for one in operation.get("parameters", ()) if one["in"] == "query" and one["name"] != "wait"
        ]
        for name in [*names, "nonsense"]:
            for value in QUERIES:
                for query in (f"{name}={value}", f"{name}=1&{name}={value}&{name}"):
                    require_sensible(client.request(route.method, f"{url}?{query}"), route, query)


@pytest.mark.thorough
@pytest.mark.timeout(SECONDS)
@pytest.mark.direct("what a request brings is refused before the database is asked, or by it")
def test_no_value_of_a_body_makes_a_route_fail(walk: Walk) -> None:
    for route, url, client, operation in walk.routes():
        if (example := _example(operation)) is None:
            continue
        for place in _places(walk.schemas, _schema(operation)):
            for value in VALUES:
                answer = client.request(
                    route.method, url, data=_with(example, place, value), content_type="application/json"
                )
                require_sensible(answer, route, place, value[:100])


def _content(operation: Any) -> Any:
    return operation.get("requestBody", {}).get("content", {}).get("application/json")


def _schema(operation: Any) -> Any:
    return _content(operation)["schema"]


def _example(operation: Any) -> Any:
    content = _content(operation)
    if content is None:
        return None
    return content["example"] if "example" in content else next(iter(content["examples"].values()))["value"]


def _places(schemas: Any, schema: Any, depth: int = 0) -> Iterator[tuple[str | int, ...]]:
    """Where a body may have something, with what is in the first item of a list."""
    while "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    for name, member in schema.get("properties", {}).items() if depth < 3 else ():
        yield (name,)
        yield from ((name, *place) for place in _places(schemas, member, depth + 1))
        if "items" in member:
            yield from ((name, 0, *place) for place in _places(schemas, member["items"], depth + 1))


def _with(example: Any, place: tuple[str | int, ...], value: str) -> str:
    """The body with a piece of JSON text at a place, and whatever has to be there to get to it."""
    mark = uuid.uuid4().hex
    body = copy.deepcopy(example)
    here: Any = body
    for step, following in pairwise(place):
        make: Callable[[], Any] = list if following == 0 else dict
        if step == 0 and not here:
            here.append(make())
        elif step != 0 and not isinstance(here.get(step), make):  # type: ignore[arg-type]  # both are classes
            here[step] = make()
        here = here[step]
    here[place[-1]] = mark
    return json.dumps(body).replace(f'"{mark}"', value)
