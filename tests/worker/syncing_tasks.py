"""Syncs for a worker that gets killed: one as it is, and one that saves its place after the page's transaction."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self

from jobplatform.connectors import CONNECTORS, AnyConfig, ConnectorType, Page, SourceRecord, run_sync, syncing
from jobplatform.queue import RunningJob, Tasks

tasks = Tasks()

PAGES, PAGE_SIZE = 100, 5


class Paged:
    """A source of many small pages, each of which takes a moment."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def streams(self) -> list[str]:
        return ["things"]

    def fetch(self, stream: str, cursor: str | None) -> Page:
        time.sleep(0.006)
        number = int(cursor or 0)
        records = [SourceRecord(f"{number}-{place}", {"page": number}) for place in range(PAGE_SIZE)]
        return Page(records, str(number + 1) if number + 1 < PAGES else None, PAGES * PAGE_SIZE)


CONNECTORS["paged"] = ConnectorType(lambda _opening: Paged(), AnyConfig)


@tasks.task("sync")
def sync(job: RunningJob, payload: dict[str, Any]) -> Any:
    """As it is."""
    return run_sync(job, mode="initial")


class _Careless(syncing._Sync):
    """Commits a page, and says only then how far it is."""

    def _save(self) -> None:
        self.job.session.commit()
        # Longer than all the rest: whoever is killed at any time is killed here more often than not.
        time.sleep(0.015)
        super()._save()


@tasks.task("careless-sync")
def careless(job: RunningJob, payload: dict[str, Any]) -> Any:
    """What the checker has to find."""
    connections = syncing._choose_connections(job, None, None)
    sync = _Careless(job, connections, "initial", False)
    sync.begin(None)
    for connection in connections:
        sync.pull_connection(connection)
    return sync.end()
