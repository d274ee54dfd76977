"""The checker: judges a run by its evidence. It asks the platform nothing and shares no code with it.

A checker that has never failed proves nothing: ``tests/chaos``, in the repository, breaks the platform on purpose and
demands that each break is found here.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import NamedTuple

from jobplatform.proof.evidence import Evidence, Row
from jobplatform.proof.family_rules import FAMILY_RULES
from jobplatform.proof.findings import Finding
from jobplatform.proof.history import Event
from jobplatform.proof.level_rules import LEVEL_RULES
from jobplatform.proof.limit_rules import LIMIT_RULES
from jobplatform.proof.quota_rules import QUOTA_RULES
from jobplatform.proof.rate_rules import RATE_RULES
from jobplatform.proof.reached import nothing_was_vacuous
from jobplatform.proof.replay import CALLED_OFF, CANCELLED, COMPLETED, FAILED, Counts, Replay
from jobplatform.proof.schedule_rules import SCHEDULE_RULES
from jobplatform.proof.standstill_rules import STANDSTILL_RULES
from jobplatform.proof.workload import MAY_FAIL, PAGES, POISON
from jobplatform.queue import CancelAnswer

Findings = Iterator[Finding]


class Judgement(NamedTuple):
    """Every broken rule that was found, and what happened."""

    findings: list[Finding]
    counts: Counts


def judge(evidence: Evidence) -> Judgement:
    """Apply every rule."""
    counts = Counts()
    findings = list(replayed(evidence, counts))
    for rule in RULES:
        findings += rule(evidence)
    return Judgement(findings, counts)


def replayed(evidence: Evidence, counts: Counts) -> Findings:
    """The history of each job, step by step."""
    died_at = {int(event.job_id): event.seq for event in reversed(evidence.history) if _is_death(event)}
    by_job = defaultdict(list)
    for event in evidence.history:
        if event.source in ("job_queue", "job_records"):
            by_job[event.job_id].append(event)
    for job_id, events in by_job.items():
        may_reopen = job_id in evidence.promises.retries_begun
        replay = Replay(job_id, evidence.crash_limit, died_at, counts, may_reopen)
        replay.play(events)
        yield from replay.findings


def nothing_lost(evidence: Evidence) -> Findings:
    for job_id in evidence.promises.acknowledged:
        record = evidence.records.get(job_id)
        if record is None:
            yield Finding("lost", job_id, "was acknowledged and does not exist")
        elif record["status"] is None:
            yield Finding("lost", job_id, "was acknowledged and has not ended")


def no_phantoms(evidence: Evidence) -> Findings:
    ticked = {tick["job_id"] for tick in evidence.ticks}
    for job_id in evidence.records.keys() - evidence.promises.asked - ticked:
        yield Finding("phantom", job_id, "exists and was never asked for")
    for job_id in evidence.records.keys() & evidence.promises.taken_back:
        yield Finding("phantom", job_id, "exists although its transaction was rolled back")
    for entry in evidence.diary:
        if entry.job_id not in evidence.records:
            yield Finding("phantom", entry.job_id, f"ran and does not exist: {entry}")


def nothing_left(evidence: Evidence) -> Findings:
    for job_id, row in evidence.queue_rows.items():
        yield Finding("running", job_id, f"is left in state {row['state']} with worker {row['worker_id']}")


def no_stale_writes(evidence: Evidence) -> Findings:
    for job_id, what in evidence.promises.stale_accepted:
        yield Finding("stale", job_id, f"accepted: {what}")
    for attempt in evidence.attempts:
        if attempt["error_type"] == "HiccupError" and attempt["error"] != _fence(attempt):
            yield Finding("stale", attempt["job_id"], f"epoch {attempt['epoch']} failed with {attempt['error']}")
    for line in evidence.lines:
        if line["message"] != _fence(line):
            yield Finding("stale", line["job_id"], f"epoch {line['epoch']} has the log line {line['message']!r}")


def unique_and_paired_in_every_snapshot(evidence: Evidence) -> Findings:
    yield from (Finding("unique", job_id, what) for job_id, what in evidence.seen.uniqueness)
    yield from (Finding("pairs", job_id, what) for job_id, what in evidence.seen.pairs)


def started_once_and_only_after_a_claim(evidence: Evidence) -> Findings:
    claimed = {(event.job_id, event.after["epoch"]) for event in evidence.history if _is_claim(event) and event.after}
    started = Counter((entry.job_id, entry.epoch) for entry in evidence.diary if entry.word == "begin")
    for (job_id, epoch), times in started.items():
        if times > 1:
            yield Finding("epochs", job_id, f"epoch {epoch} was started {times} times")
        if (job_id, epoch) not in claimed:
            yield Finding("epochs", job_id, f"epoch {epoch} was started and never claimed")
    for job_id, record in evidence.records.items():
        if record["status"] == COMPLETED and (job_id, record["epoch"]) not in started:
            yield Finding("outcomes", job_id, f"completed in epoch {record['epoch']}, which never ran")


def poison_ends_at_its_cap(evidence: Evidence) -> Findings:
    for job_id, record in evidence.records.items():
        if record["task"] == POISON:
            end = (record["status"], record["outcome"], record["crash_count"])
            if end != (FAILED, "lost", evidence.crash_limit):
                yield Finding("poison", job_id, f"(status, outcome, crashes) is {end}")


def effects_exactly_once(evidence: Evidence) -> Findings:
    written = defaultdict(list)
    for effect in evidence.effects:
        written[effect["job_id"]].append(effect["epoch"])
    for job_id, record in evidence.records.items():
        due = [record["epoch"]] if record["task"] == "ledger" and record["status"] == COMPLETED else []
        if written.pop(job_id, []) != due:
            yield Finding("effects", job_id, f"should have effects of epochs {due}")
    for job_id in written:
        yield Finding("effects", job_id, "has effects and does not exist")


def pages_exactly_once(evidence: Evidence) -> Findings:
    applied = defaultdict(list)
    for row in evidence.pages:
        applied[row["job_id"]].append(row["page"])
    for job_id, record in evidence.records.items():
        if record["task"] != "pager":
            continue
        times = Counter(applied.pop(job_id, []))
        for page, count in times.items():
            if count > 1:
                yield Finding("pages", job_id, f"{page} was applied {count} times")
        if record["status"] == COMPLETED and len(times) != 2 * PAGES:
            yield Finding("pages", job_id, f"completed with {len(times)} of {2 * PAGES} pages")
    for job_id in applied:
        yield Finding("pages", job_id, "has pages and is no pager")


def ended_as_it_should(evidence: Evidence) -> Findings:
    for job_id, record in evidence.records.items():
        if complaint := _wrong_end(evidence, job_id, record):
            yield Finding("outcomes", job_id, complaint)


def processes_behaved(evidence: Evidence) -> Findings:
    yield from (Finding("processes", None, complaint) for complaint in evidence.complaints)


RULES: tuple[Callable[[Evidence], Findings], ...] = (
    nothing_lost,
    no_phantoms,
    nothing_left,
    no_stale_writes,
    unique_and_paired_in_every_snapshot,
    started_once_and_only_after_a_claim,
    poison_ends_at_its_cap,
    effects_exactly_once,
    pages_exactly_once,
    ended_as_it_should,
    processes_behaved,
    *FAMILY_RULES,
    *LIMIT_RULES,
    *LEVEL_RULES,
    *RATE_RULES,
    *STANDSTILL_RULES,
    *QUOTA_RULES,
    nothing_was_vacuous,
    *SCHEDULE_RULES,
)


def _wrong_end(evidence: Evidence, job_id: str, record: Row) -> str | None:
    """A job completes, unless somebody cancelled it, or it was given up for a more important one, or it fails by itself
    as its task may, or it was lost as often as the cap says."""
    status, outcome, task = record["status"], record["outcome"], record["task"]
    if evidence.promises.cancels.get(job_id) is CancelAnswer.CANCELLED and status != CANCELLED:
        return f"was cancelled and has status {status}"
    if status == CANCELLED and record["error_type"] in ("Shed", *CALLED_OFF):
        # Whether rightly so is a rule of its own.
        return None
    if status == CANCELLED and job_id not in evidence.promises.cancels_begun:
        return "ended as cancelled and nobody asked for that"
    if status == FAILED and outcome == "lost" and record["crash_count"] != evidence.crash_limit:
        return f"was given up after {record['crash_count']} crashes"
    if status == FAILED and outcome != "lost" and MAY_FAIL.get(task) != outcome:
        return f"failed with {outcome}: {record['error_type']}: {record['error']}"
    if status == FAILED and outcome != "lost" and record["attempts"] != record["max_attempts"]:
        return f"was given up after {record['attempts']} of {record['max_attempts']} attempts"
    return None


def _is_death(event: Event) -> bool:
    return event.source == "workers" and (event.after or {}).get("dead_at") is not None


def _is_claim(event: Event) -> bool:
    return event.source == "job_queue" and (event.after or {}).get("state") == 2


def _fence(row: Row) -> str:
    return f"{row['job_id']}:{row['epoch']}"
