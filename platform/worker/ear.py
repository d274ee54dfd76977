"""The ear: hears the doorbell on a connection that LISTENs, in the hub's loop."""

import logging
import re
import selectors
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

import psycopg

from jobplatform.queue import CANCEL, SETTLE

WORKSPACE_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

logger = logging.getLogger("jobplatform.worker")


class Ear:
    """Calls `on_jobs` for jobs in a queue of ours and `on_newcomers` with the workspaces that have new ones, and these
    queues, `on_cancel` for a cancelled running job, `on_settle` when something ended that others wait for, `on_broken`
    at the end.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        *,
        on_jobs: Callable[[], None],
        on_newcomers: Callable[[Sequence[str], Sequence[str]], None],
        on_cancel: Callable[[], None],
        on_settle: Callable[[], None],
        on_broken: Callable[[], None],
    ) -> None:
        self.queues: Collection[str] = ()
        self._selector = selector
        self._on_jobs = on_jobs
        self._on_newcomers = on_newcomers
        self._on_cancel = on_cancel
        self._on_settle = on_settle
        self._on_broken = on_broken
        self._connection: psycopg.Connection[Any] | None = None
        self._fd = -1

    def attach(self, connection: psycopg.Connection[Any]) -> None:
        self.close()
        self._connection = connection
        self._fd = connection.fileno()
        self._selector.register(self._fd, selectors.EVENT_READ, self._hear)
        # What was rung before this connection listened is not repeated.
        self._on_jobs()
        self._on_cancel()

    def close(self) -> None:
        if self._connection is not None:
            self._selector.unregister(self._fd)
            with suppress(psycopg.Error):
                self._connection.close()
            self._connection = None

    def _hear(self) -> None:
        assert self._connection is not None
        pgconn = self._connection.pgconn
        try:
            pgconn.consume_input()
            payloads = set()
            while notification := pgconn.notifies():
                payloads.add(notification.extra.decode(errors="replace"))
        except psycopg.Error as error:
            logger.debug("doorbell connection lost", extra={"error": str(error)})
            self.close()
            self._on_broken()
            return
        self._answer(payloads)

    def _answer(self, payloads: set[str]) -> None:
        if CANCEL in payloads:
            self._on_cancel()
        if SETTLE in payloads:
            self._on_settle()
        if queues := [payload[2:] for payload in payloads if payload.startswith("q:") and payload[2:] in self.queues]:
            self._on_newcomers(_workspaces_in(payloads), queues)
            self._on_jobs()


def _workspaces_in(payloads: Iterable[str]) -> list[str]:
    """What `w:<id>,<id>` says. Anybody may ring, so what is no id is no workspace."""
    words = (word for payload in payloads if payload.startswith("w:") for word in payload[2:].split(","))
    return [word for word in words if WORKSPACE_ID.fullmatch(word)]
