"""What tells one delivery from another, by which a repeated one is known; and what of its headers may be kept.

Where a provider gives its deliveries ids, that is it. Where it does not, the id is made from what the event is about;
and where there is nothing of that kind either, from the body. Only what nobody has signed and nobody has named is new
each time: there, two that look the same may well be two.

GitHub and Shopify do not sign the id. Theirs is taken all the same and not the body's digest, by which a recording
under another id would be known: both send the same body for different events, and those would be lost.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jobplatform.webhooks.schemes import Incoming, Scheme

#: A longer id is told by its digest.
LONGEST_ID = 200
LONGEST_HEADER = 500

#: What there is to know of a delivery beside its body, and no secret, signature or address of anybody.
KEPT_HEADERS = frozenset(
    {
        "content-type", "user-agent",
        "webhook-id", "webhook-timestamp",
        "x-github-event", "x-github-delivery", "x-github-hook-id",
        "x-hubspot-request-timestamp",
        "x-shopify-api-version", "x-shopify-event-id", "x-shopify-shop-domain", "x-shopify-topic",
        "x-shopify-triggered-at", "x-shopify-webhook-id",
        "x-slack-request-timestamp", "x-slack-retry-num", "x-slack-retry-reason",
        "idempotency-key",
    }
)  # fmt: skip

_PLAIN_ID = re.compile(r"[\x21-\x7e]+\Z")


class Event(NamedTuple):
    """One thing that happened. The same ``id`` of the same hook is the same thing, however often it is delivered."""

    id: str
    value: Any


def events_of(scheme: Scheme, incoming: Incoming, body: Any, *, split: bool = True) -> list[Event]:
    """The events of a delivery, each once. With ``split`` a list of them is taken apart where the provider sends lists.

    ``body`` is what stands in ``incoming.body``.
    """
    if not scheme.splits or not isinstance(body, list):
        return [Event(_fitting(_IDENTITIES[scheme.name](incoming, body)), body)]
    events = {event.id: event for event in (Event(_fitting(_hubspot(incoming, item)), item) for item in body)}
    if split:
        return list(events.values())
    return [Event(_digest(sorted(events)), body)] if events else []


def headers_to_keep(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that go with the event, cut to a sensible length."""
    return {
        name: value[:LONGEST_HEADER] for name, value in headers.items() if name in KEPT_HEADERS and value.isprintable()
    }


def _standard(incoming: Incoming, _body: Any) -> str:
    return incoming.header("webhook-id")


def _github(incoming: Incoming, _body: Any) -> str:
    return incoming.headers.get("x-github-delivery") or _of_body(incoming)


def _shopify(incoming: Incoming, _body: Any) -> str:
    return incoming.headers.get("x-shopify-webhook-id") or _of_body(incoming)


def _stripe(incoming: Incoming, body: Any) -> str:
    return _member(body, "id") or _of_body(incoming)


def _slack(incoming: Incoming, body: Any) -> str:
    return _member(body, "event_id") or _of_body(incoming)


def _strava(incoming: Incoming, body: Any) -> str:
    """What it is about, what was done to it, and when. Two changes in one second differ in what they changed."""
    parts = [_member(body, name) for name in ("object_type", "object_id", "aspect_type", "event_time")]
    if not all(parts):
        return _of_body(incoming)
    updates = body.get("updates")
    return ":".join([*parts, *([_digest(updates)[:16]] if updates else [])])


def _hubspot(_incoming: Incoming, event: Any) -> str:
    """Its event ids may repeat; together with what happened to what, and when, they do not. Tries are numbered."""
    if not isinstance(event, dict):
        return _digest(event)
    return _digest({name: value for name, value in event.items() if name != "attemptNumber"})


def _none(incoming: Incoming, _body: Any) -> str:
    named = incoming.headers.get("webhook-id") or incoming.headers.get("idempotency-key")
    return named or uuid.uuid4().hex


_IDENTITIES: Mapping[str, Callable[[Incoming, Any], str]] = {
    "standard": _standard,
    "github": _github,
    "hubspot": _hubspot,
    "shopify": _shopify,
    "slack": _slack,
    "strava": _strava,
    "stripe": _stripe,
    "none": _none,
}


def _member(body: Any, name: str) -> str:
    """A text or whole number of an object, as text; empty when there is none."""
    value = body.get(name) if isinstance(body, dict) else None
    return str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""


def _of_body(incoming: Incoming) -> str:
    return "body:" + hashlib.sha256(incoming.body).hexdigest()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _fitting(text: str) -> str:
    """Ids are whatever somebody sends: what is too long for a key, or unprintable, is told by its digest."""
    if len(text) <= LONGEST_ID and _PLAIN_ID.match(text):
        return text
    return "sha256:" + hashlib.sha256(text.encode(errors="replace")).hexdigest()
