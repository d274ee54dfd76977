"""The finisher: writes endings, progress and log lines. What it was given once it keeps until it is written."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from jobplatform.queue import (
    Completion,
    Failure,
    Lease,
    LogLine,
    ResourceNote,
    append_log_lines,
    begin_jobs,
    complete_jobs,
    fail_jobs,
    note_resources,
    release_jobs,
    report_progress,
)
from jobplatform.worker.database import DatabaseThread, will_pass
from jobplatform.worker.outbox import Flush

R = TypeVar("R")

UNSAVABLE: Final = "what the handler left could not be saved; the worker's log has the database's reason"

logger = logging.getLogger("jobplatform.worker")


@dataclass(slots=True)
class Flushed:
    """What came of a flush.

    `lost` are endings that were not accepted, `not_held` running attempts whose progress was not. After a `repeated`
    write an ending may also be missing because the first try had worked and only its answer was lost. `unsettled`:
    somebody waits for something that ended. ``statuses`` are those of the jobs whose attempts went badly, ``paused``
    the resources that were paused for it.
    """

    flush: Flush
    lost: set[Lease] = field(default_factory=set)
    not_held: set[Lease] = field(default_factory=set)
    statuses: dict[Lease, str] = field(default_factory=dict)
    repeated: bool = False
    unsettled: bool = False
    paused: set[str] = field(default_factory=set)


class Finisher(DatabaseThread):
    """The thread that writes what children have said: log lines, progress, and how attempts ended."""

    def __init__(self, engine: Engine, post: Callable[[Any], None], *, crash_limit: int) -> None:
        super().__init__("finisher", engine, post)
        self._crash_limit = crash_limit

    def serve(self) -> None:
        while (flush := self.requests.get()) is not None:
            answer = Flushed(flush)
            self._write(flush, answer)
            self.post(answer)

    def _write(self, flush: Flush, answer: Flushed) -> None:
        """One statement a kind; what has begun, lines and progress first: refused once the attempt has ended.

        What was found out about resources comes before the endings too: no job is to start to find out the same.
        """
        self._save(begin_jobs, flush.begun, answer)
        self._save(append_lines, flush.lines, answer)
        held = self._save(report_progress, flush.progress, answer)
        answer.not_held = {report.lease for report in flush.progress} - held
        self._save(partial(self._note, answer), flush.notes, answer)
        held = self._save(complete_jobs, flush.completions, answer, unsavable)
        held |= self._save(partial(self._fail, answer), flush.failures, answer, unsavable)
        held |= self._save(release_jobs, flush.releases, answer)
        answer.lost = _missing(flush.endings(), held)
        answer.unsettled = self.take_unsettled()

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
                if not will_pass(error):
                    return self._save_singly(verb, rows, answer, last_resort, error)
                answer.repeated = True
                if self.stopping:
                    raise
                self.pause()
        return set()

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
