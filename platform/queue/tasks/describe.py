"""Describe: what a worker's code says of its tasks, for people who look at them in a page, and payloads as JSON Schema.

The API of a host may not have the tasks imported at all; a worker has.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import marshmallow
from marshmallow import fields, validate
from sqlalchemy.orm import Session

from jobplatform.queue.safe_json import safe_json
from jobplatform.queue.statement import run, text_array

#: Nested deeper than this, a schema says "any object".
DEEPEST: Final = 5
#: A larger schema is left out: a worker's processes hand all of them on in messages.
LARGEST: Final = 3_000

# A row that would stay the same is written only now and then, so that a fleet that starts does not write all of them.
WRITE: Final = """
insert into jobplatform.task_types as t (name, details)
select u.name, u.details
from unnest(%(names)s::text[], %(details)s::jsonb[]) as u(name, details)
order by u.name
on conflict (name) do update
set details = excluded.details, seen_at = excluded.seen_at
where t.details <> excluded.details or t.seen_at < excluded.seen_at - interval '1 hour'
"""
# One that no worker has had for so long is history.
FORGET: Final = """
delete from jobplatform.task_types t
where t.seen_at < jobplatform.clock() - interval '30 days'
    and not exists (select from jobplatform.workers w where w.dead_at is null and t.name = any(w.tasks))
"""

_TYPES: Final[tuple[tuple[type[fields.Field[Any]], dict[str, Any]], ...]] = (
    (fields.UUID, {"type": "string", "format": "uuid"}),
    (fields.Email, {"type": "string", "format": "email"}),
    (fields.Url, {"type": "string", "format": "uri"}),
    (fields.DateTime, {"type": "string", "format": "date-time"}),
    (fields.Date, {"type": "string", "format": "date"}),
    (fields.Decimal, {"type": "string", "format": "decimal"}),
    (fields.String, {"type": "string"}),
    (fields.TimeDelta, {"type": "integer"}),
    (fields.Integer, {"type": "integer"}),
    (fields.Number, {"type": "number"}),
    (fields.Boolean, {"type": "boolean"}),
)


def describe_tasks(session: Session, catalogue: Iterable[Mapping[str, Any]]) -> None:
    """Write down what these tasks are. The code that came last counts."""
    tasks = sorted(catalogue, key=lambda task: str(task["name"]))
    run(
        session,
        WRITE,
        names=text_array(task["name"] for task in tasks),
        details=text_array(safe_json(dict(task)) for task in tasks),
    )
    run(session, FORGET)


def payload_schema(schema: marshmallow.Schema | None) -> dict[str, Any]:
    """JSON Schema of a payload; of one that says too much, that it is an object."""
    found = json_schema(schema)
    try:
        size = len(json.dumps(found))
    except (TypeError, ValueError):
        # A choice, or a bound, that has no form in JSON.
        return {"type": "object"}
    return found if size <= LARGEST else {"type": "object"}


def json_schema(schema: marshmallow.Schema | None, depth: int = 0) -> dict[str, Any]:
    """JSON Schema of what a payload may be, as far as marshmallow's own fields tell."""
    if schema is None or depth >= DEEPEST:
        return {"type": "object"}
    found = {field.data_key or name: field for name, field in schema.load_fields.items()}
    required = [name for name, field in found.items() if field.required]
    return {
        "type": "object",
        "properties": {name: _property(field, depth) for name, field in found.items()},
        **({"required": required} if required else {}),
        **({"additionalProperties": False} if schema.unknown == marshmallow.RAISE else {}),
    }


def _property(field: fields.Field[Any], depth: int) -> dict[str, Any]:
    found = {**_type_of(field, depth), **_choices(field), **_default(field)}
    if field.allow_none and isinstance(found.get("type"), str):
        found["type"] = [found["type"], "null"]
    if description := field.metadata.get("description"):
        found["description"] = str(description)
    return found


def _type_of(field: fields.Field[Any], depth: int) -> dict[str, Any]:
    if isinstance(field, fields.Nested):
        inner = json_schema(field.schema, depth + 1)
        return {"type": "array", "items": inner} if field.many else inner
    if isinstance(field, fields.List):
        return {"type": "array", "items": _property(field.inner, depth + 1)}
    if isinstance(field, fields.Tuple):
        return {"type": "array"}
    if isinstance(field, fields.Mapping):
        value = field.value_field
        return {"type": "object", **({"additionalProperties": _property(value, depth + 1)} if value else {})}
    if isinstance(field, fields.Enum):
        return {"enum": [one.value if field.by_value else one.name for one in field.enum]}
    return next((dict(found) for kind, found in _TYPES if isinstance(field, kind)), {})


def _choices(field: fields.Field[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for rule in field.validators:
        match rule:
            case validate.OneOf():
                found["enum"] = list(rule.choices)
            case validate.Range():
                found |= _bounds(rule.min, rule.max, "minimum", "maximum")
            case validate.Length():
                found |= _bounds(rule.min, rule.max, "minLength", "maxLength")
    return found


def _bounds(low: Any, high: Any, low_name: str, high_name: str) -> dict[str, Any]:
    bounds = {low_name: low, high_name: high}
    return {name: value for name, value in bounds.items() if isinstance(value, int | float)}


def _default(field: fields.Field[Any]) -> dict[str, Any]:
    value: Callable[[], Any] | Any = field.load_default
    if value is marshmallow.missing or callable(value):
        return {}
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return {}
    return {"default": value}
