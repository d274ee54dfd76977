"""What a task takes, as its author declares it and as it comes over HTTP."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from dataclasses import dataclass, field
from typing import Any, Literal

import marshmallow
import pytest

from jobplatform.errors import InvalidPayloadError, TaskDefinitionError
from jobplatform.queue.tasks.payloads import payload_type


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Address:
    street: str
    number: int = 1


@dataclass
class Order:
    id: uuid.UUID
    address: Address
    kind: Literal["sale", "refund"] = "sale"
    note: str | None = None
    lines: list[Address] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    colour: Colour = Colour.RED
    placed_at: datetime.datetime | None = field(default=None, metadata={"data_key": "placedAt"})
    amount: decimal.Decimal = decimal.Decimal(0)
    anything: Any = None


class LetterSchema(marshmallow.Schema):
    to = marshmallow.fields.Email(required=True)
    copies = marshmallow.fields.Integer(load_default=1)


ORDER_ID = "018f0000-0000-7000-8000-000000000001"
MINIMAL = {"id": ORDER_ID, "address": {"street": "Main"}}


def problems_of(declared: Any, value: Any) -> dict[str, str]:
    with pytest.raises(InvalidPayloadError) as refused:
        payload_type(declared).load(value)
    return {problem.path: problem.message for problem in refused.value.problems}


def test_a_dataclass_is_what_the_handler_gets() -> None:
    order = payload_type(Order).load(MINIMAL)

    assert order == Order(id=uuid.UUID(ORDER_ID), address=Address("Main"))


def test_a_dataclass_makes_the_trip_to_json_and_back() -> None:
    order = Order(
        id=uuid.UUID(ORDER_ID),
        address=Address("Main", 7),
        kind="refund",
        note="please",
        lines=[Address("Side")],
        labels={"a": 1},
        colour=Colour.BLUE,
        placed_at=datetime.datetime(2030, 1, 2, tzinfo=datetime.UTC),
        amount=decimal.Decimal("12.50"),
        anything=[1, {"two": None}],
    )
    declared = payload_type(Order)

    assert declared.load(declared.dump(order)) == order


def test_a_field_can_have_another_name_in_json() -> None:
    value = payload_type(Order).dump(
        Order(
            id=uuid.UUID(ORDER_ID),
            address=Address("Main"),
            placed_at=datetime.datetime(2030, 1, 2, tzinfo=datetime.UTC),
        )
    )

    assert value["placedAt"] == "2030-01-02T00:00:00+00:00"
    assert "placed_at" not in value


def test_an_optional_field_may_be_null() -> None:
    assert payload_type(Order).load({**MINIMAL, "note": None}).note is None


@pytest.mark.parametrize(
    ("changed", "path"),
    [
        ({"id": "not-a-uuid"}, "/id"),
        ({"address": {}}, "/address/street"),
        ({"address": {"street": "Main", "number": "seven"}}, "/address/number"),
        ({"address": {"street": "Main", "number": 7.5}}, "/address/number"),
        ({"kind": "gift"}, "/kind"),
        ({"lines": [{"street": "a"}, {"street": 5}]}, "/lines/1/street"),
        ({"labels": {"a": "many"}}, "/labels/a/value"),
        ({"colour": "green"}, "/colour"),
        ({"placedAt": "yesterday"}, "/placedAt"),
        ({"placedAt": "2030-01-02T00:00:00"}, "/placedAt"),
        ({"unheard": 1}, "/unheard"),
        ({"address": {"street": "Main", "unheard": 1}}, "/address/unheard"),
        ({"kind": None}, "/kind"),
    ],
)
def test_what_is_wrong_is_named_by_its_place(changed: dict[str, Any], path: str) -> None:
    assert list(problems_of(Order, {**MINIMAL, **changed})) == [path]


def test_everything_that_is_wrong_is_named() -> None:
    assert set(problems_of(Order, {"kind": "gift", "address": 5})) == {"/id", "/kind", "/address"}


@pytest.mark.parametrize("value", [None, 5, "text", [1]])
def test_a_payload_that_is_no_object_is_refused(value: Any) -> None:
    assert list(problems_of(Order, value)) == [""]


def test_a_dataclass_that_refuses_its_values_is_heard() -> None:
    @dataclass
    class Range:
        low: int
        high: int

        def __post_init__(self) -> None:
            if self.low > self.high:
                raise ValueError("low must not be above high")

    (message,) = problems_of(Range, {"low": 2, "high": 1}).values()

    assert message == "low must not be above high"


def test_a_validator_in_the_metadata_of_a_field_is_heard() -> None:
    @dataclass
    class Page:
        size: int = field(metadata={"validate": marshmallow.validate.Range(1, 100)})

    assert list(problems_of(Page, {"size": 1000})) == ["/size"]


def test_a_marshmallow_schema_gives_what_it_loads() -> None:
    assert payload_type(LetterSchema).load({"to": "a@example.com"}) == {"to": "a@example.com", "copies": 1}


def test_a_marshmallow_schema_names_what_it_refuses() -> None:
    assert set(problems_of(LetterSchema, {"to": "nobody", "unheard": 1})) == {"/to", "/unheard"}


def test_a_schema_instance_keeps_its_own_rule_for_unknown_fields() -> None:
    declared = payload_type(LetterSchema(unknown=marshmallow.EXCLUDE))

    assert declared.load({"to": "a@example.com", "unheard": 1}) == {"to": "a@example.com", "copies": 1}


@pytest.mark.parametrize("declared", [None, dict, dict[str, int], Any])
def test_without_a_declaration_any_object_will_do(declared: Any) -> None:
    assert payload_type(declared).load({"any": ["thing"]}) == {"any": ["thing"]}


def test_without_a_declaration_what_is_no_object_is_refused() -> None:
    assert problems_of(None, [1]) == {"": "must be a JSON object"}


def test_nothing_is_an_empty_object() -> None:
    assert payload_type(None).dump(None) == {}


def test_nothing_is_checked_like_any_other_payload() -> None:
    with pytest.raises(InvalidPayloadError):
        payload_type(Order).dump(None)


def test_an_object_of_another_type_is_refused_by_name() -> None:
    with pytest.raises(InvalidPayloadError, match="is a Address, the task takes a Order"):
        payload_type(Order).dump(Address("Main"))


def test_a_field_whose_value_has_no_way_to_json_is_named() -> None:
    wrong: Any = {"colour": "red", "placed_at": "tomorrow"}
    order = Order(id=uuid.UUID(ORDER_ID), address=Address("Main"), **wrong)

    with pytest.raises(InvalidPayloadError) as refused:
        payload_type(Order).dump(order)

    assert [problem.path for problem in refused.value.problems] == ["/colour", "/placedAt"]


def test_an_object_whose_fields_are_wrong_is_refused_before_it_is_stored() -> None:
    with pytest.raises(InvalidPayloadError):
        payload_type(Order).dump(Order(id=uuid.UUID(ORDER_ID), address=Address("Main"), kind="gift"))  # type: ignore[arg-type]


@pytest.mark.parametrize("declared", [int, "text", object(), list[int]])
def test_a_declaration_that_cannot_work_is_refused(declared: Any) -> None:
    with pytest.raises(TaskDefinitionError):
        payload_type(declared)


def test_a_field_without_a_json_form_is_refused_by_name() -> None:
    @dataclass
    class Odd:
        callback: bytes

    with pytest.raises(TaskDefinitionError, match=r"Odd\.callback"):
        payload_type(Odd)


def test_a_union_of_two_types_is_refused() -> None:
    @dataclass
    class Either:
        value: int | str

    with pytest.raises(TaskDefinitionError, match="union"):
        payload_type(Either)
