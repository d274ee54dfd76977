"""Contenders as processes. Each is driven by the same few words over its standard input and output.

A program prints one JSON object a line. It runs in a process group of its own, and whatever it says it
started (``pid`` in an answer) ends with it: a worker that is left over goes on claiming and spoils every
later round.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import psutil

ENDING_SECONDS = 5.0
LAST_LINES = 4


class ProgramError(Exception):
    """A contender's program ended or fell silent; the message carries the last it wrote on standard error."""


class Program:
    """A running program of a contender. Use it in a ``with`` block; leaving the block ends it."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the program
        self._unread = b""
        self._announced: set[int] = set()
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.end()

    @property
    def pid(self) -> int:
        return self._process.pid

    def say(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n".encode())
        self._process.stdin.flush()

    def answer(self, seconds: float) -> dict[str, Any]:
        """The next object it prints; :class:`ProgramError` when none comes in time."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self._unread:
            self._read_more(deadline)
        line, self._unread = self._unread.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        if "pid" in answer:
            self._announced.add(answer["pid"])
        return answer

    def end(self) -> None:
        """Ask politely, then insist: first those it announced, then its whole group."""
        for pid in self._announced:
            _end_process(pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(OSError):
                stream.close()  # type: ignore[union-attr]  # both were asked for as pipes

    def _read_more(self, deadline: float) -> None:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        readable, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            raise ProgramError(f"no answer in time; it last wrote: {self._last_errors()}")
        read = os.read(descriptor, 1 << 20)
        if not read:
            raise ProgramError(f"it ended early; it last wrote: {self._last_errors()}")
        self._unread += read

    def _last_errors(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return " / ".join(line.strip()[:200] for line in lines[-LAST_LINES:]) or "nothing"


def _end_process(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)  # one that is stopped would never see the next
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + ENDING_SECONDS
        while time.monotonic() < deadline:
            if _has_ended(pid):
                return
            time.sleep(0.02)
        os.kill(pid, signal.SIGKILL)


def _has_ended(pid: int) -> bool:
    """Also true of one that its parent has not yet asked about: nobody is left in it to claim a job."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
