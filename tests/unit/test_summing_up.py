"""What a sync has to say fits, however many connections there are and whatever their sources say."""

from __future__ import annotations

import uuid

import pytest

from jobplatform.connectors.place import LARGEST_STREAMS, LONGEST_CURSOR, ConnectionPlace, SyncPlace, place_of, size_of
from jobplatform.connectors.summing_up import FOR_ERRORS, FOR_WARNINGS, SHORTEST, as_job_result, share, sum_up
from jobplatform.models import Connection
from jobplatform.queue import STEP_LIMIT
from jobplatform.queue.safe_json import RESULT_LIMIT
from jobplatform.wording import called, said_of

#: Six bytes of JSON a character.
WORST = "\x01"


def names_of(asked: list[Connection]) -> dict[uuid.UUID, str]:
    names = called([(connection.name, connection.id) for connection in asked])
    return dict(zip((connection.id for connection in asked), names, strict=True))


def connections(count: int) -> list[Connection]:
    return [
        Connection(workspace_id=uuid.UUID(int=1), id=uuid.UUID(int=n), connector_type="http_json", name=f"shop {n}")
        for n in range(count)
    ]


@pytest.mark.parametrize("count", [3, 500, 4_000])
def test_the_result_of_a_sync_fits_and_its_numbers_are_exact(count: int) -> None:
    asked = connections(count)
    wordy = ConnectionPlace(status="failed", records=3)
    wordy.fail(RuntimeError(WORST * 3_000))
    wordy.warn([WORST * 900] * 50)
    place = SyncPlace(connections={str(connection.id): wordy for connection in asked})

    logged = sum_up(asked, names_of(asked), place)
    result = as_job_result(logged)

    assert size_of(result) <= RESULT_LIMIT
    assert result["totalRecords"] == 3 * count
    assert [one["connectionId"] for one in logged["results"]] == [str(connection.id) for connection in asked]
    left_out = count - len(result["results"])
    assert (left_out > 0) == (count == 4_000)
    if left_out:
        said = f"{left_out:,} connections are left out of these results; the sync's entry in the log has them all"
        assert result["warnings"][0] == said
    for sentences, budget in ((logged["errors"], FOR_ERRORS), (logged["warnings"], FOR_WARNINGS)):
        assert size_of(sentences) <= budget + SHORTEST
    assert logged["errors"][0].startswith("shop 0: ")


def test_connections_of_one_name_are_told_apart_by_their_ids() -> None:
    one, other, third = asked = connections(3)
    one.name = other.name = "CRM"
    places = {str(connection.id): ConnectionPlace(status="failed") for connection in asked}
    for connection in asked:
        places[str(connection.id)].fail(RuntimeError("no answer"))
        places[str(connection.id)].warn(["odd"])

    result = sum_up(asked, names_of(asked), SyncPlace(connections=places))

    assert result["errors"] == [f"CRM ({one.id}): no answer", f"CRM ({other.id}): no answer", "shop 2: no answer"]
    assert result["warnings"] == [f"CRM ({one.id}): odd", f"CRM ({other.id}): odd", "shop 2: odd"]
    assert said_of("CRM", other.id, result["errors"]) == ["no answer"]
    assert said_of("shop 2", third.id, result["errors"]) == ["no answer"]


def test_words_that_fit_are_left_as_they_are() -> None:
    sentences = ["a" * 1_000] * 100

    assert share(sentences, 101_000 + 2_000) == sentences


def test_words_that_do_not_fit_are_cut_to_their_share_and_what_is_left_out_is_counted() -> None:
    cut = share([f"{n}: {'é' * 1_000}" for n in range(10)], 4_000)
    left_out = share(["b" * 1_000] * 100, 4_000)

    assert (len(cut), {sentence[-1] for sentence in cut}, size_of(cut) <= 4_000) == (10, {"…"}, True)
    assert left_out[-1] == f"and {100 - len(left_out) + 1} more, which are left out here"
    assert size_of(left_out) <= 4_000


def test_a_place_fits_into_its_part_of_a_checkpoint_whatever_its_source_says() -> None:
    place = ConnectionPlace(records=2**62, written=2**62, deleted=2**62, skipped=2**62, expected=2**62)
    place.fail(RuntimeError(WORST * 3_000))
    place.warn([WORST * 900] * 50)
    place.finished = ["s" * (LARGEST_STREAMS - 4)]
    place.stream, place.cursor, place.state = "s" * 2_700, "c" * (LONGEST_CURSOR - 2), "t" * (LONGEST_CURSOR - 2)
    sync = SyncPlace(connections={"a": place}, moved={"a"})

    (part,) = sync.moved_parts().values()

    assert size_of(part) <= STEP_LIMIT
    assert part["warnings"][-1] == "and more"


def test_a_sync_that_began_with_all_places_in_one_piece_goes_on_after_them() -> None:
    state = {"log_id": "l", "waits": 2, "connections": {"a": {"records": 1}, "b": {"records": 2, "unknown": 0}}}

    place = place_of(state, {"b": {"records": 5}, "c": {"records": 7}})

    assert {name: one.records for name, one in place.connections.items()} == {"a": 1, "b": 5, "c": 7}
    assert (place.log_id, place.waits, place.moved) == ("l", 2, set())
