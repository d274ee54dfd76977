"""Standard Webhooks: a delivery has an id, a moment and a signature over both and the body, so none of them can be
replaced, and one that was recorded is worth nothing after a few minutes.

    webhook-id: msg_0199f0c25a4e7c319a556f0f2f6f7d10
    webhook-timestamp: 1767603600
    webhook-signature: v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=

A secret is ``whsec_`` and 24 to 64 bytes in base64. While one is replaced by another a delivery has a signature by
each, with a space between.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import math
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from jobplatform.errors import DeliveryRefusedError

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
PREFIX = "whsec_"
SECRET_BYTES = range(24, 65)
#: Seconds that a delivery may be old, or ahead of the receiver's clock.
TOLERANCE = 300
#: More signatures than this nobody's rotation makes.
MOST_SIGNATURES = 20

_TIMESTAMP = re.compile(r"[0-9]{1,12}\Z", re.ASCII)


class Verified(NamedTuple):
    """What a delivery says of itself, and may be believed. The same ``id`` again is the same delivery again."""

    id: str
    timestamp: int


def new_secret() -> str:
    """A secret of 32 random bytes."""
    return PREFIX + base64.b64encode(os.urandom(32)).decode()


def key_of(secret: str) -> bytes:
    """The bytes of a secret. Raises ValueError, which never repeats any of it."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"must be {PREFIX} and base64") from None
    if len(key) not in SECRET_BYTES:
        raise ValueError(f"must be {PREFIX} and {SECRET_BYTES[0]} to {SECRET_BYTES[-1]} bytes in base64")
    return key


def sign(secrets: Sequence[str], delivery_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers of a delivery: a signature by each of ``secrets``."""
    signatures = " ".join(f"v1,{_signature(key_of(secret), delivery_id, timestamp, body)}" for secret in secrets)
    return {ID: delivery_id, TIMESTAMP: str(timestamp), SIGNATURE: signatures}


def verify(
    secrets: str | Iterable[str],
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float | None = None,
    tolerance: float = TOLERANCE,
) -> Verified:
    """What came with a delivery that one of ``secrets`` has signed and that is not too old.

    ``headers`` may be spelled in any case, ``body`` is what came, byte for byte. ``now`` is the receiver's clock unless
    it is given. Raises :class:`DeliveryRefusedError`; ValueError for a secret that is none.
    """
    found = {name.lower(): value for name, value in headers.items()}
    if not all(found.get(name) for name in (ID, TIMESTAMP, SIGNATURE)):
        raise DeliveryRefusedError("unsigned", f"the headers {ID}, {TIMESTAMP} and {SIGNATURE} are needed")
    timestamp = require_recent(found[TIMESTAMP], time.time() if now is None else now, tolerance)
    keys = [key_of(secret) for secret in ([secrets] if isinstance(secrets, str) else secrets)]
    expected = [_signature(key, found[ID], timestamp, body) for key in keys]
    presented = [
        signature
        for version, _, signature in (part.partition(",") for part in found[SIGNATURE].split(" ")[:MOST_SIGNATURES])
        if version == "v1"
    ]
    require_match(expected, presented)
    return Verified(found[ID], timestamp)


def require_recent(text: str, now: float, tolerance: float, *, per_second: int = 1) -> int:
    """A moment in seconds (or so many parts of one) since 1970, as it was sent. Raises when it is not about now."""
    if not _TIMESTAMP.match(text) and not (per_second > 1 and re.fullmatch(r"[0-9]{1,15}", text, re.ASCII)):
        raise DeliveryRefusedError("unsigned", "the timestamp is not a number of seconds since 1970")
    if math.fabs(int(text) / per_second - now) > tolerance:
        raise DeliveryRefusedError("too-old", f"the delivery was signed more than {tolerance:g} s from now")
    return int(text)


def require_match(expected: Iterable[str], presented: Iterable[str]) -> None:
    """One of ``presented`` is one of ``expected``. How long it takes does not depend on how much of it is right."""
    sent = [text.encode() for text in presented]
    matches = [hmac.compare_digest(right.encode(), text) for right in expected for text in sent]
    if not any(matches):
        raise DeliveryRefusedError("bad-signature", "no signature of the delivery is by a secret of this hook")


def _signature(key: bytes, delivery_id: str, timestamp: int, body: bytes) -> str:
    content = f"{delivery_id}.{timestamp}.".encode() + body
    return base64.b64encode(hmac.digest(key, content, "sha256")).decode()
