"""Upkeep: whether heartbeats are in time under load, and what a worker costs that does nothing."""

from __future__ import annotations

import datetime
import itertools
import time
from functools import partial

import psutil
import psycopg
from contenders.backlog import load_backlog, workspace
from contenders.protocol import payload, stamp
from harness.contenders import jobplatform
from harness.figures import middle, shown, shown_share, summary
from harness.marks import marks
from harness.programs import ProgramError
from harness.report import Table, Target
from harness.rounds import Part, Rounds, alternate, column
from harness.run import Run
from harness.workers import enqueue, one, stopped, wait_until, workers

from jobplatform.queue import NewJob

HEARTBEAT = 0.2
SLOTS = 4
LOOK_SECONDS = 0.02
FEW, MORE = 2, 8
BURNING, DRAINING = "handlers burn CPU, one holds the GIL", "no-op jobs are drained"
BEAT = "select heartbeat_at from jobplatform.workers where dead_at is null"
EMPTY = "select not exists (select from jobplatform.job_queue)"

HEARTBEAT_EXPLANATION = """
A worker with four slots is to send a heartbeat every {every} ms, and while it does either four handlers keep all cores
busy, one of them without ever letting go of the GIL, or it drains jobs that do nothing. How much later than that each
heartbeat was committed after the one before it, milliseconds.
"""
MEMORY_EXPLANATION = """
An idle worker with {few} and with {more} slots whose handler processes have all run jobs, SQLAlchemy imported.
Proportional set size (PSS) in MiB: pages that several processes share count in parts. *A further child* is what all
processes together take more, for each slot more. *CPU*: of the worker's own process while nothing happens.
"""


def measure(run: Run) -> tuple[list[Table], list[Target]]:
    beats = [Part(BURNING, _beats_while_burning), Part(DRAINING, _beats_while_draining)]
    memory = [Part(f"{slots} slots", partial(_idle, slots=slots)) for slots in (FEW, MORE)]
    results = alternate("upkeep", [*beats, *memory], run.rounds, lambda part: part.measure(run))
    return [_beats_table(results), _memory_table(results)], _targets(results)


# -- heartbeats ------------------------------------------------------------------------------------


def _beats_while_burning(run: Run) -> dict[str, float]:
    seconds = _seconds(run)
    contender = jobplatform(heartbeat_seconds=str(HEARTBEAT), kill_grace_seconds="0.1")
    url = contender.fresh_database(run.databases)
    limit = datetime.timedelta(seconds=seconds + 1)
    with marks() as book, workers(contender, url, SLOTS):
        hows = ["hold", *["burn"] * (SLOTS - 1)]
        jobs = [book.job(how, how, int(1000 * seconds), timeout=limit) for how in hows]
        enqueue(url, jobs)
        wait_until(url, "select count(*) = %s from jobplatform.job_queue where state = 2", SLOTS, seconds=20)
        late = _lateness(url, seconds)
        wait_until(url, EMPTY, seconds=30)
    return summary(late)


def _beats_while_draining(run: Run) -> dict[str, float]:
    contender = jobplatform(heartbeat_seconds=str(HEARTBEAT))
    url = contender.fresh_database(run.databases)
    with workers(contender, url, SLOTS) as (pid,):
        with stopped(pid):
            load_backlog(url, 10_000 if run.quick else 40_000, 200, payload(200))
            run.databases.settle(url)
        time.sleep(2 * HEARTBEAT)  # the first one after the stop is late for another reason
        return summary(_lateness(url, _seconds(run), until=EMPTY))


def _lateness(url: str, seconds: float, until: str = "select false") -> list[float]:
    """Milliseconds by which each heartbeat came later than one interval after the one before."""
    seen: list[datetime.datetime] = []
    ends_at = time.monotonic() + seconds
    with psycopg.connect(url, autocommit=True) as connection:
        while time.monotonic() < ends_at and not one(connection, until):
            beat = one(connection, BEAT)
            if not seen or beat != seen[-1]:
                seen.append(beat)
            time.sleep(LOOK_SECONDS)
    if len(seen) < 3:
        raise ProgramError("hardly any heartbeat was seen")
    intervals = [(after - before).total_seconds() for before, after in itertools.pairwise(seen)]
    return [1000 * (interval - HEARTBEAT) for interval in intervals]


def _seconds(run: Run) -> float:
    return 3.0 if run.quick else 6.0


def _beats_table(results: Rounds) -> Table:
    def row(name: str) -> list[str]:
        return [name, *(shown(middle(column(results, name, figure)), 1) for figure in ("p50", "p95", "longest"))]

    return Table(
        "Heartbeats under load",
        HEARTBEAT_EXPLANATION.format(every=int(1000 * HEARTBEAT)),
        ("late by, while", "p50", "p95", "longest"),
        [row(BURNING), row(DRAINING)],
    )


# -- memory and idle CPU ---------------------------------------------------------------------------


def _idle(run: Run, slots: int) -> dict[str, float]:
    contender = jobplatform()
    url = contender.fresh_database(run.databases)
    with workers(contender, url, slots) as (pid,):
        jobs = [
            NewJob(workspace_id=workspace("idle"), task="stamp", payload=stamp(str(n), 5)) for n in range(50 * slots)
        ]
        enqueue(url, jobs)
        wait_until(url, EMPTY, seconds=30)
        time.sleep(1.0)
        parent = psutil.Process(pid)
        before, began = _own_cpu(parent), time.monotonic()
        time.sleep(_seconds(run))
        used, passed = _own_cpu(parent) - before, time.monotonic() - began
        return {"cpu": used / passed, **_memory(parent)}


def _own_cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _memory(parent: psutil.Process) -> dict[str, float]:
    """MiB of the worker's own process, of the nursery and of a handler process; nothing where the system has no PSS."""
    nurseries = parent.children()
    children = [child for nursery in nurseries for child in nursery.children()]
    sizes = {process.pid: _pss(process) for process in (parent, *nurseries, *children)}
    if None in sizes.values():
        return {}
    of = {pid: size or 0.0 for pid, size in sizes.items()}
    return {
        "parent": of[parent.pid],
        "nursery": sum(of[nursery.pid] for nursery in nurseries),
        "child": middle(of[child.pid] for child in children) or 0.0,
        "all": sum(of.values()),
    }


def _pss(process: psutil.Process) -> float | None:
    pss = getattr(process.memory_full_info(), "pss", None)
    return None if pss is None else pss / 2**20


def _memory_table(results: Rounds) -> Table:
    def row(slots: int) -> list[str]:
        name = f"{slots} slots"
        sizes = (shown(middle(column(results, name, part)), 1) for part in ("parent", "nursery", "child", "all"))
        return [name, *sizes, shown_share(middle(column(results, name, "cpu")), 2)]

    return Table(
        "A worker that does nothing",
        MEMORY_EXPLANATION.format(few=FEW, more=MORE),
        ("", "worker, MiB", "nursery", "a child", "all together", "CPU"),
        [
            row(FEW),
            row(MORE),
            ["a further child", "", "", "", shown(_further(results), 1), ""],
        ],
    )


def _further(results: Rounds) -> float | None:
    few, more = (middle(column(results, f"{slots} slots", "all")) for slots in (FEW, MORE))
    return None if few is None or more is None else (more - few) / (MORE - FEW)


def _targets(results: Rounds) -> list[Target]:
    latest = [value for name in (BURNING, DRAINING) for value in column(results, name, "longest")]
    measured = [value for value in latest if value is not None]
    cpu = middle(column(results, f"{MORE} slots", "cpu"))
    return [
        Target.at_most("a heartbeat late under load, longest, ms", 50, max(measured, default=None)),
        Target.at_most("memory of a further handler process (PSS), MiB", 12, _further(results), 1),
        Target.at_most("CPU of an idle worker's own process, percent", 0.5, None if cpu is None else 100 * cpu, 2),
    ]
