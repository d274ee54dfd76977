"""What a connector is: the small protocol between a sync and a source of records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self


@dataclass(frozen=True)
class SourceRecord:
    """One record as the source sent it. ``external_id`` is what the source calls it, unique within its stream.

    ``deleted``: the source says that it is not there any more. Its copy is marked and keeps its data.
    """

    external_id: str
    data: Mapping[str, Any]
    deleted: bool = False


@dataclass(frozen=True)
class Page:
    """Some records of a stream. Without a ``next_cursor`` it was the last page; ``total`` is the size of the whole
    stream when the source says so.

    ``state`` is where the next incremental sync begins: it is given to ``fetch`` as the first cursor then. The last one
    of a sync that reached the end of the stream counts. Without any, every sync reads the whole stream.

    ``skipped`` says how many things were no records, ``warnings`` what was odd about those and others; both are told
    with the sync's result. A stream that is not ``complete`` shows only some of its records (a feed its newest): what
    an initial sync does not see of it has not vanished.
    """

    records: Sequence[SourceRecord]
    next_cursor: str | None = None
    total: int | None = None
    state: str | None = None
    skipped: int = 0
    warnings: Sequence[str] = ()
    complete: bool = True


class Connector(Protocol):
    """A connection to one source, open for the length of one attempt at a sync.

    ``fetch`` is asked for the page at ``cursor``: None is the beginning of the stream, anything else is what an earlier
    page gave as ``next_cursor``, or as ``state`` in an earlier sync. It may block and may raise: a
    :class:`~jobplatform.errors.SourceError` with a message for the person who reads the sync's result, a
    :class:`~jobplatform.errors.SourceBusyError` to be asked again later, a
    :class:`~jobplatform.errors.CursorLostError` to be asked for the stream from its beginning, anything else counts as
    a fault of the connector. Fetching the same cursor again must be possible; a sync that was interrupted does.
    """

    def streams(self) -> Sequence[str]: ...

    def fetch(self, stream: str, cursor: str | None) -> Page: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
