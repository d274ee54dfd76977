"""The port for probes, and callers that are slow, rude or too many."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from jobplatform.errors import SettingsError
from jobplatform.testing import wait_until
from jobplatform.worker.port import LONGEST_HEAD, MOST_CALLERS, Page, Port


def fail() -> Page:
    raise ValueError("a secret that must not be shown")


@pytest.fixture
def port() -> Iterator[Port]:
    port = Port("127.0.0.1", 0, {"/long": lambda: Page(200, b"x" * 5_000_000), "/bad": fail, "/ok": lambda: OK})
    port.start()
    yield port
    port.stop()


OK = Page(200, b"fine\n")


def url(port: Port, path: str) -> str:
    return "http://{}:{}{}".format(*port.address, path)


def test_a_page_is_answered_whole(port: Port) -> None:
    assert httpx.get(url(port, "/ok?x=1"), timeout=60).text == "fine\n"
    assert len(httpx.get(url(port, "/long"), timeout=60).content) == 5_000_000
    assert httpx.head(url(port, "/ok")).headers["Content-Length"] == "5"


def test_what_is_not_there_or_does_not_work_says_so_and_shows_nothing(port: Port) -> None:
    missing, posted, failed = (
        httpx.get(url(port, "/secret"), timeout=60),
        httpx.post(url(port, "/ok"), timeout=60),
        httpx.get(url(port, "/bad"), timeout=60),
    )

    assert (missing.status_code, posted.status_code, failed.status_code) == (404, 405, 500)
    assert "secret" not in failed.text


def test_callers_that_hold_on_do_not_keep_a_probe_out(port: Port) -> None:
    dripping = [socket.create_connection(port.address) for _ in range(3 * MOST_CALLERS)]
    for caller in dripping:
        caller.sendall(b"GET /ok HTTP/1.1\r\nX-Slow: ")

    assert httpx.get(url(port, "/ok"), timeout=30).status_code == 200
    # The oldest have been shown the door.
    assert dripping[0].recv(1) == b""
    for caller in dripping:
        caller.close()


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    """This process may open nothing more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    next_one = os.dup(0)
    os.close(next_one)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_one, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_caller_for_whom_there_is_no_descriptor_keeps_nobody_busy_and_is_let_in_later(port: Port) -> None:
    with socket.socket() as caller:
        with no_descriptors_left():
            caller.connect(port.address)
            wait_until(lambda: port._listener.fileno() not in port._selector.get_map(), what="a rest")
        caller.sendall(b"GET /ok HTTP/1.1\r\n\r\n")
        caller.settimeout(30)

        assert caller.recv(12) == b"HTTP/1.1 200"


def test_a_head_without_end_is_answered_and_not_kept(port: Port) -> None:
    with socket.create_connection(port.address, timeout=30) as caller:
        caller.sendall(b"G" * (LONGEST_HEAD + 1))

        assert caller.recv(12) == b"HTTP/1.1 404"


def test_a_port_that_somebody_else_has_is_said_before_anything_starts(port: Port) -> None:
    with pytest.raises(SettingsError, match="JOBPLATFORM_HEALTH_PORT"):
        Port("127.0.0.1", port.address[1], {})
