"""What goes over the wire about webhooks."""

from __future__ import annotations

from marshmallow import fields, validate

from jobplatform.api.schemas.fields import CamelSchema, Moment, milliseconds
from jobplatform.models import Outcome, Status
from jobplatform.queue import EVENTS, LONGEST_ROTATION

_EVENT = fields.String(validate=validate.OneOf(EVENTS))


def _about(text: str) -> dict[str, str]:
    return {"description": text}


class WebhookSchema(CamelSchema):
    """Where endings of jobs and batches, and alerts, are told. Its secrets are not shown."""

    id = fields.UUID(required=True)
    workspace_id = fields.UUID(required=True)
    name = fields.String(required=True)
    url = fields.String(required=True)
    events = fields.List(_EVENT, required=True)
    job_types = fields.List(
        fields.String(), required=True, allow_none=True, metadata=_about("Of jobs: of which tasks. null: of all")
    )
    rotating_until = Moment(required=True, allow_none=True, metadata=_about("Until then both secrets sign"))
    made_by = fields.String(required=True)
    created_at = Moment(required=True)
    failing_since = Moment(required=True, allow_none=True)
    disabled_at = Moment(required=True, allow_none=True)
    disabled_by = fields.String(required=True, allow_none=True)
    disabled_why = fields.String(
        required=True, allow_none=True, validate=validate.OneOf(["by hand", "gone", "failing"])
    )
    problem = fields.String(
        required=True, allow_none=True, metadata=_about("Why nothing is delivered, if something is wrong")
    )


class ShownWebhookSchema(WebhookSchema):
    """A webhook with its secret, which is shown this once."""

    secret = fields.String(required=True)


class WebhookPageSchema(CamelSchema):
    """One page of webhooks; ``nextCursor`` is null on the last."""

    items = fields.List(fields.Nested(WebhookSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class WebhookChangeSchema(CamelSchema):
    """A change. What is not named stays."""

    name = fields.String(validate=validate.Length(1, 100))
    url = fields.String(validate=validate.Length(1, 1000), metadata=_about("https, and a public address"))
    events = fields.List(_EVENT, validate=validate.Length(min=1))
    job_types = fields.List(
        fields.String(validate=validate.Length(1, 100)), allow_none=True, validate=validate.Length(1, 50)
    )


class NewWebhookSchema(WebhookChangeSchema):
    """A webhook to be made: of all endings of jobs of all tasks, unless it says otherwise."""

    name = fields.String(required=True, validate=validate.Length(1, 100))
    url = fields.String(required=True, validate=validate.Length(1, 1000), metadata=_about("https, a public address"))
    secret = fields.String(
        load_only=True, validate=validate.Length(1, 1000), metadata=_about("whsec_…; one is made if none is given")
    )


class NewWebhookSecretSchema(CamelSchema):
    """Another secret; one is made if none is given."""

    secret = fields.String(load_only=True, validate=validate.Length(1, 1000))
    keep_old_ms = milliseconds(0, LONGEST_ROTATION, metadata=_about("How long the old one signs too; default: a day"))


class WebhookDeliverySchema(CamelSchema):
    """A delivery, which is a job: what it tells, and how it went."""

    job_id = fields.UUID(required=True)
    delivery_id = fields.String(required=True, metadata=_about("The webhook-id, the same at every try"))
    type = fields.String(required=True)
    about_job_id = fields.UUID(required=True, allow_none=True)
    status = fields.String(required=True, validate=validate.OneOf([status.value for status in Status]))
    outcome = fields.String(
        required=True, allow_none=True, validate=validate.OneOf([outcome.value for outcome in Outcome])
    )
    attempts = fields.Integer(required=True)
    answer = fields.Integer(required=True, allow_none=True, metadata=_about("The status that it was taken with"))
    error = fields.String(required=True, allow_none=True)
    created_at = Moment(required=True)
    next_attempt_at = Moment(required=True, allow_none=True)
    completed_at = Moment(required=True, allow_none=True)
    status_url = fields.String(required=True)


class WebhookDeliveriesSchema(CamelSchema):
    """The last deliveries, newest first."""

    items = fields.List(fields.Nested(WebhookDeliverySchema), required=True)


class SentTestSchema(CamelSchema):
    """The job that delivers it."""

    job_id = fields.UUID(required=True)
    status_url = fields.String(required=True)
