"""The place of somebody who follows a workspace survives being written down."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobplatform.api.streams.places import LONGEST, WORTH_MS, WorkspacePlace, read_place
from jobplatform.queue import Position

NOW = 1_790_000_000_000
number = st.integers(0, 2**31 - 1)
digests = st.sampled_from(["", "00000000", "deadbeef"])
positions = st.builds(Position, number, number, st.integers(0, 2), digests, number, number)
ids = st.builds(
    lambda made_at, rest: str(uuid.UUID(int=made_at << 80 | rest)), st.integers(0, 2**48 - 1), st.integers(0, 2**80 - 1)
)


@given(st.dictionaries(ids, positions, max_size=20), st.lists(st.integers(0, 2**74), max_size=20), st.booleans())
def test_a_place_is_read_as_it_was_written(jobs: dict[str, Position], ended: list[int], exact: bool) -> None:
    place = WorkspacePlace(NOW, exact=exact)
    place.jobs.update(jobs)
    ended_ids = [str(uuid.UUID(int=NOW << 80 | rest)) for rest in ended]
    for job_id in ended_ids:
        place.note_ended(job_id)

    read = read_place(str(place))

    assert (read.at, read.exact, read.jobs) == (NOW, exact, jobs)
    assert all(read.has_ended(job_id) for job_id in ended_ids)
    assert str(read) == str(place)


@given(st.text() | st.text(alphabet="AB-_=0", max_size=40).map(lambda rest: "w1-" + rest))
def test_what_nobody_wrote_is_refused_or_read_as_something(text: str) -> None:
    try:
        place = read_place(text)
    except ValueError:
        return
    assert isinstance(place, WorkspacePlace)


@pytest.mark.parametrize(
    ("position", "most"),
    [(Position(9, 9, 2, "deadbeef", 9, 999), 100), (Position(0, 0, 1, "deadbeef"), 200), (Position(0, 0, 1), 250)],
)
def test_a_place_says_when_it_gets_too_long_for_a_header(position: Position, most: int) -> None:
    place = WorkspacePlace(NOW)
    while place.has_room:
        place.jobs[str(uuid.uuid4())] = position

    assert len(str(place)) <= LONGEST
    assert len(place.jobs) > most


def test_a_place_is_worth_something_for_ten_minutes() -> None:
    assert not WorkspacePlace(NOW).is_too_old(NOW + WORTH_MS)
    assert WorkspacePlace(NOW).is_too_old(NOW + WORTH_MS + 1)


def test_those_that_ended_are_forgotten_when_nobody_looks_for_them_any_more() -> None:
    job = str(uuid.UUID(int=NOW << 80 | 7))
    place = WorkspacePlace(NOW)
    place.note_ended(job)

    place.at = NOW + 31_000
    place.forget_ended()

    assert not place.has_ended(job)


@pytest.mark.parametrize("text", ["", "w1-", "w2-AAAA", "w1-\x00", "w1-" + "A" * 20_000])
def test_a_text_of_another_form_is_no_place(text: str) -> None:
    with pytest.raises(ValueError, match="not a position"):
        read_place(text)
