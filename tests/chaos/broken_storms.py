"""The defects that matter most, in real processes: a storm over a broken platform has to end in violations.

The scenes of :mod:`tests.chaos.mutants` show each defect for certain. These show that chance finds it too, with the
faults that bring it about.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from jobplatform.proof.checker import judge
from jobplatform.proof.experiment import Experiment
from jobplatform.proof.place import QUICK_SERVER, on_own_server
from jobplatform.proof.setup import Setup
from tests.chaos.variants import break_database, broken

BROKEN_WORKER = Path(__file__).with_name("broken_worker.py")


class BrokenStorm(NamedTuple):
    """``variant`` is a defect of the workers and of the database or, ``here``, of the producers, which live in this
    process, and of the database."""

    rule: str
    variant: str
    setup: Setup
    here: bool = False


BASE = Setup(
    seed=0,
    jobs=600,
    seconds=25,
    rest_seconds=12,
    workspaces=4,
    workers=3,
    poison=0,
    restarts=0,
    pause=0.3,
    lease=1.5,
    limits=None,
    crowd=0,
)

# A late completion is only accepted where somebody else is running the job by then: long jobs, long stops, and enough
# workers awake to take the jobs over.
WITHOUT_FENCE = replace(
    BASE,
    faults=("stop worker",),
    jobs=300,
    workers=4,
    pause=2.5,
    long_naps=0.6,
    stops=(2.4, 4),
    seconds=40,
)

FORGETFUL = replace(BASE, faults=("lose answer of a claim",))

FLOODED = replace(
    BASE, limits=(1, 2, 4), flooded=0.7, flood=12, workers=4, demanded=frozenset(), faults=("kill child",)
)

# What is paused has to have been ready, and another claim has to come by before it is resumed: many pauses.
PAUSED = replace(FLOODED, turns=0.3)

# Two have to claim at once what uses one resource, or be told "too often" by it: many jobs that use the same few.
RUSHED = replace(FLOODED, flooded=0.4, rushes=0.4)

TRIES = 3

STORMS = (
    BrokenStorm("stale", "completing without a fence", WITHOUT_FENCE),
    BrokenStorm("running", "rows the worker forgot are kept", FORGETFUL),
    BrokenStorm("unique", "naive unique check", replace(BASE, faults=("kill child",)), here=True),
    BrokenStorm("limits", "a workspace counted without a lock", FLOODED),
    BrokenStorm("limits", "a resource counted without a lock", RUSHED),
    BrokenStorm("levels", "a level not asked for", RUSHED),
    BrokenStorm("levels", "a level lowered for each refusal", RUSHED),
    BrokenStorm("rates", "a resource is not paid for", FLOODED),
    BrokenStorm("pauses", "workspaces not paused", PAUSED),
)


def run_all(folder: Path, seed: int, say: Callable[[str], None]) -> int:
    """Run every storm and return how many did not find what is broken."""
    return sum(not _found(storm, folder / str(number), seed, say) for number, storm in enumerate(STORMS))


def _found(storm: BrokenStorm, folder: Path, seed: int, say: Callable[[str], None]) -> bool:
    """Chance gets a few tries."""
    folder.mkdir(mode=0o711)
    return any(_finds(storm, folder / str(seed + number), seed + number, say) for number in range(TRIES))


def _finds(storm: BrokenStorm, folder: Path, seed: int, say: Callable[[str], None]) -> bool:
    folder.mkdir(mode=0o711)
    setup = replace(storm.setup, seed=seed, alter=partial(break_database, storm.variant))
    if not storm.here:
        setup = replace(setup, worker=(sys.executable, str(BROKEN_WORKER), storm.variant))
    with broken(storm.variant if storm.here else None), on_own_server(folder, QUICK_SERVER) as place:
        outcome = Experiment(setup, place, folder, say).run()
    found = [finding for finding in judge(outcome.evidence).findings if finding.rule == storm.rule]
    faults = ", ".join(f"{times} x {kind}" for kind, times in outcome.injected.items())
    say(f"  {'killed ' if found else 'ALIVE  '} {storm.variant:<40} {len(found)} found; {faults}")
    return bool(found)
