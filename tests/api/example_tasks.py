"""Tasks as an application would define them, for the tests of the API."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from jobplatform.queue import RetryPolicy, RunningJob, Tasks


@dataclass(frozen=True)
class SyncPayload:
    connector_type: str | None = field(default=None, metadata={"data_key": "connectorType"})
    connection_id: UUID | None = field(default=None, metadata={"data_key": "connectionId"})
    mode: str = "incremental"


@dataclass(frozen=True)
class Addition:
    left: int
    right: int


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


@dataclass(frozen=True)
class Line:
    article: UUID
    size: Size = Size.SMALL
    due: datetime.datetime | None = None


@dataclass(frozen=True)
class Order:
    lines: list[Line]
    totals: dict[str, int] = field(default_factory=dict)


def make_tasks() -> Tasks:
    tasks = Tasks()

    @tasks.task("sync", queue="sync", unique=lambda payload: str(payload.connection_id or payload.connector_type or ""))
    def sync(job: RunningJob, payload: SyncPayload) -> dict[str, Any]:
        job.progress(1, 2, "half way")
        return {"mode": payload.mode, "totalRecords": 7}

    @tasks.task("add")
    def add(job: RunningJob, payload: Addition) -> int:
        return payload.left + payload.right

    @tasks.task("echo")
    def echo(job: RunningJob, payload: Mapping[str, Any]) -> Any:
        return payload

    @tasks.task("fail", retry=RetryPolicy(max_attempts=1))
    def fail(job: RunningJob, payload: Mapping[str, Any]) -> None:
        job.step("received", lambda: dict(payload))
        job.checkpoint(dict(payload))
        raise RuntimeError("the far side said no")

    @tasks.task("newest", unique="workspace", if_active="replace")
    def newest(job: RunningJob, payload: Mapping[str, Any]) -> Any:
        return payload

    @tasks.task("seldom", unique=("account",), unique_for=datetime.timedelta(minutes=15))
    def seldom(job: RunningJob, payload: Mapping[str, Any]) -> Any:
        return payload

    @tasks.task("order")
    def order(job: RunningJob, payload: Order) -> int:
        return len(payload.lines)

    return tasks


tasks = make_tasks()
