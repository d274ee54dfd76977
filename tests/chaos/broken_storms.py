"""The three defects that matter most, in real processes: a storm over a broken platform has to end in violations.

The scenes of :mod:`tests.chaos.mutants` show each defect for certain. These show that chance finds it too, with the
faults that bring it about.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.chaos.checker import judge
from tests.chaos.experiment import QUICK_SERVER, Experiment, Setup
from tests.chaos.variants import broken


class BrokenStorm(NamedTuple):
    """``workers`` says whether the defect is in the workers or in the producers, which live in this process."""

    variant: str
    workers: bool
    faults: tuple[str, ...]
    rule: str


STORMS = (
    BrokenStorm("completing without a fence", True, ("stop worker",), "stale"),
    BrokenStorm("rows the worker forgot are kept", True, ("lose answer of a claim",), "running"),
    BrokenStorm("naive unique check", False, ("kill child",), "unique"),
)


def run_all(folder: Path, seed: int, say: Callable[[str], None]) -> int:
    """Run every storm and return how many did not find what is broken."""
    return sum(not _finds(storm, folder / str(number), seed, say) for number, storm in enumerate(STORMS))


def _finds(storm: BrokenStorm, folder: Path, seed: int, say: Callable[[str], None]) -> bool:
    folder.mkdir(mode=0o711)
    setup = Setup(
        seed=seed,
        jobs=700,
        seconds=25,
        rest_seconds=12,
        workspaces=4,
        workers=3,
        poison=0,
        restarts=0,
        pause=0.3,
        lease=1.5,
        long_naps=0.6,
        stops=(2.4, 4),
        faults=storm.faults,
        server=QUICK_SERVER,
        variant=storm.variant if storm.workers else None,
        without_index=not storm.workers,
    )
    with broken(None if storm.workers else storm.variant):
        outcome = Experiment(setup, folder, say).run()
    found = [finding for finding in judge(outcome.evidence).findings if finding.rule == storm.rule]
    word = f"killed, {len(found)} x" if found else "ALIVE"
    say(f"  {word} {storm.rule:<8} {storm.variant}, after {sum(outcome.injected.values())} x {storm.faults[0]}")
    return bool(found)
