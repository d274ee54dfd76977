"""When a request that arrives in pieces is all there."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobplatform.cli.patient_worker import MOST_OF_ONE, READ_SIZE, Arriving

GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /jobs HTTP/1.1\r\nHost: x\r\nContent-length:  5\r\n\r\nhello"
CHUNKED = b"POST /jobs HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
TRAILED = CHUNKED[:-2] + b"X-Sum: 1\r\nX-Of: 5\r\n\r\n"
#: Its first chunk looks like the last one, and its second has something to say about itself.
DECEPTIVE = (
    b"POST /jobs HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"9\r\n\r\n0\r\n\r\n\r\n\r\n00B;of=two\r\nhello\r\n0\r\n\r\r\n0\r\n\r\n"
)


class Sent(list[bytes]):
    def send(self, data: bytes) -> int:
        self.append(data)
        return len(data)


def arriving(sent: Sent | None = None) -> Arriving:
    return Arriving(SimpleNamespace(sock=sent if sent is not None else Sent()), 0.0)


def arrives(*pieces: bytes) -> list[bool]:
    """Whether it was complete after each piece."""
    one, said = arriving(), []
    for piece in pieces:
        one.data += piece
        said.append(one.is_complete())
    return said


@given(st.sampled_from([GET, POST, CHUNKED, TRAILED, DECEPTIVE]), st.lists(st.integers(1, 110), max_size=8))
def test_a_request_is_complete_with_its_last_byte_however_it_was_cut(request: bytes, cuts: list[int]) -> None:
    places = sorted({cut for cut in cuts if cut < len(request)})
    pieces = [request[start:end] for start, end in zip([0, *places], [*places, len(request)], strict=True)]

    assert arrives(*pieces) == [False] * (len(pieces) - 1) + [True]


@pytest.mark.parametrize("request_", [GET, POST, CHUNKED, TRAILED, DECEPTIVE])
def test_a_request_that_comes_byte_by_byte_is_complete_with_the_last(request_: bytes) -> None:
    assert arrives(*(request_[at : at + 1] for at in range(len(request_)))) == [False] * (len(request_) - 1) + [True]


def test_what_should_be_a_chunk_and_is_none_is_not_waited_for() -> None:
    start = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"

    assert arrives(start, b"5\r\nhello\r\n", b"-1", b"\r\n") == [False, False, False, True]


@pytest.mark.parametrize(
    "request_",
    [
        b"G" * (READ_SIZE + 1),
        b"POST / HTTP/1.1\r\nContent-Length: 10000000\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n" + b"x" * MOST_OF_ONE,
    ],
)
def test_what_is_too_much_is_not_waited_for(request_: bytes) -> None:
    one = arriving()
    one.data += request_

    assert one.is_complete()
    assert one.is_too_much


def test_a_client_that_waits_to_be_asked_for_its_body_is_asked_once() -> None:
    sent = Sent()
    one = arriving(sent)

    one.data += b"POST / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n"
    assert not one.is_complete()
    one.data += b"x"
    assert not one.is_complete()
    one.data += b"y"
    assert one.is_complete()
    assert sent == [b"HTTP/1.1 100 Continue\r\n\r\n"]
