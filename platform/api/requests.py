"""What every request has: an id, a duration, one event in the log, and cautious headers on its answer.

The id is the caller's when it is well-formed, else one of ours. Jobs that the request enqueues keep it.
"""

from __future__ import annotations

import logging
import re
import time
import uuid

from flask import Blueprint, Flask, Response, g, request

from jobplatform import tracing
from jobplatform.redaction import redact_text

log = logging.getLogger("jobplatform.api")

HEADER = "X-Request-Id"
TRACE_HEADER = "traceparent"
#: What may be taken over. Nothing that could break a log line or a header, and short enough for both.
WELL_FORMED = re.compile(r"[A-Za-z0-9._~:/+=-]{1,128}")
#: Asked every few seconds by machines; nobody wants to read about it.
PROBES = ("/livez", "/healthz", "/readyz", "/metrics")


def accompany_requests(where: Blueprint | Flask) -> None:
    """Do all this for the requests of an application, of a blueprint, or (once) of both."""
    where.before_request(_begin)
    where.after_request(_end)
    where.teardown_request(_end_trace)


def current_request_id() -> str:
    """The id of the request being served."""
    if not hasattr(g, "jobplatform_request_id"):
        _begin()
    return str(g.jobplatform_request_id)


def current_trace_parent() -> str | None:
    """The trace that the request belongs to, for its jobs. Where spans are made the enqueue's own tells them better."""
    return None if tracing.is_traced() else tracing.well_formed(request.headers.get(TRACE_HEADER))


def hide_secrets(record: logging.LogRecord) -> bool:
    """A filter for a server's own log of requests."""
    record.msg, record.args = redact_text(record.getMessage()), ()
    return True


def _begin() -> None:
    if not hasattr(g, "jobplatform_request_id"):
        g.jobplatform_started = time.perf_counter()
        g.jobplatform_request_id = _taken_over() or uuid.uuid4().hex
        if tracing.is_traced():
            g.jobplatform_trace = tracing.begin_request(
                request.method,
                request.url_rule.rule if request.url_rule else None,
                request.headers.get(TRACE_HEADER),
            )


def _end(response: Response) -> Response:
    g.jobplatform_status = response.status_code
    if HEADER not in response.headers:
        response.headers[HEADER] = current_request_id()
        # Answers are somebody's: nothing in between may keep them, or take them for anything but what they say.
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        _log(response)
    return response


def _end_trace(_error: BaseException | None) -> None:
    if serving := g.pop("jobplatform_trace", None):
        tracing.end_request(serving, g.get("jobplatform_status", 500))


def _log(response: Response) -> None:
    level = logging.DEBUG if request.path in PROBES and response.status_code < 400 else logging.INFO
    facts = {
        "method": request.method,
        "path": request.script_root + request.path,
        "status": response.status_code,
        "milliseconds": round((time.perf_counter() - g.jobplatform_started) * 1000, 1),
        "request_id": current_request_id(),
    }
    log.log(level, "api.request", extra=facts)


def _taken_over() -> str | None:
    sent = request.headers.get(HEADER, "")
    return sent if WELL_FORMED.fullmatch(sent) else None
