"""Noisy neighbours: how long twenty quiet workspaces wait behind somebody else's backlog."""

from __future__ import annotations

from dataclasses import dataclass

from harness.contenders import Contender, jobplatform
from harness.figures import NOTHING, middle, percentile, shown
from harness.report import Table, Target
from harness.rounds import Rounds, alternate, column
from harness.run import Run

MILLISECONDS = 10
SLOTS = 4
QUIET = 20
NOISY = (1, 2, 3)
#: When this many are busy, fairness itself is a long line: everybody's next turn comes after all the others'.
EVERYBODY = 50

EXPLANATION = """
{backlog:,} jobs of 10 ms from the noisy workspaces, and behind them one job from each of twenty quiet ones, on one
worker with four slots. The quiet ones' wait is counted in lengths of a job (10 ms); *busy* is the share of the slots'
time that was spent inside jobs. With 50 noisy workspaces a fair turn comes after 50 to 70 jobs, 12 to 18 lengths.
jobplatform is fair without being told. pg-boss is given a cap of two running jobs for each workspace, without which it
is first in, first out as procrastinate and pgqueuer are; they know no workspaces and run once, to show the queue's
length.
"""


@dataclass(frozen=True)
class Crowd:
    """A contender with so many noisy workspaces; they take turns like contenders."""

    contender: Contender
    noisy: int

    @property
    def name(self) -> str:
        return f"{self.contender.name.split(',')[0]}, {self.noisy} noisy"


def measure(run: Run) -> tuple[list[Table], list[Target]]:
    fair = [Crowd(jobplatform(), noisy) for noisy in (*NOISY, EVERYBODY)]
    fair += [Crowd(peer, noisy) for peer in run.peers if peer.name == "pg-boss" for noisy in (1, 2)]
    in_line = [Crowd(peer, 1) for peer in run.peers if peer.name != "pg-boss"]
    results = alternate("noisy", fair, run.rounds, lambda crowd: _quiet_waits(run, crowd))
    results |= alternate("noisy", in_line, 1, lambda crowd: _quiet_waits(run, crowd))
    table = Table(
        "One noisy workspace against twenty quiet ones",
        EXPLANATION.format(backlog=_backlog(run)),
        ("", "quiet wait p50, job lengths", "p95", "longest", "slots busy"),
        [_row(crowd.name, results) for crowd in [*fair, *in_line]],
    )
    return [table], _targets(fair, results)


def _backlog(run: Run) -> int:
    return 300 if run.quick else 1_000


def _quiet_waits(run: Run, crowd: Crowd) -> dict[str, float]:
    url = crowd.contender.fresh_database(run.databases)
    backlog = _backlog(run)
    with crowd.contender.run(url, "serve", backlog + QUIET, SLOTS) as program:
        program.answer(60)
        with crowd.contender.run(url, "crowd", backlog, crowd.noisy, QUIET, MILLISECONDS) as feeder:
            committed = feeder.answer(60)["committed"]
            started = program.answer(120)["started"]
    waits = [1000 * (started[key] - at) / MILLISECONDS for key, at in committed.items()]
    seconds = max(started.values()) - min(started.values()) + MILLISECONDS / 1000
    busy = (backlog + QUIET) * MILLISECONDS / 1000 / SLOTS / seconds
    return {
        "p50": percentile(waits, 0.5),
        "p95": percentile(waits, 0.95),
        "longest": max(waits),
        "busy": busy,
    }


def _row(name: str, results: Rounds) -> list[str]:
    p50, p95, longest = (middle(column(results, name, figure)) for figure in ("p50", "p95", "longest"))
    busy = middle(column(results, name, "busy"))
    return [name, shown(p50, 1), shown(p95, 1), shown(longest, 1), NOTHING if busy is None else f"{busy:.0%}"]


def _targets(fair: list[Crowd], results: Rounds) -> list[Target]:
    ours = [crowd for crowd in fair if crowd.contender.name.startswith("jobplatform") and crowd.noisy in NOISY]
    p95s = [middle(column(results, crowd.name, "p95")) for crowd in ours]
    measured = [value for value in p95s if value is not None]
    worst = max(measured) if len(measured) == len(p95s) else None
    return [Target.at_most("quiet wait p95 with 1, 2 and 3 noisy workspaces, job lengths", 5, worst, 1)]
