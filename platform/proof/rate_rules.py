"""The rule about rates: what a bucket can have held, and what was taken from it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from operator import attrgetter

from jobplatform.proof.changes import Changes, Pace, Scope
from jobplatform.proof.evidence import Evidence
from jobplatform.proof.findings import Finding
from jobplatform.proof.starts import Start, refunds, starts

Findings = Iterator[Finding]

INFINITY = float("inf")
#: Units, lost to arithmetic with moments.
NEARLY = 0.001


def no_bucket_gives_more_than_it_has(evidence: Evidence) -> Findings:
    """In any stretch of time no more units start than a full bucket holds and what flows in meanwhile."""
    for scope, meter in metered(evidence).items():
        yield from meter.overdrawn(scope)


@dataclass(slots=True)
class Meter:
    """The claims on one bucket, and what went back into it. Whoever takes from it has it locked, so their numbers are
    in the order of their takes.

    A claim tells the time at which its transaction began; when a later one tells an earlier time, none has passed. What
    goes back does so after its job's row, in a statement of its own: a full bucket that has no room for it may have
    some by then, so what was too much for it is kept for whoever takes more than there is.
    """

    limit: Scope
    changes: Changes
    claims: list[list[Start]]

    def levels(self) -> Iterator[tuple[Start, int, float]]:
        """After each claim: how many units it took, and what is left in a bucket that was as full as it can be."""
        level, filled_at, kept = INFINITY, 0.0, 0.0
        for claim in self.claims:
            first = claim[0]
            now = max(filled_at, first.began)
            paces = self._paces(min(filled_at or first.began, first.began), claim[-1].at)
            size = max(pace.size for pace in paces)
            flow = max(pace.per_second for pace in paces)
            level = min(size, INFINITY if INFINITY in (level, flow) else level + (now - filled_at) * flow)
            taken = sum(_price(start.units, paces) for start in claim)
            level -= taken
            if taken < 0:
                kept += max(0.0, min(level - size, -taken))
            used = max(0.0, min(kept, -level))
            kept -= used
            level = min(size, level + used)
            filled_at = now
            yield first, taken, level

    def pairs(self) -> Iterator[tuple[float, int]]:
        """What a claim left in the bucket, and what the next one took."""
        levels = list(self.levels())
        return ((level, taken) for (_, _, level), (_, taken, _) in pairwise(levels))

    def overdrawn(self, scope: Scope) -> Findings:
        for start, taken, level in self.levels():
            if level < -NEARLY:
                what = f"its claim took {taken} units of {scope.kind} {scope.key}, {-level:.3f} more than there can be"
                yield Finding("rates", start.job_id, what)

    def _paces(self, began: float, at: float) -> list[Pace]:
        possible = self.changes.possible(self.limit, began, at)
        return [Pace(INFINITY, INFINITY) if value is None else Pace(*value) for value in possible]


def _price(units: int, paces: Sequence[Pace]) -> int:
    """The least that this can have taken; of what went back, the most."""
    sizes = [pace.size for pace in paces]
    return int(min(units, *sizes)) if units > 0 else -int(min(-units, max(sizes)))


def metered(evidence: Evidence) -> dict[Scope, Meter]:
    """Every bucket that was taken from, by the thing whose rate it is."""
    changes = evidence.changes
    found: dict[Scope, list[Start]] = defaultdict(list)
    moves = sorted([*starts(evidence.history), *refunds(evidence.history)], key=attrgetter("seq"))
    for start in moves:
        if (scope := Scope("pace", start.workspace)) in changes:
            # Of a workspace's rate every job takes one.
            found[scope].append(replace(start, units=1 if start.units > 0 else -1))
        if start.resource is not None:
            found[Scope("rate", start.resource)].append(start)
    return {
        scope: Meter(limit, changes, [list(claim) for _, claim in groupby(taken, key=attrgetter("transaction"))])
        for scope, taken in found.items()
        if (limit := _limit_of(scope, changes)) in changes
    }


def _limit_of(bucket: Scope, changes: Changes) -> Scope:
    """A resource has a rate of its own or that of its kind."""
    if bucket.kind == "pace" or bucket in changes:
        return bucket
    return Scope("rate", bucket.key.partition(":")[0] + ":*")


RATE_RULES = (no_bucket_gives_more_than_it_has,)
