"""The rules about what may start: limits on what runs at a time, and pauses.

A change and the claims beside it run at the same time, so each claim is judged by what it can have seen: see
:mod:`jobplatform.proof.changes`. Everything else is exact, here as in the rules about rates and quotas.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from jobplatform.proof.changes import AT_ONCE, PAUSES, Changes, Scope
from jobplatform.proof.evidence import Evidence
from jobplatform.proof.findings import Finding
from jobplatform.proof.starts import Start, between_looks, starts

Findings = Iterator[Finding]

INFINITY = float("inf")
#: Seconds in which a claim commits after it was through with its work.
SLOW_COMMIT = 1.0


# What runs at a time


@dataclass(slots=True)
class Allowances:
    """How many may run in a place after a claim, at most.

    ``free`` are the moments of claims that can have seen no limit there. They asked nobody, so those that are through
    when another begins, or a little earlier, may not be in its count. After a limit was set there are no more of them.
    """

    changes: Changes
    free: dict[tuple[str, str], list[float]]

    @classmethod
    def of(cls, changes: Changes, claimed: Iterable[Start]) -> Allowances:
        found = cls(changes, defaultdict(list))
        for start in sorted(claimed, key=attrgetter("at")):
            for kind in AT_ONCE:
                if found.limit(start, kind) == INFINITY:
                    found.free[kind, start.place(kind)].append(start.at)
        return found

    def limit(self, start: Start, kind: str) -> float:
        """The highest limit that this claim can have seen."""
        return self.changes.most(start.scope(kind), start.began, start.at)

    def most(self, start: Start, kind: str) -> float:
        limit = self.limit(start, kind)
        if limit == INFINITY:
            return limit
        moments = self.free.get((kind, start.place(kind)), [])
        return limit + bisect_right(moments, start.at) - bisect_right(moments, start.began - SLOW_COMMIT)


def no_claim_exceeds_a_limit(evidence: Evidence) -> Findings:
    """With its own jobs, a claim leaves no more running than the highest limit it can have seen allows."""
    claimed = starts(evidence.history)
    allowances = Allowances.of(evidence.changes, claimed)
    for start in claimed:
        for kind in AT_ONCE:
            most = allowances.most(start, kind)
            if start.running[kind] > most:
                what = f"was claimed as number {start.running[kind]} in {kind} {start.place(kind)}, limited to {most:g}"
                yield Finding("limits", start.job_id, what)


def no_snapshot_exceeds_a_limit(evidence: Evidence) -> Findings:
    """From one look to the next a number grows only by claims, and they bring it to what they are allowed at most.

    So after a limit was lowered below what runs, the number may only fall, until it is below the limit.
    """
    claimed = starts(evidence.history)
    allowances = Allowances.of(evidence.changes, claimed)
    before: Mapping[str, Mapping[str, int]] = {kind: {} for kind in AT_ONCE}
    for census, new in between_looks(evidence.seen.censuses, claimed):
        for kind in AT_ONCE:
            allowed: dict[str, float] = defaultdict(float, before[kind])
            for start in new:
                place = start.place(kind)
                allowed[place] = max(allowed[place], allowances.most(start, kind))
            for place, number in census.running[kind].items():
                if number > allowed[place]:
                    yield Finding("limits", None, f"{number} run in {kind} {place}, where {allowed[place]:g} may")
        before = census.running


# Pauses


def nothing_starts_while_paused(evidence: Evidence) -> Findings:
    """Only a claim that began before the pause's commit was acknowledged, or ended after the resume was asked for, can
    have seen no pause."""
    for start in starts(evidence.history):
        for scope in _pauses_of(start):
            values = evidence.changes.possible(scope, start.began, start.at)
            if all(_holds(value, start.began) for value in values):
                yield Finding("pauses", start.job_id, f"was claimed while {scope.kind} {scope.key} lasted")


def _pauses_of(start: Start) -> Iterator[Scope]:
    yield Scope(PAUSES["workspace"], start.workspace)
    yield Scope(PAUSES["queue"], start.queue)
    yield Scope(PAUSES["task"], start.task)
    if start.resource is not None:
        yield Scope(PAUSES["resource"], start.resource)


def _holds(pause: Any, moment: float) -> bool:
    return pause is not None and (pause["until"] is None or pause["until"] > moment)


LIMIT_RULES = (no_claim_exceeds_a_limit, no_snapshot_exceeds_a_limit, nothing_starts_while_paused)
