"""Giving way: what takes long, in a process whose requests are greenlets, does it in pieces.

Nothing interrupts a greenlet. As long as one calculates, nobody's request is read, answered or even accepted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

#: Seconds. Not none at all: gevent then goes on with whoever is ready, for many milliseconds, and does not look whether
#: a request has come or the database has answered (44 ms in the middle, where this makes it 2).
BREATH = 0.0005

T = TypeVar("T")


def has_greenlets() -> bool:
    """Whether requests of this process are greenlets, and its threads too."""
    monkey = sys.modules.get("gevent.monkey")
    return bool(monkey and monkey.is_module_patched("threading"))


def give_way() -> None:
    """Let the others go on, if they are greenlets. Threads do so anyway."""
    if has_greenlets():
        time.sleep(BREATH)


def giving_way(things: Iterable[T], at_once: int) -> Iterator[T]:
    """The same things, with a breath whenever so many of them have been dealt with."""
    for count, thing in enumerate(things, start=1):
        yield thing
        if count % at_once == 0:
            give_way()
