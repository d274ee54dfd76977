"""The tasks that come with the platform; a source that says nothing until there is a file; and a task beside them."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from jobplatform.connectors import CONNECTORS, AnyConfig, ConnectorType, Opening, Page, tasks
from jobplatform.queue import RunningJob

__all__ = ["tasks"]


class Held:
    """Waits for the file that its connection names."""

    def __init__(self, opening: Opening) -> None:
        self.until = Path(opening.config["until"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def streams(self) -> list[str]:
        return ["things"]

    def fetch(self, stream: str, cursor: str | None) -> Page:
        while not self.until.exists():
            time.sleep(0.01)
        return Page([])


CONNECTORS["held"] = ConnectorType(Held, AnyConfig)


@tasks.task("beside", queue="sync")
def beside(job: RunningJob, payload: dict[str, Any]) -> None: ...
