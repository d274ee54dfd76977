"""Where an incremental sync begins, and where the next one will. Does no input or output."""

from __future__ import annotations

import datetime
import email.utils
from collections.abc import Mapping, Sequence
from typing import Any

from jobplatform.connectors.outside import Answer
from jobplatform.connectors.paging import Place
from jobplatform.errors import SourceError

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MILLISECOND = datetime.timedelta(milliseconds=1)
_DAY = 86_400_000


class Since:
    """What a stream's incremental parameter is on one page, and what has been seen by its end.

    Moments are kept in milliseconds, in whatever form the source writes them, so that they can be compared.
    """

    def __init__(self, config: Mapping[str, Any], place: Place) -> None:
        self._config = config
        self._place = place
        self._newest = place.newest
        self._began = place.began

    def parameters(self) -> dict[str, str]:
        """What is sent: where the sync began, on all of its pages."""
        value = self._place.since
        if value is None:
            start = self._config["start"]
            return {} if start is None else {self._config["parameter"]: start}
        return {self._config["parameter"]: self._written(value)}

    def see(self, items: Sequence[Any], stream: str) -> None:
        """Take note of what has changed last."""
        for item in items:
            value = _at(item, self._config["field"])
            if value is not None:
                self._newest = self._later(self._newest, self._read(value, stream))

    def note_begin(self, answer: Answer, now: int) -> None:
        """Take note of when the first page was answered: by the source's clock, which is what it compares with.

        By ours (``now``, in milliseconds) where it does not tell the time, or one that is out by more than a day. With
        none at all, one record with a moment that is far to come would keep all later changes from being asked for.
        """
        if self._began is None:
            said = date_of(answer)
            self._began = said if said is not None and abs(said - now) <= _DAY else now

    def cursor(self, following: str | None) -> str | None:
        """The cursor of the next page."""
        return None if following is None else Place(following, self._place.since, self._newest, self._began).write()

    def state(self) -> str | None:
        """Where the next sync begins: at the newest that was seen, or where this one did if it has seen nothing.

        Never after this one's own begin: what was read on the first page may have changed while the last one was, and
        something on the last one may be newer still.
        """
        newest = self._place.since
        if self._newest is not None:
            newest = self._later(newest, self._newest)
            if not self._is_text and self._began is not None:
                newest = str(min(int(newest), self._began))
        return None if newest is None else Place(since=newest).write()

    # --------------------------------------------------------------------------------------------

    @property
    def _is_text(self) -> bool:
        return bool(self._config["field_format"] == "text")

    def _later(self, one: str | None, other: str) -> str:
        if one is None:
            return other
        if self._is_text:
            return max(one, other)
        return str(max(int(one), int(other)))

    def _read(self, value: Any, stream: str) -> str:
        try:
            return str(value) if self._is_text else str(to_milliseconds(value, self._config["field_format"]))
        except (ValueError, TypeError, OverflowError) as error:
            field, form = self._config["field"], self._config["field_format"]
            says = "fieldFormat says how the source writes it"
            raise SourceError(f"{stream}: {repr(value)[:200]} at {field!r} is no {form}; {says}") from error

    def _written(self, value: str) -> str:
        if self._is_text:
            return value
        at = max(0, int(value) - self._config["overlap_ms"])
        return from_milliseconds(at, self._config["parameter_format"] or self._config["field_format"])


def to_milliseconds(value: Any, form: str) -> int:
    """A moment as a source writes it, in milliseconds since 1970. Raises ValueError for what is none."""
    if isinstance(value, bool):
        raise ValueError("a truth value is no moment")
    if form == "epoch":
        return int(float(value) * 1000)
    if form == "epochMs":
        return int(float(value))
    if not isinstance(value, str):
        raise ValueError("not a text")
    moment = datetime.datetime.fromisoformat(value)
    # One without an offset is taken for UTC, as most that leave it out mean it.
    return ((moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)) - _EPOCH) // _MILLISECOND


def from_milliseconds(value: int, form: str) -> str:
    """Such a moment as a source wants it."""
    if form == "epoch":
        return str(value // 1000)
    if form == "epochMs":
        return str(value)
    moment = _EPOCH + value * _MILLISECOND
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def date_of(answer: Answer) -> int | None:
    """When an answer was made, by the clock of who made it: in milliseconds, if it says so."""
    try:
        moment = email.utils.parsedate_to_datetime(answer.headers.get("date", ""))
    except (ValueError, OverflowError, TypeError):
        return None
    return ((moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)) - _EPOCH) // _MILLISECOND


def _at(item: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(item, dict):
            return None
        item = item.get(name)
    return item
