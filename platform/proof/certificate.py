"""What a run comes to: on what it was, what was done to it, and how each promise fared.

A promise that was never put to the test is not one that held. Each is told with how much there was to be looked at.
"""

from __future__ import annotations

import datetime
import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import version

from jobplatform.proof.changes import AT_ONCE, LEVEL_REACHED, LOWERED, PAUSES
from jobplatform.proof.checker import Judgement
from jobplatform.proof.evidence import Evidence
from jobplatform.proof.experiment import Outcome
from jobplatform.proof.findings import RULES, Finding
from jobplatform.proof.monkey import RESTART
from jobplatform.proof.reached import reached
from jobplatform.proof.replay import COMPLETED, Counts
from jobplatform.proof.setup import Setup
from jobplatform.proof.standstill_rules import Standstill, standstills
from jobplatform.proof.workload import POISON
from jobplatform.wording import plural

#: Of one rule, and of what is known about one job.
MOST_SHOWN = 5
MOST_LINES = 60
LONGEST_LINE = 400


class Verdict(StrEnum):
    """Of a promise, and of all of them together."""

    HELD = "held"
    VIOLATED = "violated"
    UNTESTED = "not put to the test"


@dataclass(frozen=True, slots=True)
class Promise:
    """``looked_at`` is how often there was something to see; ``missing`` what would have had to happen and did not."""

    rule: str
    promise: str
    verdict: Verdict
    looked_at: int
    at_what: str
    violations: int
    missing: Sequence[str]


@dataclass(frozen=True, slots=True)
class Violation:
    """One, with everything that is known about the job that shows it."""

    rule: str
    job_id: str | None
    what: str
    history: Sequence[str]


@dataclass(frozen=True, slots=True)
class Certificate:
    """``settings`` are the server's, by name; the other mappings are numbers by what they count."""

    verdict: Verdict
    ended_at: datetime.datetime
    jobplatform: str
    python: str
    host: str
    cores: int
    server: str
    settings: Mapping[str, str]
    seed: int
    workers: int
    seconds: int
    faults: Mapping[str, int]
    not_injected: Mapping[str, str]
    limits_changed: Mapping[str, int]
    limits_reached: Mapping[str, int]
    happened: Mapping[str, int]
    promises: Sequence[Promise]
    violations: Sequence[Violation]
    cannot_show: Sequence[str]


def certify(
    setup: Setup, outcome: Outcome, judgement: Judgement, *, server: str, settings: Mapping[str, str]
) -> Certificate:
    """Put it together. ``server`` says in words which one it was."""
    promises = _promises(outcome, judgement)
    return Certificate(
        verdict=_verdict(promises),
        ended_at=datetime.datetime.now(datetime.UTC),
        jobplatform=version("jobplatform"),
        python=platform.python_version(),
        host=f"{platform.system()} {platform.release()}, {platform.machine()}",
        cores=os.cpu_count() or 1,
        server=server,
        settings=settings,
        seed=setup.seed,
        workers=setup.workers,
        seconds=round(outcome.seconds),
        faults=_most_first(outcome.injected),
        not_injected=_not_injected(setup, outcome),
        limits_changed=_most_first(outcome.turned),
        limits_reached=_most_first(reached(outcome.evidence)),
        happened=_what_happened(outcome, judgement),
        promises=promises,
        violations=_violations(outcome.evidence, judgement),
        cannot_show=_what_it_cannot_show(outcome, settings),
    )


# Promises


def _promises(outcome: Outcome, judgement: Judgement) -> list[Promise]:
    looked_at = _looked_at(outcome, judgement.counts)
    broken = Counter(finding.rule for finding in judgement.findings)
    missing = {rule: [f.what for f in judgement.findings if f.about == rule] for rule in RULES}
    return [
        Promise(
            rule=rule,
            promise=promise,
            verdict=_of_promise(broken[rule], looked_at[rule][0], missing[rule]),
            looked_at=looked_at[rule][0],
            at_what=looked_at[rule][1],
            violations=broken[rule],
            missing=missing[rule],
        )
        for rule, promise in RULES.items()
        # That there was something to see is no promise of the platform's: it is said of each of them.
        if rule != "vacuous"
    ]


def _of_promise(violations: int, looked_at: int, missing: Sequence[str]) -> Verdict:
    if violations:
        return Verdict.VIOLATED
    return Verdict.UNTESTED if missing or not looked_at else Verdict.HELD


def _verdict(promises: Sequence[Promise]) -> Verdict:
    verdicts = {promise.verdict for promise in promises}
    return next(verdict for verdict in (Verdict.VIOLATED, Verdict.UNTESTED, Verdict.HELD) if verdict in verdicts)


def _looked_at(outcome: Outcome, counts: Counts) -> dict[str, tuple[int, str]]:
    """By rule: how often what it is about happened, or was looked at."""
    evidence = outcome.evidence
    promises, times = evidence.promises, reached(evidence)
    jobs = len(evidence.records)
    of_task = Counter(row["task"] for row in evidence.records.values())
    of_batches = sum(edge["of_batch"] for edge in evidence.edges)
    return {
        "lost": (len(promises.acknowledged), "jobs whose enqueue was acknowledged"),
        "phantom": (jobs, "jobs, beside those that were rolled back"),
        "twice": (counts.completed, "completions"),
        "stale": (sum(promises.stale_writes.values()), "writes with a lease that was over"),
        "unique": (promises.duplicates, "enqueues that found a holder"),
        "running": (jobs, "jobs"),
        "attempts": (counts.claims, "claims"),
        "crashes": (counts.crashed, "crashes"),
        "pairs": (evidence.seen.looks, "looks at all jobs at once"),
        "epochs": (counts.claims, "claims"),
        "edges": (len(evidence.history), "changes of rows"),
        "rescue": (counts.rescued, "jobs taken back from dead workers"),
        "poison": (of_task[POISON], "jobs that kill their process"),
        "effects": (_completed(evidence, "ledger"), "completions together with a row"),
        "pages": (len(evidence.pages), "pages"),
        "outcomes": (jobs, "jobs"),
        "waits": (len(evidence.edges) - of_batches, "times that a job waits for another"),
        "batches": (len(evidence.batches), f"batches, with {plural(of_batches, 'callback')}"),
        "settled": (len(evidence.edges), "waits for another job, or for a batch"),
        "limits": (sum(times[kind] for kind in AT_ONCE), "claims that took the last place"),
        "levels": (times[LOWERED] + times[LEVEL_REACHED], "lowerings, and claims that took the last place"),
        "rates": (times["pace"] + times["rate"], "claims that had to wait for a bucket to fill"),
        "pauses": (sum(times[kind] for kind in PAUSES.values()), "looks at something that a pause held up"),
        "standstill": (sum(1 for _ in standstills(evidence)), "times that a job was seen which could start"),
        "quotas": (times["waiting"] + times["refused"], "looks at a full quota, and jobs refused"),
        "shed": (times["shed"], "jobs given up for more important ones"),
        "ticks": (len(evidence.ticks), "ticks"),
        "processes": (outcome.workers_started, "worker processes"),
    }


def _completed(evidence: Evidence, task: str) -> int:
    return sum(row["task"] == task and row["status"] == COMPLETED for row in evidence.records.values())


def _violations(evidence: Evidence, judgement: Judgement) -> list[Violation]:
    """A few of each rule."""
    shown: Counter[str] = Counter()
    found = []
    for finding in judgement.findings:
        shown[finding.rule] += 1
        if finding.rule != "vacuous" and shown[finding.rule] <= MOST_SHOWN:
            found.append(Violation(finding.rule, finding.job_id, finding.what, _history(evidence, finding)))
    return found


def _history(evidence: Evidence, finding: Finding) -> list[str]:
    lines = evidence.of_job(finding.job_id) if finding.job_id else []
    return [line[:LONGEST_LINE] for line in lines[:MOST_LINES]]


# What was done, and what came of it


def _not_injected(setup: Setup, outcome: Outcome) -> dict[str, str]:
    """What could not be, and what never found anybody to hit."""
    meant = [*setup.faults, *([RESTART] if setup.restarts else [])]
    idle = [kind for kind in meant if kind not in outcome.injected and kind not in outcome.left_out]
    return outcome.left_out | dict.fromkeys(idle, "it found nobody to hit before the time was over")


def _most_first(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _what_happened(outcome: Outcome, judgement: Judgement) -> dict[str, int]:
    evidence, counts = outcome.evidence, judgement.counts
    promises = evidence.promises
    started = {(entry.job_id, entry.epoch) for entry in evidence.diary if entry.word == "begin"}
    through = {(entry.job_id, entry.epoch) for entry in evidence.diary if entry.word == "end"}
    accepted = {(job_id, row["epoch"]) for job_id, row in evidence.records.items()}
    accepted |= {(row["job_id"], row["epoch"]) for row in evidence.attempts if row["outcome"] in ("error", "timeout")}
    ran = {job_id for job_id, _ in started}
    lost = [job_id for job_id, row in evidence.records.items() if row["outcome"] == "lost" and row["task"] != POISON]
    waits = list(standstills(evidence)) or [Standstill("", 0, 0.0, 0.0, 0.0)]
    return {
        "jobs created": len(evidence.records),
        "enqueues that found a holder": promises.duplicates,
        "jobs refused by a quota": len(promises.refused),
        "transactions repeated by clients": outcome.repeats,
        "claims": counts.claims,
        "handlers started": len(started),
        "crashes recorded": counts.crashed,
        "of them rescued from dead workers": counts.rescued,
        "handed back": counts.handed_back,
        "finished handlers fenced off": len(through - accepted),
        "stale writes tried by the intruder": sum(promises.stale_writes.values()),
        "completed": counts.completed,
        "failed": counts.failed,
        "of them given up after losing as many workers as poison": len(lost),
        "and of those never started": len(set(lost) - ran),
        "cancelled": counts.cancelled,
        "reopened by hand": counts.reopened,
        "worker processes": outcome.workers_started,
        "snapshots": evidence.seen.looks,
        "ticks of schedules": len(evidence.ticks),
        "changes of limits": evidence.changes.count,
        "ms that a job waited which could start, at most": round(1000 * max(wait.seconds for wait in waits)),
        "turns that others had meanwhile, at most": round(max(wait.turns for wait in waits)),
        "most rows running at once": evidence.seen.most_running,
        "events of history": len(evidence.history),
        "seconds": round(outcome.seconds),
        "of them after the last fault": round(outcome.rest_seconds),
    }


def _what_it_cannot_show(outcome: Outcome, settings: Mapping[str, str]) -> list[str]:
    risky = [name for name in ("fsync", "full_page_writes", "synchronous_commit") if settings.get(name) == "off"]
    found = [
        "A storm is a sample: what a fault hits is a matter of timing. No violation means that this much of it found "
        "none, and not that there is none to be found.",
        "No machine lost its power and no disk failed. What a server keeps then depends on its settings and its disks.",
        "There was one server, and no failover to another.",
        "All workers ran on this host and were put there by this run: nothing is shown about clocks and networks of "
        "several hosts.",
        "Only what is in the database was judged. What your handlers do elsewhere is theirs to make repeatable.",
        "Nothing is said about speed, nor about who may see what.",
    ]
    if risky:
        off = f"{' and '.join(risky)} {'is' if len(risky) == 1 else 'are'} off"
        found.insert(2, f"{off}: what was acknowledged may be lost with the machine.")
    if outcome.left_out:
        found.insert(1, f"It was spared: {', '.join(outcome.left_out)}.")
    return found
