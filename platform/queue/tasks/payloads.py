"""Payloads and results: what a task takes, checked by marshmallow when a job is enqueued and again when it runs, and
what it returns, checked when it has run.

A payload type is a dataclass (the handler gets an instance), a marshmallow schema (the handler gets what it loads) or
nothing (any JSON object). A dataclass field may set its JSON name with ``metadata={"data_key": "connectorType"}``.
A dataclass may look at requests in the database before they are enqueued: see :attr:`PayloadType.refuse`.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import inspect
import types
import typing
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, get_args, get_origin, get_type_hints

import marshmallow
from marshmallow import fields, post_load, validate

from jobplatform.errors import InvalidPayloadError, InvalidResultError, Problem, TaskDefinitionError
from jobplatform.queue.run.outcomes import HandlerOutcome
from jobplatform.wording import name_meant_fields

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from jobplatform.queue.enqueue import NewJob

P = TypeVar("P")

#: From jobs that are about to be enqueued: those that are not to be, by id.
RefuseJobs = Callable[["Session", Sequence["NewJob"]], Mapping[uuid.UUID, Problem]]

_SIMPLE: Mapping[Any, Callable[..., fields.Field[Any]]] = {
    str: fields.String,
    int: lambda **options: fields.Integer(strict=True, **options),
    float: fields.Float,
    bool: lambda **options: fields.Boolean(truthy={True}, falsy={False}, **options),
    uuid.UUID: fields.UUID,
    decimal.Decimal: lambda **options: fields.Decimal(as_string=True, **options),
    datetime.datetime: fields.AwareDateTime,
    datetime.date: fields.Date,
    datetime.timedelta: lambda **options: fields.TimeDelta(precision="seconds", **options),
    Any: fields.Raw,
    object: fields.Raw,
    dict: fields.Dict,
    list: lambda **options: fields.List(fields.Raw(allow_none=True), **options),
}


class PayloadType(Generic[P]):
    """Turns JSON into what the handler takes, and back. Both raise :class:`InvalidPayloadError` with paths."""

    def __init__(self, schema: marshmallow.Schema | None, python_type: type[Any] | None) -> None:
        self.schema = schema
        self.python_type = python_type

    @property
    def refuse(self) -> RefuseJobs | None:
        """What tells which jobs with such a payload are not to be enqueued, and why, in the enqueuer's transaction.

        It is the static method ``__refuse_jobs__`` of the dataclass, for what the payload alone does not show: that
        something it names is not there. One call looks at all that are enqueued together; paths start at the payload.
        """
        return getattr(self.python_type, "__refuse_jobs__", None)

    def load(self, value: Any) -> P:
        """The handler's payload from a JSON value."""
        if self.schema is None:
            if not isinstance(value, (dict, Mapping)):  # a plain dict, which it always is here, is told at once
                raise InvalidPayloadError([Problem("", "must be a JSON object")])
            return typing.cast("P", value)
        try:
            return typing.cast("P", self.schema.load(value))
        except marshmallow.ValidationError as error:
            raise InvalidPayloadError(list(_problems(error.messages))) from None

    def dump(self, payload: P | Mapping[str, Any] | None) -> Any:
        """The JSON value of a payload, after checking it: an instance, or a mapping as it would come by HTTP."""
        if payload is None:
            payload = {}
        if isinstance(payload, Mapping):
            self.load(payload)
            return dict(payload)
        if self.python_type is None or not isinstance(payload, self.python_type):
            expected = self.python_type.__name__ if self.python_type else "mapping"
            raise InvalidPayloadError([Problem("", f"is a {type(payload).__name__}, the task takes a {expected}")])
        assert self.schema is not None
        try:
            value = self.schema.dump(payload)
        except (TypeError, ValueError, AttributeError, marshmallow.ValidationError) as error:
            # A field's own way to JSON met a value that it was not made for.
            raise InvalidPayloadError(list(_problems_of_fields(self.schema, payload, error))) from error
        self.load(value)
        return value

    def complete(self, value: Any) -> Any:
        """A payload's JSON value with every field that it need not name, as :meth:`dump` would write it."""
        loaded: Any = self.load(value)
        return loaded if self.schema is None else self.schema.dump(loaded)

    def json_names(self) -> dict[str, str] | None:
        """Each field's name in JSON, by that name and by the one in Python; None where any field is fine."""
        if self.schema is None:
            return None
        names = {name: field.data_key or name for name, field in self.schema.fields.items()}
        return names | {name: name for name in names.values()}


def _problems_of_fields(schema: marshmallow.Schema, payload: Any, error: Exception) -> Iterator[Problem]:
    """Which of the fields it was that has no way to JSON, by asking one after the other."""
    found = False
    for name, one in schema.dump_fields.items():
        try:
            one.serialize(name, payload)
        except (TypeError, ValueError, AttributeError, marshmallow.ValidationError) as problem:
            found = True
            yield Problem(f"/{one.data_key or name}", f"cannot be written as JSON: {problem}")
    if not found:
        yield Problem("", f"cannot be written as JSON: {error}")


class ResultType:
    """Turns what a handler returns into JSON, after checking it, and back.

    Both raise :class:`InvalidResultError` with paths. ``optional``: None fits too.
    """

    def __init__(self, taken: PayloadType[Any], *, optional: bool) -> None:
        self._taken = taken
        self._optional = optional

    def dump(self, value: Any) -> Any:
        if value is None and self._optional:
            return None
        schema, cls = self._taken.schema, self._taken.python_type
        assert schema is not None
        if cls is not None and not isinstance(value, cls | Mapping):
            raise InvalidResultError([Problem("", f"is a {type(value).__name__}, the task returns a {cls.__name__}")])
        if cls is None and value is None:
            raise InvalidResultError([Problem("", "is nothing, and the task returns something")])
        try:
            dumped = dict(value) if cls is not None and isinstance(value, Mapping) else schema.dump(value)
            self._taken.load(dumped)
        except InvalidPayloadError as error:
            raise InvalidResultError(error.problems) from None
        except (TypeError, ValueError, AttributeError, marshmallow.ValidationError) as error:
            # A field's own way to JSON met a value that it was not made for.
            raise InvalidResultError([Problem("", f"cannot be written as JSON: {error}")]) from error
        return dumped

    def load(self, value: Any) -> Any:
        """The result as the handler returned it, from its JSON."""
        if value is None and self._optional:
            return None
        try:
            return self._taken.load(value)
        except InvalidPayloadError as error:
            raise InvalidResultError(error.problems) from None


def result_type(declared: Any, annotated: Any = inspect.Parameter.empty) -> ResultType | None:
    """What a handler's results are checked with: what its task declares, else a dataclass that it is annotated with.

    Outcomes in the annotation (``Report | Skip``) are no results. None where any JSON value is one.
    """
    parts = get_args(annotated) if get_origin(annotated) in (typing.Union, types.UnionType) else (annotated,)
    optional = type(None) in parts
    if declared is not None:
        taken = payload_type(declared)
        if taken.schema is None:
            raise TaskDefinitionError(f"a result must be a dataclass or a marshmallow schema, not {declared!r}")
        return ResultType(taken, optional=optional)
    results = [part for part in parts if not _is_no_result(part)]
    if len(results) == 1 and inspect.isclass(results[0]) and dataclasses.is_dataclass(results[0]):
        return ResultType(payload_type(results[0]), optional=optional)
    return None


def _is_no_result(part: Any) -> bool:
    return part is type(None) or (inspect.isclass(part) and issubclass(part, HandlerOutcome))


def payload_type(declared: Any) -> PayloadType[Any]:
    """The payload type for what a task declares: a dataclass, a marshmallow schema (class or instance), or nothing."""
    if inspect.isclass(declared) and issubclass(declared, marshmallow.Schema):
        return PayloadType(declared(unknown=marshmallow.RAISE), None)
    if isinstance(declared, marshmallow.Schema):
        return PayloadType(declared, None)
    if inspect.isclass(declared) and dataclasses.is_dataclass(declared):
        try:
            return PayloadType(_schema_of(declared)(), declared)
        except RecursionError:
            raise TaskDefinitionError(
                f"{declared.__name__} contains itself; declare a marshmallow schema instead"
            ) from None
    if declared in (None, Any, dict, Mapping, inspect.Parameter.empty) or get_origin(declared) in (
        dict,
        Mapping,
    ):
        return PayloadType(None, None)
    if get_origin(declared) is not None and issubclass(get_origin(declared), Mapping):
        return PayloadType(None, None)
    raise TaskDefinitionError(f"a payload must be a dataclass, a marshmallow schema or a mapping, not {declared!r}")


def _schema_of(cls: type[Any]) -> type[marshmallow.Schema]:
    """A marshmallow schema with a field for each field of a dataclass."""
    hints = get_type_hints(cls)
    members: dict[str, Any] = {}
    for item in dataclasses.fields(cls):
        if item.init:
            members[item.name] = _field(cls, item, hints[item.name])

    def make(_schema: marshmallow.Schema, data: dict[str, Any], **_options: Any) -> Any:
        try:
            return cls(**data)
        except (TypeError, ValueError) as error:
            # The dataclass's own __post_init__ refused the values.
            raise marshmallow.ValidationError(str(error)) from error

    members["_make"] = post_load(make)
    return type(f"{cls.__name__}Schema", (_FieldsOfDataclass,), members)


class _FieldsOfDataclass(marshmallow.Schema):
    class Meta:
        unknown = marshmallow.RAISE

    def handle_error(self, error: marshmallow.ValidationError, data: Any, **_: Any) -> None:
        """A typing mistake in a name explains itself."""
        known = [field.data_key or name for name, field in self.load_fields.items()]
        error.messages = name_meant_fields(error.messages, known)


def _field(cls: type[Any], item: dataclasses.Field[Any], hint: Any) -> fields.Field[Any]:
    optional = item.default is not dataclasses.MISSING or item.default_factory is not dataclasses.MISSING
    options: dict[str, Any] = {"required": not optional, "data_key": item.metadata.get("data_key")}
    if "validate" in item.metadata:
        options["validate"] = item.metadata["validate"]
    try:
        return _field_for(hint, options)
    except TaskDefinitionError as error:
        raise TaskDefinitionError(f"{cls.__name__}.{item.name}: {error}") from None


def _field_for(hint: Any, options: dict[str, Any]) -> fields.Field[Any]:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _union(arguments, options)
    if origin is Literal:
        return fields.Raw(validate=validate.OneOf(arguments), **options)
    if origin is tuple and arguments[-1] is not Ellipsis:
        return fields.Tuple([_field_for(argument, {}) for argument in arguments], **options)
    if origin in (list, tuple, set, frozenset):
        return _Many(origin, _field_for(arguments[0], {}), **options)
    if origin in (dict, Mapping) or (origin is not None and issubclass(origin, Mapping)):
        return fields.Dict(keys=fields.String(), values=_field_for(arguments[1], {}), **options)
    if inspect.isclass(hint) and issubclass(hint, enum.Enum):
        return fields.Enum(hint, by_value=True, **options)
    if inspect.isclass(hint) and dataclasses.is_dataclass(hint):
        return fields.Nested(_schema_of(hint), **options)
    if hint in _SIMPLE:
        return _SIMPLE[hint](**({"allow_none": True, **options} if hint in (Any, object) else options))
    raise TaskDefinitionError(f"there is no JSON form for {hint!r}; declare a marshmallow schema instead")


class _Many(fields.List[Any]):
    """A list in JSON and whatever collects the same things in Python."""

    def __init__(self, make: Callable[[list[Any]], Any], inner: fields.Field[Any], **options: Any) -> None:
        super().__init__(inner, **options)
        self._make = make

    def _deserialize(self, value: Any, *arguments: Any, **options: Any) -> Any:
        return self._make(super()._deserialize(value, *arguments, **options))


def _union(arguments: tuple[Any, ...], options: dict[str, Any]) -> fields.Field[Any]:
    others = [argument for argument in arguments if argument is not type(None)]
    if len(others) == 1 and len(arguments) == 2:
        return _field_for(others[0], {"allow_none": True, **options})
    raise TaskDefinitionError("a union of several types has no one JSON form; declare a marshmallow schema instead")


def _problems(messages: Any, path: str = "") -> Iterator[Problem]:
    """marshmallow's nested messages as paths. A message about the whole is keyed ``_schema``."""
    if isinstance(messages, Mapping):
        for key, inner in messages.items():
            step = "" if key == "_schema" else "/" + str(key).replace("~", "~0").replace("/", "~1")
            yield from _problems(inner, path + step)
    elif isinstance(messages, list):
        for message in messages:
            yield from _problems(message, path)
    else:
        yield Problem(path, str(messages))
