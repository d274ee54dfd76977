"""Traces: one from the request that asked for a job, through its enqueue, to each attempt at it.

Spans are made with the API of OpenTelemetry, and only in a process where somebody has imported that already: nobody who
does not trace has it loaded, and then all of this is one look into a dictionary. What connects the processes is the
``traceparent`` that is kept with the job. Names and attributes are those of OpenTelemetry's conventions for messaging.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from contextvars import Token

    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span, SpanContext

NAME: Final = "jobplatform"
#: What the W3C says a ``traceparent`` looks like; ids that are nothing but zeros are none.
TRACE_PARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
FLUSH_MS: Final = 2_000


def is_traced() -> bool:
    """Whether this process may have somebody who wants spans."""
    return "opentelemetry.trace" in sys.modules


def well_formed(trace_parent: str | None) -> str | None:
    """A ``traceparent`` that somebody sent, or None for anything else."""
    return trace_parent if trace_parent and TRACE_PARENT.fullmatch(trace_parent) else None


# -- requests ------------------------------------------------------------------------------------


class Serving(NamedTuple):
    """The span of a request that is being served, and what ends its being the current one."""

    span: Span
    token: Token[Context]


def begin_request(method: str, route: str | None, trace_parent: str | None) -> Serving | None:
    """Make a span for a request, in the trace that it says it belongs to, and have it be the current one. What it
    answers with is for :func:`end_request`; None where something in this process has seen to all that."""
    from opentelemetry import context, trace

    if trace.get_current_span().get_span_context().is_valid:
        return None
    sent = well_formed(trace_parent)
    span = trace.get_tracer(NAME).start_span(
        f"{method} {route}" if route else method,
        context=_remote(sent) if sent else None,
        kind=trace.SpanKind.SERVER,
        # Not the path itself: keys of hooks are in it.
        attributes={"http.request.method": method, **({"http.route": route} if route else {})},
    )
    return Serving(span, context.attach(trace.set_span_in_context(span)))


def end_request(serving: Serving, status: int) -> None:
    from opentelemetry import context
    from opentelemetry.trace import Status, StatusCode

    serving.span.set_attribute("http.response.status_code", status)
    if status >= 500:
        serving.span.set_status(Status(StatusCode.ERROR))
    serving.span.end()
    context.detach(serving.token)


# -- enqueues ------------------------------------------------------------------------------------


@contextmanager
def sending(queues: Iterable[str], job_ids: Sequence[object]) -> Iterator[str | None]:
    """A span for enqueueing these jobs; with the ``traceparent`` that they should carry, if there is one."""
    from opentelemetry import trace

    destinations = sorted(set(queues))
    attributes: dict[str, Any] = _attributes("send", "enqueue", destinations[0] if len(destinations) == 1 else None)
    if len(job_ids) == 1:
        attributes["messaging.message.id"] = str(job_ids[0])
    else:
        attributes["messaging.batch.message_count"] = len(job_ids)
    name = " ".join(["enqueue", *destinations[:1]]) if len(destinations) == 1 else "enqueue"
    with trace.get_tracer(NAME).start_as_current_span(
        name, kind=trace.SpanKind.PRODUCER, attributes=attributes
    ) as span:
        yield _written(span.get_span_context())


# -- attempts ------------------------------------------------------------------------------------


@contextmanager
def processing(trace_parent: str | None, queue: str, facts: Mapping[str, Any]) -> Iterator[Processing]:
    """A span for an attempt, within the trace that its job belongs to. What the handler does is part of it.

    A later attempt is linked with the enqueue too, as it is not the one that this asked for.
    """
    from opentelemetry import trace

    sent = well_formed(trace_parent)
    links = [_link(sent)] if sent and facts["attempt"] > 1 else []
    with trace.get_tracer(NAME).start_as_current_span(
        f"process {queue}",
        context=_remote(sent) if sent else None,
        kind=trace.SpanKind.CONSUMER,
        attributes=_attributes("process", "process", queue) | _facts(facts),
        links=links,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        yield Processing(span)


@contextmanager
def processing_many(trace_parents: Iterable[str | None], queue: str, task: str, count: int) -> Iterator[Processing]:
    """A span for one call that does several jobs: linked with each of their traces, and part of none."""
    from opentelemetry import trace

    links = [_link(sent) for trace_parent in trace_parents if (sent := well_formed(trace_parent))]
    more = {"messaging.batch.message_count": count, "jobplatform.task": task}
    with trace.get_tracer(NAME).start_as_current_span(
        f"process {queue}",
        kind=trace.SpanKind.CONSUMER,
        attributes=_attributes("process", "process", queue) | more,
        links=links,
    ) as span:
        yield Processing(span)


class Processing:
    """The span of an attempt that is under way."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def ended(self, outcome: str, error_type: str = "", message: str = "", stack: str | None = None) -> None:
        """Say how, in the words that the job's record will have."""
        self._span.set_attribute("jobplatform.outcome", outcome)
        if error_type:
            from opentelemetry.trace import Status, StatusCode

            self._span.set_attribute("error.type", error_type)
            facts = {"exception.type": error_type, "exception.message": message, "exception.stacktrace": stack or ""}
            self._span.add_event("exception", facts)
            self._span.set_status(Status(StatusCode.ERROR, message))


def flush() -> None:
    """Have what was recorded sent off: the process is about to end without asking anybody."""
    if is_traced():
        from opentelemetry import trace

        force_flush = getattr(trace.get_tracer_provider(), "force_flush", None)
        if force_flush is not None:
            force_flush(FLUSH_MS)


# -- OpenTelemetry's words -----------------------------------------------------------------------


def _attributes(kind: str, name: str, queue: str | None) -> dict[str, Any]:
    attributes = {
        "messaging.system": NAME,
        "messaging.operation.type": kind,
        "messaging.operation.name": name,
    }
    return attributes | ({"messaging.destination.name": queue} if queue else {})


def _facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "messaging.message.id": str(facts["job_id"]),
        "jobplatform.workspace_id": str(facts["workspace_id"]),
        "jobplatform.task": facts["task"],
        "jobplatform.attempt": facts["attempt"],
    }


def _context_of(trace_parent: str) -> SpanContext:
    from opentelemetry.trace import SpanContext, TraceFlags

    _, trace_id, span_id, flags = trace_parent.split("-")
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))


def _remote(trace_parent: str) -> Context:
    from opentelemetry import trace

    return trace.set_span_in_context(trace.NonRecordingSpan(_context_of(trace_parent)))


def _link(trace_parent: str) -> Link:
    from opentelemetry.trace import Link

    return Link(_context_of(trace_parent))


def _written(context: SpanContext) -> str | None:
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
