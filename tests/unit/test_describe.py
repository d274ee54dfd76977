"""What a task's payload may be, as JSON Schema for people and forms."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import uuid
from dataclasses import dataclass, field
from typing import Any, Literal

import marshmallow
import pytest
from marshmallow import fields, validate

from jobplatform.queue import payload_schema
from jobplatform.queue.tasks.describe import LARGEST
from jobplatform.queue.tasks.payloads import payload_type


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Address:
    street: str


@dataclass(frozen=True)
class Everything:
    text: str
    number: int
    share: float
    yes: bool
    one: uuid.UUID
    at: datetime.datetime
    day: datetime.date
    price: decimal.Decimal
    wait: datetime.timedelta
    colour: Colour
    address: Address
    many: list[Address]
    by_name: dict[str, int]
    anything: Any
    mode: Literal["fast", "slow"] = "fast"
    maybe: int | None = None
    limit: int = field(default=5, metadata={"data_key": "maxRows", "validate": validate.Range(min=1, max=9)})


def test_every_field_of_a_dataclass_has_its_form() -> None:
    found = payload_schema(payload_type(Everything).schema)

    assert found["properties"] == {
        "text": {"type": "string"},
        "number": {"type": "integer"},
        "share": {"type": "number"},
        "yes": {"type": "boolean"},
        "one": {"type": "string", "format": "uuid"},
        "at": {"type": "string", "format": "date-time"},
        "day": {"type": "string", "format": "date"},
        "price": {"type": "string", "format": "decimal"},
        "wait": {"type": "integer"},
        "colour": {"enum": ["red", "blue"]},
        "address": ADDRESS,
        "many": {"type": "array", "items": ADDRESS},
        "by_name": {"type": "object", "additionalProperties": {"type": "integer"}},
        "anything": {},
        "mode": {"enum": ["fast", "slow"]},
        "maybe": {"type": ["integer", "null"]},
        "maxRows": {"type": "integer", "minimum": 1, "maximum": 9},
    }
    assert set(found["properties"]) - set(found["required"]) == {"mode", "maybe", "maxRows"}
    assert found["additionalProperties"] is False


ADDRESS = {
    "type": "object",
    "properties": {"street": {"type": "string"}},
    "required": ["street"],
    "additionalProperties": False,
}


class Declared(marshmallow.Schema):
    name = fields.String(load_default="x", validate=validate.Length(max=3), metadata={"description": "Whose."})
    made = fields.DateTime(load_default=datetime.datetime.now)


def test_a_schema_of_marshmallow_tells_defaults_lengths_and_descriptions() -> None:
    found = payload_schema(Declared())

    assert found["properties"]["name"] == {
        "type": "string",
        "maxLength": 3,
        "default": "x",
        "description": "Whose.",
    }
    assert found["properties"]["made"] == {"type": "string", "format": "date-time"}
    assert "required" not in found


@pytest.mark.parametrize("declared", [None, dict[str, Any]])
def test_a_payload_without_a_type_is_any_object(declared: Any) -> None:
    assert payload_schema(payload_type(declared).schema) == {"type": "object"}


def test_a_schema_that_says_too_much_or_what_json_cannot_is_left_out() -> None:
    wide = marshmallow.Schema.from_dict({f"field_{number}": fields.String() for number in range(200)})
    odd = marshmallow.Schema.from_dict({"odd": fields.Raw(validate=validate.OneOf([object()]))})

    assert payload_schema(wide()) == payload_schema(odd()) == {"type": "object"}
    assert len(json.dumps(payload_schema(payload_type(Everything).schema))) < LARGEST
