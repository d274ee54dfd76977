"""How a running job speaks to the parent, and how it hears that it should stop. Child side."""

import asyncio
import json
import logging
import os
import threading
from collections import deque
from contextlib import suppress
from itertools import islice
from typing import Any, Final

from jobplatform.queue import INTERRUPTIONS, MOST_LINES, JobInterrupted
from jobplatform.worker.clock import child_clock
from jobplatform.worker.frames import (
    COMPLETING,
    LEVELS,
    LOG,
    NO_JOB,
    ORDER,
    PROGRESS,
    RECORD,
    Reason,
    decode_orders,
    encode_frame,
    to_json,
    write_all,
)

EXCEPTIONS: Final[dict[Reason, type[JobInterrupted]]] = {
    Reason.TIMEOUT: INTERRUPTIONS["timeout"],
    Reason.CANCELLED: INTERRUPTIONS["cancelled"],
    Reason.LEASE_LOST: INTERRUPTIONS["lost"],
    Reason.SHUTDOWN: INTERRUPTIONS["shutdown"],
}

LONGEST_LINE: Final = 8_192

# What may be added to a record; no record is longer than a frame then.
MOST_FIELDS: Final = 100

# As frames.to_json is.
_record_to_json: Final = json.JSONEncoder(default=str).encode


class ThreadState(threading.local):
    """What a thread of a child is in the middle of."""

    def __init__(self) -> None:
        self.current = NO_JOB
        self.writing = False
        self.interrupted = False
        self.meanwhile: deque[bytes] = deque()
        """Frames that came while this thread was writing one: of a signal handler, or of what the collector found."""


class Line:
    """The result pipe, shared by the threads of a child, and the orders that came from the parent.

    A frame is never left half written: an interruption that arrives during a write is raised when it is over, and what
    a signal handler sends during one follows it. It cannot wait for the lock: the thread that has it is its own.
    """

    def __init__(self, results: int, orders: int) -> None:
        self._results = results
        self._orders = orders
        self._lock = threading.Lock()
        self._local = ThreadState()
        self.ordered: dict[int, Reason] = {}

    @property
    def current(self) -> int:
        """The job this thread is running."""
        return self._local.current

    @current.setter
    def current(self, seq: int) -> None:
        self._local.current = seq

    def send(self, frame: bytes) -> None:
        local = self._local
        if local.writing:
            local.meanwhile.append(frame)
            return
        self._write(frame)
        if local.meanwhile:
            self._write_meanwhile(local.meanwhile)
        if local.interrupted:
            local.interrupted = False
            self._raise_ordered()

    def _write(self, frame: bytes) -> None:
        self._local.writing = True
        try:
            with self._lock:
                write_all(self._results, frame)
        finally:
            self._local.writing = False

    def _write_meanwhile(self, frames: deque[bytes]) -> None:
        # A signal handler that comes between two writes sends them all itself: what was there a moment ago may be gone.
        with suppress(IndexError):
            while True:
                self._write(frames.popleft())

    def interrupt(self) -> None:
        """For the signal handler: raise in the job the parent means, if this thread still runs it."""
        self.read_orders()
        if self._local.writing:
            self._local.interrupted = True
        else:
            self._raise_ordered()

    def read_orders(self) -> None:
        """Take in what the parent ordered. From a signal handler the pipe must be non-blocking."""
        with suppress(BlockingIOError):
            while data := os.read(self._orders, ORDER.size * 64):
                self.ordered.update(decode_orders(data))

    def interruption(self, seq: int) -> type[JobInterrupted] | None:
        reason = self.ordered.get(seq)
        return EXCEPTIONS[reason] if reason is not None else None

    def _raise_ordered(self) -> None:
        kind = self.interruption(self.current)
        if kind is None:
            return
        loop = idle_event_loop()
        if loop is None:
            raise kind("the worker told this attempt to stop")
        # Between two steps of its tasks an event loop catches and logs what is raised in it; a cancelled task it stops.
        for task in asyncio.all_tasks(loop):
            loop.call_soon_threadsafe(task.cancel)


def idle_event_loop() -> asyncio.AbstractEventLoop | None:
    """This thread's event loop if it runs and none of its tasks is in a step right now."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    return loop if asyncio.current_task(loop) is None else None


class Budget:
    """So many at once, then so many a second: a tight loop must not flood the parent, a short burst gets through."""

    def __init__(self, burst: int, per_second: float) -> None:
        self._burst = burst
        self._per_second = per_second
        self._left = float(burst)
        self._at = child_clock()

    def take(self) -> bool:
        now = child_clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class JobChannel:
    """The channel of one attempt: progress, log lines, and whether to stop."""

    def __init__(self, line: Line, seq: int) -> None:
        self._line = line
        self._seq = seq
        self._budget: Budget | None = None
        self._held_back: str | None = None
        self._lines = 0

    def progress(self, report: str) -> None:
        if self._budget is None:
            self._budget = Budget(burst=20, per_second=20)
        if self._budget.take():
            self._held_back = None
            self._send(PROGRESS, report)
        else:
            self._held_back = report

    def log(self, level: str, message: str) -> None:
        self._lines += 1
        if self._lines > MOST_LINES:
            return
        known = level.lower() if level.lower() in LEVELS else "info"
        self._send(LOG, to_json([known, str(message)[:LONGEST_LINE]]))

    def completing(self) -> None:
        self._send(COMPLETING, "")

    def interruption(self) -> type[BaseException] | None:
        return self._line.interruption(self._seq)

    def finish(self) -> None:
        """Send the newest progress if it was held back: the last report is the one that people look at."""
        if self._held_back is not None:
            self._send(PROGRESS, self._held_back)

    def _send(self, kind: int, text: str) -> None:
        self._line.send(encode_frame(self._seq, kind, 0.0, 0.0, text.encode(errors="replace")))


class ItemChannel(JobChannel):
    """The channel of one job of a call: what stops the call is raised in it, what stops this job alone is told."""

    def __init__(self, line: Line, seq: int, call: int) -> None:
        super().__init__(line, seq)
        self._call = call

    def interruption(self) -> type[BaseException] | None:
        return self._line.interruption(self._call)

    def told(self) -> bool:
        return self._line.interruption(self._seq) is not None


class RecordHandler(logging.Handler):
    """Sends the log records of a child to the parent, whose handlers turn them into lines: one process writes a log."""

    STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

    def __init__(self, line: Line) -> None:
        super().__init__()
        self._line = line
        self._budget = Budget(burst=1000, per_second=200)

    def emit(self, record: logging.LogRecord) -> None:
        if not self._budget.take():
            return
        try:
            text = _record_to_json(self._facts(record))
        except Exception:  # noqa: BLE001 - what logging does: a record that can't be shown must not end the handler
            self.handleError(record)
            return
        self._line.send(encode_frame(self._line.current, RECORD, 0.0, 0.0, text.encode(errors="replace")))

    def _facts(self, record: logging.LogRecord) -> dict[str, Any]:
        extra = {key: value for key, value in vars(record).items() if key not in self.STANDARD}
        message = record.getMessage()
        if record.exc_info:
            extra["traceback"] = logging.Formatter().formatException(record.exc_info)[-LONGEST_LINE:]
        return {
            "name": str(record.name)[:LONGEST_LINE],
            "levelno": int(record.levelno),
            "levelname": str(record.levelname)[:LONGEST_LINE],
            "msg": message[:LONGEST_LINE],
            "created": float(record.created),
            "extra": {str(key)[:LONGEST_LINE]: _cut(value) for key, value in islice(extra.items(), MOST_FIELDS)},
        }


def _cut(value: Any) -> Any:
    """What was added to a record, as far as it is worth a line; of what is longer the beginning, as a text."""
    if value is None or isinstance(value, float):
        return value
    text = value if isinstance(value, str) else _record_to_json(value)
    return value if len(text) <= LONGEST_LINE else text[:LONGEST_LINE]
