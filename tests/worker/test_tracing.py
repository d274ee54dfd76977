"""One trace from an enqueue to the runs of the job, over three processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from jobplatform.queue import enqueue_jobs
from tests.worker.conftest import Database, Launch, StartWorker
from tests.worker.processes import start_anew
from tests.worker.traced_tasks import SPANS, tasks

TRACED = "tests.worker.traced_tasks:tasks"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """The spans of this process, which is the one that enqueues."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    # A provider can be set once and for ever; other tests are not traced.
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return exporter


@pytest.fixture
def launch() -> Launch:
    """Not forked: spans go where this process's provider was made to send them."""
    return start_anew


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the handlers' processes leave their spans."""
    file = tmp_path / "spans"
    monkeypatch.setenv(SPANS, str(file))
    return file


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def ids(span: ReadableSpan) -> tuple[str, str]:
    assert span.context is not None
    return f"0x{span.context.trace_id:032x}", f"0x{span.context.span_id:016x}"


def test_a_handler_s_spans_are_part_of_the_trace_that_its_job_was_asked_for_in(
    start_worker: StartWorker, database: Database, sent: InMemorySpanExporter, file: Path
) -> None:
    with trace.get_tracer("web").start_as_current_span("POST /orders") as request, database.sessions.begin() as session:
        job = tasks["nest"].enqueue(session, {"child": True}, workspace_id=database.workspace_id)
        retried = tasks["nest"].enqueue(session, {"fails": True}, workspace_id=database.workspace_id)
        request_id = f"0x{request.get_span_context().span_id:016x}"
    worker = start_worker(tasks=TRACED, slots=1)
    database.wait_until_done()
    worker.stop()

    sends = [span for span in sent.get_finished_spans() if span.name == "enqueue traced"]
    assert [span.attributes["messaging.message.id"] for span in sends] == [str(job.job_id), str(retried.job_id)]
    assert {f"0x{span.parent.span_id:016x}" for span in sends if span.parent} == {request_id}
    assert {span.kind for span in sends} == {trace.SpanKind.PRODUCER}

    (trace_id, send), (_, send_retried) = map(ids, sends)
    spans = read(file)
    assert {span["context"]["trace_id"] for span in spans} == {trace_id}
    runs = {
        (span["attributes"]["messaging.message.id"], span["attributes"]["jobplatform.attempt"]): span
        for span in spans
        if span["name"] == "process traced"
    }
    run = runs[str(job.job_id), 1]
    assert (run["parent_id"], run["kind"], run["links"]) == (send, "SpanKind.CONSUMER", [])
    assert run["attributes"] == {
        "messaging.system": "jobplatform",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": "traced",
        "messaging.message.id": str(job.job_id),
        "jobplatform.workspace_id": str(database.workspace_id),
        "jobplatform.task": "nest",
        "jobplatform.attempt": 1,
        "jobplatform.outcome": "ok",
    }
    mine = [span for span in spans if span["name"] == "mine" and span["parent_id"] == run["context"]["span_id"]]
    assert len(mine) == 1

    # What a handler enqueues is asked for within its own span.
    (enqueue,) = (span for span in spans if span["name"] == "enqueue traced")
    assert enqueue["parent_id"] == mine[0]["context"]["span_id"]
    (child,) = (span for span in runs.values() if span["parent_id"] == enqueue["context"]["span_id"])
    assert child["attributes"]["jobplatform.outcome"] == "ok"

    # The second attempt is in the trace too, and linked with what asked for the first.
    first, second = runs[str(retried.job_id), 1], runs[str(retried.job_id), 2]
    assert (first["status"]["status_code"], first["attributes"]["error.type"]) == ("ERROR", "ValueError")
    assert first["events"][0]["attributes"]["exception.message"] == "not yet"
    assert (first["parent_id"], second["parent_id"]) == (send_retried, send_retried)
    assert (first["links"], [link["context"]["span_id"] for link in second["links"]]) == ([], [send_retried])


def test_a_call_for_several_jobs_is_linked_with_each_of_their_traces(
    start_worker: StartWorker, database: Database, sent: InMemorySpanExporter, file: Path
) -> None:
    for _ in range(3):
        with database.sessions.begin() as session:
            tasks["together"].enqueue(session, {}, workspace_id=database.workspace_id)
    worker = start_worker(tasks=TRACED, slots=1)
    database.wait_until_done()
    worker.stop()

    (call,) = read(file)
    expected = {ids(span) for span in sent.get_finished_spans()}
    assert {(link["context"]["trace_id"], link["context"]["span_id"]) for link in call["links"]} == expected
    assert call["attributes"]["messaging.batch.message_count"] == 3


def test_many_jobs_at_once_are_one_send(database: Database, sent: InMemorySpanExporter) -> None:
    with database.sessions.begin() as session:
        new = [tasks["nest"].new_job({}, workspace_id=database.workspace_id) for _ in range(3)]
        enqueue_jobs(session, new)

    (span,) = sent.get_finished_spans()
    assert span.attributes["messaging.batch.message_count"] == 3
    parents = {row.trace_parent for row in database.rows("select trace_parent from jobplatform.jobs")}
    trace_id, span_id = ids(span)
    assert span.context is not None
    assert parents == {f"00-{trace_id[2:]}-{span_id[2:]}-{span.context.trace_flags:02x}"}


@pytest.mark.usefixtures("sent")
def test_what_a_job_says_of_its_trace_counts(database: Database) -> None:
    said = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    with database.sessions.begin() as session:
        job = tasks["nest"].new_job({}, workspace_id=database.workspace_id, trace_parent=said)
        enqueue_jobs(session, [job])

    assert [row.trace_parent for row in database.rows("select trace_parent from jobplatform.jobs")] == [said]
