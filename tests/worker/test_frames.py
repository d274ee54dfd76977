"""The bytes between parent and child."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

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

frames = st.tuples(
    st.integers(0, 2**32 - 1),
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
        received += reader.feed(stream[start:end])

    assert [tuple(frame) for frame in received] == sent
    assert reader.broken is None


def test_a_frame_cut_off_by_a_death_never_appears() -> None:
    whole = encode_frame(1, OK, 0.0, 0.0, b"null")
    reader = FrameReader()

    assert [frame.seq for frame in reader.feed(whole + encode_frame(2, OK, 0.0, 0.0, b"null")[:-1])] == [1]


@pytest.mark.parametrize(
    "rubbish", [b"\xff" * 100, HEAD.pack(4, 1, 200, 0.0, 0.0), HEAD.pack(MAX_FRAME + 1, 1, OK, 0.0, 0.0)]
)
def test_what_came_before_rubbish_counts_and_nothing_after_it(rubbish: bytes) -> None:
    reader = FrameReader()
    good = encode_frame(1, OK, 0.0, 0.0, b"null")

    assert [frame.seq for frame in reader.feed(good + rubbish)] == [1]
    assert reader.broken
    assert reader.feed(good) == []


@given(st.sets(st.integers(0, 2**32 - 1)))
def test_tokens_survive_the_way_back(seqs: set[int]) -> None:
    assert decode_tokens(encode_tokens(seqs)) == seqs


def test_orders_name_the_attempt_and_the_reason() -> None:
    data = ORDER_STRUCT.pack(7, Reason.TIMEOUT) + ORDER_STRUCT.pack(9, Reason.SHUTDOWN)

    assert decode_orders(data) == [(7, Reason.TIMEOUT), (9, Reason.SHUTDOWN)]


def job(seq: int, payload: object = None, **changes: object) -> JobSpec:
    spec = JobSpec(seq, "task", "ws", "id", 1, 1, 3, 1, None, None, json.dumps(payload))
    return spec._replace(**changes)  # type: ignore[arg-type]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_a_payload_is_spliced_in_and_parsed_once(payload: object) -> None:
    spec = job(1, payload, request_id='with "quotes"', trace_parent="ünicode")

    fields = json.loads(encode_job(spec))

    assert JobSpec(*fields) == spec._replace(payload=payload)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    os.close(read)
    os.close(write)


def send(write: int, *specs: JobSpec) -> None:
    os.write(write, encode_run([encode_job(spec) for spec in specs]))


def test_a_child_finds_the_body_that_its_token_names(pipe: tuple[int, int]) -> None:
    reader = BodyReader(pipe[0])
    send(pipe[1], job(1, "one"), job(2, "two"))
    send(pipe[1], job(3, "three"))

    assert [reader.job(seq).payload for seq in (1, 2, 3)] == ["one", "two", "three"]


def test_bodies_that_were_taken_back_are_skipped(pipe: tuple[int, int]) -> None:
    reader = BodyReader(pipe[0])
    send(pipe[1], job(1), job(2))
    send(pipe[1], job(3))
    send(pipe[1], job(4), job(5, "five"))

    assert reader.job(1).seq == 1
    assert reader.job(5).payload == "five"


def test_the_end_of_the_parent_is_the_end_of_the_bodies() -> None:
    read, write = os.pipe()
    os.close(write)

    with pytest.raises(EOFError):
        BodyReader(read).job(1)

    os.close(read)
