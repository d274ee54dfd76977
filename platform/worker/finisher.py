"""The finisher: writes endings, progress and log lines. What it was given once it keeps until it is written.

A handler, or whoever else has a transaction open, may have a job's row locked for as long as it likes. What is to be
written there goes back to the hub and is tried again later: one such job must not keep those of all others from their
ends. Through a pooler, where nothing can be set for a connection, they wait for as long as the lock lasts.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from jobplatform.models import is_shared
from jobplatform.queue import (
    PATIENCE_MS,
    Completion,
    Failure,
    Lease,
    LogLine,
    ProgressReport,
    Release,
    ResourceNote,
    always_wait_briefly,
    append_log_lines,
    begin_jobs,
    complete_jobs,
    fail_jobs,
    note_resources,
    out_of_patience,
    release_jobs,
    report_progress,
)
from jobplatform.worker.database import DatabaseThread, will_pass
from jobplatform.worker.outbox import Flush, Unwritten

R = TypeVar("R")

#: Rows of one kind that are waited for in a flush. If the next one is locked too, it may be the table.
MOST_WAITED_FOR: Final = 3

UNSAVABLE: Final = "what the handler left could not be saved; the worker's log has the database's reason"

logger = logging.getLogger("jobplatform.worker")


@dataclass(slots=True)
class Flushed:
    """What came of a flush.

    `lost` are endings that were not accepted, `not_held` running attempts whose progress was not. After a `repeated`
    write an ending may also be missing because the first try had worked and only its answer was lost. `unsettled`:
    somebody waits for something that ended. ``statuses`` are those of the jobs whose attempts went badly, ``paused``
    the resources that were paused for it. ``held_up`` is what somebody has locked: it is none of the flush any more,
    and is to be given once more.
    """

    flush: Flush
    lost: set[Lease] = field(default_factory=set)
    not_held: set[Lease] = field(default_factory=set)
    statuses: dict[Lease, str] = field(default_factory=dict)
    repeated: bool = False
    unsettled: bool = False
    paused: set[str] = field(default_factory=set)
    held_up: list[Unwritten] = field(default_factory=list)


class Finisher(DatabaseThread):
    """The thread that writes what children have said: log lines, progress, and how attempts ended."""

    def __init__(
        self, engine: Engine, post: Callable[[Any], None], *, crash_limit: int, patience_ms: int = PATIENCE_MS
    ) -> None:
        super().__init__("finisher", engine, post)
        self._crash_limit = crash_limit
        self._patience_ms = patience_ms

    def serve(self) -> None:
        while (flush := self.requests.get()) is not None:
            answer = Flushed(flush)
            self._write(flush, answer)
            self.post(answer)

    def _write(self, flush: Flush, answer: Flushed) -> None:
        held = self._write_all(flush, answer)
        if flush.held_up:
            # By itself: what is locked still would hold up what came meanwhile.
            again = Flush.of(flush.held_up)
            held |= self._write_all(again, answer)
            flush.join(again)
        flush.leave_out(answer.held_up)
        answer.lost = _missing(flush.endings(), held)
        answer.unsettled = self.take_unsettled()

    def _write_all(self, flush: Flush, answer: Flushed) -> set[Lease]:
        """One statement a kind; what has begun, lines and progress first: refused once the attempt has ended.

        What was found out about resources comes before the endings too: no job is to start to find out the same.
        """
        self._save(begin_jobs, flush.begun, answer)
        self._save(append_lines, flush.lines, answer)
        held = self._save(report_progress, flush.progress, answer)
        answer.not_held |= {report.lease for report in flush.progress} - held
        self._save(partial(self._note, answer), flush.notes, answer)
        held = self._save(complete_jobs, flush.completions, answer, unsavable)
        held |= self._save(partial(self._fail, answer), flush.failures, answer, unsavable)
        return held | self._save(release_jobs, flush.releases, answer)

    def _connect(self) -> Session:
        is_new = self._session is None
        session = super()._connect()
        if is_new and not is_shared(session.connection().connection):
            always_wait_briefly(session, self._patience_ms)
        return session

    def _fail(self, answer: Flushed, session: Session, failures: Sequence[Failure]) -> Iterable[Lease]:
        statuses = fail_jobs(session, failures, crash_limit=self._crash_limit)
        answer.statuses.update(statuses)
        return statuses

    @staticmethod
    def _note(answer: Flushed, session: Session, notes: Sequence[ResourceNote]) -> Iterable[Lease]:
        for resource in note_resources(session, notes):
            logger.warning("resource paused after repeated errors", extra={"resource": resource})
            answer.paused.add(resource)
        return ()

    def _save(
        self,
        verb: Callable[[Session, Sequence[R]], Iterable[Lease]],
        rows: Sequence[R],
        answer: Flushed,
        last_resort: Callable[[R], Failure] | None = None,
    ) -> set[Lease]:
        """Write rows, however often the database must be asked, and return the leases that held.

        Raises the database's error when the worker gives up meanwhile.
        """
        while rows:
            try:
                return set(self.once(lambda session: verb(session, rows)))
            except Exception as error:
                # Lines wait for no row. Where the table is locked they keep their turn, or somebody who follows them
                # would see later ones first.
                if isinstance(error, DBAPIError) and out_of_patience(error) and not isinstance(rows[0], LogLine):
                    return self._save_what_is_free(verb, rows, answer, last_resort)
                if not will_pass(error):
                    return self._save_singly(verb, rows, answer, last_resort, error)
                answer.repeated = True
                if self.stopping:
                    raise
                self.pause()
        return set()

    def _save_what_is_free(
        self,
        verb: Callable[[Session, Sequence[R]], Iterable[Lease]],
        rows: Sequence[R],
        answer: Flushed,
        last_resort: Callable[[R], Failure] | None,
    ) -> set[Lease]:
        """Somebody has some of these locked: those wait, and the others are written. What was not tried comes first the
        next time."""
        if len(rows) == 1:
            return _hold_up(rows[0], answer)
        held: set[Lease] = set()
        before = len(answer.held_up)
        for number, row in enumerate(rows):
            if len(answer.held_up) - before == MOST_WAITED_FOR:
                for untried in rows[number:]:
                    held |= _hold_up(untried, answer, first=True)
                break
            held |= self._save(verb, [row], answer, last_resort)
        return held

    def _save_singly(
        self,
        verb: Callable[[Session, Sequence[R]], Iterable[Lease]],
        rows: Sequence[R],
        answer: Flushed,
        last_resort: Callable[[R], Failure] | None,
        error: Exception,
    ) -> set[Lease]:
        """The database refuses something in these rows: find out what, and write that without any text of a user."""
        if len(rows) > 1:
            return set().union(*(self._save(verb, [row], answer, last_resort) for row in rows))
        logger.error("refused by the database", extra={"row": repr(rows[0])[:500], "error": str(error)[:1000]})
        if last_resort is None:
            return set()
        return self._save(partial(self._fail, answer), [last_resort(rows[0])], answer)


def _hold_up(row: Any, answer: Flushed, *, first: bool = False) -> set[Lease]:
    """Progress is not worth it: there will be more. Its lease has not been found lost."""
    if isinstance(row, ProgressReport):
        return {row.lease}
    answer.held_up.insert(0 if first else len(answer.held_up), row)
    if isinstance(row, Completion | Failure | Release) and not first:
        facts = {"job_id": row.lease.job_id, "epoch": row.lease.epoch}
        logger.warning("ending waits for a lock of somebody else's", extra=facts)
    return set()


def _missing(endings: Sequence[Lease], held: set[Lease]) -> set[Lease]:
    """Those that are not among the held; there are hardly ever any."""
    return set() if len(held) == len(endings) else set(endings) - held


def append_lines(session: Session, lines: Sequence[LogLine]) -> Iterable[Lease]:
    """Append log lines. No lease is missed here: a line of a lost one is not written."""
    append_log_lines(session, lines)
    return ()


def unsavable(ending: Completion | Failure) -> Failure:
    """What is recorded when an ending can't be saved as it is. Work that was done is not done again for this."""
    retry = isinstance(ending, Failure) and ending.retry
    crash = isinstance(ending, Failure) and ending.crash
    return Failure(ending.lease, "error", "NotSavable", UNSAVABLE, retry=retry, crash=crash)
