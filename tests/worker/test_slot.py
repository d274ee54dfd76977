"""The parent's end of a child: what was given and what can be had back."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from jobplatform.queue import ClaimedJob, Lease
from jobplatform.worker.attempt import Attempt
from jobplatform.worker.frames import OK, TOKEN, BodyReader, Reason, decode_orders, encode_frame
from jobplatform.worker.ledger import Ledger
from jobplatform.worker.slot import Slot, State


@pytest.fixture
def slot() -> Iterator[Slot]:
    slot = Slot(1)
    slot.state = State.IDLE
    yield slot
    slot.close()


def attempts(count: int, payload: str = "{}") -> list[Attempt]:
    made = []
    for seq in range(1, count + 1):
        lease = Lease("00000000-0000-0000-0000-000000000001", f"00000000-0000-0000-0000-{seq:012}", 1)
        attempt = Attempt(ClaimedJob(lease, "default", "task", 1, 3, 0, 1000, payload, 1, None, None))
        attempt.seq = seq
        made.append(attempt)
    return made


def child_reads_token(slot: Slot) -> int:
    return int.from_bytes(slot.token_end.recv(TOKEN.size), "little")


def test_what_the_child_has_not_started_comes_back_in_order_and_the_rest_stays(slot: Slot) -> None:
    given = attempts(5)
    slot.give(given)

    assert child_reads_token(slot) == 1
    assert slot.take_back() == given[1:]

    assert list(slot.run) == given[:1]
    assert slot.state is State.BUSY


def test_sequence_numbers_go_on_where_32_bits_end(slot: Slot) -> None:
    ledger = Ledger()
    ledger._seq = 2**32
    ledger.ready.extend(attempts(3))
    given = ledger.next_run(3, 1_000, free=3)
    body, results, orders, _, _ = slot.child_ends()

    slot.give(given)
    token = child_reads_token(slot)
    slot.order(given[0], Reason.TIMEOUT)
    os.write(results, encode_frame(token, OK, 0.0, 0.5, b"null"))

    assert (token, BodyReader(body).job(token).seq) == (2**32 + 1, 2**32 + 1)
    assert decode_orders(os.read(orders, 100)) == [(token, Reason.TIMEOUT)]
    assert [slot.finished(frame.seq, 0.5) for frame in slot.read()] == given[:1]
    assert slot.take_back() == given[1:]


def test_a_child_that_started_nothing_is_idle_after_everything_came_back(slot: Slot) -> None:
    given = attempts(3)
    slot.give(given)

    assert slot.take_back() == given
    assert slot.take_back() == []
    assert slot.state is State.IDLE


def test_a_clock_that_was_set_back_does_not_make_the_next_job_older(slot: Slot) -> None:
    slot.give(attempts(2))
    given_at = slot.since

    slot.finished(1, at=0.0)

    assert slot.since == given_at


def test_a_retiring_child_leaves_when_its_last_job_is_taken_back(slot: Slot) -> None:
    slot.give(attempts(1))
    slot.retire()

    slot.take_back()

    assert slot.state is State.LEAVING
    assert slot.token_end.recv(TOKEN.size) == b""


def test_a_body_longer_than_the_pipe_is_written_piece_by_piece(slot: Slot) -> None:
    reader = BodyReader(os.dup(slot.child_ends()[0]))
    text = '"' + "x" * 1_000_000 + '"'

    slot.give(attempts(2, text))
    # The child reads while the parent goes on writing: neither may wait for the other.
    os.set_blocking(reader._fd, False)
    while slot.has_rest:
        reader._buffer += os.read(reader._fd, 65_536)
        slot.write_rest()
    os.set_blocking(reader._fd, True)

    assert reader.job(2).payload == text[1:-1]
    os.close(reader._fd)


def test_giving_to_a_child_that_has_just_died_loses_nothing(slot: Slot) -> None:
    slot.close_child_ends()
    given = attempts(3)

    slot.give(given)

    assert slot.take_back() == given


def test_an_interrupted_attempt_keeps_its_child_from_getting_more_until_it_ends(slot: Slot) -> None:
    (attempt,) = attempts(1)
    slot.give([attempt])
    child_reads_token(slot)

    slot.order(attempt, Reason.CANCELLED)
    slot.settle()
    assert not slot.takes_jobs
    os.write(slot.child_ends()[1], encode_frame(1, OK, 0.0, 0.5, b"null"))
    (frame,) = slot.read()
    slot.finished(frame.seq, 0.5)
    slot.settle()

    assert slot.takes_jobs
