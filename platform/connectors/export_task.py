"""The tasks ``export`` and ``export.expire``, as the API enqueues them and a worker runs them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from jobplatform.connectors.exporting import ExportResult, Format, Lifetimes, delete_expired, run_export
from jobplatform.connectors.stores import open_store
from jobplatform.connectors.sync_task import tasks
from jobplatform.queue import EXPIRE_EXPORTS, EXPORT_QUEUE, RunningJob, Skip, Task, Tasks
from jobplatform.settings import Settings


@dataclass(frozen=True)
class ExportPayload:
    """Which records, and as what."""

    format: Format = "csv"
    connection_id: UUID | None = field(default=None, metadata={"data_key": "connectionId"})
    stream: str | None = None
    columns: list[str] | None = None
    include_deleted: bool = field(default=False, metadata={"data_key": "includeDeleted"})
    neutralize_formulas: bool = field(default=True, metadata={"data_key": "neutralizeFormulas"})


def declare_export(tasks: Tasks) -> Task[ExportPayload, ExportResult | Skip]:
    """Add the task ``export`` to an application's own, and the one that deletes exports when their time is over."""

    @tasks.task("export", queue=EXPORT_QUEUE, timeout=timedelta(hours=1))
    def export(job: RunningJob, payload: ExportPayload) -> ExportResult | Skip:
        """Write the workspace's records to a file that can be fetched by a link."""
        settings = Settings.from_env()
        return run_export(
            job,
            open_store(settings),
            Lifetimes(timedelta(hours=settings.export_link_hours), timedelta(days=settings.export_retention_days)),
            format=payload.format,
            connection_id=payload.connection_id,
            stream=payload.stream,
            columns=payload.columns,
            include_deleted=payload.include_deleted,
            neutralize_formulas=payload.neutralize_formulas,
            public_url=settings.public_url or "",
        )

    @tasks.task(EXPIRE_EXPORTS, queue=EXPORT_QUEUE)
    def expire(job: RunningJob, _payload: dict[str, Any]) -> dict[str, int]:
        """Delete exports whose time is over."""
        return {"deleted": delete_expired(job, open_store(Settings.from_env()))}

    return export


export = declare_export(tasks)
