"""Jobs that do not end: what they cost the others, and how soon their slot is free again."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Sequence
from functools import partial

import psycopg
from harness.contenders import jobplatform
from harness.figures import middle, shown, shown_share, summary
from harness.marks import Mark, Marks, marks
from harness.programs import ProgramError
from harness.report import Table, Target
from harness.rounds import Part, Rounds, alternate, column
from harness.run import Run
from harness.workers import enqueue, one, stopped, wait_until, workers

from jobplatform.queue import NewJob

GRACE = 0.1
ONE_IN = 100
SLOTS = 4
GOOD_MILLISECONDS = 2
STUCK_TIMEOUT = 1.0
KILL_TIMEOUT = 0.2
#: Of the deadline's moment: the child is asked, told, gone and replaced.
NEAR_SECONDS = GRACE + 0.05
EMPTY = "select not exists (select from jobplatform.job_queue)"
LAST_END = "select max(completed_at) from jobplatform.job_records where task = 'marked'"
#: How a job goes on beyond its deadline, and what has to be done about it.
BEHAVIOURS = {
    "loop": "a loop in Python: an exception ends it",
    "swallow": "swallows every exception: its process is ended",
    "hold": "holds the GIL in C: its process is ended",
}

STUCK_EXPLANATION = """
{jobs:,} jobs of 2 ms on four slots; with *1 % stuck* every hundredth of them swallows every exception until it is
killed, 100 ms (the grace) after its timeout of 1 s. *What is possible* is what the slots' time allows: each stuck job
takes 1.1 s of a slot, whoever kills it.
"""
FREE_EXPLANATION = """
Jobs that go on beyond their deadline on a worker with one slot, {each} of each kind; grace 100 ms. From the deadline to
the first line of the next job in that slot, milliseconds: detection, escalation, and where the process had to be ended
the start of another one.
"""
NEIGHBOURS_EXPLANATION = """
Two slots, jobs of 2 ms, and now and then a stuck one that is killed: {kills} kills a round. Gaps between two jobs that
one process ran one after the other, milliseconds, *near a kill* (from the deadline to 150 ms after it) and elsewhere.
Each job was counted: {counted}.
"""


def measure(run: Run) -> tuple[list[Table], list[Target]]:
    parts = [
        Part("none stuck", partial(_throughput, stuck=False)),
        Part("1 % stuck", partial(_throughput, stuck=True)),
        *(Part(how, partial(_free_slot, how=how)) for how in BEHAVIOURS),
        Part("neighbours", _neighbours),
    ]
    results = alternate("stuck", parts, run.rounds, lambda part: part.measure(run))
    return [_stuck_table(run, results), _free_table(run, results), _neighbours_table(run, results)], _targets(results)


# -- throughput beside stuck jobs ------------------------------------------------------------------


def _throughput(run: Run, *, stuck: bool) -> dict[str, float]:
    timeout = datetime.timedelta(seconds=STUCK_TIMEOUT)
    with marks() as book:
        jobs = [
            book.job(str(number), "swallow", timeout=timeout)
            if stuck and number % ONE_IN == ONE_IN // 2
            else book.job(str(number), "sleep", GOOD_MILLISECONDS)
            for number in range(_jobs(run))
        ]
        seconds = _seconds_for(run, jobs, SLOTS)
    bad = sum(job.timeout == timeout for job in jobs)
    slot_time = bad * (STUCK_TIMEOUT + GRACE) + (len(jobs) - bad) * GOOD_MILLISECONDS / 1000
    return {"jobs/s": len(jobs) / seconds, "of possible": slot_time / SLOTS / seconds}


def _jobs(run: Run) -> int:
    return 800 if run.quick else 2_000


def _seconds_for(run: Run, jobs: Sequence[NewJob], slots: int) -> float:
    """From letting the worker loose until the last of these jobs has ended."""
    contender = jobplatform(kill_grace_seconds=str(GRACE))
    url = contender.fresh_database(run.databases)
    with workers(contender, url, slots) as (pid,), psycopg.connect(url, autocommit=True) as connection:
        with stopped(pid):
            enqueue(url, jobs)
            run.databases.settle(url)
            began = one(connection, "select clock_timestamp()")
        wait_until(url, EMPTY, seconds=60)
        return float((one(connection, LAST_END) - began).total_seconds())


def _stuck_table(run: Run, results: Rounds) -> Table:
    return Table(
        "One job in a hundred is stuck",
        STUCK_EXPLANATION.format(jobs=_jobs(run)),
        ("", "jobs/s", "of what is possible"),
        [
            [
                name,
                shown(middle(column(results, name, "jobs/s"))),
                shown_share(middle(column(results, name, "of possible"))),
            ]
            for name in ("none stuck", "1 % stuck")
        ],
    )


# -- from the deadline to a free slot --------------------------------------------------------------


def _free_slot(run: Run, how: str) -> dict[str, float]:
    timeout = datetime.timedelta(seconds=KILL_TIMEOUT)
    with marks() as book:
        pairs = [
            (book.job(f"bad {number}", how, timeout=timeout), book.job(f"good {number}", "sleep"))
            for number in range(_each(run))
        ]
        _seconds_for(run, [job for pair in pairs for job in pair], 1)
        starts = book.starts()
    delays = [
        1000 * (after.at - before.at - KILL_TIMEOUT)
        for before, after in itertools.pairwise(starts)
        if before.key.startswith("bad")
    ]
    return summary(delays)


def _each(run: Run) -> int:
    return 5 if run.quick else 12


def _free_table(run: Run, results: Rounds) -> Table:
    def row(how: str, name: str) -> list[str]:
        return [name, *(shown(middle(column(results, how, figure)), 1) for figure in ("p50", "p95", "longest"))]

    return Table(
        "From a deadline to a free slot",
        FREE_EXPLANATION.format(each=_each(run)),
        ("", "p50", "p95", "longest"),
        [row(how, name) for how, name in BEHAVIOURS.items()],
    )


# -- the neighbours of a kill ----------------------------------------------------------------------


def _neighbours(run: Run) -> dict[str, float]:
    timeout = datetime.timedelta(seconds=KILL_TIMEOUT)
    with marks() as book:
        jobs = [
            book.job(f"bad {number}", "swallow", timeout=timeout)
            if number % 200 == 100
            else book.job(f"good {number}", "sleep", GOOD_MILLISECONDS)
            for number in range(200 * _kills(run))
        ]
        _seconds_for(run, jobs, 2)
        return _delays(book, jobs)


def _delays(book: Marks, jobs: Sequence[NewJob]) -> dict[str, float]:
    starts = book.starts()
    deadlines = [mark.at + KILL_TIMEOUT for mark in starts if mark.key.startswith("bad")]
    near: list[float] = []
    elsewhere: list[float] = []
    for end, start in book.gaps():
        is_near = any(deadline <= start and end <= deadline + NEAR_SECONDS for deadline in deadlines)
        (near if is_near else elsewhere).append(1000 * (start - end))
    if not near:
        raise ProgramError("no job of a neighbour ran near a kill")
    return {
        **{f"near {name}": value for name, value in summary(near).items()},
        **{f"elsewhere {name}": value for name, value in summary(elsewhere).items()},
        **_counted(starts, jobs),
    }


def _counted(starts: Sequence[Mark], jobs: Sequence[NewJob]) -> dict[str, float]:
    distinct = len({mark.key for mark in starts})
    return {"lost": len(jobs) - distinct, "twice": len(starts) - distinct}


def _kills(run: Run) -> int:
    return 4 if run.quick else 12


def _neighbours_table(run: Run, results: Rounds) -> Table:
    def row(name: str, where: str) -> list[str]:
        figures = (middle(column(results, "neighbours", f"{where} {figure}")) for figure in ("p50", "p99", "longest"))
        return [name, *(shown(figure, 2) for figure in figures)]

    lost, twice = (_total(results, figure) for figure in ("lost", "twice"))
    return Table(
        "The neighbours of a kill",
        NEIGHBOURS_EXPLANATION.format(
            kills=_kills(run), counted=f"{shown(lost)} were not started, {shown(twice)} were started twice"
        ),
        ("gap between two jobs", "p50", "p99", "longest"),
        [row("near a kill", "near"), row("elsewhere", "elsewhere")],
    )


def _total(results: Rounds, figure: str) -> float | None:
    measured = [value for value in column(results, "neighbours", figure) if value is not None]
    return sum(measured) if measured else None


def _targets(results: Rounds) -> list[Target]:
    possible = middle(column(results, "1 % stuck", "of possible"))
    ended, raised = (middle(column(results, how, "p95")) for how in ("swallow", "loop"))
    near, elsewhere = (middle(column(results, "neighbours", f"{where} p99")) for where in ("near", "elsewhere"))
    to_elsewhere = near / elsewhere if near is not None and elsewhere else None
    lost, twice = (_total(results, figure) for figure in ("lost", "twice"))
    wrong = None if lost is None or twice is None else lost + twice
    return [
        Target.at_least("throughput with 1 % stuck, of what is possible", 0.88, possible, 2),
        Target.at_most("deadline to free slot p95, process ended after 100 ms of grace, ms", 150, ended),
        Target.at_most("deadline to free slot p95, exception raised, ms", 10, raised, 1),
        Target.at_most("gap p99 beside a kill, to elsewhere", 2, to_elsewhere, 2),
        Target.at_most("jobs lost or run twice beside kills", 0, wrong),
    ]
