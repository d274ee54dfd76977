"""Claim: does the time of a claim stay flat from a thousand pending jobs to a million?

A closed system: what was claimed is completed and replaced by as many new jobs of the same workspaces. The
verbs are called in this process, on a connection as the worker's.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from contenders.backlog import load_backlog
from contenders.protocol import payload
from harness.contenders import jobplatform
from harness.database import Databases
from harness.figures import middle, percentile, shown
from harness.report import Table, Target
from harness.rounds import Rounds, alternate, column
from harness.run import Run
from sqlalchemy import text
from sqlalchemy.orm import Session

from jobplatform.models import make_engine
from jobplatform.queue import (
    ClaimedJob,
    Completion,
    NewJob,
    Ring,
    WorkerInfo,
    claim_jobs,
    complete_jobs,
    enqueue_jobs,
    register_worker,
)

#: Pending jobs, and the workspaces they belong to.
BACKLOGS = ((1_000, 100), (100_000, 2_000), (1_000_000, 20_000))
BATCHES = (50, 1)
WARM_CLAIMS = 10
PAYLOAD = payload(200)

# Everything a statement touches in our tables and their indexes, from the cache or not.
BUFFERS = """
select sum(
    coalesce(heap_blks_read, 0) + coalesce(heap_blks_hit, 0)
    + coalesce(idx_blks_read, 0) + coalesce(idx_blks_hit, 0)
)::bigint
from pg_statio_user_tables
where schemaname = 'jobplatform'
"""

EXPLANATION = """
Claims of 50 jobs and of one, with so many pending; nine in ten of them belong to one workspace, the others
are spread evenly over the rest. What is claimed is completed and replaced. *Buffers* are the pages of 8 kB
that one claim looked at, in all tables and indexes. *Jobs/s* counts claim, completion and enqueue, one
after another in one client.
"""


@dataclass(frozen=True)
class Claimer:
    """One size of backlog with one size of claim."""

    pending: int
    workspaces: int
    batch: int
    url: str

    @property
    def name(self) -> str:
        return f"{self.pending:,} pending, {self.workspaces:,} workspaces, claims of {self.batch}"


def measure(run: Run) -> tuple[list[Table], list[Target]]:
    claimers = [
        Claimer(pending, workspaces, batch, url)
        for pending, workspaces in (BACKLOGS[:2] if run.quick else BACKLOGS)
        for url in [_loaded(run.databases, pending, workspaces)]
        for batch in BATCHES
    ]
    results = alternate("claim", claimers, run.rounds, lambda claimer: _claims(claimer, 0.7 if run.quick else 2.5))
    table = Table(
        "Claim time with a backlog",
        EXPLANATION,
        ("", "claim p50, ms", "p99", "buffers", "complete p50, ms", "enqueue p50, ms", "jobs/s"),
        [_row(claimer.name, results) for claimer in claimers],
    )
    return [table], _targets(claimers, results)


def _loaded(databases: Databases, pending: int, workspaces: int) -> str:
    url = jobplatform().fresh_database(databases, copy=f"backlog_{pending}")
    load_backlog(url, pending, workspaces, PAYLOAD, noisy=True)
    databases.settle(url)
    return url


def _claims(claimer: Claimer, seconds: float) -> dict[str, float]:
    engine = make_engine(claimer.url, autocommit=True)
    with Session(engine) as session:
        loop = ClosedLoop(session, claimer.batch)
        buffers = loop.buffers_per_claim(claimer.url)
        loop.times.clear()
        started = time.perf_counter()
        while time.perf_counter() - started < seconds:
            loop.turn()
        passed = time.perf_counter() - started
    engine.dispose()
    claims, completions, enqueues = zip(*loop.times, strict=True)
    return {
        "claim p50": 1000 * percentile(claims, 0.5),
        "claim p99": 1000 * percentile(claims, 0.99),
        "buffers": buffers,
        "complete p50": 1000 * percentile(completions, 0.5),
        "enqueue p50": 1000 * percentile(enqueues, 0.5),
        "jobs/s": len(loop.times) * claimer.batch / passed,
    }


class ClosedLoop:
    """Claim, complete, replace. ``times`` has the three durations of each turn."""

    def __init__(self, session: Session, batch: int) -> None:
        self.session = session
        self.batch = batch
        self.ring = Ring(queues=("default",))
        info = WorkerInfo(
            name="benchmark",
            host="benchmark",
            pid=0,
            version="",
            queues=("default",),
            tasks=("noop",),
            slots=1,
        )
        self.worker_id = register_worker(session, info)
        self.times: list[tuple[float, float, float]] = []

    def turn(self) -> None:
        moments = [time.perf_counter()]
        jobs = self._claim()
        moments.append(time.perf_counter())
        complete_jobs(self.session, [Completion(job.lease, '{"ok": true}') for job in jobs])
        moments.append(time.perf_counter())
        enqueue_jobs(self.session, [_successor(job) for job in jobs])
        moments.append(time.perf_counter())
        self.times.append((moments[1] - moments[0], moments[2] - moments[1], moments[3] - moments[2]))

    def buffers_per_claim(self, url: str) -> float:
        """The mean over a few claims, from the server's own counters. Warms the loop up as well."""
        for _ in range(WARM_CLAIMS):
            self.turn()
        claims: list[Sequence[ClaimedJob]] = []
        with psycopg.connect(url, autocommit=True) as watcher:
            before = self._buffers(watcher)
            claims += [self._claim() for _ in range(WARM_CLAIMS)]
            after = self._buffers(watcher)
        for jobs in claims:
            complete_jobs(self.session, [Completion(job.lease, "null") for job in jobs])
            enqueue_jobs(self.session, [_successor(job) for job in jobs])
        return (after - before) / WARM_CLAIMS

    def _claim(self) -> Sequence[ClaimedJob]:
        claim = claim_jobs(self.session, self.ring, worker_id=self.worker_id, tasks=["noop"], limit=self.batch)
        return claim.jobs

    def _buffers(self, watcher: psycopg.Connection[Any]) -> int:
        """A backend reports its counters only now and then; this asks it to, with its next statement."""
        self.session.execute(text("select pg_stat_force_next_flush()"))
        row = watcher.execute(BUFFERS).fetchone()
        assert row is not None
        return int(row[0])


def _successor(job: ClaimedJob) -> NewJob:
    return NewJob(workspace_id=uuid.UUID(job.lease.workspace_id), task="noop", payload=PAYLOAD)


def _row(name: str, results: Rounds) -> list[str]:
    def cell(figure: str, digits: int) -> str:
        return shown(middle(column(results, name, figure)), digits)

    return [
        name,
        cell("claim p50", 2),
        cell("claim p99", 2),
        cell("buffers", 0),
        cell("complete p50", 2),
        cell("enqueue p50", 2),
        cell("jobs/s", 0),
    ]


def _targets(claimers: Sequence[Claimer], results: Rounds) -> list[Target]:
    buffers = {
        batch: max(middle(column(results, c.name, "buffers")) or 0.0 for c in claimers if c.batch == batch)
        for batch in BATCHES
    }
    fifties = [middle(column(results, c.name, "claim p50")) for c in claimers if c.batch == 50]
    growth = fifties[-1] / fifties[0] if fifties[0] and fifties[-1] else None
    largest = claimers[-1].pending
    return [
        Target.at_most("buffers of a claim of 50, at any backlog", 1_600, buffers[50]),
        Target.at_most("buffers of a claim of one, at any backlog", 100, buffers[1]),
        Target.at_most(f"claim of 50 with {largest:,} pending, to the one with 1,000", 2, growth, 2),
    ]
