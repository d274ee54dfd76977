"""When a request that arrives in pieces is all there."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest
from gunicorn.config import Config
from gunicorn.http import get_parser
from gunicorn.http.errors import LimitRequestHeaders, ParseException
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, RequestTimeout

from jobplatform.cli.serving import patient_worker
from jobplatform.cli.serving.patient_worker import MOST_OF_CHUNK_LINE, MOST_OF_HEAD, MOST_OF_ONE, Arriving, Received

GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /jobs HTTP/1.1\r\nHost: x\r\nContent-length:  5\r\n\r\nhello"
CHUNKED = b"POST /jobs HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
TRAILED = CHUNKED[:-2] + b"X-Sum: 1\r\nX-Of: 5\r\n\r\n"
CHUNKED_HEAD = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
#: Its first chunk looks like the last one, and its second has something to say about itself.
DECEPTIVE = (
    b"POST /jobs HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"9\r\n\r\n0\r\n\r\n\r\n\r\n00B;of=two\r\nhello\r\n0\r\n\r\r\n0\r\n\r\n"
)
#: What is read from it fails: it is no connection at all.
NOWHERE = SimpleNamespace(recv=None)


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
    assert arrives(CHUNKED_HEAD, b"5\r\nhello\r\n", b"-1", b"\r\n") == [False, False, False, True]


@pytest.mark.parametrize(
    "request_",
    [
        b"G" * (MOST_OF_HEAD + 1),
        b"POST / HTTP/1.1\r\nContent-Length: 10000000\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\n",
        CHUNKED_HEAD + b"fffff\r\n" + b"x" * 0xFFFFF + b"\r\nfffff\r\n" + b"x" * 0xFFFFF,
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


@pytest.mark.parametrize(
    "request_",
    [
        b"POST / HTTP/1.1\r\nContent-Length: 0000000000000000000000005\r\n\r\nhello",
        CHUNKED_HEAD + b"000000000005\r\nhello\r\n000000000000\r\n\r\n",
    ],
)
def test_a_number_with_many_noughts_before_it_is_waited_for_as_long_as_without(request_: bytes) -> None:
    assert arrives(*(request_[at : at + 1] for at in range(len(request_)))) == [False] * (len(request_) - 1) + [True]


def test_a_line_that_announces_a_chunk_and_does_not_end_is_not_waited_for() -> None:
    assert arrives(CHUNKED_HEAD + b"5;", b"a" * (MOST_OF_CHUNK_LINE - 3), b"a") == [False, False, True]


LINES = [b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.0\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"]
WORDS = [
    b"content-LENGTH:",
    b"Transfer-Encoding:",
    b"chunked",
    b"gzip",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"000000000005",
]
CHARACTERS = [b"\r\n", b"\r", b"\n", b" ", b"\t", b";a=b", b":", b",", b"0", b"5", b"+5", b"\xb2"]


@given(st.lists(st.sampled_from([*LINES, *WORDS, *CHARACTERS]), max_size=16).map(b"".join))
def test_what_is_handed_over_is_complete_by_gunicorn_s_reading_too(request: bytes) -> None:
    one = arriving()
    one.data += request

    if one.is_complete():
        read_as_a_thread_does(one)  # and raises nothing but gunicorn's own refusals


def read_as_a_thread_does(one: Arriving) -> bytes:
    """All of it; nothing if gunicorn refuses it."""
    parser = get_parser(Config(), NOWHERE, ("127.0.0.1", 1))
    parser.unreader = Received(NOWHERE)
    parser.unreader.begin(one)
    try:
        body: bytes = next(parser).body.read()
    except ParseException:
        return b""
    return body


@pytest.mark.parametrize(
    ("request_", "refusal"),
    [
        (b"GET / HTTP/1.1\r\n" + b"X: x\r\n" * 11_000, LimitRequestHeaders),
        (CHUNKED[:-2] + b"X: x\r\n" * 11_000, RequestEntityTooLarge),
        (CHUNKED_HEAD + b"1\r\nx\r\n" * (MOST_OF_ONE // 2), RequestEntityTooLarge),
        (POST[:-1], BadRequest),
    ],
)
def test_a_thread_that_wants_more_than_has_come_is_told_what_is_wrong(
    request_: bytes, refusal: type[Exception]
) -> None:
    one = arriving()
    one.data += request_
    one.is_complete()

    reader = Received(NOWHERE)
    reader.begin(one)

    assert reader.read() == request_
    with pytest.raises(refusal):
        reader.read()


def test_a_thread_reads_the_rest_of_a_long_body_and_does_not_wait_for_it_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patient_worker, "PATIENCE", 0.05)
    one = arriving()
    one.data += b"POST / HTTP/1.1\r\nContent-Length: 10000000\r\n\r\nhello"
    ours, theirs = socket.socketpair()

    with ours, theirs:
        theirs.sendall(b" you")
        reader = Received(ours)
        assert one.is_complete()
        reader.begin(one)
        assert (reader.read(), reader.read()) == (bytes(one.data), b" you")
        with pytest.raises(RequestTimeout):
            reader.read()
