"""A connection is tried: one page is asked for, and what was found is told. Nothing is stored."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from jobplatform.connectors.allowing import allows_private
from jobplatform.connectors.blaming import blaming, opened, streams_of
from jobplatform.connectors.source import Connector, SourceRecord
from jobplatform.errors import NeedsAttentionError, SourceBusyError, SourceError
from jobplatform.models import Connection
from jobplatform.wording import agreeing, plural

MOST_FIELDS = 50


@dataclass(frozen=True)
class Tried:
    """What was found. ``fields`` are names in the first records; no value of theirs is told."""

    ok: bool
    message: str
    streams: Sequence[str] = ()
    stream: str | None = None
    records: int = 0
    total: int | None = None
    fields: Sequence[str] = ()
    needs_attention: bool = False
    took_ms: int = 0


def try_connection(
    session: Session, connection: Connection, *, stream: str | None = None, allow_private: bool | None = None
) -> Tried:
    """Ask for the first page of ``stream`` (the first there is, unless named), once and for some seconds at most.

    The session is used for short transactions; none may be open. What the source says of the credentials is noted.
    """
    began = time.monotonic()
    tried = _try(session, connection, stream, allows_private(allow_private))
    took = round((time.monotonic() - began) * 1000)
    return Tried(**{**tried.__dict__, "took_ms": took})


def _try(session: Session, connection: Connection, stream: str | None, allow_private: bool) -> Tried:
    try:
        with opened(session, connection, allow_private, patient=False) as connector:
            streams = streams_of(connector)
            if stream is not None and stream not in streams:
                return Tried(False, f"it has no stream {stream!r}; there are {', '.join(streams)}", streams)
            return _first_page(connector, streams, stream or streams[0])
    except NeedsAttentionError as error:
        return Tried(False, str(error), needs_attention=True)
    except SourceError as error:
        return Tried(False, str(error))


def _first_page(connector: Connector, streams: Sequence[str], stream: str) -> Tried:
    try:
        with blaming(stream):
            page = connector.fetch(stream, None)
    except NeedsAttentionError as error:
        return Tried(False, str(error), streams, stream, needs_attention=True)
    except SourceBusyError as error:
        when = f"try again in {plural(math.ceil(error.retry_after), 'second')}"
        return Tried(False, f"{error}; {when}", streams, stream)
    except SourceError as error:
        return Tried(False, str(error), streams, stream)
    of_all = f" of {page.total}" if page.total is not None else ""
    more = "; there are more" if page.next_cursor is not None and page.total is None else ""
    records = agreeing(len(page.records) if page.total is None else page.total, "record")
    message = f"{len(page.records)}{of_all} {records} on the first page of {stream}{more}"
    return Tried(True, message, streams, stream, len(page.records), page.total, _fields_of(page.records))


def _fields_of(records: Sequence[SourceRecord]) -> list[str]:
    names = dict.fromkeys(name for record in records[:20] for name in record.data)
    return [str(name) for name in names][:MOST_FIELDS]
