from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from jobplatform.connectors.demo_source import STREAMS, DemoSource, connection_config
from jobplatform.connectors.http_json import HttpJson, HttpJsonConfig
from jobplatform.connectors.opening import Opening
from jobplatform.errors import AddressRefusedError, SourceBusyError, SourceError

Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


@contextmanager
def answering(answer: Answer) -> Iterator[str]:
    """The URL of a source that gives one answer to everything."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def say(status: int, body: str, **headers: str) -> Answer:
    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body.encode())

    return answer


def open_source(config: dict[str, Any], *, allow_private: bool = True) -> HttpJson:
    return HttpJson(Opening.of(HttpJsonConfig, config, allow_private=allow_private))


def fetch_contacts(url: str, **config: Any) -> Any:
    with open_source({**connection_config(url), **config}) as connector:
        return connector.fetch("contacts", None)


def test_every_page_of_a_busy_and_failing_source_is_fetched(source: DemoSource) -> None:
    ids: set[str] = set()

    with open_source(connection_config(source.url)) as connector:
        page = connector.fetch("contacts", None)
        total = page.total
        ids.update(record.external_id for record in page.records)
        while page.next_cursor is not None:
            page = connector.fetch("contacts", page.next_cursor)
            ids.update(record.external_id for record in page.records)

    assert total == STREAMS["contacts"]
    assert ids == {f"contacts-{number}" for number in range(STREAMS["contacts"])}
    assert source.requests > STREAMS["contacts"] / 50, "some requests met a 429 or a 500 and were made again"


def test_a_source_that_stays_busy_is_asked_six_times_and_then_given_up() -> None:
    asked = []

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        asked.append(request.path)
        say(429, "{}", Retry_After="0")(request)

    with answering(answer) as url, pytest.raises(SourceBusyError, match="busy"):
        fetch_contacts(url)

    assert len(asked) == 6


def test_a_pause_of_an_hour_fails_at_once_instead_of_holding_a_slot() -> None:
    with answering(say(429, "{}", Retry_After="3600")) as url, pytest.raises(SourceBusyError) as caught:
        fetch_contacts(url)

    assert caught.value.retry_after == 3600


def test_retry_after_may_be_a_date_of_the_past() -> None:
    answers = iter([say(503, "", Retry_After="Sun, 06 Nov 1994 08:49:37 GMT"), say(200, '{"results": []}')])

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        next(answers)(request)

    with answering(answer) as url:
        page = fetch_contacts(url)

    assert page.records == []


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (404, "{}", "refused .HTTP 404"),
        (200, "<html>", r"contacts answers what is not JSON \(no content type\): Expecting value"),
        (200, "[" * 100_000, r"contacts answers what is not JSON \("),
        (200, '{"items": [], "page": 1}', "no list at 'results'; itemsField can name 'items'$"),
        (200, "[]", "no list at 'results'; the answer is the list itself, for which itemsField is empty$"),
        (200, '{"page": 1}', "no list at 'results'; itemsField says where it is$"),
        (200, '{"results": [{"ok": true, "name": "x"}]}', "no id at 'id'; idField can name 'name'$"),
        (200, '{"results": [{"id": true}]}', "no id at 'id'; idField says where it is$"),
        (200, '{"results": [5]}', "no id at 'id'; idField says where it is$"),
        (200, '{"results": [{"id": 1.5, "code": 1}]}', "no id at 'id' but 1.5, and .* idField can name 'code'$"),
        (200, '{"results": [{"id": null}]}', "no id at 'id'; idField says where it is$"),
        (200, json.dumps({"results": [{"a" * 41: 1, **dict.fromkeys("bcdefg", 1)}]}), "name 'b', 'c', 'd', 'e', 'f'$"),
        (401, "{}", "it wants credentials; give the connection some"),
    ],
)
def test_an_answer_that_cannot_be_used_says_why(status: int, body: str, message: str) -> None:
    with answering(say(status, body)) as url, pytest.raises(SourceError, match=message):
        fetch_contacts(url)


def test_a_redirect_is_not_followed_to_an_address_nobody_checked() -> None:
    with answering(say(302, "", Location="http://169.254.169.254/")) as url, pytest.raises(SourceError, match="302"):
        fetch_contacts(url)


def test_a_page_without_end_is_not_read_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobplatform.connectors.http_json.LARGEST_PAGE", 1024)

    with (
        answering(say(200, json.dumps({"results": [{"id": "x" * 2000}]}))) as url,
        pytest.raises(SourceError, match="larger"),
    ):
        fetch_contacts(url)


def test_a_private_address_is_refused_unless_allowed() -> None:
    with (
        open_source(connection_config("https://127.0.0.1:9"), allow_private=False) as connector,
        pytest.raises(SourceError, match="not a public address"),
    ):
        connector.fetch("contacts", None)


def test_a_url_that_is_never_asked_is_told_when_the_connection_is_opened() -> None:
    with pytest.raises(AddressRefusedError, match="use https"):
        open_source(connection_config("http://9.9.9.9"), allow_private=False)


def test_a_host_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)

    with (
        open_source(connection_config("https://crm.example"), allow_private=False) as connector,
        pytest.raises(SourceError, match=r"crm\.example"),
    ):
        connector.fetch("contacts", None)


@pytest.mark.parametrize(
    "changes",
    [
        {"baseUrl": "ftp://crm.example"},
        {"streams": {}},
        {"pageSize": 0},
        {"unknown": 1},
        {"streams": {"a": {"path": "x"}}},
    ],
)
def test_a_wrong_configuration_names_the_field(changes: dict[str, Any]) -> None:
    with pytest.raises(SourceError, match=next(iter(changes))):
        open_source({**connection_config("http://crm.example"), **changes})
