"""The rules about limits, rates, pauses and quotas, judged by what the history and the watcher's snapshots say.

A change and the claims beside it run at the same time, so each claim is judged by what it can have seen: see
:mod:`jobplatform.proof.changes`. Everything else is exact.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

from jobplatform.proof.changes import AT_ONCE, PAUSES, Changes, Pace, Scope
from jobplatform.proof.evidence import Evidence
from jobplatform.proof.findings import Finding
from jobplatform.proof.history import Event
from jobplatform.proof.replay import READY, RUNNING, SCHEDULED
from jobplatform.proof.watcher import Census, Snapshot

Findings = Iterator[Finding]
E = TypeVar("E", "Start", Event)

INFINITY = float("inf")
#: Units, lost to arithmetic with moments.
NEARLY = 0.001
#: How many turns others may have while a workspace waits for its own. Each worker goes round all of them by itself,
#: from where it happened to begin, and takes who is far behind before; here they come and go all the time.
MOST_TURNS = 20
#: Seconds in which a claim commits after it was through with its work.
SLOW_COMMIT = 1.0


@dataclass(frozen=True, slots=True)
class Start:
    """A job that was claimed: ``running`` by kind of limit, with all that this claim took."""

    seq: int
    job_id: str
    transaction: int
    began: float
    at: float
    workspace: str
    queue: str
    task: str
    resource: str | None
    units: int
    running: Mapping[str, int]

    def scope(self, kind: str) -> Scope:
        """What limits this job, of this kind."""
        match kind:
            case "workspace":
                return Scope(kind, self.workspace)
            case "queue":
                return Scope(kind, self.queue)
            case "resource":
                return Scope(kind, f"{self.resource.partition(':')[0]}:*" if self.resource else "")
        return Scope(kind, self.task)

    @property
    def returned(self) -> Start:
        """The same, as what it gives back instead of what it takes."""
        return replace(self, units=-self.units)

    def place(self, kind: str) -> str:
        """Under which key a census counts it."""
        if kind == "resource":
            return self.resource or ""
        return f"{self.workspace} {self.task}" if kind == "here" else self.scope(kind).key


def starts(history: Iterable[Event]) -> list[Start]:
    return [_start(event, event.after, event.running) for event in history if event.running and event.after]


def _start(event: Event, row: Mapping[str, Any], running: Mapping[str, int]) -> Start:
    return Start(
        seq=event.seq,
        job_id=event.job_id,
        transaction=int(event.transaction),
        began=event.began,
        at=event.at,
        workspace=row["workspace_id"],
        queue=row["queue"],
        task=row["task"],
        resource=row["resource"],
        units=row["units"],
        running=running,
    )


def refunds(history: Iterable[Event]) -> list[Start]:
    """Jobs that went back with their attempt: of those that were never started the units went back too.

    Which they were no row says. So all of them count here: what a bucket has is taken for more than it is, never less.
    And a refund comes before its event's successors: its row was written before its bucket was asked for.
    """
    return [
        _start(event, event.after, {}).returned
        for event in history
        if event.source == "job_queue"
        and event.before is not None
        and event.after is not None
        and event.before["state"] == RUNNING
        and event.after["state"] in (SCHEDULED, READY)
        and event.after["attempts"] < event.before["attempts"]
    ]


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
    for census, new in _between_looks(evidence.seen.censuses, claimed):
        for kind in AT_ONCE:
            allowed: dict[str, float] = defaultdict(float, before[kind])
            for start in new:
                place = start.place(kind)
                allowed[place] = max(allowed[place], allowances.most(start, kind))
            for place, number in census.running[kind].items():
                if number > allowed[place]:
                    yield Finding("limits", None, f"{number} run in {kind} {place}, where {allowed[place]:g} may")
        before = census.running


# Rates


def no_bucket_gives_more_than_it_has(evidence: Evidence) -> Findings:
    """In any stretch of time no more units start than a full bucket holds and what flows in meanwhile."""
    for scope, meter in _metered(evidence).items():
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


def _metered(evidence: Evidence) -> dict[Scope, Meter]:
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


# No leaked slots


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
    for census, claimed in _between_looks(evidence.seen.censuses, starts(evidence.history)):
        since = {workspace: (at + census.blind, had) for workspace, (at, had) in since.items()}
        began = census.at if claimed else began + census.blind
        startable = census.startable if census.free else {}
        turns += len(claimed) / max(1, len(startable))
        for workspace in {start.workspace for start in claimed} | (since.keys() - startable.keys()):
            since.pop(workspace, None)
        for workspace, jobs in startable.items():
            at, had = since.setdefault(workspace, (census.at, turns))
            yield Standstill(workspace, jobs, census.at - at, turns - had, census.at - max(at, began))


# Quotas


def no_quota_is_overrun(evidence: Evidence) -> Findings:
    """From one look to the next, what waits grows by what is accepted, up to the quota, and by what goes back.

    What went back after a call had counted is in no number of that call. But what a look has seen that was over when
    the call began, the call has seen too.
    """
    censuses, changes = evidence.seen.censuses, evidence.changes
    accepted, returned = _comings(evidence.history)
    moments = [census.at for census in censuses]
    seen_in: dict[str, list[int]] = defaultdict(list)
    for number, (_, back) in enumerate(_between_looks(censuses, returned)):
        for event in back:
            seen_in[_workspace(event)].append(number)
    before: Mapping[str, int] = {}
    for number, (census, new) in enumerate(_between_looks(censuses, accepted)):
        quotas, since = _quotas_seen(new, changes)
        for workspace, waiting in census.waiting.items():
            if Scope("waiting", workspace) not in changes:
                continue
            known = min(number - 1, bisect_right(moments, since.get(workspace, INFINITY)) - 1)
            went_back = bisect_right(seen_in[workspace], number) - bisect_right(seen_in[workspace], known)
            allowed = max(before.get(workspace, 0), quotas.get(workspace, 0)) + went_back
            if waiting > allowed:
                yield Finding("quotas", None, f"{waiting} wait in workspace {workspace}, where {allowed:g} may")
        before = census.waiting


def nothing_refused_was_written(evidence: Evidence) -> Findings:
    for job_id in evidence.promises.refused & evidence.records.keys():
        yield Finding("quotas", job_id, "exists although its call was refused")


def only_less_important_jobs_are_given_up(evidence: Evidence) -> Findings:
    """And only for others of the same call."""
    priority = {job_id: row["priority"] for job_id, row in evidence.records.items()}
    calls: dict[tuple[str, str], list[int]] = defaultdict(list)
    given_up: list[Event] = []
    for event in evidence.history:
        if event.source == "job_queue" and event.before is None:
            calls[event.transaction, _workspace(event)].append(priority[event.job_id])
        elif event.source == "job_records" and _is_shed(event.after) and not _is_shed(event.before):
            given_up.append(event)
    for event in given_up:
        there = calls.get((event.transaction, _workspace(event)), [])
        if not there or priority[event.job_id] >= min(there):
            what = f"of priority {priority[event.job_id]} was given up for jobs of priorities {sorted(there)}"
            yield Finding("shed", event.job_id, what)


def _is_shed(row: Mapping[str, Any] | None) -> bool:
    return row is not None and row["error_type"] == "Shed"


def _comings(history: Iterable[Event]) -> tuple[list[Event], list[Event]]:
    """What was accepted, and what went back to waiting after it had run."""
    accepted, returned = [], []
    for event in history:
        if event.source == "job_queue" and event.after is not None:
            if event.before is None:
                accepted.append(event)
            elif event.before["state"] == RUNNING and event.after["state"] in (SCHEDULED, READY):
                returned.append(event)
    return accepted, returned


def _quotas_seen(accepted: Iterable[Event], changes: Changes) -> tuple[dict[str, float], dict[str, float]]:
    """By workspace: the highest quota that a call can have seen, and when the first of the calls began."""
    quotas: dict[str, float] = {}
    since: dict[str, float] = {}
    for event in accepted:
        workspace = _workspace(event)
        most = changes.most(Scope("waiting", workspace), event.began, event.at)
        quotas[workspace] = max(quotas.get(workspace, 0), most)
        since[workspace] = min(since.get(workspace, INFINITY), event.began)
    return quotas, since


def _workspace(event: Event) -> str:
    row = event.after or event.before or {}
    return str(row["workspace_id"])


# Was there anything to see?


def reached(evidence: Evidence) -> Counter[str]:
    """How often each kind of limit was really reached, each pause held something up, and each quota refused."""
    changes, censuses = evidence.changes, evidence.seen.censuses
    counts: Counter[str] = Counter()
    for start in starts(evidence.history):
        for kind in AT_ONCE:
            limit = changes.certain(start.scope(kind), start.began, start.at)
            if limit is not None and start.running[kind] == limit:
                counts[kind] += 1
                counts[f"{kind} with a limit of {limit}"] += 1
    for scope, meter in _metered(evidence).items():
        counts[scope.kind] += sum(before < taken for before, taken in meter.pairs())
    for census in censuses:
        counts.update({PAUSES[kind]: 1 for kind in census.held})
        for workspace, number in census.waiting.items():
            quota = changes.certain(Scope("waiting", workspace), census.at, census.at)
            counts["waiting"] += quota is not None and number >= quota
        counts["above a lowered limit"] += any(_above(kind, census, changes) for kind in AT_ONCE)
    counts["refused"] = len(evidence.promises.refused)
    counts["shed"] = sum(map(_is_shed, evidence.records.values()))
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
    return {"pace": "rates", "rate": "rates", "shed": "shed"}.get(kind, "quotas")


def _above(kind: str, census: Census, changes: Changes) -> bool:
    for place, number in census.running[kind].items():
        limit = changes.certain(Scope(kind, place.rpartition(" ")[2]), census.at, census.at)
        if limit is not None and number > limit:
            return True
    return False


LIMIT_RULES = (
    no_claim_exceeds_a_limit,
    no_snapshot_exceeds_a_limit,
    no_bucket_gives_more_than_it_has,
    nothing_starts_while_paused,
    nothing_stands_still,
    no_quota_is_overrun,
    nothing_refused_was_written,
    only_less_important_jobs_are_given_up,
    nothing_was_vacuous,
)


def _between_looks(censuses: Sequence[Census], events: Sequence[E]) -> Iterator[tuple[Census, list[E]]]:
    """Each look, and what it was the first to see. Whether a snapshot sees a transaction is no matter of time."""
    unseen = sorted(events, key=_transaction, reverse=True)
    for census in censuses:
        fresh: list[E] = []
        still_unseen: list[E] = []
        while unseen and _transaction(unseen[-1]) < census.snapshot.next:
            event = unseen.pop()
            (fresh if _seen(event, census.snapshot) else still_unseen).append(event)
        unseen += reversed(still_unseen)
        yield census, fresh


def _seen(event: Start | Event, snapshot: Snapshot) -> bool:
    return snapshot.sees(_transaction(event))


def _transaction(event: Start | Event) -> int:
    return int(event.transaction)
