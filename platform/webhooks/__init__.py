"""Signed deliveries: the Standard Webhooks format, and how common providers sign theirs. Does no input or output."""

from jobplatform.errors import DeliveryRefusedError
from jobplatform.webhooks.identity import Event, events_of, headers_to_keep
from jobplatform.webhooks.schemes import (
    SCHEMES,
    Incoming,
    Scheme,
    answer_to_handshake,
    require_subscription,
    scheme_named,
)
from jobplatform.webhooks.standard import Verified, new_secret, sign, verify

__all__ = [
    "SCHEMES",
    "DeliveryRefusedError",
    "Event",
    "Incoming",
    "Scheme",
    "Verified",
    "answer_to_handshake",
    "events_of",
    "headers_to_keep",
    "new_secret",
    "require_subscription",
    "scheme_named",
    "sign",
    "verify",
]
