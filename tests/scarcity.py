"""A process that is refused what the operating system has only so many of."""

from __future__ import annotations

import contextlib
import os
import resource
import threading
from collections.abc import Iterator

#: More than there is room for in any address space: a thread with such a stack cannot be started.
NO_SUCH_STACK = 1 << 46


@contextlib.contextmanager
def without_new_threads() -> Iterator[None]:
    """No thread can be started, as in a process at its limit, or one that ends."""
    before = threading.stack_size(NO_SUCH_STACK)
    try:
        yield
    finally:
        threading.stack_size(before)


@contextlib.contextmanager
def with_room_for_files(number: int) -> Iterator[None]:
    """So many more can be opened, sockets among them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + number, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
