"""What a job finds in its process that the one before may have changed, and that is put back between them."""

import os
import signal
from contextlib import suppress
from typing import Final

TIMERS: Final = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
#: Where the system has it, for a folder that may be entered and not read.
ENTER: Final = os.O_DIRECTORY | getattr(os, "O_PATH", os.O_RDONLY)


class Surroundings:
    """The current folder, the umask and the timers of this process, as they are when this is made.

    A process has one of each. Where several jobs run at a time, one that puts them back does so under the others.
    """

    def __init__(self) -> None:
        self._folder = -1
        with suppress(OSError):
            self._folder = os.open(os.curdir, ENTER)
        self._umask = os.umask(0)
        os.umask(self._umask)

    def put_back(self) -> None:
        """Three microseconds, whether anything was changed or not: to look costs as much."""
        # The handler may have closed what it did not open, or there was no such folder from the beginning.
        with suppress(OSError):
            os.fchdir(self._folder)
        os.umask(self._umask)
        for timer in TIMERS:
            signal.setitimer(timer, 0.0)
