"""Why: how good the estimates are that `why` makes of when a waiting job will start."""

from __future__ import annotations

import sys

from harness.contenders import CONTENDERS, Contender
from harness.figures import middle, percentile, shown
from harness.report import Table, Target
from harness.rounds import Rounds, alternate, column
from harness.run import Run

WORKERS, SLOTS = 2, 2
#: How far an estimate may be off, by what factor.
FACTOR = 2.0
WANTED = 0.8
#: In the order of the program's numbers.
SCENARIOS = (
    "1 workspace",
    "5 workspaces with as much to do",
    "1 noisy workspace and 10 quiet ones",
    "5 workspaces, jobs of 40 to 400 ms",
    "weights 1 and 3",
    "a limit of 1, a rate of 8/s, and no limits",
    "jobs of 60 ms against jobs of 600 ms",
    "2 workspaces, 5 priorities",
    "25 workspaces, and newcomers",
)

EXPLANATION = """
Up to 200 jobs, of 100 ms where nothing else is said, on two workers with two slots each. While they are worked off,
`why` is asked about jobs that wait, and its estimate of when each starts is compared with when it did. *Within 2x*:
neither more than twice nor less than half the wait that followed. *Longer*: the median of estimated to real waits.
"""


def measure(run: Run) -> tuple[list[Table], list[Target]]:
    contenders = [_asking(name) for name in SCENARIOS]
    results = alternate("why", contenders, run.rounds, lambda contender: _asked(run, contender))
    table = Table(
        "When will it start?",
        EXPLANATION,
        ("", "asked", "within 2x", "longer", "wait p50, s"),
        [_row(name, results) for name in SCENARIOS],
    )
    return [table], [Target.at_least("estimates within 2x, share", WANTED, _share(results), 2)]


def _asking(name: str) -> Contender:
    return Contender(name, [sys.executable, str(CONTENDERS / "asks_why.py")], schema="jobplatform")


def _asked(run: Run, contender: Contender) -> dict[str, float]:
    url = contender.fresh_database(run.databases)
    number = SCENARIOS.index(contender.name)
    with contender.run(url, "estimates", number, WORKERS, SLOTS, 30 if run.quick else 100) as program:
        for _ in range(WORKERS):
            program.answer(60)
        asked = program.answer(120)["asked"]
    known = [(estimated, really) for estimated, really in asked if estimated is not None]
    return {
        "asked": len(asked),
        "good": sum(_is_good(estimated, really) for estimated, really in known),
        "longer": percentile([estimated / really for estimated, really in known if really > 0], 0.5),
        "wait": percentile([really for _, really in asked], 0.5),
    }


def _is_good(estimated: float, really: float) -> bool:
    return really / FACTOR <= estimated <= really * FACTOR


def _row(name: str, results: Rounds) -> list[str]:
    asked, good, longer, wait = (
        middle(column(results, name, figure)) for figure in ("asked", "good", "longer", "wait")
    )
    share = None if not asked or good is None else 100 * good / asked
    return [name, shown(asked), f"{shown(share)} %", shown(longer, 2), shown(wait, 2)]


def _share(results: Rounds) -> float | None:
    rounds = [entry for entries in results.values() for entry in entries if entry is not None]
    asked = sum(entry["asked"] for entry in rounds)
    return sum(entry["good"] for entry in rounds) / asked if asked else None
