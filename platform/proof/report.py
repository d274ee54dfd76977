"""The result of a run as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from jobplatform.proof.checker import Judgement
from jobplatform.proof.experiment import Outcome
from jobplatform.proof.findings import RULES
from jobplatform.proof.limit_rules import Standstill, reached, standstills
from jobplatform.proof.workload import POISON

Say = Callable[[str], None]

MOST_SHOWN = 5
MOST_LINES = 60


def show(outcome: Outcome, judgement: Judgement, say: Say) -> None:
    """What was done, what happened, and how each rule fared."""
    _table("Faults injected", dict(sorted(outcome.injected.items(), key=lambda item: -item[1])), say)
    if outcome.turned:
        _table("Limits turned", dict(sorted(outcome.turned.items(), key=lambda item: -item[1])), say)
        _table("Times they were reached", _reached(outcome), say)
    _table("What happened", _what_happened(outcome, judgement), say)
    _rules(judgement, say)
    for finding in judgement.findings[:MOST_SHOWN]:
        say(f"\n{finding.rule}: job {finding.job_id} {finding.what}")
        for line in outcome.evidence.of_job(finding.job_id or "")[:MOST_LINES]:
            say(line[:400])


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


def _reached(outcome: Outcome) -> dict[str, int]:
    """Claims that brought a limit to its number, or took what had to flow in first; looks at something held up by a
    pause, at a full quota, at more than a lowered limit allows."""
    return dict(sorted(reached(outcome.evidence).items(), key=lambda item: -item[1]))


def _rules(judgement: Judgement, say: Say) -> None:
    broken = Counter(finding.rule for finding in judgement.findings)
    say("\nViolations")
    for rule, promise in RULES.items():
        say(f"  {broken[rule]:>6}  {rule:<10} {promise}")


def _table(title: str, rows: dict[str, int], say: Say) -> None:
    say(f"\n{title}")
    for name, value in rows.items():
        say(f"  {value:>6}  {name}")
