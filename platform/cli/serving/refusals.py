"""What is answered to a request that never gets to the application: it is no HTTP, or its head is too long.

gunicorn answers that with a page, and says which request it was nowhere. Here it is a problem document like any other,
with an id that is in the log too.
"""

from __future__ import annotations

import json
import logging
import uuid
from http import HTTPStatus
from typing import Any, Final

from gunicorn import util

from jobplatform.api.problems import KINDS, PROBLEM_JSON, TYPE_PREFIX
from jobplatform.api.requests import HEADER

log = logging.getLogger("jobplatform.api")

_DETAILS: Final = {
    400: "This is not a request as HTTP has them.",
    403: "This connection is not taken here.",
    408: "The request did not arrive in time.",
    414: "The request's first line is too long: ask for less in the query.",
    417: "What the request expects (Expect) is not done here.",
    431: "The request's header fields are too long, or too many.",
    500: "Something went wrong on our side. The log has the details under this request id.",
    501: "The body comes in a transfer coding that is not read here.",
}


def refusal(status: int, request_id: str) -> bytes:
    """A whole answer, after which the connection is closed."""
    phrase = HTTPStatus(status).phrase
    detail = _DETAILS.get(status, "The request could not be served.")
    kind = TYPE_PREFIX + KINDS.get(status, "error")
    body = json.dumps({"type": kind, "title": phrase, "status": status, "detail": detail, "requestId": request_id})
    lines = (
        f"HTTP/1.1 {status} {phrase}",
        "Connection: close",
        f"Content-Type: {PROBLEM_JSON}",
        f"Content-Length: {len(body)}",
        f"{HEADER}: {request_id}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
    )
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode("ascii")


class _Listener:
    """Takes the place of a client while gunicorn says what it would: of that only the status is used."""

    def __init__(self) -> None:
        self.heard = b""

    def gettimeout(self) -> float:
        return 0.0

    def sendall(self, data: bytes) -> None:
        self.heard += data

    @property
    def status(self) -> int:
        words = self.heard.split(maxsplit=2)
        return int(words[1]) if len(words) > 1 and words[1].isdigit() else HTTPStatus.INTERNAL_SERVER_ERROR.value


class Refusing:
    """For a worker of gunicorn: its refusals as problems. gunicorn goes on deciding what is refused, and with what."""

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        listener, request_id = _Listener(), uuid.uuid4().hex
        super().handle_error(req, listener, addr, exc)  # type: ignore[misc]  # the worker's
        status = listener.status
        log.info("api.refused_unread", extra={"request_id": request_id, "status": status, "error": str(exc)[:200]})
        try:
            util.write_nonblock(client, refusal(status, request_id))
        except OSError:
            log.debug("api.refusal_unsent", extra={"request_id": request_id})
