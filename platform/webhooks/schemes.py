"""How providers let us know that a delivery is theirs: one :class:`Scheme` each, from their published descriptions.

What a scheme signs differs: some the body alone, so that a recorded delivery could be sent again for ever; some a
moment too, and then it is refused after a few minutes; one sends nothing that could be checked but who it says it is.
That a delivery is done once is the affair of the receiver's memory, not of the signature, and as good as the id that it
remembers (:mod:`jobplatform.webhooks.identity`).
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobplatform.errors import DeliveryRefusedError
from jobplatform.webhooks import standard
from jobplatform.webhooks.standard import require_match, require_recent

LONGEST_SECRET = 1_000


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request as it came. Names of ``headers`` are in lower case, ``url`` is the one the provider asked for."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes

    def header(self, name: str) -> str:
        """A header that the scheme cannot do without. Raises :class:`DeliveryRefusedError`."""
        value = self.headers.get(name, "").strip()
        if not value:
            raise DeliveryRefusedError("unsigned", f"the header {name} is missing")
        return value


Check = Callable[[Sequence[str], Incoming, float, float], None]
"""Of secrets, request, the moment now and the seconds a delivery may be old: raises :class:`DeliveryRefusedError`."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """A provider's way. ``secret`` says what the secret is; it is empty where there is none."""

    name: str
    secret: str
    check: Check
    has_timestamp: bool = False
    handshakes: bool = False
    """Whether it asks with a GET for the secret before it sends anything."""
    subscribes: bool = False
    """Whether what it sends names a subscription, which is all there is to check."""
    splits: bool = False
    """Whether one delivery has several events."""

    def problem_of_secret(self, secret: str | None) -> str | None:
        """What is wrong with a secret for this scheme, in words; nothing of the secret is repeated."""
        if not self.secret:
            return None if secret is None else "is not taken: this scheme checks nothing"
        if not secret:
            return f"is needed: {self.secret}"
        if len(secret) > LONGEST_SECRET or not secret.isprintable():
            return f"must be at most {LONGEST_SECRET} printable characters"
        return _problem_of_standard(secret) if self.name == "standard" else None


def scheme_named(name: str) -> Scheme | None:
    """The scheme of this name."""
    return SCHEMES.get(name)


def _problem_of_standard(secret: str) -> str | None:
    try:
        standard.key_of(secret)
    except ValueError as error:
        return str(error)
    return None


def _github(secrets: Sequence[str], incoming: Incoming, _now: float, _window: float) -> None:
    """``sha256=`` and the HMAC of the body in hexadecimal."""
    sent = incoming.header("x-hub-signature-256").removeprefix("sha256=")
    require_match((digest.hex() for digest in _digests(secrets, incoming.body)), [sent])


def _shopify(secrets: Sequence[str], incoming: Incoming, _now: float, _window: float) -> None:
    """The HMAC of the body in base64."""
    sent = incoming.header("x-shopify-hmac-sha256")
    require_match(map(_base64, _digests(secrets, incoming.body)), [sent])


def _stripe(secrets: Sequence[str], incoming: Incoming, now: float, window: float) -> None:
    """``t=…,v1=…``: over the moment, a dot and the body; one signature for each valid secret."""
    parts = [part.strip().partition("=") for part in incoming.header("stripe-signature").split(",")[:50]]
    moments = [value for name, _, value in parts if name == "t"]
    if len(moments) != 1:
        raise DeliveryRefusedError("unsigned", "the header stripe-signature has no t=")
    require_recent(moments[0], now, window)
    signed = f"{moments[0]}.".encode() + incoming.body
    require_match(
        (digest.hex() for digest in _digests(secrets, signed)), [value for name, _, value in parts if name == "v1"]
    )


def _slack(secrets: Sequence[str], incoming: Incoming, now: float, window: float) -> None:
    """``v0=`` and the HMAC of version, moment and body."""
    moment = incoming.header("x-slack-request-timestamp")
    require_recent(moment, now, window)
    signed = f"v0:{moment}:".encode() + incoming.body
    sent = incoming.header("x-slack-signature")
    require_match((f"v0={digest.hex()}" for digest in _digests(secrets, signed)), [sent])


def _hubspot(secrets: Sequence[str], incoming: Incoming, now: float, window: float) -> None:
    """Version 3: the HMAC of method, URL, body and moment (in milliseconds), in base64."""
    moment = incoming.header("x-hubspot-request-timestamp")
    require_recent(moment, now, window, per_second=1000)
    url = _decoded_as_hubspot_does(incoming.url)
    signed = incoming.method.encode() + url.encode() + incoming.body + moment.encode()
    require_match(map(_base64, _digests(secrets, signed)), [incoming.header("x-hubspot-signature-v3")])


def _standard(secrets: Sequence[str], incoming: Incoming, now: float, window: float) -> None:
    standard.verify(secrets, incoming.headers, incoming.body, now=now, tolerance=window)


def _nothing(_secrets: Sequence[str], _incoming: Incoming, _now: float, _window: float) -> None:
    """All there is to know is in what it sends; see :func:`require_subscription`."""


def require_subscription(subscription_id: str, event: Any) -> None:
    """What it sends is of this subscription. Raises :class:`DeliveryRefusedError`."""
    sent = event.get("subscription_id") if isinstance(event, dict) else None
    if isinstance(sent, bool) or not isinstance(sent, int | str):
        raise DeliveryRefusedError("wrong-subscription", "the delivery names no subscription")
    if not hmac.compare_digest(str(sent).encode(), subscription_id.encode()):
        raise DeliveryRefusedError("wrong-subscription", "the delivery is of another subscription")


def answer_to_handshake(secrets: Sequence[str], query: Mapping[str, str]) -> str:
    """The challenge, for whoever knows the secret. Raises :class:`DeliveryRefusedError`."""
    if query.get("hub.mode") != "subscribe" or not query.get("hub.challenge"):
        raise DeliveryRefusedError("unsigned", "hub.mode=subscribe and hub.challenge are needed")
    require_match(secrets, [query.get("hub.verify_token", "")])
    return query["hub.challenge"]


def _digests(secrets: Iterable[str], signed: bytes) -> Iterator[bytes]:
    for secret in secrets:
        yield hmac.digest(secret.encode(), signed, "sha256")


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


#: What HubSpot writes as itself before it signs a URL, however it was sent.
_PLAIN = {
    "%3A": ":", "%2F": "/", "%3F": "?", "%40": "@", "%21": "!", "%24": "$", "%27": "'", "%28": "(", "%29": ")",
    "%2A": "*", "%2C": ",", "%3B": ";",
}  # fmt: skip


def _decoded_as_hubspot_does(url: str) -> str:
    if "%" not in url:
        return url
    for encoded, plain in _PLAIN.items():
        url = url.replace(encoded, plain).replace(encoded.lower(), plain)
    return url


SCHEMES: Mapping[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme("standard", "the signing secret, whsec_…", _standard, has_timestamp=True),
        Scheme("github", "the webhook's secret", _github),
        Scheme("hubspot", "the client secret of the app", _hubspot, has_timestamp=True, splits=True),
        Scheme("shopify", "the client secret of the app", _shopify),
        Scheme("slack", "the signing secret of the app", _slack, has_timestamp=True),
        Scheme("strava", "the verify token of the subscription", _nothing, handshakes=True, subscribes=True),
        Scheme("stripe", "the signing secret of the endpoint", _stripe, has_timestamp=True),
        Scheme("none", "", _nothing),
    )
}
