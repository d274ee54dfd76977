"""Syncs for a worker that gets killed: one as it is, and one that saves its place after the page's transaction."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from jobplatform.connectors import CONNECTORS, AnyConfig, ConnectorType, Page, SourceRecord, run_sync, syncing
from jobplatform.connectors.place import ConnectionPlace
from jobplatform.models import Connection
from jobplatform.queue import RunningJob, Tasks

tasks = Tasks()

PAGES, PAGE_SIZE = 100, 5


class Sluice:
    """Between a test and the source: how many pages there are to be had by now, and which process asks for them."""

    def __init__(self, folder: Path) -> None:
        self._limit, self._asking = folder / "limit", folder / "asking"

    def open_up_to(self, page: int) -> None:
        _write(self._limit, page)

    def who_asks(self) -> int:
        """The process that asked last; 0 as long as there is none."""
        return int(self._asking.read_text()) if self._asking.exists() else 0

    def wait_for(self, page: int) -> None:
        _write(self._asking, os.getpid())
        while page >= int(self._limit.read_text()):
            time.sleep(0.002)


def _write(path: Path, number: int) -> None:
    """All at once, or whoever reads meanwhile finds half of it."""
    new = path.with_suffix(".new")
    new.write_text(str(number))
    new.rename(path)


class Paged:
    """A source of many small pages, each of which takes a moment, and those that are not to be had yet longer."""

    page: ClassVar[int]
    """The one that was asked for last."""

    def __init__(self, folder: str) -> None:
        self.sluice = Sluice(Path(folder))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def streams(self) -> list[str]:
        return ["things"]

    def fetch(self, stream: str, cursor: str | None) -> Page:
        number = Paged.page = int(cursor or 0)
        self.sluice.wait_for(number)
        time.sleep(0.006)
        records = [SourceRecord(f"{number}-{place}", {"page": number}) for place in range(PAGE_SIZE)]
        return Page(records, str(number + 1) if number + 1 < PAGES else None, PAGES * PAGE_SIZE)


CONNECTORS["paged"] = ConnectorType(lambda opening: Paged(opening.config["folder"]), AnyConfig)


@tasks.task("sync")
def sync(job: RunningJob, payload: dict[str, Any]) -> Any:
    """As it is."""
    return run_sync(job, mode="initial")


class _Careless(syncing._Sync):
    """Commits a page, and says only then how far it is."""

    sluice: Sluice | None = None

    def _apply(self, connection: Connection, place: ConnectionPlace, page: Page) -> None:
        self.sluice = Sluice(Path(connection.config["folder"]))
        super()._apply(connection, place, page)

    def _save(self) -> None:
        self.job.session.commit()
        # Longer than all the rest: whoever is killed at any time is killed here more often than not. And who has to
        # wait waits here.
        time.sleep(0.015)
        if self.sluice is not None:
            self.sluice.wait_for(min(Paged.page + 1, PAGES - 1))
        super()._save()


@tasks.task("careless-sync")
def careless(job: RunningJob, payload: dict[str, Any]) -> Any:
    """What the checker has to find."""
    connections = syncing._choose_connections(job, None, None)
    sync = _Careless(job, connections, syncing._names_of(job, connections), "initial", False)
    sync.begin(None)
    for connection in connections:
        sync.pull_connection(connection)
    return sync.end()
