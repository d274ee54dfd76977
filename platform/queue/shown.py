"""Shown: a text as it is kept for people: without secrets, without what PostgreSQL refuses, and not too long. Pure."""

from __future__ import annotations

from jobplatform.queue.safe_json import safe_text
from jobplatform.redaction import redact_text

#: Where a long text is cut a secret may begin or end, and is not recognised by its other half. So much beside the cut
#: is left out too; a key file of 4,096 bits is shorter.
MARGIN = 8_192


def shown(text: str, limit: int) -> str:
    """``text`` redacted and safe, at most ``limit`` characters of it: the beginning and the end are kept.

    Of a text of megabytes only the ends are looked at: redacting a hundred of them took longer than the job's timeout.
    """
    if len(text) <= 2 * (limit + MARGIN):
        return safe_text(redact_text(text), limit)
    head = redact_text(text[: limit + MARGIN])[:-MARGIN][: limit * 2 // 3]
    tail = redact_text(text[-(limit + MARGIN) :])[MARGIN:][-(limit // 4) :]
    note = f"\n… {len(text) - len(head) - len(tail)} characters left out …\n"
    return safe_text(head + note + tail, limit)
