"""The rules about adaptive limits: what a claim can have seen of a level, and how a level may move.

A level is a row, so the history has each of its changes in the order of their commits. What bounds it is set meanwhile,
as other limits are: see :mod:`jobplatform.proof.changes`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter

from jobplatform.proof.changes import LEVEL_REACHED, LOWERED, Changes, Scope
from jobplatform.proof.evidence import Evidence
from jobplatform.proof.findings import Finding
from jobplatform.proof.history import Event
from jobplatform.proof.limit_rules import SLOW_COMMIT
from jobplatform.proof.starts import Start, starts

Findings = Iterator[Finding]

INFINITY = float("inf")


@dataclass(slots=True)
class Levels:
    """The changes of each level, and of what bounds it."""

    changes: Changes
    of: dict[str, list[Event]]

    @classmethod
    def told_by(cls, evidence: Evidence) -> Levels:
        found = cls(evidence.changes, defaultdict(list))
        for event in evidence.history:
            if event.source == "resource_levels" and event.after is not None:
                found.of[event.after["resource"]].append(event)
        return found

    def bounds(self, resource: str, began: float, at: float) -> list[tuple[int, int]]:
        """Each least and most that somebody can have seen between these two moments; none if he can have seen no
        adaptive limit there."""
        values = self.changes.possible(Scope("adaptive", f"{resource.partition(':')[0]}:*"), began, at)
        return [] if None in values else values

    def most(self, start: Start) -> float:
        """The highest level that this claim can have seen: one that was lowered just before it began counts, too."""
        bounds = self.bounds(start.resource or "", start.began, start.at)
        if not bounds:
            return INFINITY
        events = self.of.get(start.resource or "", [])
        first = bisect_right(events, start.began - SLOW_COMMIT, key=attrgetter("at")) - 1
        last = bisect_right(events, start.at, key=attrgetter("at"))
        levels = [int(event.after["level"]) for event in events[max(0, first) : last] if event.after]
        return min(max(most for _, most in bounds), max(*(least for least, _ in bounds), *levels, 0))


def no_claim_exceeds_a_level(evidence: Evidence) -> Findings:
    """With its own jobs, a claim leaves no more running than the highest level it can have seen."""
    levels = Levels.told_by(evidence)
    for start in _starts_on_resources(evidence):
        most = levels.most(start)
        if start.running["resource"] > most:
            what = f"was claimed as number {start.running['resource']} on {start.resource}, whose level was {most:g}"
            yield Finding("levels", start.job_id, what)


def levels_stay_within_their_bounds(evidence: Evidence) -> Findings:
    """Whoever moves a level writes none that is less than the least, or more than the most, that it can have seen."""
    levels = Levels.told_by(evidence)
    for resource, events in levels.of.items():
        for event in events:
            bounds, level = levels.bounds(resource, event.began, event.at), (event.after or {})["level"]
            if bounds and not min(least for least, _ in bounds) <= level <= max(most for _, most in bounds):
                what = f"{resource} was given level {level:g}, and may have {' or '.join(map(_in_words, bounds))}"
                yield Finding("levels", None, what)


def a_level_is_lowered_once_for_what_was_started_before(evidence: Evidence) -> Findings:
    """Between two lowerings something was started there: only that can have been refused anew.

    The time of a row is that at which its transaction began, here as in the comparison that is on trial.
    """
    began: dict[str, list[Start]] = defaultdict(list)
    for start in _starts_on_resources(evidence):
        began[start.resource or ""].append(start)
    for resource, events in Levels.told_by(evidence).of.items():
        for before, event in pairwise(lowerings(events)):
            if not any(start.seq < event.seq and start.began > before.began for start in began[resource]):
                what = f"{resource} was lowered twice, and nothing was started there in between"
                yield Finding("levels", None, what)


def lowerings(events: Sequence[Event]) -> list[Event]:
    """The changes that lowered this level, or found that its least is too much."""
    return [
        event
        for event in events
        if event.after
        and event.after["lowered_at"] is not None
        and event.after["lowered_at"] != (event.before or {}).get("lowered_at")
    ]


def levels_reached(evidence: Evidence) -> Counter[str]:
    """How often a level was lowered, and how often a claim took the last place that one left."""
    levels = Levels.told_by(evidence)
    return Counter(
        {
            LOWERED: sum(len(lowerings(events)) for events in levels.of.values()),
            LEVEL_REACHED: sum(
                start.running["resource"] == levels.most(start) for start in _starts_on_resources(evidence)
            ),
        }
    )


def _starts_on_resources(evidence: Evidence) -> list[Start]:
    return [start for start in starts(evidence.history) if start.resource is not None]


def _in_words(bounds: Sequence[int]) -> str:
    return "{} to {}".format(*bounds)


LEVEL_RULES = (
    no_claim_exceeds_a_level,
    levels_stay_within_their_bounds,
    a_level_is_lowered_once_for_what_was_started_before,
)
