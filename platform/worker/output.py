"""What a child prints or logs, turned into log lines of the worker that name the job. Parent side."""

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic
from typing import Any, Final

from jobplatform.worker.bodies import decode_record
from jobplatform.worker.frames import Frame

READ_SIZE: Final = 64 << 10
LONGEST_LINE: Final = 8_192
LINES_A_SECOND: Final = 200

logger = logging.getLogger("jobplatform.worker.output")


class OutputReader:
    """Cuts what comes out of a child's standard output and error into lines, at most 200 a second."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._partial = b""
        self._second = 0
        self._lines = 0
        self._dropped = 0

    def read(self, facts: Mapping[str, Any]) -> bool:
        """Log what there is. `facts` say which job was running. False at the end of the output."""
        try:
            data = os.read(self._fd, READ_SIZE)
        except BlockingIOError:
            return True
        *lines, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) > LONGEST_LINE or not data:
            lines.append(self._partial)
            self._partial = b""
        for line in lines:
            self._log(line, facts)
        return bool(data)

    def _log(self, line: bytes, facts: Mapping[str, Any]) -> None:
        text = line[:LONGEST_LINE].decode(errors="backslashreplace").rstrip()
        if not text:
            return
        if not self._within_rate():
            self._dropped += 1
            return
        logger.info("handler output", extra={**facts, "line": text, "dropped_before": self._dropped})
        self._dropped = 0

    def _within_rate(self) -> bool:
        second = int(monotonic())
        if second != self._second:
            self._second, self._lines = second, 0
        self._lines += 1
        return self._lines <= LINES_A_SECOND


def relay_record(frame: Frame, facts: Mapping[str, Any]) -> None:
    """Hand a log record of a child to this process's handlers, with the facts of the job that wrote it."""
    fields = decode_record(frame.body)
    extra = fields.pop("extra")
    with suppress(ValueError, KeyError, TypeError):
        record = logging.makeLogRecord({**facts, **extra, **fields})
        target = logging.getLogger(record.name)
        if target.isEnabledFor(record.levelno):
            target.handle(record)
