"""Hearing the doorbell, as an idle worker does."""

from __future__ import annotations

import psycopg

from jobplatform.queue import CHANNEL
from jobplatform.queue.doorbell import finish_ringing

#: Longer than any ring takes; nothing waits for it unless a ring is missing.
DEADLINE = 20.0


class Ear:
    """Listens from the moment it is made. No pooler may stand between: LISTEN needs a session.

    What tests before this one rang with has been rung: their database may be this one's.
    """

    def __init__(self, direct_url: str) -> None:
        assert finish_ringing(DEADLINE)
        self._connection = psycopg.connect(direct_url, autocommit=True)
        self._connection.execute(f"listen {CHANNEL}")

    def hear(self, last: str) -> set[str]:
        """Everything that is rung up to ``last``."""
        heard: set[str] = set()
        for notification in self._connection.notifies(timeout=DEADLINE):
            heard.add(notification.payload)
            if notification.payload == last:
                return heard
        raise AssertionError(f"no {last!r} within {DEADLINE:g} s; heard {heard}")

    def close(self) -> None:
        self._connection.close()
