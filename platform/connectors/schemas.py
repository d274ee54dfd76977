"""Schemas of what a workspace writes about its connections, and their mistakes as places. Does no input or output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from marshmallow import INCLUDE, RAISE, Schema, ValidationError, fields

from jobplatform.errors import Problem


class ConfigSchema(Schema):
    """snake_case inside, camelCase in JSON; a key that it does not know is a mistake."""

    class Meta:
        unknown = RAISE

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        field_obj.data_key = field_obj.data_key or _camel(field_name)


class AnyConfig(Schema):
    """Takes anything, as it is."""

    class Meta:
        unknown = INCLUDE


def problems_of(schema: type[Schema], value: Any, path: str) -> list[Problem]:
    """What is wrong with ``value``, by JSON pointers that start with ``path``."""
    if not isinstance(value, Mapping):
        return [Problem(path, "Must be an object.")]
    try:
        schema().load(value)
    except ValidationError as error:
        return list(_flatten(error.messages, path, value))
    return []


def _flatten(messages: Any, path: str, value: Any) -> Iterator[Problem]:
    if not isinstance(messages, Mapping):
        for message in messages if isinstance(messages, list) else [messages]:
            yield Problem(path, str(message))
        return
    for name, inner in messages.items():
        if name == "_schema" or _is_marshmallows(name, inner, value):
            yield from _flatten(inner, path, value)
        else:
            yield from _flatten(inner, f"{path}/{_escaped(name)}", _part(value, name))


def _is_marshmallows(name: Any, inner: Any, value: Any) -> bool:
    """What is wrong with an entry of a Dict field stands below a word of marshmallow's own."""
    return name in ("key", "value") and not (isinstance(value, Mapping) and name in value) and inner is not None


def _part(value: Any, name: Any) -> Any:
    if isinstance(value, Mapping):
        return value.get(name)
    return value[name] if isinstance(value, list) and isinstance(name, int) and name < len(value) else None


def _escaped(name: Any) -> str:
    return str(name).replace("~", "~0").replace("/", "~1")


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in rest)
