"""What goes over the wire about hooks."""

from __future__ import annotations

from typing import Any

from marshmallow import fields, validate

from jobplatform.api.schemas.fields import CamelSchema, Moment, WholeNumber, milliseconds
from jobplatform.queue import LONGEST_ROTATION
from jobplatform.webhooks import SCHEMES

_SPLITS = validate.OneOf(["event", "delivery"])


def _about(text: str) -> dict[str, str]:
    return {"description": text}


def _secret(**options: Any) -> fields.String:
    return fields.String(
        load_only=True,
        validate=validate.Length(1, 1000),
        metadata=_about("What the provider signs with, or asks for; never shown again"),
        **options,
    )


class HookSchema(CamelSchema):
    """Where a provider delivers to. Its key and its secrets are not shown."""

    id = fields.UUID(required=True)
    workspace_id = fields.UUID(required=True)
    name = fields.String(required=True)
    scheme = fields.String(required=True, validate=validate.OneOf(list(SCHEMES)))
    job_type = fields.String(required=True)
    connection_id = fields.UUID(required=True, allow_none=True)
    split = fields.String(required=True, validate=_SPLITS)
    subscription_id = fields.String(required=True, allow_none=True)
    replay_seconds = fields.Integer(required=True)
    public_url = fields.String(required=True, allow_none=True)
    rotating_until = Moment(required=True, allow_none=True, metadata=_about("Until then the secret before is good too"))
    made_by = fields.String(required=True)
    created_at = Moment(required=True)
    disabled_at = Moment(required=True, allow_none=True)
    disabled_by = fields.String(required=True, allow_none=True)


class ShownHookSchema(HookSchema):
    """A hook with what is shown this once: its URL, and its secret if that was made here."""

    url = fields.String(required=True)
    secret = fields.String(required=True, allow_none=True)


class ShownSecretSchema(HookSchema):
    """A hook with its new secret, this once; null if it was not made here."""

    secret = fields.String(required=True, allow_none=True)


class HookPageSchema(CamelSchema):
    """One page of hooks; ``nextCursor`` is null on the last."""

    items = fields.List(fields.Nested(HookSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class HookChangeSchema(CamelSchema):
    """A change. What is not named stays."""

    name = fields.String(validate=validate.Length(1, 100))
    job_type = fields.String(validate=validate.Length(1, 100))
    connection_id = fields.UUID(allow_none=True)
    split = fields.String(validate=_SPLITS, metadata=_about("Of a provider that sends lists: a job for each, or one"))
    subscription_id = fields.String(
        allow_none=True, validate=validate.Length(1, 100), metadata=_about("Strava's; without it nothing is taken")
    )
    replay_seconds = WholeNumber(
        validate=validate.Range(1, 86_400), metadata=_about("How old a delivery may be, where that is signed")
    )
    public_url = fields.String(
        allow_none=True,
        validate=validate.Length(1, 500),
        metadata=_about("Where this API is reached from outside: https://jobs.example.com/api"),
    )


class NewHookSchema(HookChangeSchema):
    """A hook to be made."""

    name = fields.String(required=True, validate=validate.Length(1, 100))
    job_type = fields.String(required=True, validate=validate.Length(1, 100))
    scheme = fields.String(required=True, validate=validate.OneOf(list(SCHEMES)))
    secret = _secret()


class NewSecretSchema(CamelSchema):
    """Another secret. For ``standard`` and for webhooks one is made if none is given."""

    secret = _secret()
    keep_old_ms = milliseconds(
        0, LONGEST_ROTATION, metadata=_about("How long what the old one signs is taken too; default: a day")
    )


class DeliverySchema(CamelSchema):
    """A delivery: what it was answered with, the job it became, and how often it came again."""

    delivery_id = fields.String(required=True)
    received_at = Moment(required=True)
    answer = fields.Integer(required=True)
    job_id = fields.UUID(required=True, allow_none=True)
    status_url = fields.String(required=True, allow_none=True)
    repeats = fields.Integer(required=True)
    repeated_at = Moment(required=True, allow_none=True)


class DeliveriesSchema(CamelSchema):
    """The last deliveries, newest first."""

    items = fields.List(fields.Nested(DeliverySchema), required=True)


class ReceivedSchema(CamelSchema):
    """What became of a delivery: events that are jobs now, and those that were before."""

    accepted = fields.Integer(required=True)
    repeated = fields.Integer(required=True)
