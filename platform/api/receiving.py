"""Deliveries of providers. The key in the path and the signature are the authorisation; there is no token.

What is wrong with a delivery is found in the order of what it costs: its key by form, its size, its hook, its age and
signature, and only then what it says. Nothing is written for one that is not believed; a line of the log says why.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

from flask import Response, request
from sqlalchemy.orm import Session
from werkzeug.exceptions import RequestEntityTooLarge

from jobplatform.api.access.guard import presented_key
from jobplatform.api.access.refused_deliveries import Suspect
from jobplatform.api.answers import respond
from jobplatform.api.bodies import MAX_BODY_BYTES, read_event
from jobplatform.api.mounted import mounted
from jobplatform.api.problems import ProblemError, invalid, not_found, quota_exceeded, require_found, unavailable
from jobplatform.api.requests import current_request_id
from jobplatform.api.resource import QUOTA, RETRY_AFTER, Resource
from jobplatform.api.schemas.hooks import ReceivedSchema
from jobplatform.errors import (
    DeliveryRefusedError,
    InvalidJobError,
    JobPlatformError,
    Problem,
    QuotaExceededError,
    SealBrokenError,
    UnknownTaskError,
)
from jobplatform.queue import (
    MOST_EVENTS,
    FoundHook,
    Received,
    find_hook_by_key,
    open_hook_secrets,
    receive,
    turn_away,
)
from jobplatform.webhooks import (
    SCHEMES,
    Event,
    Incoming,
    answer_to_handshake,
    events_of,
    headers_to_keep,
    require_subscription,
)

log = logging.getLogger("jobplatform.api")

receiving = Resource("receiving", __name__, description="Deliveries of providers")

RECEIVE = "/hooks/<connectionKey>"
#: Seconds after which a provider may come again to a hook that takes nothing now.
DISABLED_RETRY_AFTER = 300
NOT_READY_RETRY_AFTER = 30

_RECEIVED = ReceivedSchema()
REFUSED: dict[str, Any] = {
    **QUOTA,
    "description": "It is not believed, as many others of this minute were not",
    "headers": {"Retry-After": RETRY_AFTER},
}
HANDSHAKE = [
    {"name": f"hub.{name}", "in": "query", "schema": {"type": "string"}}
    for name in ("mode", "challenge", "verify_token")
]


@receiving.endpoint("GET", RECEIVE, None, refuses=(403, 422), by_key=True)
@receiving.may_answer(429, **REFUSED)
@receiving.about(parameters=HANDSHAKE)
@receiving.answers(200, description="The challenge, as JSON")
def answer_handshake(connection_key: str) -> Response:  # noqa: ARG001 - the guard has read it
    """Answer a provider that asks whether we want what it would deliver

    It proves itself by `hub.verify_token`. Where the scheme has no handshake there is nothing here.
    """
    suspect = mounted().refused.suspect(presented_key())
    if suspect is not None:
        with _turning_away(suspect):
            answer_to_handshake(suspect.secrets, request.args)
    with mounted().transaction() as session:
        hook = _find_hook(session)
        if not SCHEMES[hook.scheme].handshakes:
            raise not_found()
        secrets = _secrets(session, hook)
        with _refusing(hook, secrets):
            challenge = answer_to_handshake(secrets, request.args)
    return _json({"hub.challenge": challenge})


@receiving.endpoint("POST", RECEIVE, None, refuses=(400, 403, 413, 422), by_key=True)
@receiving.may_answer(429, **QUOTA)
@receiving.answers(200, ReceivedSchema, example={"accepted": 1, "repeated": 0})
def receive_delivery(connection_key: str) -> Response:  # noqa: ARG001 - the guard has read it
    """Take a delivery: each of its events is a job before this is answered

    One that comes again is answered alike, and enqueues nothing. 429 and 503 say when to come again. When very many
    of a minute were not believed, 429 is the answer to others of that kind, and to no other.
    """
    body = _read_body()
    _turn_away_more_of_the_same(body)
    delivery: _Delivery | None = None
    try:
        with mounted().transaction() as session:
            hook = _find_hook(session)
            _require_ready(hook)
            value = _believed(session, hook, body)
            if (challenge := _challenge_in(hook, value)) is not None:
                return _json({"challenge": challenge})
            delivery = _Delivery(hook, _events(hook, body, value))
            received = _receive(session, delivery)
    except (QuotaExceededError, InvalidJobError, UnknownTaskError) as error:
        assert delivery is not None
        _turn_away(delivery, error)
    return respond(_RECEIVED, received._asdict())


class _Delivery(NamedTuple):
    """A delivery that is believed."""

    hook: FoundHook
    events: Sequence[Event]


def _read_body() -> bytes:
    """Before there is a transaction: however slowly it comes, it holds no connection."""
    body = request.get_data(cache=True)
    if len(body) > MAX_BODY_BYTES:
        raise RequestEntityTooLarge
    return body


def _find_hook(session: Session) -> FoundHook:
    return require_found(find_hook_by_key(session, presented_key()))


def _require_ready(hook: FoundHook) -> None:
    if hook.is_disabled:
        raise unavailable("This hook is disabled.", DISABLED_RETRY_AFTER, reason="disabled")
    if SCHEMES[hook.scheme].subscribes and hook.subscription_id is None:
        raise unavailable("The subscription is not known here yet.", NOT_READY_RETRY_AFTER, reason="not-subscribed")


def _secrets(session: Session, hook: FoundHook) -> list[str]:
    try:
        return open_hook_secrets(session, hook)
    except SealBrokenError as error:
        log.error("hook.secret_lost", extra={**_facts(hook), "error": str(error)})
        raise unavailable("The secret of this hook cannot be opened; it needs a new one.") from None


def _believed(session: Session, hook: FoundHook, body: bytes) -> Any:
    """What the delivery says, once it is known to be the provider's."""
    secrets = _secrets(session, hook)
    with _refusing(hook, secrets):
        _check(hook, secrets, hook.now.timestamp(), body)
    value = read_event(body, request.content_type or "")
    if SCHEMES[hook.scheme].subscribes:
        with _refusing(hook, secrets):
            require_subscription(hook.subscription_id or "", value)
    return value


def _check(hook: FoundHook, secrets: Sequence[str], now: float, body: bytes) -> None:
    SCHEMES[hook.scheme].check(secrets, _incoming(hook, body), now, hook.replay_seconds)


def _turn_away_more_of_the_same(body: bytes) -> None:
    """Where too much is not believed: ask nobody about what is not, and let all that is go on."""
    refused = mounted().refused
    suspect = refused.suspect(presented_key())
    if suspect is None or suspect.hook.is_disabled:
        return
    with _turning_away(suspect):
        _check(suspect.hook, suspect.secrets, suspect.moment(refused.clock()), body)
        if SCHEMES[suspect.hook.scheme].subscribes:
            require_subscription(suspect.hook.subscription_id or "", read_event(body, request.content_type or ""))


def _incoming(hook: FoundHook, body: bytes) -> Incoming:
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Incoming(request.method, _url(hook), headers, body)


def _url(hook: FoundHook) -> str:
    """As the provider asked for it: behind a proxy only whoever made the hook knows."""
    query = f"?{request.query_string.decode('latin-1')}" if request.query_string else ""
    if hook.url is not None:
        return f"{hook.url}/hooks/{(request.view_args or {})['connection_key']}{query}"
    return f"{request.host_url.rstrip('/')}{request.script_root}{request.path}{query}"


def _challenge_in(hook: FoundHook, value: Any) -> str | None:
    """Slack asks by a delivery, before it sends any other."""
    if hook.scheme == "slack" and isinstance(value, dict) and value.get("type") == "url_verification":
        return str(value.get("challenge", ""))
    return None


def _events(hook: FoundHook, body: bytes, value: Any) -> list[Event]:
    if isinstance(value, list) and len(value) > MOST_EVENTS:
        raise ProblemError(413, f"A delivery may have {MOST_EVENTS} events.")
    return events_of(SCHEMES[hook.scheme], _incoming(hook, body), value, split=hook.split == "event")


def _receive(session: Session, delivery: _Delivery) -> Received:
    headers = headers_to_keep({name.lower(): value for name, value in request.headers.items()})
    return receive(session, mounted().tasks, delivery.hook, delivery.events, headers, request_id=current_request_id())


def _turn_away(delivery: _Delivery, error: JobPlatformError) -> NoReturn:
    """Nothing of it was enqueued: say so where it is looked for, and have it sent again where that may help."""
    problem = _problem_of(error)
    with mounted().transaction() as session:
        turn_away(session, delivery.hook, [event.id for event in delivery.events], problem.code or 500)
    log.warning(
        "hook.turned_away",
        extra={**_facts(delivery.hook), "status": problem.code, "events": len(delivery.events), "reason": str(error)},
    )
    raise problem


def _problem_of(error: JobPlatformError) -> ProblemError:
    if isinstance(error, QuotaExceededError):
        return quota_exceeded(error, {"Retry-After": str(error.retry_after_seconds)})
    if isinstance(error, UnknownTaskError):
        return unavailable("What this hook delivers to is not known here.", DISABLED_RETRY_AFTER, reason="unknown-task")
    assert isinstance(error, InvalidJobError)
    return invalid([Problem(problem.path, problem.message) for problem in error.problems])


@contextlib.contextmanager
def _turning_away(suspect: Suspect) -> Iterator[None]:
    """One more that is not believed: no line of the log either, of which there would be as many."""
    try:
        yield
    except DeliveryRefusedError:
        most = mounted().refused.per_minute
        raise ProblemError(
            429,
            f"It is not believed, and {most} others of this minute were not.",
            extra={"limit": most},
            headers={"Retry-After": str(suspect.seconds)},
        ) from None


@contextlib.contextmanager
def _refusing(hook: FoundHook, secrets: Sequence[str]) -> Iterator[None]:
    """Turn away what is not believed: nothing is written, and the answer says no more than what kind of thing it is."""
    try:
        yield
    except DeliveryRefusedError as error:
        mounted().refused.note(presented_key(), hook, secrets)
        log.warning("hook.refused", extra={**_facts(hook), "reason": error.reason})
        raise ProblemError(
            403,
            f"The delivery is refused: {error}.",
            kind="delivery-refused",
            title="Delivery refused",
            extra={"reason": error.reason},
        ) from None


def _facts(hook: FoundHook) -> dict[str, Any]:
    return {
        "hook_id": str(hook.id),
        "workspace_id": str(hook.workspace_id),
        "scheme": hook.scheme,
        "request_id": current_request_id(),
    }


def _json(value: Any) -> Response:
    return Response(json.dumps(value), content_type="application/json")
