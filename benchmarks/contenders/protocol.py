"""What every contender's program understands. Standard library only: it is shared by several environments.

``program ACTION NUMBER…`` with the database's URL in ``BENCH_DATABASE_URL``; it answers with one JSON
object a line.

install
    create the schema → {}
load JOBS WORKSPACES SIZE
    no-op jobs that are due, spread evenly, payloads of SIZE bytes → {}
enqueue_single JOBS SIZE
    one transaction for each → {jobs, seconds}
enqueue_bulk BATCHES BATCH SIZE
    one call for each batch → {jobs, seconds}
drain JOBS
    be ready to work → {pid}; at the word ``go`` drain → {jobs, seconds}; then stay until killed
serve JOBS SLOTS [QUIET]
    be ready to work → {pid}; when JOBS jobs have run → {started: {key: at}}; with QUIET 1 only the quiet
    ones count, and the others that were started before the last of them are in the answer
feed JOBS RATE
    enqueue one by one, RATE a second → {committed: {key: at}}
crowd BACKLOG NOISY KEYS LONGER QUIET EACH MILLISECONDS
    a backlog from NOISY workspaces, each spread over KEYS keys, its jobs LONGER times as long as the quiet
    ones' MILLISECONDS; then EACH jobs from each of QUIET other workspaces
    → {committed: {key: at}} of the first of each; then, as after feed, stay until killed

``at`` is the monotonic clock, which all processes of one machine share. SLOTS 0 means the contender's best
configuration for jobs that do not wait for anything.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

DATABASE_URL = os.environ.get("BENCH_DATABASE_URL", "")


def run(actions: Mapping[str, Callable[..., None]]) -> None:
    action, *numbers = sys.argv[1:]
    actions[action](*map(int, numbers))


def answer(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def ready() -> None:
    answer(pid=os.getpid())


def wait_for_go() -> None:
    sys.stdin.readline()


def wait_for_the_end() -> None:
    """Stay until killed: a doorbell may still be on its way, and the CPU time of this process is yet to be read."""
    sys.stdin.read()


def payload(size: int) -> dict[str, str]:
    """A job's arguments, of about ``size`` bytes as JSON."""
    return {"source": "crm", "mode": "incremental", "filler": "x" * max(1, size - 50)}


def stamp(key: str, milliseconds: int = 0) -> dict[str, Any]:
    """Arguments of a job that says when it was started, and then takes its time."""
    return {"key": key, "ms": milliseconds}


class Crowd:
    """Who enqueues what in a ``crowd``, as pairs of an owner and the job's arguments."""

    def __init__(
        self, backlog: int, noisy: int, keys: int, longer: int, quiet: int, each: int, milliseconds: int
    ) -> None:
        names = [(f"noisy {number % noisy}", number // noisy % keys, number) for number in range(backlog)]
        #: (owner, one of the owner's keys, arguments)
        self.noisy = [
            (owner, f"key {key}", stamp(f"{owner} {number}", milliseconds * longer)) for owner, key, number in names
        ]
        #: The jobs of each quiet workspace. The key of the first one is the owner's name.
        self.quiet = {
            f"quiet {owner}": [
                stamp(f"quiet {owner} {number}" if number else f"quiet {owner}", milliseconds) for number in range(each)
            ]
            for owner in range(quiet)
        }
        self.is_spread = keys > 1


#: Between the backlog and the first quiet job: the backlog has been met.
BEFORE_THE_QUIET = 0.3


class Stopwatch:
    """``with Stopwatch() as watch: …`` and then ``watch.seconds``."""

    def __enter__(self) -> Stopwatch:
        self._started = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._started


def ticks(count: int, rate: int) -> Iterator[tuple[int, float]]:
    """The numbers of ``count`` jobs, each with the seconds to wait before it, at ``rate`` a second.
    The waiting is the caller's, who may have an event loop to keep alive."""
    start = time.monotonic()
    for number in range(count):
        yield number, max(0.0, start + number / rate - time.monotonic())
