"""Whether there was anything to see: how often each limit, level, rate, pause and quota was reached."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from jobplatform.proof.changes import AT_ONCE, LEVEL_REACHED, LOWERED, PAUSES, Changes, Scope
from jobplatform.proof.evidence import Evidence
from jobplatform.proof.findings import Finding
from jobplatform.proof.level_rules import levels_reached
from jobplatform.proof.quota_rules import is_shed
from jobplatform.proof.rate_rules import metered
from jobplatform.proof.starts import starts
from jobplatform.proof.watcher import Census

Findings = Iterator[Finding]


def reached(evidence: Evidence) -> Counter[str]:
    """How often each kind of limit was really reached, each pause held something up, and each quota refused; and how
    often a level was reached, or lowered."""
    changes, censuses = evidence.changes, evidence.seen.censuses
    counts = levels_reached(evidence)
    for start in starts(evidence.history):
        for kind in AT_ONCE:
            limit = changes.certain(start.scope(kind), start.began, start.at)
            if limit is not None and start.running[kind] == limit:
                counts[kind] += 1
                counts[f"{kind} with a limit of {limit}"] += 1
    for scope, meter in metered(evidence).items():
        counts[scope.kind] += sum(before < taken for before, taken in meter.pairs())
    for census in censuses:
        counts.update({PAUSES[kind]: 1 for kind in census.held})
        for workspace, number in census.waiting.items():
            quota = changes.certain(Scope("waiting", workspace), census.at, census.at)
            counts["waiting"] += quota is not None and number >= quota
        counts["above a lowered limit"] += any(_above(kind, census, changes) for kind in AT_ONCE)
    counts["refused"] = len(evidence.promises.refused)
    counts["shed"] = sum(map(is_shed, evidence.records.values()))
    return counts


def nothing_was_vacuous(evidence: Evidence) -> Findings:
    counts = reached(evidence)
    for kind in sorted(evidence.demanded):
        if not counts[kind]:
            what = f"{kind}: was never reached, so this run says nothing about it"
            yield Finding("vacuous", None, what, about=_rule_of(kind))


def _rule_of(kind: str) -> str:
    if kind in AT_ONCE:
        return "limits"
    if kind in PAUSES.values():
        return "pauses"
    others = {LOWERED: "levels", LEVEL_REACHED: "levels", "pace": "rates", "rate": "rates", "shed": "shed"}
    return others.get(kind, "quotas")


def _above(kind: str, census: Census, changes: Changes) -> bool:
    for place, number in census.running[kind].items():
        limit = changes.certain(Scope(kind, place.rpartition(" ")[2]), census.at, census.at)
        if limit is not None and number > limit:
            return True
    return False
