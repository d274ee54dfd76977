"""Replays the history of one job and finds each step that no correct platform takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from jobplatform.proof.findings import Finding
from jobplatform.proof.history import Event

Row = dict[str, Any]

BLOCKED, SCHEDULED, READY, RUNNING = -1, 0, 1, 2
COMPLETED, FAILED, CANCELLED = 3, 4, 5

#: What a job is called off with that waited for something else; only these come back by themselves.
CALLED_OFF = ("PredecessorFailed", "NotNeeded")

LEGAL = {
    (BLOCKED, SCHEDULED),
    (BLOCKED, READY),
    (SCHEDULED, READY),
    (READY, RUNNING),
    (RUNNING, RUNNING),
    (RUNNING, READY),
    (RUNNING, SCHEDULED),
}


@dataclass(slots=True)
class Counts:
    """What happened to all jobs together."""

    claims: int = 0
    rescued: int = 0
    crashed: int = 0
    handed_back: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    reopened: int = 0


@dataclass(slots=True)
class Replay:
    """One job. ``died_at`` says with which event each dead worker was declared dead."""

    job_id: str
    crash_limit: int
    died_at: Mapping[int, int]
    counts: Counts
    may_reopen: bool
    epochs: set[int] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)
    queue_row: Row | None = None
    record: Row | None = None
    last_worker: int | None = None

    def play(self, events: Iterable[Event]) -> None:
        """Each transaction is one step. After it queue row and record must agree whether the job has ended."""
        for _, step in groupby(events, key=lambda event: event.transaction):
            for event in step:
                if event.source == "job_queue":
                    self._queue_event(event)
                else:
                    self._record_event(event)
            ended = self.record is not None and self.record["status"] is not None
            self._demand(
                (self.queue_row is None) == ended,
                "pairs",
                f"after event {event.seq}: {'a' if self.queue_row else 'no'} queue row, record {self.record}",
            )

    # The queue row: waiting and running

    def _queue_event(self, event: Event) -> None:
        before, after = event.before, event.after
        if before is None and after is not None:
            self._appears(after)
        elif before is not None and after is not None:
            self._changes(before, after)
        if after is not None:
            self._look_at_limits(after)
        self.queue_row = after

    def _appears(self, row: Row) -> None:
        highest = max(self.epochs, default=0)
        self._demand(row["state"] != RUNNING, "edges", "was born running")
        self._demand(row["epoch"] >= highest, "epochs", f"starts again from epoch {row['epoch']} after {highest}")

    def _changes(self, before: Row, after: Row) -> None:
        edge = (before["state"], after["state"])
        # Progress whose first answer was lost is written again.
        said_again = before == after and after["progress"] is not None
        if before == after | {"followed": before["followed"]} and not said_again:
            # Somebody has come to wait for its end, and nothing else happened.
            self._demand(after["followed"], "edges", "is not followed any more")
            return
        self._demand(edge in LEGAL, "edges", f"goes from state {edge[0]} to {edge[1]}")
        if edge == (READY, RUNNING):
            self._is_claimed(before, after)
        else:
            self._demand(before["epoch"] == after["epoch"], "edges", "changes its epoch without a claim")
        if edge == (RUNNING, RUNNING):
            self._demand(before["worker_id"] == after["worker_id"], "edges", "changes its worker while it runs")
            self._demand(_own_progress(after), "stale", f"epoch {after['epoch']} has progress {after['progress']}")
        elif before["state"] == RUNNING and before["crash_count"] == after["crash_count"]:
            self.counts.handed_back += before["attempts"] > after["attempts"]

    def _is_claimed(self, before: Row, after: Row) -> None:
        self.counts.claims += 1
        epoch = after["epoch"]
        self._demand(epoch not in self.epochs, "epochs", f"epoch {epoch} is handed out twice")
        self._demand(epoch == before["epoch"] + 1, "epochs", f"epoch goes from {before['epoch']} to {epoch}")
        self._demand(after["attempts"] == before["attempts"] + 1, "attempts", "a claim does not count as an attempt")
        self.epochs.add(epoch)
        self.last_worker = after["worker_id"]

    def _look_at_limits(self, row: Row) -> None:
        attempts, crashes = row["attempts"], row["crash_count"]
        self._demand(attempts <= row["max_attempts"], "attempts", f"attempt {attempts} of {row['max_attempts']}")
        self._demand(crashes < self.crash_limit, "crashes", f"waits or runs after {crashes} crashes")

    # The record: what has become of it

    def _record_event(self, event: Event) -> None:
        before, after = event.before or {}, event.after
        self.record = after
        if after is None:
            self.findings.append(Finding("lost", self.job_id, "its record is gone"))
            return
        if before.get("status") is not None:
            self._changes_after_its_end(before, after)
        elif after["status"] is not None:
            self._ends(after)
        if after["crash_count"] > before.get("crash_count", 0):
            self._crashes(event, after)

    def _changes_after_its_end(self, before: Row, after: Row) -> None:
        self._demand(before["status"] != COMPLETED, "twice", f"changes after it completed, to {after}")
        back = before["outcome"] == "discarded" and before["error_type"] in CALLED_OFF
        self._demand(after["status"] is None and (back or self.may_reopen), "edges", f"is not final any more: {after}")
        self.counts.reopened += 1

    def _ends(self, after: Row) -> None:
        self.counts.completed += after["status"] == COMPLETED
        self.counts.failed += after["status"] == FAILED
        self.counts.cancelled += after["status"] == CANCELLED
        self._demand(after["attempts"] <= after["max_attempts"], "attempts", f"ends after {after['attempts']}")
        if after["status"] == COMPLETED:
            proof, fence = after["result"], f"{self.job_id}:{after['epoch']}"
            self._demand(proof == {"fence": fence}, "stale", f"epoch {after['epoch']} completed with {proof}")

    def _crashes(self, event: Event, after: Row) -> None:
        self.counts.crashed += 1
        self._demand(after["crash_count"] <= self.crash_limit, "crashes", f"{after['crash_count']} crashes")
        if after["error_type"] == "WorkerLost":
            self.counts.rescued += 1
            died_at = self.died_at.get(self.last_worker or 0)
            dead = died_at is not None and died_at < event.seq
            self._demand(dead, "rescue", f"was taken from worker {self.last_worker}, which lived (event {event.seq})")

    def _demand(self, holds: bool, rule: str, what: str) -> None:
        if not holds:
            self.findings.append(Finding(rule, self.job_id, what))


def _own_progress(row: Row) -> bool:
    said = (row.get("progress") or {}).get("message")
    return said is None or said == f"{row['id']}:{row['epoch']}"
