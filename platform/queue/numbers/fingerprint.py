"""Fingerprint: what failures have in common. Pure.

>>> common_part("user 4711 has no address 'a@b.example'")
'user <n> has no address <text>'
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from jobplatform.queue.seal import begins_sealed

#: Of a message: what is behind it tells no failures apart.
LONGEST: Final = 300
#: Of what is looked at to find it.
LOOKED_AT: Final = 2_000
FINGERPRINT: Final = re.compile(r"[0-9a-f]{16}\Z")

# In this order: a number within a uuid or a quotation is not a number of its own.
_VARYING: Final = (
    (r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}", "<id>"),
    (r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?", "<time>"),
    # An apostrophe within a word opens nothing.
    (r"(?<!\w)'[^']{0,1000}'(?!\w)", "<text>"),
    (r'"[^"]{0,1000}"', "<text>"),
    (r"`[^`]{0,1000}`", "<text>"),
    (r"\b0[xX][0-9a-fA-F]+\b", "<n>"),
    (r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{8,}\b", "<id>"),
    (r"\d+(?:[.,]\d+)*", "<n>"),
)
_PATTERN: Final = re.compile("|".join(f"({pattern})" for pattern, _ in _VARYING))


def fingerprint_of(task: str, error_type: str, message: str) -> str:
    """16 hexadecimal digits, the same for all failures of a task with this type and :func:`common_part`."""
    text = "\0".join((task, error_type, message))
    return hashlib.blake2b(text.encode(errors="replace"), digest_size=8).hexdigest()


def common_part(message: str | None) -> str:
    """The first line of a message with placeholders for what varies: numbers, ids, moments and whatever is quoted.

    A sealed message has none: there is nothing to be seen that it could share with others.
    """
    if not message or begins_sealed(message):
        return ""
    line = next((line for line in message[:LOOKED_AT].splitlines() if line.strip()), "").strip()
    return _PATTERN.sub(lambda found: _VARYING[(found.lastindex or 1) - 1][1], line)[:LONGEST]
