"""What goes over the wire about connections. Credentials only ever come in."""

from __future__ import annotations

from marshmallow import fields, validate

from jobplatform.api.schemas.fields import CamelSchema, Moment
from jobplatform.connectors import LONGEST_NAME


def _about(text: str) -> dict[str, str]:
    return {"description": text}


_CONFIG = _about("As the connector type wants it; no secrets, which are credentials")
_CREDENTIALS = _about(
    'With a `scheme` and what belongs to it, as in {"scheme": "bearer", "token": "…"}; sealed, and never answered'
)


class ConnectionSchema(CamelSchema):
    """A configured connector. ``status`` is ``needs_attention`` when it is of no use until it has (new) credentials."""

    id = fields.UUID(required=True)
    workspace_id = fields.UUID(required=True)
    connector_type = fields.String(required=True)
    name = fields.String(required=True)
    config = fields.Dict(required=True, metadata=_about("What looks like a secret in an old one is not shown"))
    has_credentials = fields.Boolean(required=True)
    credentials_scheme = fields.String(required=True, allow_none=True)
    credentials_set_at = Moment(required=True, allow_none=True)
    credentials_renewed_at = Moment(required=True, allow_none=True)
    status = fields.String(required=True, validate=validate.OneOf(("ready", "needs_attention")))
    attention = fields.String(required=True, allow_none=True, metadata=_about("Why it needs attention"))
    attention_at = Moment(required=True, allow_none=True, metadata=_about("Null, too, where credentials are missing"))
    created_at = Moment(required=True)
    updated_at = Moment(required=True)


class ConnectionPageSchema(CamelSchema):
    """One page of connections; ``nextCursor`` is null on the last."""

    items = fields.List(fields.Nested(ConnectionSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class NewConnectionSchema(CamelSchema):
    """A connection to be made."""

    connector_type = fields.String(required=True, validate=validate.Length(1, 100))
    name = fields.String(required=True, validate=validate.Length(1, LONGEST_NAME))
    config = fields.Dict(required=True, metadata=_CONFIG)
    credentials = fields.Dict(metadata=_CREDENTIALS)


class ConnectionChangeSchema(CamelSchema):
    """A change. What is not named stays; credentials of null are forgotten."""

    name = fields.String(validate=validate.Length(1, LONGEST_NAME))
    config = fields.Dict(metadata=_CONFIG)
    credentials = fields.Dict(allow_none=True, metadata=_CREDENTIALS)


class TryConnectionSchema(CamelSchema):
    """Which stream to try: the first there is, unless named."""

    stream = fields.String(validate=validate.Length(1, 100))


class TriedSchema(CamelSchema):
    """What was found on one page. ``fields`` are names in its records; no value is told."""

    ok = fields.Boolean(required=True)
    message = fields.String(required=True)
    streams = fields.List(fields.String(), required=True)
    stream = fields.String(required=True, allow_none=True)
    records = fields.Integer(required=True)
    total = fields.Integer(required=True, allow_none=True)
    fields_ = fields.List(fields.String(), required=True, data_key="fields", attribute="fields")
    needs_attention = fields.Boolean(required=True)
    took_ms = fields.Integer(required=True)
