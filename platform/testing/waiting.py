"""Wait for a state instead of for a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Seconds between two looks, at first. A look is a query or a file; the deadline, not this, decides.
LOOK_EVERY = 0.02
#: What takes long is looked at less often: the pause grows to this part of the time that was waited.
SHARE, LONGEST_PAUSE = 0.05, 0.25


def wait_until(look: Callable[[], T], *, what: str, seconds: float = 30) -> T:
    """Look until the answer is true and return it; fail with ``what`` was waited for when the deadline passes."""
    began = time.monotonic()
    pause = threading.Event()
    while not (answer := look()):
        waited = time.monotonic() - began
        if waited > seconds:
            raise AssertionError(f"waited {seconds:g} s in vain for {what}; last seen: {answer!r}")
        pause.wait(min(max(LOOK_EVERY, SHARE * waited), LONGEST_PAUSE))
    return answer
