"""X-Request-Id, in and out."""

from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import text
from sqlalchemy.orm import Session

from tests.api.conftest import Client

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_every_answer_names_its_request(client: Client, nobody: Client, jobs_url: str) -> None:
    answers = [
        client.get(jobs_url),
        client.get("/no/such/path"),
        nobody.get(jobs_url),
        nobody.get("/healthz"),
        client.post(jobs_url, json={}),
        client.request("DELETE", jobs_url),
    ]

    ids = [answer.headers["X-Request-Id"] for answer in answers]
    assert len(set(ids)) == len(answers)


def test_a_well_formed_id_is_taken_over_and_kept_with_the_job(client: Client, jobs_url: str) -> None:
    answer = client.post(jobs_url, json={"jobType": "echo"}, headers={"X-Request-Id": "abc-123"})

    assert answer.headers["X-Request-Id"] == "abc-123" == answer.get_json()["job"]["requestId"]


def test_without_one_the_job_keeps_the_id_of_its_answer(client: Client, jobs_url: str) -> None:
    answer = client.post(jobs_url, json={"jobType": "echo"})

    assert answer.headers["X-Request-Id"] == answer.get_json()["job"]["requestId"]


@pytest.mark.parametrize("sent", ["", "two words", "x" * 129, 'a"b', "é", "a\tb"])
def test_an_id_that_could_break_a_log_is_replaced(client: Client, sent: str) -> None:
    answer = client.get("/healthz", headers={"X-Request-Id": sent})

    assert answer.headers["X-Request-Id"] != sent
    assert len(answer.headers["X-Request-Id"]) == 32


def test_a_request_is_one_event_in_the_log(client: Client, jobs_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "jobplatform.api")

    client.get(f"/api{jobs_url}", headers={"X-Request-Id": "abc-123"})
    client.get("/nothing")
    client.get("/livez")

    events = [record for record in caplog.records if record.message == "api.request"]
    facts = [(event.__dict__["path"], event.__dict__["status"]) for event in events]
    assert facts == [(f"/api{jobs_url}", 200), ("/nothing", 404)]
    assert events[0].__dict__["request_id"] == "abc-123"


def test_no_token_reaches_the_log(client: Client, jobs_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")

    client.get(jobs_url)
    client.http.get(jobs_url, headers={"Authorization": f"Bearer {client.token}x"})

    assert str(client.token).split("_")[2] not in caplog.text


def test_answers_are_not_to_be_kept_by_others(client: Client, jobs_url: str) -> None:
    listed = client.get(jobs_url)
    job = client.post(jobs_url, json={"jobType": "echo"}).get_json()["job"]

    assert listed.headers["Cache-Control"] == "no-store"
    assert client.get(job["statusUrl"]).headers["Cache-Control"] == "private, no-cache"
    assert listed.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("sent", [CALLER, "not-a-trace"])
def test_the_trace_that_a_request_belongs_to_is_kept_with_its_jobs(
    client: Client, jobs_url: str, session: Session, sent: str
) -> None:
    headers = {"traceparent": sent}
    client.post(jobs_url, json={"jobType": "echo"}, headers=headers)
    client.post(f"{jobs_url}/batch", json={"jobs": [{"jobType": "echo"}]}, headers=headers)

    kept = session.scalars(text("select trace_parent from jobplatform.jobs")).all()
    assert kept == [sent if sent.startswith("00") else None] * 2


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Those of an API that traces."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    # A provider can be set once and for ever; other tests are not traced.
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return exporter


@pytest.mark.parametrize("sent", [CALLER, None])
def test_a_request_is_a_span_between_its_caller_s_and_that_of_its_enqueue(
    client: Client, jobs_url: str, session: Session, spans: InMemorySpanExporter, sent: str | None
) -> None:
    client.post(jobs_url, json={"jobType": "echo"}, headers={"traceparent": sent} if sent else {})

    enqueue, request = spans.get_finished_spans()
    assert request.name == "POST /workspaces/<uuid:workspaceId>/jobs"
    assert (request.kind, dict(request.attributes or {})) == (
        trace.SpanKind.SERVER,
        {
            "http.request.method": "POST",
            "http.route": "/workspaces/<uuid:workspaceId>/jobs",
            "http.response.status_code": 202,
        },
    )
    of_request, of_enqueue = request.context, enqueue.context
    assert of_request
    assert of_enqueue
    assert enqueue.parent
    assert (f"{request.parent.span_id:016x}" if request.parent else None) == (sent.split("-")[2] if sent else None)
    assert enqueue.parent.span_id == of_request.span_id
    kept = session.scalars(text("select trace_parent from jobplatform.jobs")).one()
    assert kept == f"00-{of_request.trace_id:032x}-{of_enqueue.span_id:016x}-{of_enqueue.trace_flags:02x}"
    assert not sent or sent.split("-")[1] in kept


def test_within_a_span_of_an_instrumented_application_no_second_one_is_made(
    client: Client, jobs_url: str, spans: InMemorySpanExporter
) -> None:
    with trace.get_tracer("web").start_as_current_span("POST"):
        client.post(jobs_url, json={"jobType": "echo"})

    assert [span.name for span in spans.get_finished_spans()] == ["enqueue default", "POST"]


def test_the_span_of_a_request_says_what_was_answered_and_ends_with_it(
    client: Client, jobs_url: str, spans: InMemorySpanExporter
) -> None:
    client.get(jobs_url)
    client.get("/no/such/path")
    client.get(f"{jobs_url}?limit=0")

    ended = spans.get_finished_spans()
    assert [(span.attributes or {})["http.response.status_code"] for span in ended] == [200, 404, 422]
    assert not trace.get_current_span().get_span_context().is_valid
