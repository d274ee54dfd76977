"""Errors as RFC 9457 problem documents, whatever happens and wherever it was raised.

A view that cannot answer raises :class:`ProblemError`; every other exception that reaches the edge of our
routes is turned into one here, by kind. The body never holds a traceback or the text of an unexpected
exception: what went wrong inside is in the log, under the request id that the answer names.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, TypeVar

import werkzeug
from flask import Response, request
from sqlalchemy import exc
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException

from jobplatform.api.requests import current_request_id
from jobplatform.errors import (
    EnqueueConflictError,
    InvalidConnectionError,
    InvalidHookError,
    InvalidJobError,
    InvalidLimitError,
    InvalidPayloadError,
    InvalidScheduleError,
    KeyMissingError,
    MigrationError,
    Problem,
    QuotaExceededError,
    ScheduleMadeInCodeError,
    ScheduleNameTakenError,
    TooManySchedulesError,
    UnknownTaskError,
    UnseenChangeError,
    WebhookDisabledError,
)
from jobplatform.models import MISSING
from jobplatform.wording import plural

T = TypeVar("T")

log = logging.getLogger("jobplatform.api")

PROBLEM_JSON = "application/problem+json"

#: A prefix of every problem's ``type``: a name, not an address, so that it outlives any domain.
TYPE_PREFIX = "urn:jobplatform:problem:"

#: Seconds after which asking again makes sense when the database is away.
DATABASE_RETRY_AFTER = 5

#: The same when it took too long to find something: it is busy for longer than it is away.
SLOW_RETRY_AFTER = 30

#: The SQLSTATE of a statement that was given up.
GIVEN_UP = "57014"

#: And those of one that another transaction was in the way of: two that wait for each other, a change that was not
#: seen, a lock that was not to be had in time.
IN_THE_WAY = ("40P01", "40001", "55P03")

#: What SQLAlchemy raises when the database, and not the request, is the trouble.
DATABASE_TROUBLE = (exc.OperationalError, exc.InterfaceError, exc.TimeoutError, exc.DisconnectionError)

#: Statuses whose problem is of one kind wherever it comes from.
KINDS = {
    400: "bad-request",
    401: "unauthorized",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    406: "not-acceptable",
    409: "conflict",
    412: "precondition-failed",
    413: "body-too-large",
    415: "unsupported-media-type",
    422: "invalid",
    429: "too-many-requests",
    500: "internal-error",
    503: "unavailable",
}


class ProblemError(HTTPException):
    """Ends a request with a problem document. ``extra`` members stand beside the standard ones.

    Each of ``errors`` is at a JSON pointer into the body, at ``?name`` for a query parameter, or at ``{name}`` in the
    path.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        kind: str | None = None,
        title: str | None = None,
        errors: Sequence[Problem] = (),
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = status
        self.kind = kind or KINDS.get(status, "error")
        self.title = title or HTTPStatus(status).phrase
        self.errors = tuple(errors)
        self.extra = dict(extra or {})
        self.answer_headers = dict(headers or {})


def not_found() -> ProblemError:
    """The one answer for what does not exist and for what belongs to somebody else."""
    return ProblemError(404, "There is nothing here, or it is not yours to see.")


def require_found(found: T | None) -> T:
    """What was looked for; where there is none, raise the problem."""
    if found is None:
        raise not_found()
    return found


def invalid(errors: Sequence[Problem]) -> ProblemError:
    """The request is well-formed and asks for something that cannot be."""
    return ProblemError(422, "The request has invalid values; see errors.", errors=errors)


def is_about_query(error: Exception) -> bool:
    """Whether this is what werkzeug raises for a query with bytes that are no text: whoever reads it first meets it."""
    return isinstance(error, UnicodeDecodeError) and error.object == request.query_string


def unavailable(detail: str, retry_after: int = DATABASE_RETRY_AFTER, **extra: Any) -> ProblemError:
    return ProblemError(503, detail, extra=extra, headers={"Retry-After": str(retry_after)})


def render_problem(problem: ProblemError) -> Response:
    """The document of a problem, as an answer to the current request."""
    document: dict[str, Any] = {
        "type": TYPE_PREFIX + problem.kind,
        "title": problem.title,
        "status": problem.code,
        "detail": problem.description,
        "instance": request.script_root + request.path,
    }
    if problem.errors:
        document["errors"] = [error._asdict() for error in problem.errors]
    # Escaped to ASCII: the path and the names quoted here are whatever bytes somebody sent.
    body = json.dumps({**document, **problem.extra})
    return Response(body, problem.code, Headers(problem.answer_headers), content_type=PROBLEM_JSON)


def answer_http_exception(error: HTTPException) -> werkzeug.Response:
    """Flask's, werkzeug's and our own ways to end a request early, in one form."""
    if isinstance(error, ProblemError):
        return render_problem(error)
    if error.response is not None:
        return error.get_response(request.environ)
    return render_problem(_from_werkzeug(error))


#: Where gunicorn has its words for a request that is none. Not imported: it may be another server.
SERVERS_ERRORS = "gunicorn.http.errors"


def answer_exception(error: Exception) -> Response:
    """Whatever a view let through. What we know gets its own status, everything else is a 500 and a log entry."""
    if type(error).__module__ == SERVERS_ERRORS:
        return render_problem(_broken_body())
    for kind, convert in _CONVERSIONS:
        if isinstance(error, kind):
            return render_problem(convert(error))
    return render_problem(_unexpected(error))


def job_problems(error: InvalidJobError, payload_at: str) -> list[Problem]:
    """The problems of a job as places in the request's body, which keeps the payload at ``payload_at``."""
    if isinstance(error, InvalidPayloadError):
        return [Problem(payload_at + problem.path, problem.message) for problem in error.problems]
    return list(error.problems)


def _from_werkzeug(error: HTTPException) -> ProblemError:
    status = error.code or 500
    headers = {
        name: value for name, value in error.get_headers() if name.lower() not in ("content-type", "content-length")
    }
    detail = _DETAILS.get(status) or HTTPStatus(status).phrase + "."
    return ProblemError(status, detail, headers=headers)


_DETAILS = {
    400: "The request could not be understood.",
    404: "There is nothing here, or it is not yours to see.",
    405: "This resource does not know that method; see the Allow header.",
    413: "The body is larger than 1 MiB.",
    500: "Something went wrong on our side.",
}


def _database_trouble(error: Exception) -> ProblemError:
    sqlstate = getattr(error.orig, "sqlstate", None) if isinstance(error, exc.DBAPIError) else None
    if sqlstate == GIVEN_UP:
        return _took_too_long()
    if sqlstate in IN_THE_WAY:
        return _somebody_in_the_way(sqlstate)
    log.warning("api.database_unavailable", extra={"error": type(error).__name__, "request_id": current_request_id()})
    # A commit whose answer was lost may have happened, so nothing is promised about that.
    return unavailable("The database cannot be reached right now. Try again shortly.")


def _somebody_in_the_way(sqlstate: str) -> ProblemError:
    facts = {"path": request.path, "sqlstate": sqlstate, "request_id": current_request_id()}
    log.warning("api.somebody_in_the_way", extra=facts)
    return unavailable("Somebody else is changing the same at this moment. Try again shortly.")


def _took_too_long() -> ProblemError:
    log.warning("api.took_too_long", extra={"path": request.path, "request_id": current_request_id()})
    detail = (
        "The database could not do this in time. Ask for less: of a list, what was made in a shorter period "
        "(createdAfter, createdBefore), or a smaller limit."
    )
    return unavailable(detail, SLOW_RETRY_AFTER)


def unknown_task(error: UnknownTaskError, at: str = "/jobType") -> ProblemError:
    """Names the nearest job type there is, so that a typing mistake explains itself; ``at`` is where it was named."""
    extra = {"suggestion": error.suggestion} if error.suggestion else {}
    errors = [Problem(at, str(error))]
    return ProblemError(422, str(error), kind="unknown-job-type", title="Unknown job type", errors=errors, extra=extra)


def _invalid_job(error: InvalidJobError) -> ProblemError:
    return invalid(job_problems(error, "/payload"))


def _invalid_limit(error: InvalidLimitError) -> ProblemError:
    """What the path names is at ``{name}``; the rest is in the body."""
    named = {f"/{name}": f"{{{name}}}" for name in request.view_args or ()}
    return invalid([Problem(named.get(path, path), message) for path, message in error.problems])


def _invalid_value(error: InvalidConnectionError | InvalidScheduleError | InvalidHookError) -> ProblemError:
    return invalid(error.problems)


def _name_taken(error: ScheduleNameTakenError) -> ProblemError:
    detail = f"A schedule is named {error.name!r} already."
    return ProblemError(409, detail, kind="schedule-exists", title="Schedule exists")


def _made_in_code(_error: ScheduleMadeInCodeError) -> ProblemError:
    detail = "The schedule is declared in code: it is changed and deleted there. It can be paused here."
    return ProblemError(409, detail, kind="made-in-code", title="Made in code")


def _webhook_disabled(_error: WebhookDisabledError) -> ProblemError:
    return ProblemError(409, "The webhook is disabled, and would be sent nothing. Enable it first.")


def _too_many_schedules(error: TooManySchedulesError) -> ProblemError:
    detail = f"The workspace may have {plural(error.limit, 'schedule')}, and has. Delete one that is not needed."
    extra = {"limit": error.limit}
    return ProblemError(422, detail, kind="too-many-schedules", title="Too many schedules", extra=extra)


def _conflict(_error: EnqueueConflictError) -> ProblemError:
    return unavailable("The job's uniqueness guard changed hands too often; try again.", retry_after=1)


def _changed_unseen(_error: UnseenChangeError) -> ProblemError:
    """Where an application's own Sessions have such transactions."""
    return unavailable("Somebody else changed it at the same moment, and nothing was done; try again.", retry_after=1)


def _quota_exceeded(error: QuotaExceededError) -> ProblemError:
    headers = {
        "Retry-After": str(error.retry_after_seconds),
        "RateLimit-Policy": f'"waiting-jobs";q={error.limit}',
        "RateLimit": f'"waiting-jobs";r=0;t={error.retry_after_seconds}',
    }
    return quota_exceeded(error, headers)


def quota_exceeded(error: QuotaExceededError, headers: Mapping[str, str]) -> ProblemError:
    """What is told of a full quota, beside these headers."""
    detail = (
        f"The workspace may have {plural(error.limit, 'waiting job')} and has no room for more. "
        f"Try again in {error.retry_after_seconds} s, or have the quota raised."
    )
    extra = {"limit": error.limit}
    return ProblemError(429, detail, kind="quota-exceeded", title="Quota exceeded", extra=extra, headers=headers)


def _no_text(error: UnicodeDecodeError) -> ProblemError:
    """Of a query, and of nothing else: other bytes are ours to read."""
    if not is_about_query(error):
        return _unexpected(error)
    name = error.object[: error.start].rpartition(b"&")[2].partition(b"=")[0].decode()
    return invalid([Problem(f"?{name}", "is not UTF-8: write other bytes as %XX")])


@contextmanager
def sealing(path: str, what: str) -> Iterator[None]:
    """Where a request brings what is kept sealed: a process that cannot seal says what to do about that."""
    try:
        yield
    except KeyMissingError as error:
        detail = f"{what} cannot be kept here; nothing was changed. {error}"
        problem = Problem(path, str(error))
        raise ProblemError(503, detail, kind="no-key-ring", title="No key ring", errors=[problem]) from error


def _missing_key(error: KeyMissingError) -> ProblemError:
    log.error("api.key_missing", extra={"error": str(error), "request_id": current_request_id()})
    return unavailable("What this needs is encrypted, and this process has no key for it. Nothing was changed.")


def _broken_body() -> ProblemError:
    """It is read while it is served, so what is wrong with its chunks is found out here."""
    return ProblemError(400, "The body does not come as HTTP says that bodies do.")


def _unexpected(error: Exception) -> ProblemError:
    request_id = current_request_id()
    log.error("api.request_failed", exc_info=error, extra={"request_id": request_id, "path": request.path})
    detail = "Something went wrong on our side. The log has the details under this request id."
    return ProblemError(500, detail, extra={"requestId": request_id})


def _missing_schema(error: exc.ProgrammingError) -> ProblemError:
    """The one mistake of a deployment that looks like a mistake in our SQL."""
    if getattr(error.orig, "sqlstate", None) not in MISSING:
        return _unexpected(error)
    log.error("api.database_not_migrated", extra={"error": str(error.orig), "request_id": current_request_id()})
    return unavailable("The database's schema is not the one that is needed; run `jobplatform migrate`.")


def _missing_roles(error: MigrationError) -> ProblemError:
    log.error("api.database_not_migrated", extra={"error": str(error), "request_id": current_request_id()})
    return unavailable("The database's schema is not the one that is needed; run `jobplatform migrate`.")


_CONVERSIONS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], Callable[[Any], ProblemError]], ...] = (
    (DATABASE_TROUBLE, _database_trouble),
    (exc.ProgrammingError, _missing_schema),
    (MigrationError, _missing_roles),
    (UnknownTaskError, unknown_task),
    (InvalidJobError, _invalid_job),
    (InvalidLimitError, _invalid_limit),
    ((InvalidConnectionError, InvalidScheduleError, InvalidHookError), _invalid_value),
    (ScheduleNameTakenError, _name_taken),
    (ScheduleMadeInCodeError, _made_in_code),
    (WebhookDisabledError, _webhook_disabled),
    (TooManySchedulesError, _too_many_schedules),
    (EnqueueConflictError, _conflict),
    (UnseenChangeError, _changed_unseen),
    (QuotaExceededError, _quota_exceeded),
    (KeyMissingError, _missing_key),
    (UnicodeDecodeError, _no_text),
)
