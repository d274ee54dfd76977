"""`jobplatform api` with clients that hold on to their connections, over real sockets."""

from __future__ import annotations

import contextlib
import socket
import uuid
from collections.abc import Iterator, Sequence

import httpx
import pytest
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.api import mint_token
from jobplatform.connectors import create_connection
from jobplatform.models import Connection
from tests.end_to_end.api_process import THREADS, Api

MANY = 200
MIB = 1 << 20

#: How a request may begin and go on for ever: in its head, after it, in a body, in a body of chunks, in one too long.
POST = "POST {jobs} HTTP/1.1\r\nHost: x\r\n{token}Content-Type: application/json\r\n"
BEGINNINGS = (
    "GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ",
    POST + "Content-Length: 500\r\n\r\n{{",
    POST + "Transfer-Encoding: chunked\r\n\r\n1f4\r\n",
    POST + "Content-Length: 10000000\r\n\r\n{{",
)
#: How one may look complete and not be. Nobody has to show a token to send this form.
FORM = "POST /w/sign-in HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
ODD_BEGINNINGS = {
    "a length with noughts before it": FORM + "Content-Length: 0000000000000000000000500\r\n\r\na",
    "a chunk's size with noughts before it": FORM + "Transfer-Encoding: chunked\r\n\r\n000000000005\r\na",
    "a head of many fields": "GET /livez HTTP/1.1\r\nHost: x\r\n" + f"X-Long: {'x' * 4_000}\r\n" * 17,
    "a chunk's size with much to be said of it": FORM + f"Transfer-Encoding: chunked\r\n\r\n5;{'a' * 8_180}",
    "trailers": FORM + "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n" + "X-Sum: 1\r\n" * 8_000,
    "tiny chunks": FORM + "Transfer-Encoding: chunked\r\n\r\n" + "1\r\n \r\n" * 190_000,
}


@pytest.fixture(params=["threads", pytest.param("gevent", marks=pytest.mark.thorough)])
def api(request: pytest.FixtureRequest, database_url: str) -> Iterator[Api]:
    api = Api(database_url, request.param)
    yield api
    api.stop()


@pytest.fixture
def token(sessions: sessionmaker[Session], workspace_id: uuid.UUID) -> str:
    with sessions.begin() as session:
        return mint_token(session, workspace_id, ["jobs:read", "jobs:write"], "a test")


class Drip:
    """Clients that each send a byte at every round, and never an end."""

    def __init__(self, address: tuple[str, int], beginnings: Sequence[str]) -> None:
        self.clients = [socket.create_connection(address, timeout=30) for _ in range(MANY)]
        for number, client in enumerate(self.clients):
            client.sendall(beginnings[number % len(beginnings)].encode())

    def go_on(self) -> None:
        for client in self.clients:
            with contextlib.suppress(OSError):  # one whose body is too long has been told so
                client.send(b" ")

    def close(self) -> None:
        for client in self.clients:
            client.close()


def test_the_api_answers_while_many_clients_never_end_their_requests(
    api: Api, token: str, workspace_id: uuid.UUID
) -> None:
    jobs = f"/workspaces/{workspace_id}/jobs"
    bearer = f"Authorization: Bearer {token}\r\n"
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=api.url, headers=headers, timeout=60) as client:
        assert client.post(jobs, json={"jobType": "sync"}).status_code == 202
        before = api.memory()

        drip = Drip(api.address, [beginning.format(jobs=jobs, token=bearer) for beginning in BEGINNINGS])
        statuses = []
        for _ in range(20):
            drip.go_on()
            statuses += [client.get(jobs).status_code, httpx.get(f"{api.url}/livez", timeout=60).status_code]
        told = drip.clients[3].recv(MIB)
        grown = api.memory() - before
        pieces = send_in_pieces(api.address, jobs, bearer)
        heard = send_too_much(api.address, jobs, bearer)
        drip.close()

    assert set(statuses) == {200}
    assert told.startswith(b"HTTP/1.1 413")
    if api.server == "threads":
        # The other one reads what comes of the body after its answer, and goes on with the next request.
        assert b"\r\nConnection: close\r\n" in told
    assert grown < 48 * MIB, grown / MIB
    # Who goes on talking after the answer is heard out within measure, and no further.
    assert heard < 80 * MIB
    # And whoever is only slow is served.
    assert pieces == [b"HTTP/1.1 202", b"HTTP/1.1 202", b"HTTP/1.1 200"]


@pytest.mark.usefixtures("token")  # or nobody could sign in, and the form is not there
def test_requests_that_only_look_complete_take_nobody_s_place(api: Api) -> None:
    answered = {name: answers_beside(api, beginning) for name, beginning in ODD_BEGINNINGS.items()}

    assert answered == dict.fromkeys(ODD_BEGINNINGS, True)


@pytest.mark.thorough
def test_a_file_longer_than_any_other_request_arrives_whole(
    api: Api, sessions: sessionmaker[Session], workspace_id: uuid.UUID
) -> None:
    with sessions.begin() as session:
        made = create_connection(session, workspace_id, connector_type="csv", name="People", config={"idColumn": "id"})
        assert isinstance(made, Connection)
        file = f"/workspaces/{workspace_id}/connections/{made.id}/file"
        token = mint_token(session, workspace_id, ["connections"], "a test")
    rows = b"id,email\r\n" + b"1,ada@example.com\r\n" * 200_000

    headers = {"Authorization": f"Bearer {token}", "Content-Type": "text/csv"}
    with httpx.Client(base_url=api.url, headers=headers, timeout=60) as client:
        at_once = client.put(file, content=rows)
        in_chunks = client.put(file, content=iter([rows[:MIB], rows[MIB:]]))

    assert (at_once.status_code, in_chunks.status_code) == (200, 200), at_once.text
    assert at_once.json()["size"] == in_chunks.json()["size"] == len(rows)


def answers_beside(api: Api, beginning: str) -> bool:
    """Whether others are served while more clients than there are threads hold on to requests of this kind."""
    with contextlib.ExitStack() as held:
        for _ in range(2 * THREADS):
            client = held.enter_context(socket.create_connection(api.address, timeout=60))
            client.sendall(beginning.encode())
        try:
            return {httpx.get(f"{api.url}/livez", timeout=60).status_code for _ in range(2 * THREADS)} == {200}
        except httpx.ReadTimeout:
            return False


def send_too_much(address: tuple[str, int], jobs: str, bearer: str) -> int:
    """Bytes of a body much too long that are sent until the connection is closed."""
    sent = 0
    with socket.create_connection(address, timeout=60) as client, contextlib.suppress(ConnectionError):
        client.sendall((POST.format(jobs=jobs, token=bearer) + f"Content-Length: {80 * MIB}\r\n\r\n").encode())
        while sent < 80 * MIB:
            sent += client.send(b" " * MIB)
    return sent


def send_in_pieces(address: tuple[str, int], jobs: str, bearer: str) -> list[bytes]:
    """A body of its length, one of chunks, and a request that comes along with the end of it, on one connection."""
    body = b'{"jobType": "sync", "ifActive": "return"}'
    head = f"POST {jobs} HTTP/1.1\r\nHost: x\r\n{bearer}Content-Type: application/json\r\n".encode()
    with socket.create_connection(address, timeout=60) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in (head[:30], head[30:], f"Content-Length: {len(body)}\r\n\r\n".encode(), body[:10], body[10:]):
            client.sendall(piece)
        first = read_answer(client)
        chunk = f"{len(body):x}\r\n".encode() + body
        pieces = (head + b"Transfer-Encoding: chunked\r\n\r\n", chunk, b"\r\n0\r\n", b"\r\nGET /livez HTTP/1.1\r\n")
        for piece in pieces:
            client.sendall(piece)
        second = read_answer(client)
        client.sendall(b"Host: x\r\n\r\n")
        return [first, second, read_answer(client)]


def read_answer(client: socket.socket) -> bytes:
    """The first line of an answer, when all of it is here."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += client.recv(1)
    length = next(line.split(b":")[1] for line in data.split(b"\r\n") if line.lower().startswith(b"content-length"))
    while int(length) > (have := len(data.split(b"\r\n\r\n", 1)[1])):
        data += client.recv(int(length) - have)
    return data[:12]
