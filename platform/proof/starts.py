"""Claims as the history tells of them, each job that was started for itself; and which look was the first to see it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from jobplatform.proof.changes import Scope
from jobplatform.proof.history import Event
from jobplatform.proof.replay import READY, RUNNING, SCHEDULED
from jobplatform.proof.watcher import Census, Snapshot

E = TypeVar("E", "Start", Event)


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
    """Every job that was claimed, in the order of the history."""
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


def between_looks(censuses: Sequence[Census], events: Sequence[E]) -> Iterator[tuple[Census, list[E]]]:
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
