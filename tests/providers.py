"""Providers as they describe themselves: how each of them signs what it delivers. Written from their descriptions, and
with nothing of ours, so that what is checked here is not what checks.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

CONTENT = {"Content-Type": "application/json"}


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _digest(key: bytes, text: bytes) -> bytes:
    return hmac.new(key, text, hashlib.sha256).digest()


def github(secret: str, body: bytes, *, event: str = "push", delivery: str = "72d3162e-cc78") -> dict[str, str]:
    signature = _digest(secret.encode(), body).hex()
    return {
        **CONTENT,
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": delivery,
        "X-Hub-Signature-256": f"sha256={signature}",
        "User-Agent": "GitHub-Hookshot/044aadd",
    }


def stripe(secrets: str | list[str], body: bytes, at: float) -> dict[str, str]:
    """While its secret is rolled it signs with both."""
    both = [secrets] if isinstance(secrets, str) else secrets
    signatures = ",".join(f"v1={_digest(secret.encode(), f'{int(at)}.'.encode() + body).hex()}" for secret in both)
    return {**CONTENT, "Stripe-Signature": f"t={int(at)},{signatures},v0=6ffbb59b2300aae63f272406069a9788598b792a"}


def slack(secret: str, body: bytes, at: float) -> dict[str, str]:
    signature = _digest(secret.encode(), b"v0:" + str(int(at)).encode() + b":" + body).hex()
    return {**CONTENT, "X-Slack-Request-Timestamp": str(int(at)), "X-Slack-Signature": f"v0={signature}"}


def shopify(secret: str, body: bytes, *, delivery: str = "b54557e4-bdd9") -> dict[str, str]:
    signature = base64.b64encode(_digest(secret.encode(), body)).decode()
    return {
        **CONTENT,
        "X-Shopify-Topic": "orders/create",
        "X-Shopify-Webhook-Id": delivery,
        "X-Shopify-Hmac-Sha256": signature,
    }


def hubspot(secret: str, url: str, body: bytes, at: float) -> dict[str, str]:
    milliseconds = str(int(at * 1000))
    signed = b"POST" + url.encode() + body + milliseconds.encode()
    return {
        **CONTENT,
        "X-HubSpot-Request-Timestamp": milliseconds,
        "X-HubSpot-Signature-v3": base64.b64encode(_digest(secret.encode(), signed)).decode(),
    }


def standard(
    secrets: str | list[str], body: bytes, at: float, *, delivery: str = "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"
) -> dict[str, str]:
    both = [secrets] if isinstance(secrets, str) else secrets
    keys = [base64.b64decode(secret.split("_", 1)[1]) for secret in both]
    signed = f"{delivery}.{int(at)}.".encode() + body
    signatures = " ".join("v1," + base64.b64encode(_digest(key, signed)).decode() for key in keys)
    return {
        **CONTENT,
        "Webhook-Id": delivery,
        "Webhook-Timestamp": str(int(at)),
        "Webhook-Signature": f"v1a,notours {signatures}",
    }


def strava_event(**values: Any) -> dict[str, Any]:
    """What Strava posts when an athlete has recorded something."""
    return {
        "object_type": "activity",
        "object_id": 1360128428,
        "aspect_type": "create",
        "owner_id": 134815,
        "subscription_id": 120475,
        "event_time": 1516126040,
        "updates": {},
        **values,
    }


def hubspot_event(**values: Any) -> dict[str, Any]:
    return {
        "eventId": 3181526809,
        "subscriptionId": 25,
        "portalId": 33,
        "appId": 1160452,
        "occurredAt": 1767603600000,
        "subscriptionType": "contact.propertyChange",
        "attemptNumber": 0,
        "objectId": 1246965,
        "propertyName": "lifecyclestage",
        "propertyValue": "subscriber",
        **values,
    }
