"""The one way to the outside: HTTP requests whose address somebody else has chosen.

    1. A URL is read once, by the client that will use it (:func:`check_url`).
    2. For each connection its host is resolved once, and *every* address it has must be public.
    3. The connection goes to the very address that was judged; nobody resolves the name again. The name stays in the
       ``Host`` header and in the certificate that is asked for.
    4. Redirects are answers like others, proxies of the environment are not used, and an answer is limited in size
       (as sent, and unpacked) and in the time that all of it takes.

The judgement is made inside of the network layer, so there is no second reading of a URL, no second look-up of a name
and no kind of request that could get past it.
"""

from __future__ import annotations

import functools
import ipaddress
import json
import logging
import socket
import ssl
import threading
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

import httpcore
import httpx

from jobplatform.connectors.addresses import Address, check_url, is_public
from jobplatform.errors import AddressRefusedError, SourceError, SourceUnreachableError

log = logging.getLogger(__name__)

#: Addresses of a host, as text. Tests bring their own.
Resolve = Callable[[str], Sequence[str]]

LARGEST_ANSWER = 16 * 1024 * 1024
#: Seconds for all of a request, and for each wait on the way.
LONGEST_REQUEST = 60.0
TIMEOUT = httpx.Timeout(30.0, connect=10.0)
_CHUNK = 65_536
#: Characters of a header that are told.
LONGEST_SHOWN = 100
#: zlib's word for "gzip or zlib, see for yourself".
_ANY_HEADER = 47


class Sink(Protocol):
    """Where an answer can go that is too large for memory. It is cleared first: it may have half of an earlier one."""

    def clear(self) -> object: ...

    def write(self, content: bytes, /) -> object: ...


class Answer(NamedTuple):
    """What was answered, whatever its status. ``content`` is unpacked."""

    url: str
    status: int
    headers: httpx.Headers
    content: bytes

    def json(self) -> Any:
        """The content as JSON. Raises :class:`SourceError`."""
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError) as error:
            kind = self.headers.get("content-type", "no content type")[:LONGEST_SHOWN]
            raise SourceError(f"{self.url} answers what is not JSON ({kind}): {error}") from error


class Asking(ABC):
    """Who asks over HTTP, and is closed at the end of a ``with``."""

    #: A method with the same parameters in all of them, and more in some.
    request: Callable[..., Answer]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None: ...

    def get(self, url: str, **options: Any) -> Answer:
        """:meth:`request` with GET."""
        return self.request("GET", url, **options)


class OutsideClient(Asking):
    """Asks addresses that a workspace has configured. For one thread at a time; close it, or use it with ``with``.

    ``allow_private`` is for development: loopback, private addresses and plain http are allowed then. With
    ``hides_paths`` an answer and its errors name no more of what was asked than scheme and host: the path is a secret.
    """

    def __init__(
        self,
        *,
        allow_private: bool = False,
        hides_paths: bool = False,
        headers: Mapping[str, str] | None = None,
        largest: int = LARGEST_ANSWER,
        seconds: float = LONGEST_REQUEST,
        resolve: Resolve | None = None,
    ) -> None:
        self._allow_private = allow_private
        self._hides_paths = hides_paths
        self._headers = dict(headers or {})
        self._largest = largest
        self._seconds = seconds
        self._deadline = _Deadline()
        backend = _CheckedBackend(resolve or resolve_host, self._deadline, allow_private=allow_private)
        # Requests have nothing to do with each other. A source that sets a new cookie with each answer would have each
        # of them larger than the one before.
        no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))
        self._client = httpx.Client(
            transport=_Transport(backend), timeout=TIMEOUT, trust_env=False, follow_redirects=False, cookies=no_cookies
        )

    def close(self) -> None:
        self._client.close()

    def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        into: Sink | None = None,
    ) -> Answer:
        """Ask, and read all of the answer. The content of one with status 200 goes ``into`` a file, if there is one.

        Raises :class:`AddressRefusedError` for what must not be asked, :class:`SourceUnreachableError` when there is no
        answer (in time), :class:`SourceError` for one that is too large or cannot be read.
        """
        target = check_url(url, allow_private=self._allow_private)
        # Last, because what is unpacked here is limited and what a library unpacks is not.
        asked = {**self._headers, **(headers or {}), "Accept-Encoding": "gzip"}
        self._deadline.start(self._seconds)
        where = self._shown(target)
        try:
            with self._client.stream(
                method, target, params=dict(params) if params else None, headers=asked, content=content
            ) as response:
                return Answer(where, response.status_code, response.headers, self._read(response, into))
        except httpx.LocalProtocolError:
            # Its words repeat the header, which may be somebody's secret.
            raise SourceError(f"{where} cannot be asked: a header has a value that none can have") from None
        except httpx.HTTPError as error:
            raise SourceUnreachableError(f"{where} cannot be reached: {_reason(error)}") from error
        except (ValueError, TypeError) as error:
            # A header that cannot be one, say: its words may repeat a secret.
            raise SourceError(f"{where} cannot be asked: {type(error).__name__}") from None

    def _shown(self, target: httpx.URL) -> str:
        shown = target.copy_with(query=None, fragment=None)
        return str(shown.copy_with(path="/") if self._hides_paths else shown)

    def _read(self, response: httpx.Response, into: Sink | None) -> bytes:
        unpacking = _Unpacking(response.headers.get("content-encoding", "identity"))
        content, sent, size = bytearray(), 0, 0
        # What says that something is wrong is short, and no part of what was asked for.
        keep: Callable[[bytes], object] = content.extend
        if into is not None and response.status_code == 200:
            into.clear()
            keep = into.write
        for chunk in response.iter_raw(_CHUNK):
            sent += len(chunk)
            unpacked = unpacking.unpack(chunk, self._largest + 1 - size)
            size += len(unpacked)
            if max(sent, size) > self._largest:
                raise SourceError(f"an answer is larger than {_size(self._largest)}; ask for smaller pages")
            keep(unpacked)
        unpacking.end()
        return bytes(content)


def resolve_host(host: str) -> Sequence[str]:
    """Every address of a host, as the system knows it."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]


class _Deadline:
    """When the request under way has to be over. No clock but this process's own is asked."""

    def __init__(self) -> None:
        self._at = 0.0

    def start(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    def within(self, timeout: float | None, error: type[Exception]) -> float:
        """How long a wait may be. Raises ``error`` when there is nothing left."""
        left = self._at - time.monotonic()
        if left <= 0:
            raise error("it took too long in all")
        return left if timeout is None else min(left, timeout)


class _CheckedBackend(httpcore.NetworkBackend):
    """Connects to public addresses, and to those that it has judged itself."""

    def __init__(self, resolve: Resolve, deadline: _Deadline, *, allow_private: bool) -> None:
        self._resolve = resolve
        self._deadline = deadline
        self._allow_private = allow_private
        self._network = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = self._addresses(host, timeout)
        for address in addresses[:-1]:
            try:
                return self._connect(address, port, timeout, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return self._connect(addresses[-1], port, timeout, socket_options)

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None
    ) -> httpcore.NetworkStream:
        raise AddressRefusedError("a source is never asked through a socket of this machine")

    def _connect(
        self,
        address: Address,
        port: int,
        timeout: float | None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None,
    ) -> httpcore.NetworkStream:
        seconds = self._deadline.within(timeout, httpcore.ConnectTimeout)
        # A text of numbers: there is nothing left to look up.
        stream = self._network.connect_tcp(str(address), port, seconds, socket_options=socket_options)
        return _LimitedStream(stream, self._deadline)

    def _addresses(self, host: str, timeout: float | None) -> Sequence[Address]:
        seconds = self._deadline.within(timeout, httpcore.ConnectTimeout)
        return _judged(_looked_up(self._resolve, host, seconds), host, allow_private=self._allow_private)


def judged_addresses(host: str, seconds: float, *, allow_private: bool) -> Sequence[Address]:
    """Every address of a host, all of them public: for whoever connects by other means, and then to one of these.

    Raises :class:`AddressRefusedError` when one is not, :class:`SourceError` for a host that cannot be found,
    :class:`SourceUnreachableError` when that takes too long.
    """
    try:
        return _judged(_looked_up(resolve_host, host, seconds), host, allow_private=allow_private)
    except httpcore.ConnectTimeout as error:
        raise SourceUnreachableError(str(error)) from error


def _judged(found: Sequence[str], host: str, *, allow_private: bool) -> Sequence[Address]:
    addresses = [_parsed(text) for text in dict.fromkeys(found)]
    # One that is not public among others is a trick, or a mistake; there is no good reason to ask the others.
    if not addresses or not (allow_private or all(map(is_public, addresses))):
        # Not in the message: it is shown to whoever chose the name, and is none of their business.
        log.warning("an address was refused", extra={"host": host, "addresses": [*map(str, addresses)]})
        raise AddressRefusedError(
            f"{host} is not a public address; "
            "in development it can be allowed with JOBPLATFORM_ALLOW_PRIVATE_ADDRESSES=true"
        )
    return addresses


def _looked_up(resolve: Resolve, host: str, seconds: float) -> Sequence[str]:
    """A look-up cannot be interrupted and takes as long as the name's owner likes; so it is waited for elsewhere."""
    found: list[Sequence[str]] = []
    failed: list[Exception] = []

    def look_up() -> None:
        try:
            found.append(resolve(host))
        except (OSError, UnicodeError) as error:
            failed.append(error)

    thread = threading.Thread(target=look_up, name="jobplatform-resolve", daemon=True)
    thread.start()
    thread.join(seconds)
    if found:
        return found[0]
    if failed:
        raise SourceError(f"the host {host!r} cannot be found: {failed[0]}") from failed[0]
    raise httpcore.ConnectTimeout(f"the host {host!r} was not found in time")


def _parsed(text: str) -> Address:
    """With a zone (``fe80::1%eth0``), if it has one: such an address is nobody's but this machine's."""
    try:
        return ipaddress.ip_address(text)
    except ValueError as error:
        raise AddressRefusedError(f"{text!r} is not an address") from error


class _LimitedStream(httpcore.NetworkStream):
    """A connection that serves no request for longer than its time."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.within(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.within(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        seconds = self._deadline.within(timeout, httpcore.ConnectTimeout)
        return _LimitedStream(self._stream.start_tls(ssl_context, server_hostname, seconds), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Transport(httpx.HTTPTransport):
    """httpx's own, on our network."""

    def __init__(self, backend: httpcore.NetworkBackend) -> None:
        super().__init__(verify=_certificates(), trust_env=False)
        # The one thing that httpx lets nobody say: where its connections come from.
        self._pool = httpcore.ConnectionPool(
            ssl_context=_certificates(),
            network_backend=backend,
            max_connections=4,
            keepalive_expiry=15,
        )


@functools.cache
def _certificates() -> ssl.SSLContext:
    """Whom to believe. Read once in a process: it takes longer than many a request."""
    return httpx.create_ssl_context(trust_env=False)


class _Unpacking:
    """Unpacks an answer as it comes, never more than is wanted. It may be packed in several pieces, one after another;
    and it has to come to its end: half of a file may well look like a whole one."""

    def __init__(self, encoding: str) -> None:
        encoding = encoding.strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise SourceError(f"the answer is packed as {encoding!r}, which was not asked for")
        self._is_packed = encoding not in ("", "identity")
        self._piece: Any = None

    def unpack(self, chunk: bytes, most: int) -> bytes:
        """A chunk, in at most so many bytes; one more than is allowed is enough to see that it is too much."""
        if not self._is_packed:
            return chunk
        unpacked = bytearray()
        while chunk and len(unpacked) < most:
            if self._piece is not None and self._piece.eof and not (chunk := chunk.lstrip(b"\0")):
                break  # Some fill up the last piece.
            if self._piece is None or self._piece.eof:
                self._piece = zlib.decompressobj(_ANY_HEADER)
            try:
                unpacked += self._piece.decompress(self._piece.unconsumed_tail + chunk, most - len(unpacked))
            except zlib.error as error:
                raise SourceError(f"the answer cannot be unpacked: {error}") from error
            chunk = self._piece.unused_data
        return bytes(unpacked)

    def end(self) -> None:
        """Nothing more comes. Raises :class:`SourceUnreachableError` if there should: it may be whole the next time."""
        if self._piece is not None and not self._piece.eof:
            raise SourceUnreachableError("the answer ended before it was complete")


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _size(limit: int) -> str:
    return f"{limit // 1024 // 1024} MiB" if limit >= 1024 * 1024 else f"{limit} bytes"
