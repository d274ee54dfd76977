"""Fields that take exactly what the contract says, and say in the OpenAPI document what they take."""

from __future__ import annotations

import base64
import binascii
import datetime
import json
import re
import uuid
from collections.abc import Mapping
from typing import Any, Self

from marshmallow import Schema, ValidationError, fields, validate

from jobplatform.queue import (
    LONGEST_KEY,
    LONGEST_PERIOD,
    LONGEST_START_WITHIN,
    LONGEST_TIMEOUT,
    MAX_ATTEMPTS,
    MOST_TAGS,
    PRIORITIES,
)
from jobplatform.settings import QUEUE_NAME
from jobplatform.wording import name_meant_fields

#: A delay longer than this is a schedule.
LONGEST_DELAY = datetime.timedelta(days=365)
EARLIEST = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
LATEST = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)
#: The same for the document, without the first year: with its offset, that can begin in the century before.
WITHIN = "^20(0[1-9]|[1-9][0-9])-"


_DIGITS = re.compile(r"-?[0-9]{1,18}\Z")


class CamelSchema(Schema):
    """snake_case inside, camelCase outside; nothing else in the API knows both spellings."""

    class Meta:
        ordered = True

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        field_obj.data_key = camel(field_obj.data_key or field_name)

    def handle_error(self, error: ValidationError, data: Any, **_: Any) -> None:
        """A typing mistake in a name explains itself."""
        error.messages = name_meant_fields(error.messages, [camel(name) for name in self.load_fields])

    def __deepcopy__(self, _: object) -> Self:
        """Nothing changes a schema once it is made. flask-smorest copies what a view documents with each decorator, a
        dozen times for each view; with schemas of their own all these copies take 30 MB of each process."""
        return self


def camel(name: str) -> str:
    """``max_attempts`` as JSON spells it: ``maxAttempts``."""
    first, *rest = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in rest)


class WholeNumber(fields.Integer):
    """An integer of JSON: not ``"5"``, not ``true``, not ``5.0``."""

    default_error_messages = {"invalid": "Must be a whole number."}

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int:
        if type(value) is not int:
            raise self.make_error("invalid")
        return value


class Digits(fields.Integer):
    """An integer of a query: not ``1_0``, ``+5`` or `` 5``, which Python reads too, nor the digits of other scripts."""

    default_error_messages = {"invalid": "Must be a whole number, in digits."}

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int:
        if not isinstance(value, str) or not _DIGITS.match(value):
            raise self.make_error("invalid")
        return int(value)


class Flag(fields.Boolean):
    """``true`` or ``false`` of JSON, and no word or number that could mean one."""

    default_error_messages = {"invalid": "Must be true or false."}

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> bool:
        if type(value) is not bool:
            raise self.make_error("invalid", input=value)
        return value


class Few(fields.List[Any]):
    """A list whose ``validate`` says how many there may be. What is in one that is too long is not looked at: to say of
    each of 400,000 items what is wrong with it took seconds, for one request."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> list[Any]:
        if isinstance(value, list):
            self._validate(value)
        return super()._deserialize(value, *args, **kwargs)


NO_MOMENT = "Not a moment; write one as 2026-01-31T09:00:00Z."


class Moment(fields.AwareDateTime):
    """A moment: RFC 3339 with its offset on the way in, always UTC with ``Z`` on the way out."""

    default_error_messages = {
        "invalid": NO_MOMENT,
        "invalid_awareness": "Without an offset; write a moment as 2026-01-31T09:00:00Z.",
    }

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "metadata": {"pattern": WITHIN, **kwargs.get("metadata", {})}})

    def _serialize(self, value: datetime.datetime | None, *_: Any, **__: Any) -> str | None:
        return None if value is None else write_moment(value)

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> datetime.datetime:
        if not isinstance(value, str):
            raise self.make_error("invalid", input=value, obj_type=self.OBJ_TYPE)
        moment = super()._deserialize(value, attr, data, **kwargs)
        if not EARLIEST <= moment <= LATEST:
            raise ValidationError(f"Must be between {EARLIEST.year} and {LATEST.year}.")
        return moment


def write_moment(moment: datetime.datetime) -> str:
    """A moment as it goes out."""
    return moment.astimezone(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class Cursor(fields.String):
    """Where a page begins: the id before it, in a form that invites nobody to make one up."""

    default_error_messages = {"cursor": "Not a cursor that this list gave out."}

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        text: str = super()._deserialize(value, attr, data, **kwargs)
        return read_cursor(text)


class PlaceCursor(fields.String):
    """Where a page begins, as a few texts, in a form that invites nobody to make one up."""

    default_error_messages = {"cursor": "Not a cursor that this list gave out."}

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        text: str = super()._deserialize(value, attr, data, **kwargs)
        if (place := read_place(text)) is None:
            raise self.make_error("cursor")
        return place


def write_place(*texts: str | None) -> str:
    """A few texts as one that can stand in a path and in a query."""
    packed = json.dumps(texts, ensure_ascii=False, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def read_place(text: str) -> tuple[str | None, ...] | None:
    """What :func:`write_place` wrote; None for anything else."""
    try:
        packed = base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        found = json.loads(packed)
    except (ValueError, binascii.Error, RecursionError):
        return None
    if not isinstance(found, list) or not all(one is None or isinstance(one, str) for one in found):
        return None
    if any(one is not None and not _is_storable(one) for one in found) or write_place(*found) != text:
        return None
    return tuple(found)


def _is_storable(text: str) -> bool:
    return "\x00" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def write_cursor(last: uuid.UUID) -> str:
    """The cursor of the page that follows the item ``last``."""
    return base64.urlsafe_b64encode(last.bytes).decode().rstrip("=")


def read_cursor(text: str) -> uuid.UUID:
    """The id in a cursor. Raises ValidationError for everything that :func:`write_cursor` does not write."""
    try:
        last = uuid.UUID(bytes=base64.b64decode(text.encode() + b"==", altchars=b"-_", validate=True))
    except (ValueError, binascii.Error):
        raise ValidationError(Cursor.default_error_messages["cursor"]) from None
    if write_cursor(last) != text:
        raise ValidationError(Cursor.default_error_messages["cursor"])
    return last


def queue_name(**kwargs: Any) -> fields.String:
    pattern = validate.Regexp(QUEUE_NAME, error="Must be lower-case letters, digits and _.:-, at most 100.")
    return fields.String(validate=pattern, **kwargs)


def priority(**kwargs: Any) -> WholeNumber:
    return WholeNumber(validate=validate.Range(PRIORITIES[0], PRIORITIES[-1]), **kwargs)


def max_attempts(**kwargs: Any) -> WholeNumber:
    return WholeNumber(validate=validate.Range(MAX_ATTEMPTS[0], MAX_ATTEMPTS[-1]), **kwargs)


def milliseconds(low: int, longest: datetime.timedelta, **kwargs: Any) -> WholeNumber:
    return WholeNumber(validate=validate.Range(low, longest // datetime.timedelta(milliseconds=1)), **kwargs)


def timeout_ms(**kwargs: Any) -> WholeNumber:
    return milliseconds(1, LONGEST_TIMEOUT, **kwargs)


def start_within_ms(**kwargs: Any) -> WholeNumber:
    return milliseconds(1, LONGEST_START_WITHIN, **kwargs)


def delay_ms(**kwargs: Any) -> WholeNumber:
    return milliseconds(0, LONGEST_DELAY, **kwargs)


def unique_key(**kwargs: Any) -> fields.String:
    return fields.String(validate=validate.Length(1, LONGEST_KEY), **kwargs)


def unique_for_ms(**kwargs: Any) -> WholeNumber:
    return milliseconds(1, LONGEST_PERIOD, **kwargs)


def tags(**kwargs: Any) -> fields.List[str]:
    tag = fields.String(validate=validate.Length(1, 100))
    return Few(tag, validate=validate.Length(max=MOST_TAGS), **kwargs)
