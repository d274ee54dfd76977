"""`jobplatform api` and what is no request, over real sockets: it is answered as everything else is."""

from __future__ import annotations

import http.client
import json
import re
import socket
import uuid
from collections.abc import Iterator

import pytest

from tests.end_to_end.api_process import Api

REFUSED = {
    "no HTTP": (b"NONSENSE\r\n\r\n", 400, "bad-request"),
    "no such version": (b"GET /livez HTTP/7.7\r\n\r\n", 400, "bad-request"),
    "a field without a name": (b"GET /livez HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n", 400, "bad-request"),
    "a long line": (b"GET /livez?" + b"x" * 9_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "error"),
    "a long field": (b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 9_000 + b"\r\n\r\n", 431, "error"),
    "many fields": (b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"X-Long: x\r\n" * 200 + b"\r\n", 431, "error"),
    "a coding that is not read": (
        b"POST /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: strange\r\n\r\n0\r\n\r\n", 501, "error",
    ),
}  # fmt: skip


@pytest.fixture(params=["threads", "gevent"])
def api(request: pytest.FixtureRequest, database_url: str) -> Iterator[Api]:
    api = Api(database_url, request.param)
    yield api
    api.stop()


def answer(address: tuple[str, int], request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of what is said until the connection ends."""
    with socket.create_connection(address, timeout=60) as client:
        client.sendall(request)
        said = b""
        while data := client.recv(65_536):
            said += data
    head, _, body = said.partition(b"\r\n\r\n")
    first, *lines = head.decode("ascii").split("\r\n")
    return int(first.split()[1]), {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}, body


def test_what_is_no_request_is_answered_with_a_problem_that_has_an_id(api: Api) -> None:
    for what, (request, status, kind) in REFUSED.items():
        told, headers, body = answer(api.address, request)
        problem = json.loads(body)

        assert (told, problem["status"], problem["type"]) == (status, status, f"urn:jobplatform:problem:{kind}"), what
        assert headers["content-type"] == "application/problem+json", what
        assert int(headers["content-length"]) == len(body), what
        assert re.fullmatch("[0-9a-f]{32}", headers["x-request-id"]), what
        assert problem["requestId"] == headers["x-request-id"], what
        assert headers["connection"] == "close", what


@pytest.mark.parametrize("size", [100_000, 1_048_576 + 2])
def test_a_connection_that_is_kept_takes_another_request_after_a_large_one_was_refused_unread(
    api: Api, size: int
) -> None:
    client = http.client.HTTPConnection(*api.address, timeout=60)
    client.request("POST", f"/workspaces/{uuid.uuid4()}/jobs", b" " * size, {"Content-Type": "application/json"})
    refused = client.getresponse()
    refused.read()
    used = client.sock

    client.request("GET", "/livez")
    again = client.getresponse()

    assert (refused.status, refused.getheader("Connection")) == (401, "keep-alive")
    assert (again.status, client.sock) == (200, used)
    client.close()
