"""Whatever connector a workspace chooses, and however it writes an address, nothing of the network is reached.

Made from the registry: a connector type without an entry here has no test, and this fails until it has one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import httpcore
import psycopg
import pytest

from jobplatform.connectors import SHIPPED, Opening
from jobplatform.errors import AddressRefusedError, SourceError
from tests.connectors.site import Said, Site
from tests.connectors.test_outside import HOSTS, Listener, answer_of, urls

TABLES = {"streams": {"a": {"table": "a"}}}

Config = Callable[[str], dict[str, Any]]

#: How each type is told an address: a URL, or (for a database) a host and a port.
BY_URL: dict[str, Config] = {
    "http_json": lambda url: {"baseUrl": url, "streams": {"a": {"path": "/"}}},
    "rss": lambda url: {"url": url},
    "csv": lambda url: {"url": url, "idColumn": "id"},
    "hubspot": lambda url: {"baseUrl": url},
    "strava": lambda url: {"baseUrl": url},
}
BY_HOST: dict[str, Callable[[str, int], dict[str, Any]]] = {
    "sql": lambda host, port: {"host": host.strip("[]"), "port": port, "database": "d", **TABLES},
}
BEARER = {"scheme": "bearer", "token": "t"}
CREDENTIALS = {
    "sql": {"scheme": "password", "username": "u", "password": "p"},
    "hubspot": BEARER,
    "strava": BEARER,
}


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


def attempts(kind: str, port: int) -> list[dict[str, Any]]:
    """Every configuration of a type with every address of the table."""
    if kind in BY_URL:
        return [BY_URL[kind](url) for url in urls(port)]
    return [BY_HOST[kind](host, port) for host in HOSTS]


def ask(kind: str, config: dict[str, Any], *, allow_private: bool = False) -> None:
    """Open a connection and fetch a page, as a sync does."""
    shipped = SHIPPED[kind]
    opening = Opening.of(shipped.config, config, credentials=CREDENTIALS.get(kind), allow_private=allow_private)
    with shipped.open(opening) as connector:
        connector.fetch(connector.streams()[0], None)


def test_every_connector_type_that_takes_an_address_is_in_this_test() -> None:
    assert set(SHIPPED) == set(BY_URL) | set(BY_HOST)


@pytest.mark.parametrize("kind", [*BY_URL, *BY_HOST])
def test_no_connector_connects_to_an_address_that_is_not_public(
    kind: str, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobplatform.connectors.outside.resolve_host", answer_of)
    configs = attempts(kind, listener.port)

    for config in configs:
        with pytest.raises((SourceError, UnicodeError)):
            ask(kind, config)

    assert len(configs) > 60
    assert listener.visitors() == 0


@pytest.mark.parametrize("kind", [*BY_URL, *BY_HOST])
def test_the_same_connector_does_connect_where_that_is_allowed(kind: str, site: Site) -> None:
    """Or the test above would prove nothing."""
    port = site.server_address[1]
    config = BY_URL[kind](site.url()) if kind in BY_URL else BY_HOST[kind]("127.0.0.1", port)

    with pytest.raises(SourceError):
        ask(kind, config, allow_private=True)

    assert site.visitors > 0


@pytest.mark.parametrize("kind", [*BY_URL, *BY_HOST])
def test_the_address_that_was_judged_is_the_one_that_is_connected_to(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that answers differently the second time (rebinding) is not asked a second time."""
    answers = itertools.chain([["9.9.9.9"]], itertools.repeat(["127.0.0.1"]))
    monkeypatch.setattr("jobplatform.connectors.outside.resolve_host", lambda _host: next(answers))
    connected: list[str] = []

    def connect_tcp(self: Any, host: str, port: int, *_: Any, **__: Any) -> Any:
        connected.append(host)
        raise httpcore.ReadError("nobody is there")

    def connect(**parameters: Any) -> Any:
        connected.append(parameters["hostaddr"])
        raise psycopg.OperationalError("nobody is there")

    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connect_tcp)
    monkeypatch.setattr(psycopg, "connect", connect)
    config = BY_URL[kind]("https://rebinding.example/") if kind in BY_URL else BY_HOST[kind]("rebinding.example", 5432)

    with pytest.raises(SourceError):
        ask(kind, config)

    assert set(connected) == {"9.9.9.9"}


@pytest.mark.parametrize("kind", ["rss", "csv"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_judged_like_the_first_address(
    kind: str, status: int, site: Site, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the site itself is taken for public here."""
    monkeypatch.setattr("jobplatform.connectors.outside._judged", _only_the_site)
    site.pages["/"] = Said(status, headers={"Location": f"http://localhost:{listener.port}/"})

    with pytest.raises(SourceError, match="not a public address"):
        ask(kind, BY_URL[kind](site.url()), allow_private=True)

    assert len(site.asked) == 1
    assert listener.visitors() == 0


def _only_the_site(found: Any, host: str, **_: Any) -> Any:
    if host != "127.0.0.1":
        raise AddressRefusedError(f"{host} is not a public address")
    return found
