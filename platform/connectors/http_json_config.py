"""What a connection of the type ``http_json`` may say. Does no input or output.

What is said for all streams goes for each that says nothing else. Names of fields may be dotted paths; an empty one is
the whole answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any, Literal

from marshmallow import ValidationError, fields, validate, validates_schema

from jobplatform.connectors.schemas import ConfigSchema

#: How a source hands out its pages.
PAGINATIONS = ("cursor", "offset", "page", "link", "url", "none")
#: How it writes moments down.
FORMATS = ("text", "moment", "epoch", "epochMs")


class IncrementalConfig(ConfigSchema):
    """How a source is asked for what has changed: the newest ``field`` that was seen is sent as ``parameter``.

    ``overlapMs`` goes back a little, for a source that is late in showing what it has; ``start`` is sent at first.
    """

    field = fields.String(required=True, validate=validate.Length(1, 200))
    parameter = fields.String(required=True, validate=validate.Length(1, 200))
    field_format = fields.String(load_default="moment", validate=validate.OneOf(FORMATS))
    parameter_format = fields.String(load_default=None, allow_none=True, validate=validate.OneOf(FORMATS))
    overlap_ms = fields.Integer(load_default=0, strict=True, validate=validate.Range(0, 7 * 86_400_000))
    start = fields.String(load_default=None, allow_none=True)

    @validates_schema
    def both_or_neither_are_text(self, data: dict[str, Any], **_: Any) -> None:
        there, sent = data["field_format"], data["parameter_format"] or data["field_format"]
        if (there == "text") != (sent == "text"):
            raise ValidationError("A text cannot be sent as a moment, or a moment as text.", "parameterFormat")
        if there == "text" and data["overlap_ms"]:
            raise ValidationError("Nobody can go back in a text: say a fieldFormat.", "overlapMs")


class PagesConfig(ConfigSchema):
    """What can be said for all streams and for each."""

    pagination = fields.String(validate=validate.OneOf(PAGINATIONS))
    page_size = fields.Integer(strict=True, validate=validate.Range(1, 1000))
    limit_parameter = fields.String()
    cursor_parameter = fields.String()
    offset_parameter = fields.String()
    page_parameter = fields.String()
    first_page = fields.Integer(strict=True, validate=validate.Range(0, 1))
    ends_when = fields.String(validate=validate.OneOf(("short", "empty")))
    items_field = fields.String()
    cursor_field = fields.String()
    total_field = fields.String()
    id_field = fields.String()
    params = fields.Dict(keys=fields.String(), values=fields.String())
    incremental = fields.Nested(IncrementalConfig, allow_none=True)


class StreamConfig(PagesConfig):
    """One stream: where it is, and what is different about it."""

    path = fields.String(required=True, validate=validate.Regexp(r"^/", error="Must begin with a slash."))


class RateConfig(ConfigSchema):
    """How often an account may be asked: so many requests in each period."""

    requests = fields.Integer(required=True, strict=True, validate=validate.Range(1, 1_000_000))
    period_ms = fields.Integer(required=True, strict=True, validate=validate.Range(1, 86_400_000))


class HttpJsonConfig(PagesConfig):
    """The configuration of a connection of this type."""

    base_url = fields.Url(required=True, schemes={"http", "https"}, require_tld=False)
    streams = fields.Dict(
        keys=fields.String(validate=validate.Length(1, 100)),
        values=fields.Nested(StreamConfig),
        required=True,
        validate=validate.Length(1, 100),
    )
    headers = fields.Dict(keys=fields.String(), values=fields.String(), load_default=dict)
    account = fields.String(validate=validate.Length(1, 100))
    rate_limit = fields.Nested(RateConfig)


@dataclass(frozen=True)
class Stream:
    """One stream with everything that goes for it."""

    path: str
    pagination: Literal["cursor", "offset", "page", "link", "url", "none"] = "cursor"
    page_size: int = 100
    limit_parameter: str = "limit"
    cursor_parameter: str = "after"
    offset_parameter: str = "offset"
    page_parameter: str = "page"
    first_page: int = 1
    ends_when: Literal["short", "empty"] = "short"
    items_field: str = "results"
    cursor_field: str = "paging.next.after"
    total_field: str = "total"
    id_field: str = "id"
    params: Mapping[str, str] = dataclass_field(default_factory=dict)
    incremental: Mapping[str, Any] | None = None


def stream_of(config: Mapping[str, Any], name: str) -> Stream:
    """A stream of a loaded configuration: what it says itself, then what is said for all, then what is usual."""
    own = config["streams"][name]
    said = {**{name: value for name, value in config.items() if name in Stream.__dataclass_fields__}, **own}
    return Stream(**{**said, "params": {**config.get("params", {}), **own.get("params", {})}})
