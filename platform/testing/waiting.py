"""Wait for a state instead of for a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Seconds between two looks. A look is a query or a file; the deadline, not this, decides.
LOOK_EVERY = 0.02


def wait_until(look: Callable[[], T], *, what: str, seconds: float = 30) -> T:
    """Look until the answer is true and return it; fail with ``what`` was waited for when the deadline passes."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not (answer := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for {what}; last seen: {answer!r}")
        pause.wait(LOOK_EVERY)
    return answer
