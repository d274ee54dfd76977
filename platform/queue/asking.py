"""Asking what a handler raised. Its attributes and its text are user code: they may raise anything themselves. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from jobplatform.queue.outcomes import JobInterrupted

T = TypeVar("T")


def unless_it_raises(ask: Callable[[], T], otherwise: T) -> T:
    """The answer, or ``otherwise``. An order to stop that comes meanwhile gets through."""
    try:
        return ask()
    except JobInterrupted:
        raise
    except BaseException:  # noqa: BLE001 - user code: a __str__ may raise SystemExit
        return otherwise


def asked(thing: object, name: str) -> Any:
    """The attribute of this name; None where there is none, or where it raises."""
    return unless_it_raises(lambda: getattr(thing, name, None), None)
