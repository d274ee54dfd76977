"""The bytes between parent and child."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobplatform.queue import ClaimedJob, Lease
from jobplatform.worker.frames import (
    ENDED,
    HEAD,
    MAX_FRAME,
    OK,
    BodyReader,
    FrameReader,
    JobSpec,
    Reason,
    decode_orders,
    decode_tokens,
    encode_frame,
    encode_job,
    encode_run,
    encode_tokens,
)
from jobplatform.worker.frames import ORDER as ORDER_STRUCT

#: After all that is sent here.
NOW = 2e9

frames = st.tuples(
    st.integers(0, 2**64 - 1),
    st.sampled_from([OK, ENDED]),
    st.floats(0, 1e9),
    st.floats(0, 1e6),
    st.binary(max_size=300),
)


@given(st.lists(frames, max_size=10), st.data())
def test_frames_come_out_as_they_went_in_wherever_the_stream_is_cut(
    sent: list[tuple[int, int, float, float, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(encode_frame(*frame) for frame in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    reader = FrameReader()

    received = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        received += reader.feed(stream[start:end], NOW)

    assert [tuple(frame) for frame in received] == sent
    assert reader.broken is None


def test_a_frame_cut_off_by_a_death_never_appears() -> None:
    whole = encode_frame(1, OK, 0.0, 0.0, b"null")
    reader = FrameReader()

    assert [frame.seq for frame in reader.feed(whole + encode_frame(2, OK, 0.0, 0.0, b"null")[:-1], NOW)] == [1]


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\xff" * 100,
        HEAD.pack(4, 1, 200, 0.0, 0.0),
        HEAD.pack(MAX_FRAME + 1, 1, OK, 0.0, 0.0),
        HEAD.pack(0, 1, OK, math.nan, 0.0),
        HEAD.pack(0, 1, OK, 0.0, math.inf),
    ],
)
def test_what_came_before_rubbish_counts_and_nothing_after_it(rubbish: bytes) -> None:
    reader = FrameReader()
    good = encode_frame(1, OK, 0.0, 0.0, b"null")

    assert [frame.seq for frame in reader.feed(good + rubbish, NOW)] == [1]
    assert reader.broken
    assert reader.feed(good, NOW) == []


@given(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300), st.floats(1.0, 1e9))
def test_nothing_begins_or_ends_after_it_was_heard_of(started: float, seconds: float, now: float) -> None:
    (frame,) = FrameReader().feed(encode_frame(1, OK, started, seconds, b"null"), now)

    assert 0.0 <= frame.started <= now
    assert frame.seconds >= 0.0
    assert frame.started + frame.seconds <= now * (1 + 1e-9)


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ((50.0, 10.0), (50.0, 10.0)),
        ((1e9, 10.0), (60.0, 0.0)),
        ((50.0, 1e9), (50.0, 10.0)),
        ((50.0, -9.0), (50.0, 0.0)),
    ],
)
def test_of_a_frozen_clock_as_much_is_taken_as_can_be(said: tuple[float, float], heard: tuple[float, float]) -> None:
    (frame,) = FrameReader().feed(encode_frame(1, OK, *said, b"null"), 60.0)

    assert (frame.started, frame.seconds) == heard


@given(st.sets(st.integers(0, 2**64 - 1)))
def test_tokens_survive_the_way_back(seqs: set[int]) -> None:
    assert decode_tokens(encode_tokens(seqs)) == seqs


def test_orders_name_the_attempt_and_the_reason() -> None:
    data = ORDER_STRUCT.pack(7, Reason.TIMEOUT) + ORDER_STRUCT.pack(9, Reason.SHUTDOWN)

    assert decode_orders(data) == [(7, Reason.TIMEOUT), (9, Reason.SHUTDOWN)]


def job(payload: object = None, **changes: Any) -> ClaimedJob:
    lease = Lease("00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002", 5)
    claimed = ClaimedJob(lease, "default", "task", 1, 3, 0, 1000, json.dumps(payload), 2, None, None)
    return claimed._replace(**changes)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values)
def test_a_payload_is_spliced_in_and_parsed_once(payload: object) -> None:
    claimed = job(payload, request_id='with "quotes"', trace_parent="ünicode")

    spec = JobSpec(*json.loads(encode_job(7, claimed)))

    assert (spec.seq, spec.task, spec.queue, spec.payload_version) == (7, "task", "default", 2)
    assert spec.payload == payload
    assert Lease(spec.workspace_id, spec.job_id, spec.epoch) == claimed.lease
    assert (spec.attempt, spec.max_attempts) == (claimed.attempt, claimed.max_attempts)
    assert (spec.request_id, spec.trace_parent) == ('with "quotes"', "ünicode")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    os.close(read)
    os.close(write)


def send(write: int, **payloads: str) -> None:
    os.write(write, encode_run([encode_job(int(seq[1:]), job(payload)) for seq, payload in payloads.items()]))


def test_a_child_finds_the_body_that_its_token_names(pipe: tuple[int, int]) -> None:
    reader = BodyReader(pipe[0])
    send(pipe[1], n1="one", n2="two")
    send(pipe[1], n3="three")

    assert [reader.job(seq).payload for seq in (1, 2, 3)] == ["one", "two", "three"]


def test_bodies_that_were_taken_back_are_skipped(pipe: tuple[int, int]) -> None:
    reader = BodyReader(pipe[0])
    send(pipe[1], n1="one", n2="two")
    send(pipe[1], n3="three")
    send(pipe[1], n4="four", n5="five")

    assert reader.job(1).seq == 1
    assert reader.job(5).payload == "five"


def test_the_end_of_the_parent_is_the_end_of_the_bodies() -> None:
    read, write = os.pipe()
    os.close(write)

    with pytest.raises(EOFError):
        BodyReader(read).job(1)

    os.close(read)
