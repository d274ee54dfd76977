"""Whether a value looks as a test says that it should, and where it does not. Pure.

A pattern is partial: of an object only the keys that it names count, however deep. Lists are compared item by item.
Everything else is compared by ``==``, so ``unittest.mock.ANY`` and ``pytest.approx`` work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

#: Longer values are cut in messages.
_LONGEST = 200


class Difference(NamedTuple):
    """A place (``payload.items[3].name``) where something else was found than expected."""

    place: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.place}: {self.found}, expected {self.expected}"


def differences(found: Any, pattern: Any, place: str) -> Iterator[Difference]:
    """Every place at which ``found`` is not what ``pattern`` asks for."""
    if isinstance(pattern, Mapping) and isinstance(found, Mapping):
        for key, expected in pattern.items():
            below = f"{place}.{key}"
            if key in found:
                yield from differences(found[key], expected, below)
            else:
                yield Difference(below, "missing", shown(expected))
    elif _is_list(pattern) and _is_list(found) and len(pattern) == len(found):
        for number, (item, expected) in enumerate(zip(found, pattern, strict=True)):
            yield from differences(item, expected, f"{place}[{number}]")
    # In this order: a pattern such as ANY knows better than the value what it is equal to.
    elif not pattern == found:  # noqa: SIM201
        yield Difference(place, shown(found), shown(pattern))


def shown(value: Any) -> str:
    """A value as a message shows it."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
