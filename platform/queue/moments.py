"""Moments as texts that leave the queue. Pure."""

from __future__ import annotations

import datetime


def moment_text(moment: datetime.datetime) -> str:
    """A moment as the API writes it: in UTC, with its microseconds."""
    return moment.astimezone(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
