"""The rule about slots that leak: nobody waits long who could start."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from jobplatform.proof.evidence import Evidence
from jobplatform.proof.findings import Finding
from jobplatform.proof.starts import between_looks, starts

Findings = Iterator[Finding]

INFINITY = float("inf")
#: How many turns others may have while a workspace waits for its own. Each worker goes round all of them by itself,
#: from where it happened to begin, and takes who is far behind before; here they come and go all the time.
MOST_TURNS = 20


class Standstill(NamedTuple):
    """So many jobs of a workspace have been left waiting for so many seconds, though they could start. Meanwhile others
    had so many turns: as many starts as there were workspaces waiting are one. And for so long nobody had any.
    """

    workspace: str
    jobs: int
    seconds: float
    turns: float
    still: float

    def is_too_long(self, patience: float) -> bool:
        """A slow machine is no leak: there all wait long, for few turns of the others."""
        return self.seconds > patience and (self.turns > MOST_TURNS or self.still > patience)


def nothing_stands_still(evidence: Evidence) -> Findings:
    """No workspace is left waiting with jobs that nothing forbids to start, while healthy workers have free slots."""
    told: set[str] = set()
    for found in standstills(evidence):
        if found.is_too_long(evidence.patience) and found.workspace not in told:
            told.add(found.workspace)
            what = f"{found.jobs} jobs of workspace {found.workspace} could start for {found.seconds:.1f} s, and none"
            yield Finding("standstill", None, f"{what} did, while others had {found.turns:.1f} turns each")


def standstills(evidence: Evidence) -> Iterator[Standstill]:
    """At each look and for each workspace: for how long it has been so without a claim there, but for the time in which
    the server was not there for anybody: what counts is what workers do with a database.
    """
    since: dict[str, tuple[float, float]] = {}
    turns, began = 0.0, -INFINITY
    for census, claimed in between_looks(evidence.seen.censuses, starts(evidence.history)):
        since = {workspace: (at + census.blind, had) for workspace, (at, had) in since.items()}
        began = census.at if claimed else began + census.blind
        startable = census.startable if census.free else {}
        turns += len(claimed) / max(1, len(startable))
        for workspace in {start.workspace for start in claimed} | (since.keys() - startable.keys()):
            since.pop(workspace, None)
        for workspace, jobs in startable.items():
            at, had = since.setdefault(workspace, (census.at, turns))
            yield Standstill(workspace, jobs, census.at - at, turns - had, census.at - max(at, began))


STANDSTILL_RULES = (nothing_stands_still,)
