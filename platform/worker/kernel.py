"""What the system offers a family of processes beyond the standard library. Where it does not, nothing is done."""

import ctypes
import os
import select
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

PR_SET_PDEATHSIG: Final = 1
PR_SET_CHILD_SUBREAPER: Final = 36
PAGE_SIZE: Final = os.sysconf("SC_PAGE_SIZE")
#: select() knows no descriptor from here on.
FD_SETSIZE: Final = 1024


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, however that ends."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def outlive_parent() -> None:
    """Take :func:`die_with_parent` back: there is something to do first."""
    _prctl(PR_SET_PDEATHSIG, 0)


def become_subreaper() -> None:
    """Inherit orphaned descendants instead of leaving them to a container's PID 1, which may not reap."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def prefer_as_victim() -> None:
    """When the machine runs out of memory, this process should go before the database and the worker's parent."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def is_readable(fd: int, seconds: float) -> bool:
    """Wait for so long until there is something to read. Where whoever started us has left so many files open that
    only poll() can wait for this one, for whole milliseconds.
    """
    if fd < FD_SETSIZE:
        return bool(select.select([fd], [], [], seconds)[0])
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def resident_bytes(pid: int) -> int:
    """Memory a process has in RAM; 0 when it can't be told."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_SIZE
    except (OSError, IndexError):
        return 0


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
