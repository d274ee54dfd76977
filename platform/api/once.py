"""The same request sent twice is done once: what the caller's ``Idempotency-Key`` asks for.

The view, and the answer that is kept, are one transaction: the transactions that the view asks for are parts of it. A
request that is refused leaves nothing behind, so it may be corrected and sent again under the same key.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

from flask import Response, request

from jobplatform.api.access.guard import current_principal
from jobplatform.api.mounted import mounted, reach_of_request
from jobplatform.api.problems import ProblemError, invalid
from jobplatform.errors import Problem
from jobplatform.queue import NOBODYS, Kept, RequestKey, find_answer, keep_answer, lock_request

View = TypeVar("View", bound=Callable[..., Any])

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
#: What can be a header anyway.
WELL_FORMED = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")
#: Those that the view chose; the others are made anew for each answer.
HEADERS = ("Content-Type", "Location", "Retry-After", "ETag", "Link")

#: What users said: whatever it looks like, no link in it is ours.
NOT_OURS = frozenset({"payload", "result", "output", "progress", "state", "config"})

PARAMETER = {
    "name": HEADER,
    "in": "header",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "Any text, new for each thing to be done: the same request with it again is answered as the first "
    "was, for 24 hours, and nothing is done twice",
}


def once(view: View, *, keeps_answer: bool) -> View:
    """The view, done once for each key. Without ``keeps_answer`` (it shows a secret) a repeat is refused."""

    @functools.wraps(view)
    def done_once(*args: Any, **kwargs: Any) -> Any:
        key = request.headers.get(HEADER)
        if key is None:
            return view(*args, **kwargs)
        _require_well_formed(key)
        with mounted().one_transaction() as session:
            asked = _request_key(key)
            if not lock_request(session, asked):
                raise _under_way()
            if kept := find_answer(session, asked):
                return _answer_again(kept)
            answer: Response = view(*args, **kwargs)
            keep_answer(session, asked, _fingerprint(), _as_kept(answer) if keeps_answer else None)
            return answer

    return done_once  # type: ignore[return-value]  # the same signature


def _request_key(key: str) -> RequestKey:
    principal = current_principal()
    # A name of a host application's could be one of our tokens' ids.
    caller = principal.token_id or f"host:{principal.name}"
    return RequestKey(reach_of_request().workspace_id or NOBODYS, caller, key)


def _fingerprint() -> bytes:
    """What was asked, byte for byte. Not the prefix: it is the same API below each."""
    asked = hashlib.sha256()
    for part in (request.method.encode(), request.path.encode(), request.query_string, request.get_data(cache=True)):
        asked.update(len(part).to_bytes(8) + part)
    return asked.digest()


def _as_kept(answer: Response) -> dict[str, Any]:
    headers = {name: answer.headers[name] for name in HEADERS if name in answer.headers}
    body = answer.get_data(as_text=True)
    return {"status": answer.status_code, "headers": headers, "body": body, "prefix": request.script_root}


def _answer_again(kept: Kept) -> Response:
    if kept.fingerprint != _fingerprint():
        raise ProblemError(
            422,
            "Another request was made with this Idempotency-Key; take a new one for each thing to be done.",
            kind="idempotency-key-reused",
            title="Idempotency key reused",
        )
    if kept.answer is None:
        raise ProblemError(
            409,
            "This was done before. Its answer held a secret, which is not kept.",
            kind="already-done",
            title="Already done",
        )
    told = _below_this_prefix(kept.answer)
    answer = Response(told["body"], told["status"])
    answer.headers.update(told["headers"])
    answer.headers[REPLAYED] = "true"
    return answer


def _below_this_prefix(told: dict[str, Any]) -> dict[str, Any]:
    """The answer with links that stay below the prefix by which this request came, which may be another one."""
    old, new = told.get("prefix", request.script_root), request.script_root
    if old == new:
        return told
    headers = dict(told["headers"])
    if "Location" in headers:
        headers["Location"] = _moved(headers["Location"], old, new)
    body = told["body"]
    if body and headers.get("Content-Type") == "application/json":
        body = json.dumps(_with_links_moved(json.loads(body), old, new), ensure_ascii=False, separators=(",", ":"))
    return {**told, "headers": headers, "body": body}


def _with_links_moved(value: Any, old: str, new: str) -> Any:
    if isinstance(value, list):
        return [_with_links_moved(one, old, new) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        name: inside
        if name in NOT_OURS
        else _moved(inside, old, new)
        if name.endswith("Url") and isinstance(inside, str)
        else _with_links_moved(inside, old, new)
        for name, inside in value.items()
    }


def _moved(url: str, old: str, new: str) -> str:
    """A link of ours is a path; what is elsewhere stays as it is."""
    return new + url.removeprefix(old) if url.startswith(f"{old}/") else url


def _require_well_formed(key: str) -> None:
    if not WELL_FORMED.fullmatch(key):
        raise invalid([Problem(HEADER, "must be 1 to 255 printable ASCII characters")])


def _under_way() -> ProblemError:
    return ProblemError(
        409,
        "A request with this Idempotency-Key is still being served.",
        kind="request-under-way",
        title="Request under way",
        headers={"Retry-After": "1"},
    )
