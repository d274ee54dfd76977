"""Hearing: what children say, and who is to know it. What they say of jobs goes to the ledger. Owned by the pool."""

from collections.abc import Callable

from jobplatform.worker.attempt import Attempt
from jobplatform.worker.bodies import BodyError, decode_end
from jobplatform.worker.frames import (
    COMPLETING,
    ENDED,
    HAPPENED,
    LOG,
    OK,
    PROGRESS,
    READY,
    RECORD,
    STARTED,
    TOO_LATE,
    Frame,
)
from jobplatform.worker.ledger import Ledger
from jobplatform.worker.output import relay_record
from jobplatform.worker.slot import Slot


class Hearing:
    """Reads the frames of children. `on_ready` is told of one that says that it can take jobs, `on_nonsense` of one
    that said what cannot be, and what that was.
    """

    def __init__(
        self, ledger: Ledger, *, on_ready: Callable[[Slot], None], on_nonsense: Callable[[Slot, str], None]
    ) -> None:
        self._ledger = ledger
        self._on_ready = on_ready
        self._on_nonsense = on_nonsense

    def read(self, slot: Slot) -> None:
        """Hear all that the child has said so far."""
        for frame in slot.read():
            if frame.kind == OK:
                if attempt := self._finished(slot, frame):
                    self._ledger.completed(attempt, frame)
            else:
                self._hear(slot, frame)
        if slot.broken:
            self._on_nonsense(slot, slot.broken)
        slot.settle()

    def _hear(self, slot: Slot, frame: Frame) -> None:
        try:
            self._heard(slot, frame)
        except BodyError as error:
            self._on_nonsense(slot, str(error))

    def _heard(self, slot: Slot, frame: Frame) -> None:
        kind = frame.kind
        if kind == ENDED:
            facts = decode_end(frame.body)  # First: what cannot be read must not have ended anything.
            if attempt := self._finished(slot, frame):
                self._ledger.ended(attempt, frame, facts)
        elif kind == TOO_LATE:
            if attempt := self._finished(slot, frame):
                self._ledger.release_unstarted([attempt])
        elif kind == READY:
            self._on_ready(slot)
        elif kind == RECORD:
            attempt = slot.find(frame.seq)
            relay_record(frame, attempt.facts if attempt else {})
        elif kind == HAPPENED:
            self._ledger.happened(frame)
        else:
            self._job_reported(slot, frame)

    def _finished(self, slot: Slot, frame: Frame) -> Attempt | None:
        attempt = slot.finished(frame.seq, frame.started + frame.seconds)
        if attempt is None:
            self._on_nonsense(slot, f"a child finished job {frame.seq}, which it was not given")
        return attempt

    def _job_reported(self, slot: Slot, frame: Frame) -> None:
        attempt = slot.find(frame.seq)
        if attempt is None:
            return
        if frame.kind == STARTED:
            self._ledger.started(attempt, frame)
        elif frame.kind == PROGRESS:
            self._ledger.progressed(attempt, frame)
        elif frame.kind == LOG:
            self._ledger.logged(attempt, frame)
        elif frame.kind == COMPLETING:
            attempt.completes_itself = True
