"""Who descends from whom, so that only processes that were started here are ever signalled."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """A process that cannot be mistaken for a later one with the same number."""

    pid: int
    started: str

    @property
    def alive(self) -> bool:
        """Whether it still runs. A zombie does not."""
        return any(seen.process == self and not seen.state.startswith("Z") for seen in _processes())


class Seen(NamedTuple):
    process: Process
    parent: int
    state: str


def children(pid: int) -> list[Process]:
    """The direct children of ``pid``."""
    return _family().get(pid, [])


def descendants(pid: int) -> list[Process]:
    """All that descend from ``pid`` now, nearest first. ``pid`` itself is not among them."""
    family = _family()
    found, generation = list[Process](), family.get(pid, [])
    while generation:
        found += generation
        generation = [grandchild for child in generation for grandchild in family.get(child.pid, [])]
    return found


def send(pid: int, signum: signal.Signals) -> bool:
    """Signal a process if it is still there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)
        return True
    return False


def _family() -> dict[int, list[Process]]:
    family = defaultdict(list)
    for seen in _processes():
        if not seen.state.startswith("Z"):
            family[seen.parent].append(seen.process)
    return family


def _processes() -> Iterator[Seen]:
    return _from_proc() if Path("/proc/self/stat").exists() else _from_ps()


def _from_proc() -> Iterator[Seen]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                # The name, in parentheses, may contain anything; what follows the last one is numbers.
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                yield Seen(Process(int(folder.name), fields[19]), int(fields[1]), fields[0])


def _from_ps() -> Iterator[Seen]:
    command = ["ps", "-A", "-o", "pid=,ppid=,stat=,lstart="]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"})
    for line in done.stdout.splitlines():
        pid, parent, state, started = line.split(maxsplit=3)
        yield Seen(Process(int(pid), started), int(parent), state)
