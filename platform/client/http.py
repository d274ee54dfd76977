"""One request: sent, tried again where that is harmless, and answered with JSON or with an exception that says why not.

What only reads is tried again after a lost connection, a 429 or a 503. What changes something goes with a key by which
the server does it once, and is tried again after a lost connection or a 503: it may have been done, and is not done
twice. Without a key it is tried again only if it never reached the server. A proxy that has lost its connection to the
server, or found none, says so with a 502 or a 504.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import backoff
import httpx

from jobplatform.errors import (
    AccessError,
    AnswerError,
    BusyError,
    ConflictError,
    NoSuchJobError,
    Problem,
    RefusedError,
    StaleJobError,
    UnreachableError,
)

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 10.0
#: A server that wants longer is asked again all the same, or told to the caller.
LONGEST_RETRY_AFTER = 60.0
#: What a proxy answers when whoever is behind it does not. The API itself never does.
LOST_BEHIND_A_PROXY = frozenset({502, 504})
#: The kind of an answer that is none of the API's, and how much of it is shown.
NOT_JSON = "not-json"
SHOWN = 200
#: The kind of a conflict with the first sending of the same request.
UNDER_WAY = "request-under-way"


def pauses() -> Iterator[float]:
    """Seconds before each further try: growing, jittered, without end."""
    ceilings = backoff.expo(factor=FIRST_PAUSE, max_value=LONGEST_PAUSE)
    next(ceilings)
    return (max(FIRST_PAUSE / 2, backoff.full_jitter(ceiling)) for ceiling in ceilings)


@dataclass(frozen=True, slots=True)
class Answer:
    """What stands in an answer of success, and what the server calls that state of it."""

    body: Any
    etag: str | None


class Http:
    """The connection to one API, with a token."""

    def __init__(self, base_url: str, token: str, *, timeout: float, tries: int, transport: Any) -> None:
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        self.tries = max(1, tries)
        self.client = httpx.Client(
            base_url=base_url.rstrip("/") + "/", headers=headers, timeout=timeout, transport=transport
        )

    def ask(
        self, method: str, path: str, *, body: Any = None, query: Mapping[str, Any] | None = None, once: bool = True
    ) -> Any:
        """The answer's JSON. Raises a :class:`ClientError`. ``once``: what is to be changed goes with a key."""
        return self.answer_to(method, path, body=body, query=query, once=once).body

    def answer_to(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        once: bool = True,
        if_match: str | None = None,
    ) -> Answer:
        """As :meth:`ask`, with the answer's entity tag. ``if_match``: only if what is there has this one."""
        keyed = {"Idempotency-Key": uuid.uuid4().hex} if once and method != "GET" else {}
        headers = keyed | ({"If-Match": if_match} if if_match is not None else {})
        pause = pauses()
        error: AnswerError | UnreachableError = UnreachableError(str(self.client.base_url), "it was not asked")
        for attempt in range(self.tries):
            if attempt:
                time.sleep(pause_before(error, pause))
            try:
                return self._send(method, path, body, query, headers)
            except (BusyError, UnreachableError, ConflictError) as failed:
                if not _is_harmless(method, failed, has_key=bool(keyed)):
                    raise
                error = failed
        raise error

    def _send(
        self, method: str, path: str, body: Any, query: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> Answer:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        try:
            answer = self.client.request(method, path, json=body, params=given, headers=headers)
        except httpx.TransportError as error:
            raise UnreachableError(str(self.client.base_url), str(error), sent=was_sent(error)) from error
        raise_for(answer)
        return Answer(read_json(answer) if answer.content else None, answer.headers.get("ETag"))


def pause_before(error: Exception, pause: Iterator[float]) -> float:
    """What the server asks for, or the next of ``pause``."""
    wanted = getattr(error, "retry_after", None)
    return min(wanted, LONGEST_RETRY_AFTER) if wanted is not None else next(pause)


def raise_for(answer: httpx.Response) -> None:
    """Raise what fits an answer that is none of success."""
    if answer.status_code < 400:
        return
    if answer.status_code in LOST_BEHIND_A_PROXY:
        said = f"HTTP {answer.status_code} {answer.reason_phrase}"
        raise UnreachableError(str(answer.url), said.strip(), sent=True)
    problem = _problem_of(answer)
    kind = _KINDS.get(answer.status_code, RefusedError if answer.status_code < 500 else AnswerError)
    raise kind(
        answer.status_code,
        kind=str(problem.get("type", "")).rpartition(":")[2],
        detail=str(problem.get("detail") or answer.reason_phrase),
        errors=[Problem(item["path"], item["message"]) for item in problem.get("errors", [])],
        request_id=answer.headers.get("X-Request-Id"),
        retry_after=_seconds(answer.headers.get("Retry-After")),
        job_id=problem.get("jobId"),
        job_status=problem.get("jobStatus"),
    )


def read_json(answer: httpx.Response) -> Any:
    """What stands in an answer of success. Something in front of the API may have given another in its place."""
    try:
        return answer.json()
    except ValueError:
        came = answer.headers.get("Content-Type", "something without a type")
        begins = " ".join(answer.text.split())[:SHOWN]
        detail = f"{answer.url} answered with {came} and not with JSON; is that the API's address? It begins: {begins}"
        raise AnswerError(answer.status_code, kind=NOT_JSON, detail=detail) from None


_KINDS: dict[int, type[AnswerError]] = {
    401: AccessError,
    403: AccessError,
    404: NoSuchJobError,
    409: ConflictError,
    412: StaleJobError,
    429: BusyError,
    503: BusyError,
}


def was_sent(error: httpx.TransportError) -> bool:
    """Whether the server may have got the request."""
    return not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)


def _is_harmless(method: str, error: AnswerError | UnreachableError, *, has_key: bool) -> bool:
    """Whether to try again. A full quota is the caller's to know of, and not to be waited out here."""
    if isinstance(error, UnreachableError):
        return method == "GET" or has_key or not error.sent
    if isinstance(error, ConflictError):
        return error.kind == UNDER_WAY
    return method == "GET" or (has_key and error.status == 503)


def _problem_of(answer: httpx.Response) -> dict[str, Any]:
    """What stands in the answer, which a proxy may have written."""
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.isdecimal() else None
