"""Tasks of an application that traces where a test says into which file its spans go, a line each."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from jobplatform.queue import Items, RetryPolicy, RunningJob, Tasks

SPANS = "SPANS_FILE"

AT_ONCE = RetryPolicy(max_attempts=2, base=0.0, cap=0.0, jitter="none")


class FileExporter(SpanExporter):
    """Takes its time, as one does that sends to somewhere else."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        time.sleep(0.3)
        with Path(os.environ[SPANS]).open("a") as file:
            file.writelines(span.to_json(indent=None) + "\n" for span in spans)
        return SpanExportResult.SUCCESS


if SPANS in os.environ:
    provider = TracerProvider()
    # So long that nothing is exported before the process leaves.
    provider.add_span_processor(BatchSpanProcessor(FileExporter(), schedule_delay_millis=3_600_000))
    trace.set_tracer_provider(provider)

tasks = Tasks()


@tasks.task("nest", queue="traced", retry=AT_ONCE)
def nest(job: RunningJob, payload: dict[str, Any]) -> None:
    """Has a span of its own, in which it enqueues another job; fails the first time if it is told to."""
    with trace.get_tracer("app").start_as_current_span("mine"):
        if payload.get("child"):
            job.enqueue(nest, {})
    if payload.get("fails") and job.attempt == 1:
        raise ValueError("not yet")


@tasks.batch_task("together", queue="traced", size=3, wait=30)
def together(batch: Items[dict[str, Any]]) -> list[None]:
    return [None for _ in batch]
