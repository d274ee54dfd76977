"""What came of a sync, in a result that can be kept however many connections there are. No I/O.

The numbers of all connections together are exact. Words share a budget: when it is not enough each sentence is cut to
its share, and what then is too much is left out and counted. So are connections beyond theirs, which the sync's entry
in the log has all the same.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal, TypedDict, TypeVar
from uuid import UUID

from jobplatform.connectors.place import ConnectionPlace, SyncPlace, size_of
from jobplatform.models import Connection

#: Bytes of JSON, of the megabyte that a result may be.
FOR_RESULTS: Final = 640 << 10
FOR_ERRORS: Final = 192 << 10
FOR_WARNINGS: Final = 96 << 10
#: A sentence is not cut to less.
SHORTEST: Final = 160

T = TypeVar("T")

CUT = "…"
LEFT_OUT = "and {count:,} more, which are left out here"
WITHOUT_SOME = "{count:,} connections are left out of these results; the sync's entry in the log has them all"


class ConnectionResult(TypedDict):
    """What became of one connection; ``written`` counts the records that were new or different, ``deleted`` those that
    an initial sync did not see any more, ``skipped`` what was no record."""

    connectionId: str
    connectorType: str
    name: str
    records: int
    written: int
    deleted: int
    skipped: int
    status: Literal["completed", "failed"]


class SyncResult(TypedDict):
    """The result of a sync job."""

    results: list[ConnectionResult]
    totalRecords: int
    errors: list[str]
    warnings: list[str]
    syncLogId: str


def sum_up(connections: Sequence[Connection], names: Mapping[UUID, str], place: SyncPlace) -> SyncResult:
    """What there is to say of these connections, by what they are called. For the log: all of them are named, and words
    share their budget."""
    places = [place.of(connection.id) for connection in connections]
    results = [_result_of(connection, one) for connection, one in zip(connections, places, strict=True)]
    told = [(names[connection.id], one) for connection, one in zip(connections, places, strict=True)]
    errors = [f"{name}: {one.error}" for name, one in told if one.error is not None]
    warnings = [f"{name}: {warning}" for name, one in told for warning in one.warnings]
    return SyncResult(
        results=results,
        totalRecords=sum(result["records"] for result in results),
        errors=share(errors, FOR_ERRORS),
        warnings=share(warnings, FOR_WARNINGS),
        syncLogId=place.log_id,
    )


def as_job_result(result: SyncResult) -> SyncResult:
    """The same without the connections that a job's result has no room for."""
    kept = list(_while_there_is_room(result["results"], FOR_RESULTS))
    left_out = len(result["results"]) - len(kept)
    if not left_out:
        return result
    return {**result, "results": kept, "warnings": [WITHOUT_SOME.format(count=left_out), *result["warnings"]]}


def share(sentences: Sequence[str], budget: int) -> list[str]:
    """The sentences in so many bytes of JSON: as they are, or each of them cut to its share."""
    # A character is a byte or more: most of what is too much need not be written out to be seen.
    if sum(map(len, sentences)) <= budget and sum(size_of(sentence) + 1 for sentence in sentences) <= budget:
        return list(sentences)
    room = budget - SHORTEST
    longest = max(SHORTEST, room // len(sentences) - 1)
    kept = list(_while_there_is_room((_cut(sentence, longest) for sentence in sentences), room))
    left_out = len(sentences) - len(kept)
    return kept + ([LEFT_OUT.format(count=left_out)] if left_out else [])


def _while_there_is_room(values: Iterable[T], room: int) -> Iterator[T]:
    """The first of them, as far as they fit into so many bytes of JSON."""
    for value in values:
        room -= size_of(value) + 1
        if room < 0:
            return
        yield value


def _cut(sentence: str, longest: int) -> str:
    if len(sentence) <= longest and size_of(sentence) <= longest:
        return sentence
    start = sentence[:longest]
    ends = range(1, len(start))
    return start[: bisect.bisect_right(ends, longest, key=lambda end: size_of(start[:end] + CUT))] + CUT


def _result_of(connection: Connection, place: ConnectionPlace) -> ConnectionResult:
    return ConnectionResult(
        connectionId=str(connection.id), connectorType=connection.connector_type, name=connection.name,
        records=place.records, written=place.written, deleted=place.deleted, skipped=place.skipped,
        status="completed" if place.status == "completed" else "failed",
    )  # fmt: skip
