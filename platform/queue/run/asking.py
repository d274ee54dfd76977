"""Asking what a handler raised. Its attributes and its text are user code: they may raise anything themselves. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from jobplatform.queue.run.outcomes import JobInterrupted

T = TypeVar("T")


class Answer(NamedTuple):
    """What an HTTP server answered."""

    status: int
    headers: Any


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


def answer_of(error: BaseException) -> Answer | None:
    """The HTTP answer that an exception carries (``httpx``, ``requests``), or is (``urllib``, ``aiohttp``)."""
    response = asked(error, "response")
    status = asked(response, "status_code")
    if isinstance(status, int):
        return Answer(status, asked(response, "headers"))
    # A status or a code alone may be anything: that of a program's end, for one.
    if not unless_it_raises(lambda: hasattr(error, "headers"), False):
        return None
    statuses = (asked(error, name) for name in ("status", "code"))
    return next((Answer(status, asked(error, "headers")) for status in statuses if isinstance(status, int)), None)
