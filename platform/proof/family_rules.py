"""The rules about jobs that wait for others, and about batches.

Events of two jobs are not in the order of their commits. But whoever lets a job go has seen the commit by which what it
waited for ended, and that was numbered before it was committed: so "ended with a smaller number than let go" is exact.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobplatform.proof.evidence import Evidence
from jobplatform.proof.findings import Finding
from jobplatform.proof.replay import BLOCKED, CALLED_OFF, CANCELLED, COMPLETED, FAILED

Findings = Iterator[Finding]
Row = dict[str, Any]

FITS: Mapping[str, frozenset[int]] = {
    "completed": frozenset({COMPLETED}),
    "failed": frozenset({FAILED, CANCELLED}),
    "ended": frozenset({COMPLETED, FAILED, CANCELLED}),
}


@dataclass(slots=True)
class Told:
    """What the history says of who was let go, and who ended how, each with the numbers of its events."""

    let_go: Mapping[str, list[int]]
    ended: Mapping[str, list[tuple[int, int]]]
    members: Mapping[str, list[str]] = field(default_factory=dict)

    @classmethod
    def by(cls, evidence: Evidence) -> Told:
        let_go, ended, members = defaultdict(list), defaultdict(list), defaultdict(list)
        for event in evidence.history:
            before, after = event.before or {}, event.after or {}
            if event.source == "job_queue" and after and after["state"] != BLOCKED:
                if not before or before["state"] == BLOCKED:
                    let_go[event.job_id].append(event.seq)
            elif event.source == "job_records" and after.get("status") and not before.get("status"):
                ended[event.job_id].append((event.seq, after["status"]))
        for job_id, record in evidence.records.items():
            if record["batch_id"] is not None:
                members[str(record["batch_id"])].append(job_id)
        return cls(let_go, ended, members)

    def ended_before(self, job_id: str, seq: int, statuses: frozenset[int]) -> bool:
        return any(at < seq and status in statuses for at, status in self.ended.get(job_id, ()))


def no_job_ran_before_what_it_waited_for(evidence: Evidence) -> Findings:
    told = Told.by(evidence)
    for edge in evidence.edges:
        job_id, begun = edge["job_id"], told.let_go.get(edge["job_id"])
        if not begun or job_id in evidence.promises.retries_begun:
            # Who retries by hand has it run whatever became of the others.
            continue
        if edge["of_batch"]:
            late = [one for one in told.members.get(edge["after_id"], ()) if not _over(told, one, begun[0])]
            if late:
                yield Finding("waits", job_id, f"was let go before {late} of batch {edge['after_id']} had ended")
        elif not told.ended_before(edge["after_id"], begun[0], FITS[edge["run_if"]]):
            yield Finding("waits", job_id, f"was let go before job {edge['after_id']} was {edge['run_if']}")


def _over(told: Told, member: str, seq: int) -> bool:
    return told.ended_before(member, seq, FITS["ended"])


def called_off_only_for_a_reason(evidence: Evidence) -> Findings:
    batches = {batch["id"]: batch for batch in evidence.batches}
    against: dict[str, bool] = defaultdict(bool)
    for edge in evidence.edges:
        status = _status(evidence, batches, edge)
        against[edge["job_id"]] |= status is not None and status not in FITS[edge["run_if"]]
    for job_id, record in evidence.records.items():
        if record["status"] == CANCELLED and record["error_type"] in CALLED_OFF and not against[job_id]:
            yield Finding("waits", job_id, f"stays called off with nothing against it: {record['error']}")


def _status(evidence: Evidence, batches: Mapping[str, Row], edge: Row) -> int | None:
    if edge["of_batch"]:
        batch = batches[edge["after_id"]]
        return COMPLETED if batch["completed"] == batch["total"] else FAILED
    status: int | None = evidence.records.get(edge["after_id"], {}).get("status")
    return status


def batches_are_counted_right(evidence: Evidence) -> Findings:
    told = Told.by(evidence)
    for batch in evidence.batches:
        members = told.members.get(batch["id"], [])
        ends = Counter(evidence.records[member]["status"] for member in members)
        expected = (len(members), ends[COMPLETED], ends[FAILED], ends[CANCELLED])
        counted = tuple(batch[name] for name in ("total", "completed", "failed", "cancelled"))
        if counted != expected:
            yield Finding("batches", None, f"{batch['id']} counts {counted}, and has {expected}")
        if batch["closed_at"] is None or batch["ended_at"] is None:
            yield Finding("batches", None, f"{batch['id']} has not ended: {batch}")


def callbacks_exactly_once(evidence: Evidence) -> Findings:
    told = Told.by(evidence)
    for edge in evidence.edges:
        if not edge["of_batch"]:
            continue
        calls = len(told.let_go.get(edge["job_id"], ()))
        allowed = _calls(evidence, told.members.get(edge["after_id"], ()), edge["run_if"])
        if calls not in allowed:
            what = f"runs if its batch {edge['run_if']}, and was let go {calls} times instead of {sorted(allowed)}"
            yield Finding("batches", edge["job_id"], what)


def _calls(evidence: Evidence, members: Sequence[str], run_if: str) -> set[int]:
    """How often one is called. Retried by hand, a batch that had failed may have become a success."""
    success = all(evidence.records[member]["status"] == COMPLETED for member in members)
    if run_if == "ended":
        return {1}
    if run_if == "completed":
        return {1} if success else {0}
    retried = evidence.promises.retries_begun & set(members)
    return {1} if not success else {0, 1} if retried else {0}


def all_is_settled(evidence: Evidence) -> Findings:
    for notice in evidence.notices:
        yield Finding("settled", notice["job_id"], f"a notice is left: {notice}")


def families_were_not_vacuous(evidence: Evidence) -> Findings:
    if not evidence.promises.families:
        return
    seen = {
        "batches that completed": any(batch["completed"] == batch["total"] > 0 for batch in evidence.batches),
        "batches that did not": any(batch["completed"] < batch["total"] for batch in evidence.batches),
        "jobs that were called off": any(
            record["error_type"] in CALLED_OFF for record in evidence.records.values() if record["status"] == CANCELLED
        ),
        "jobs that waited and ran": any(edge["job_id"] in evidence.ran for edge in evidence.edges),
    }
    for what, happened in seen.items():
        if not happened:
            about = "batches" if what.startswith("batches") else "waits"
            yield Finding("vacuous", None, f"there were no {what}", about=about)


FAMILY_RULES = (
    no_job_ran_before_what_it_waited_for,
    called_off_only_for_a_reason,
    batches_are_counted_right,
    callbacks_exactly_once,
    all_is_settled,
    families_were_not_vacuous,
)
