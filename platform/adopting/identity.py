"""What a job that is taken over is called here: the same however often it is asked. Pure."""

from __future__ import annotations

import datetime
import hashlib
import uuid

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)


def id_of(place: str, their_id: str, made_at: datetime.datetime | None) -> uuid.UUID:
    """An id of the kind that ours have (UUIDv7): by the moment at which they made the job, so that lists show it where
    it belongs and first in stays first out.

    ``place`` tells apart databases that count from 1 alike. Of a job without a moment the id looks like the oldest.
    """
    microseconds = 0 if made_at is None else max(0, (made_at - _EPOCH) // _MICROSECOND)
    milliseconds, rest = divmod(microseconds, 1000)
    digest = hashlib.sha256(f"{place}\0{their_id}\0{microseconds}".encode()).digest()
    number = milliseconds << 80 | 0x7 << 76 | (rest * 4096 // 1000) << 64 | 0b10 << 62
    return uuid.UUID(int=number | _last_bits(their_id, digest))


def _last_bits(their_id: str, digest: bytes) -> int:
    """62 bits. What was made at one moment keeps its order where it has numbers."""
    bits = int.from_bytes(digest[:8])
    if their_id.isdecimal():
        return (int(their_id) & 0xFFFF_FFFF) << 30 | bits >> 34
    return bits >> 2
