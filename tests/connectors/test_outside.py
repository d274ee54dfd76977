"""What a workspace configures reaches public addresses, and nothing else, however it is written."""

from __future__ import annotations

import gzip
import http.server
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpcore
import pytest

from jobplatform.connectors.outside import OutsideClient, resolve_host
from jobplatform.errors import AddressRefusedError, SourceError, SourceUnreachableError
from jobplatform.testing import wait_until

PUBLIC = "9.9.9.9"

#: What names of an attacker (and of a cloud) answer.
NAMES: dict[str, list[str]] = {
    "public.example": [PUBLIC],
    "loopback.example": ["127.0.0.1"],
    "loopback6.example": ["::1"],
    "mixed.example": [PUBLIC, "127.0.0.1"],
    "mixed-the-other-way.example": ["127.0.0.1", PUBLIC],
    "zone.example": ["fe80::1%1"],
    "nothing.example": [],
    "localhost": ["127.0.0.1", "::1"],
    "localhost.": ["127.0.0.1"],
    "metadata.google.internal": ["169.254.169.254"],
    "127.0.0.1.nip.example": ["127.0.0.1"],
    "xn--fake-cua.example": ["10.0.0.1"],
    "kubernetes.default.svc": ["10.96.0.1"],
}

#: Hosts that must not be reached: names, and every way to write an address.
HOSTS = [
    *(name for name in NAMES if name != "public.example"),
    # IPv4, as the resolver reads it
    "127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "0x7f.0.0.0x1",
    "0", "0.0.0.0", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
    "0xa9fea9fe", "2852039166", "169.254.43518", "100.64.0.1", "100.100.100.200", "192.0.0.192", "168.63.129.16",
    "198.18.0.1", "192.0.2.1", "198.51.100.1", "203.0.113.1", "192.88.99.1", "224.0.0.1", "239.255.255.255",
    "240.0.0.1", "255.255.255.255",
    # IPv6
    "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2002:a9fe:a9fe::1]",
    "[2001::1]", "[2001:0:7f00:1::]", "[2001:db8::1]", "[3fff::1]", "[fe80::1]", "[fe80::1%251]", "[fec0::1]",
    "[fc00::1]", "[fd00:ec2::254]", "[ff02::1]", "[100::1]", "[5f00::1]", "[::ffff:9.9.9.9]",
    # Other ways to write the same letters and digits
    "127。0。0。1", "127．0．0．1", "１２７.0.0.1", "①②⑦.⓪.⓪.①", "ⓛocalhost", "LOCALHOST", "loc%61lhost",
    "%31%32%37.0.0.1", "127.0.0.1%00.public.example", "localhost\u200b", "xn--", "",
]  # fmt: skip

#: Whole URLs that must not be asked.
URLS = [
    "https://public.example@127.0.0.1:{port}/",
    "https://public.example:443@127.0.0.1:{port}/",
    "https://user:secret@public.example/",
    "https://127.0.0.1:{port}\\@public.example/",
    "https://a@public.example:80@127.0.0.1:{port}/",
    "https://127.0.0.1:{port}#@public.example/",
    "https://127.0.0.1:{port}?@public.example/",
    "https:127.0.0.1:{port}/",
    "https:///127.0.0.1:{port}/",
    "//127.0.0.1:{port}/",
    "http://public.example/",
    "HTTP://127.0.0.1:{port}/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:{port}/",
    "ftp://127.0.0.1:{port}/",
    "unix:///var/run/docker.sock",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/",
    "https://public.example:0/",
    "https://public.example:99999/",
    "https://127.0.0.1\t:{port}/",
    "https://127.0.0.1\r\nHost: x:{port}/",
    "",
]


def answer_of(host: str) -> Sequence[str]:
    """A resolver under the test's control; numbers are read by the system, as ever, without asking anybody."""
    if host.lower() in NAMES:
        return NAMES[host.lower()]
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    return [str(entry[4][0]) for entry in found]


class Listener:
    """Listens on loopback and counts who comes."""

    def __init__(self) -> None:
        self.sockets = wait_until(_on_both_loopbacks, what="a port that is free on both")
        self.port = self.sockets[0].getsockname()[1]

    def visitors(self) -> int:
        count = 0
        for listening in self.sockets:
            listening.settimeout(0)
            while True:
                try:
                    listening.accept()[0].close()
                except BlockingIOError:
                    break
                count += 1
        return count

    def close(self) -> None:
        for listening in self.sockets:
            listening.close()


def _on_both_loopbacks() -> list[socket.socket]:
    """On the same port; none where somebody else has it on one of them."""
    first = socket.create_server(("127.0.0.1", 0))
    try:
        return [first, socket.create_server(("::1", first.getsockname()[1]), family=socket.AF_INET6)]
    except OSError:
        first.close()
        return []


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that were connected to; nobody is there."""
    found: list[str] = []

    def connect_tcp(self: Any, host: str, port: int, *_: Any, **__: Any) -> Any:
        found.append(host)
        raise httpcore.ConnectError("nobody is there")

    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connect_tcp)
    return found


def urls(port: int) -> list[str]:
    return [f"https://{host}:{port}/" for host in HOSTS] + [url.format(port=port) for url in URLS]


def test_nothing_in_the_table_is_connected_to(listener: Listener) -> None:
    """For real: the client, the network, and a server that must not see anybody."""
    with OutsideClient(resolve=answer_of) as client:
        for url in urls(listener.port):
            with pytest.raises(SourceError):
                client.get(url)
            assert listener.visitors() == 0, url


def test_nothing_in_the_table_even_tries_to_connect(connected: list[str], listener: Listener) -> None:
    with OutsideClient(resolve=answer_of) as client:
        for url in urls(listener.port):
            with pytest.raises(SourceError) as refused:
                client.get(url)
            assert connected == [], url
            assert not isinstance(refused.value, SourceUnreachableError), url


def test_a_public_address_is_connected_to_and_not_its_name(connected: list[str]) -> None:
    with OutsideClient(resolve=answer_of) as client:
        for url in ("https://public.example/x", f"https://{PUBLIC}/", "https://[2620:fe::fe]/", "https://0x09090909/"):
            with pytest.raises(SourceUnreachableError, match="nobody is there"):
                client.get(url)

    assert connected == [PUBLIC, PUBLIC, "2620:fe::fe", PUBLIC]


def test_the_listener_would_have_seen_a_visitor(listener: Listener) -> None:
    """The tests above can fail: in development the same names lead there."""

    def comes(host: str) -> bool:
        with OutsideClient(resolve=answer_of, allow_private=True, seconds=0.2) as client, pytest.raises(SourceError):
            client.get(f"https://{host}:{listener.port}/")
        return listener.visitors() > 0

    for host in ("loopback.example", "loopback6.example", "127.1", "[::1]"):
        wait_until(partial(comes, host), what=f"a visitor of {host}")


def test_a_name_that_changes_its_answer_is_asked_once_for_each_connection(connected: list[str]) -> None:
    answers = iter([[PUBLIC], ["127.0.0.1"], ["169.254.169.254"], [PUBLIC]])
    with OutsideClient(resolve=lambda _host: next(answers)) as client:
        with pytest.raises(SourceUnreachableError):
            client.get("https://rebinding.example/")
        for _ in range(2):
            with pytest.raises(AddressRefusedError):
                client.get("https://rebinding.example/")
        with pytest.raises(SourceUnreachableError):
            client.get("https://rebinding.example/")

    assert connected == [PUBLIC, PUBLIC]


def test_the_next_address_is_tried_when_one_does_not_answer(connected: list[str]) -> None:
    with OutsideClient(resolve=lambda _host: [PUBLIC, "1.1.1.1", PUBLIC]) as client, pytest.raises(SourceError):
        client.get("https://two.example/")

    assert connected == [PUBLIC, "1.1.1.1"]


def test_a_refusal_tells_nothing_of_the_addresses_behind_a_name() -> None:
    with OutsideClient(resolve=lambda _host: ["10.1.2.3"]) as client, pytest.raises(AddressRefusedError) as refused:
        client.get("https://db.internal/")

    assert "10.1.2.3" not in str(refused.value)
    assert not AddressRefusedError.should_retry


def test_a_password_in_a_url_is_not_repeated() -> None:
    with OutsideClient() as client, pytest.raises(AddressRefusedError) as refused:
        client.get("https://user:s3cret@public.example/")

    assert "s3cret" not in str(refused.value)


def test_no_proxy_of_the_environment_is_used(connected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:3128")

    with OutsideClient(resolve=answer_of) as client, pytest.raises(SourceUnreachableError):
        client.get("https://public.example/")

    assert connected == [PUBLIC]


def test_a_name_that_nobody_knows_is_named() -> None:
    def refuse(host: str) -> list[str]:
        raise socket.gaierror("Name or service not known")

    with OutsideClient(resolve=refuse) as client, pytest.raises(SourceError, match=r"'crm\.example' cannot be found"):
        client.get("https://crm.example/")


def test_a_look_up_that_takes_too_long_is_not_waited_for() -> None:
    never = threading.Event()

    def slow(host: str) -> list[str]:
        never.wait(20)
        return [PUBLIC]

    with OutsideClient(resolve=slow, seconds=0.05) as client, pytest.raises(SourceUnreachableError, match="in time"):
        client.get("https://slow.example/")
    never.set()


def test_the_system_is_asked_unless_a_test_says_otherwise() -> None:
    assert set(resolve_host("127.0.0.1")) == {"127.0.0.1"}


# What comes back

Answering = Callable[[http.server.BaseHTTPRequestHandler], None]


@contextmanager
def answering(answer: Answering) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def send(content: bytes, **headers: str) -> Answering:
    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(content)

    return answer


def fetch(url: str, **options: Any) -> Any:
    with OutsideClient(allow_private=True, **options) as client:
        return client.get(url)


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_an_answer_is_unpacked(encoding: str) -> None:
    text = b'{"a": 1}' * 3
    content = gzip.compress(text) if encoding == "gzip" else text

    with answering(send(content, Content_Encoding=encoding)) as url:
        assert fetch(url, largest=len(text) + 30).content == text


@pytest.mark.parametrize("packed", [True, False])
def test_an_answer_that_is_too_large_is_not_read_to_its_end(packed: bool) -> None:
    large = b"\0" * 200_000
    content, headers = (gzip.compress(large), {"Content_Encoding": "gzip"}) if packed else (large, {})

    with answering(send(content, **headers)) as url, pytest.raises(SourceError, match="larger than 100000 bytes"):
        fetch(url, largest=100_000)


def test_an_answer_may_be_packed_in_pieces_and_comes_in_any_portions() -> None:
    pieces = [gzip.compress(text) for text in (b"a" * 70_000, b"", b"b", bytes(range(256)) * 600)]
    whole = b"a" * 70_000 + b"b" + bytes(range(256)) * 600

    with answering(send(b"".join(pieces) + bytes(20), Content_Encoding="gzip")) as url:
        assert fetch(url).content == whole
        assert fetch(url, largest=len(whole)).content == whole
        with pytest.raises(SourceError, match="larger than"):
            fetch(url, largest=len(whole) - 1)


@pytest.mark.parametrize("left_out", [1, 9, 200])
def test_half_of_a_packed_answer_is_none(left_out: int) -> None:
    """Its length is what was sent, so only what was packed says that there should be more."""
    content = gzip.compress(bytes(range(256)) * 600)[:-left_out]

    with (
        answering(send(content, Content_Encoding="gzip")) as url,
        pytest.raises(SourceUnreachableError, match="before it was complete"),
    ):
        fetch(url)


@pytest.mark.parametrize(("encoding", "said"), [("br", "not asked for"), ("gzip", "cannot be unpacked")])
def test_an_answer_that_cannot_be_unpacked_is_refused(encoding: str, said: str) -> None:
    with answering(send(b"nonsense", Content_Encoding=encoding)) as url, pytest.raises(SourceError, match=said):
        fetch(url)


def test_no_cookie_of_an_answer_is_kept_or_sent_back() -> None:
    """With a new one in each answer, each request would be larger than the one before."""
    sent: list[str | None] = []

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        sent.append(request.headers["Cookie"])
        send(b"{}", Set_Cookie=f"c{len(sent)}={'x' * 1000}; Path=/")(request)

    with answering(answer) as url, OutsideClient(allow_private=True) as client:
        for _ in range(3):
            client.get(url)

    assert sent == [None] * 3


def test_an_answer_that_comes_drop_by_drop_is_given_up_in_time() -> None:
    """Each byte is in time, all of them are not."""
    done = threading.Event()

    def drip(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        while not done.wait(0.01):
            request.wfile.write(b"x")

    with answering(drip) as url:
        with pytest.raises(SourceUnreachableError):
            fetch(url, seconds=0.3)
        done.set()


def test_what_is_sent_in_a_header_is_not_folded_into_another() -> None:
    with answering(send(b"{}")) as url, pytest.raises(SourceError, match=r"cannot be (asked|reached)"):
        fetch(url, headers={"X-Key": "a\r\nHost: other"})
