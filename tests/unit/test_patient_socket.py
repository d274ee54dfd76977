"""Answers that nobody reads, or only slowly."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Iterator

import pytest

from jobplatform.cli.serving import patient_socket
from jobplatform.cli.serving.patient_socket import PatientSocket

ANSWER = b"x" * (4 << 20)


@pytest.fixture
def ends() -> Iterator[tuple[PatientSocket, socket.socket]]:
    ours, theirs = socket.socketpair()
    patient = patient_socket.of(ours)
    with patient, theirs:
        yield patient, theirs


def test_an_answer_that_nobody_reads_is_given_up(
    ends: tuple[PatientSocket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patient_socket, "UNREAD", 0.05)

    with pytest.raises(BrokenPipeError) as given_up:
        ends[0].sendall(ANSWER)

    assert given_up.value.errno == errno.EPIPE
    assert ends[0].gettimeout() is None


def test_one_that_is_read_too_slowly_is_given_up_too(
    ends: tuple[PatientSocket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(0, 10_000, 100))  # a piece takes 100 seconds
    monkeypatch.setattr(patient_socket.time, "monotonic", lambda: next(now))

    with pytest.raises(BrokenPipeError):
        ends[0].sendall(ANSWER)


def test_who_reads_gets_all_of_it(ends: tuple[PatientSocket, socket.socket]) -> None:
    read = bytearray()

    def reading() -> None:
        while data := ends[1].recv(1000):
            read.extend(data)

    reader = threading.Thread(target=reading)
    reader.start()
    ends[0].sendall(ANSWER)
    ends[0].shutdown(socket.SHUT_WR)
    reader.join(30)

    assert read == ANSWER
