"""A held snapshot: what is left of a saturated worker's throughput while another transaction keeps dead rows alive."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from contenders.backlog import load_more
from contenders.protocol import payload
from harness.contenders import jobplatform
from harness.figures import middle, shown
from harness.report import Table, Target
from harness.rounds import Rounds, alternate, column
from harness.run import Run
from harness.workers import one, stopped, workers

SLOTS = 2
WORKSPACES = 100
#: Enough for a worker that takes 15,000 a second and whose progress the server's statistics tell a second late.
PENDING = 20_000
FEED_SECONDS = 0.2
PAYLOAD = payload(200)

# The server's own count: asking the table itself would cost the more, the more dead rows there are.
PROGRESS: LiteralString = """
select s.n_tup_del, s.n_dead_tup, c.relfilenode
from pg_stat_user_tables s
join pg_class c on c.oid = s.relid
where s.schemaname = 'jobplatform' and s.relname = 'job_queue'
"""
COMPLETED: LiteralString = """
select count(*) from jobplatform.job_records where completed_at >= %s and completed_at < %s
"""

EXPLANATION = """
A worker with two slots and no-op jobs of {workspaces} workspaces, of which about {pending:,} are kept waiting. Another
transaction (REPEATABLE READ, one query done) then stays open for {hold} s: until it ends vacuum may remove nothing, and
every claim walks past the rows of all jobs that have ended since. The worker repairs that by itself: it rewrites the
queue table in place while the snapshot is still held. In the second row it cannot: that transaction has looked at the
queue table itself, as pg_dump does, and so holds a lock on it. Jobs/s in the {window} s before, and in the last
{window} s of the hold; *dead rows* at its end.
"""


@dataclass(frozen=True)
class Holder:
    """A transaction that stays open; the query says what it has looked at."""

    name: str
    query: LiteralString


REPAIRABLE = Holder("self-repair (default)", "select count(*) from jobplatform.workers")
LOCKED = Holder("no self-repair: the queue table is locked", "select count(*) from jobplatform.job_queue limit 1")


@dataclass(frozen=True)
class Times:
    warm: float
    window: float
    hold: float


def measure(run: Run) -> tuple[list[Table], list[Target]]:
    times = Times(2, 4, 10) if run.quick else Times(5, 10, 60)
    results = alternate("snapshot", [REPAIRABLE, LOCKED], run.rounds, lambda holder: _held(run, holder, times))
    table = Table(
        "A snapshot held elsewhere",
        EXPLANATION.format(
            workspaces=WORKSPACES, pending=PENDING, hold=f"{times.hold:.0f}", window=f"{times.window:.0f}"
        ),
        ("", "before, jobs/s", "at the end, jobs/s", "of before", "rewrites", "dead rows"),
        [_row(holder.name, results) for holder in (REPAIRABLE, LOCKED)],
    )
    kept = middle(column(results, REPAIRABLE.name, "kept"))
    return [table], [Target.at_least(f"throughput kept after {times.hold:.0f} s of a held snapshot", 0.45, kept, 2)]


def _held(run: Run, holder: Holder, times: Times) -> dict[str, float]:
    url = jobplatform().fresh_database(run.databases)
    with psycopg.connect(url, autocommit=True) as connection, workers(jobplatform(), url, SLOTS) as (pid,):
        feeder = Feeder(connection)
        with stopped(pid):
            feeder.feed()
            run.databases.settle(url)
        feeder.keep_busy(times.warm)
        before = feeder.rate(times.window)
        with _snapshot(url, holder):
            feeder.keep_busy(times.hold - times.window)
            after = feeder.rate(times.window)
            rewrites, dead = feeder.rewrites, feeder.dead
    return {"before": before, "after": after, "kept": after / before, "rewrites": rewrites, "dead": dead}


@contextlib.contextmanager
def _snapshot(url: str, holder: Holder) -> Iterator[None]:
    with psycopg.connect(url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute(holder.query)
        yield


class Feeder:
    """Keeps jobs waiting, and sees what becomes of the table."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._loaded = 0
        self._ended_before = self._look()[0]
        self._file = self._look()[2]
        self.rewrites = 0
        self.dead = 0

    def rate(self, seconds: float) -> float:
        """Jobs completed a second, during so many seconds."""
        began = one(self._connection, "select clock_timestamp()")
        self.keep_busy(seconds)
        ended = one(self._connection, "select clock_timestamp()")
        completed = one(self._connection, COMPLETED, began, ended)
        return float(completed / (ended - began).total_seconds())

    def keep_busy(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.feed()
            time.sleep(FEED_SECONDS)

    def feed(self) -> None:
        """Enqueue as many as have ended since."""
        ended, self.dead, file = self._look()
        self.rewrites += file != self._file
        self._file = file
        missing = PENDING - (self._loaded - (ended - self._ended_before))
        if missing > 0:
            load_more(self._connection, self._loaded, missing, WORKSPACES, PAYLOAD)
            self._loaded += missing
            self._connection.execute("notify jobplatform, 'q:default'")

    def _look(self) -> tuple[int, int, int]:
        row = self._connection.execute(PROGRESS).fetchone()
        assert row is not None
        return row[0], row[1], row[2]


def _row(name: str, results: Rounds) -> list[str]:
    def cell(figure: str, digits: int = 0) -> str:
        return shown(middle(column(results, name, figure)), digits)

    return [name, cell("before"), cell("after"), cell("kept", 2), cell("rewrites"), cell("dead")]
