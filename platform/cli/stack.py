"""The parts of a running stack, each a process of its own: started, watched and stopped together.

A part lives in a session of its own, so Ctrl-C in the terminal reaches only us and the parts are stopped in the
right order. A supervisor may signal all of us at once, and then a part is told twice. One to which that says more than
once does is told by us with a signal of its own. Should this process be killed, the kernel stops them (on Linux, see
``serving/part.py``).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import IO

import click

LAST_LINES = 30
#: What asks a command to end.
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

Sink = Callable[[str, str], None]
"""Takes the name of a part and a line of its output."""


class PartFailedError(click.ClickException):
    """A part of the stack ended, or did not become ready; the message says which, and what it said last."""

    def __init__(self, name: str, what: str, lines: Sequence[str]) -> None:
        said = "".join(f"\n  {line}" for line in lines)
        super().__init__(f"the {name} {what}" + (f"; it said last:{said}" if said else ""))


class Part:
    """One process of the stack."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        sink: Sink,
        sockets: Sequence[int] = (),
        stop_with: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.stop_with = stop_with
        self.lines: deque[str] = deque(maxlen=LAST_LINES)
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            pass_fds=sockets,
        )
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout, sink), daemon=True)
        self._reader.start()

    def find_line(self, start: str, seconds: float) -> str:
        """The line that begins with ``start``: how a server that chose its own port tells its address."""
        self.wait_until(lambda: any(line.startswith(start) for line in tuple(self.lines)), seconds)
        return next(line for line in tuple(self.lines) if line.startswith(start))

    def check(self) -> None:
        """Raise :class:`PartFailedError` when the process has ended."""
        code = self.process.poll()
        if code is not None:
            self._reader.join(timeout=1)
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            raise PartFailedError(self.name, how, self.lines)

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait for the part to become ready; raises when it ends instead or the time is over."""
        deadline = time.monotonic() + seconds
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise PartFailedError(self.name, f"was not ready within {seconds:g} s", self.lines)
            time.sleep(0.1)

    def stop(self, seconds: float, hurry: threading.Event) -> None:
        """Its signal, and SIGQUIT when somebody is in a hurry; after ``seconds`` SIGKILL to it and what it started."""
        deadline = time.monotonic() + seconds
        hurried = False
        self._send(self.stop_with)
        while self.process.poll() is None and time.monotonic() < deadline:
            if hurried:
                time.sleep(0.05)
            elif hurry.wait(0.05):
                self._send(signal.SIGQUIT)
                hurried = True
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._reader.join(timeout=1)

    def _send(self, number: signal.Signals) -> None:
        # Popen asks first whether it has ended, so the number is still this process's.
        self.process.send_signal(number)

    def _read(self, output: IO[str], sink: Sink) -> None:
        with output:
            for line in output:
                self.lines.append(line.rstrip("\n"))
                sink(self.name, self.lines[-1])


class Stack:
    """Parts, stopped in the reverse order of their start when the ``with`` block ends, however it ends."""

    def __init__(
        self, database_url: str | None, sink: Sink, *, stop_seconds: float, environment: Mapping[str, str] | None = None
    ) -> None:
        """Without a ``database_url`` each part joins the embedded server, with a login of its own."""
        self.environment = {**os.environ, **(environment or {})}
        for name in ("DATABASE_URL", "JOBS_DATABASE_URL"):
            self.environment.pop(name, None)
        if database_url is not None:
            self.environment["DATABASE_URL"] = database_url
        self.sink = sink
        self.stop_seconds = stop_seconds
        self.parts: list[Part] = []
        self._hurried = False

    def __enter__(self) -> Stack:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_exception: object) -> None:
        with _impatience() as hurry:
            if self._hurried or kind is HurriedInterrupt:
                hurry.set()
            for part in reversed(self.parts):
                part.stop(self.stop_seconds, hurry)

    def start(
        self,
        name: str,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        sockets: Sequence[int] = (),
        stop_with: signal.Signals = signal.SIGTERM,
    ) -> Part:
        """Start a module of ours with the interpreter at hand. Nothing of the current folder can stand in for a
        module of the standard library (``-P``)."""
        command = [sys.executable, "-P", "-m", "jobplatform.cli.serving.part", str(os.getpid()), *arguments]
        part = Part(name, command, {**self.environment, **(environment or {})}, self.sink, sockets, stop_with)
        self.parts.append(part)
        return part

    def run_until_interrupted(self) -> None:
        """Block until Ctrl-C or a signal that means it. Raises :class:`PartFailedError` when a part ends before."""
        try:
            while True:
                for part in self.parts:
                    part.check()
                time.sleep(0.2)
        except KeyboardInterrupt as interrupt:
            self._hurried = isinstance(interrupt, HurriedInterrupt)


class HurriedInterrupt(KeyboardInterrupt):
    """Ctrl-C of somebody who does not want to wait for what runs."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Within the block SIGTERM, and the end of the terminal, mean what Ctrl-C means: ``finally`` and ``with`` do their
    work, and the command ends without a traceback. So does SIGQUIT, in a hurry."""
    try:
        with (
            _handled(signal.default_int_handler, signal.SIGTERM, signal.SIGHUP),
            _handled(_interrupt_in_a_hurry, signal.SIGQUIT),
        ):
            yield
    except KeyboardInterrupt:
        raise SystemExit(130) from None


@contextlib.contextmanager
def interruptible_once() -> Iterator[None]:
    """The same for what has to clear away what it made: from the first signal on, all others are ignored."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in ENDS:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    try:
        with _handled(interrupt, *ENDS):
            yield
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _interrupt_in_a_hurry(_number: int, _frame: FrameType | None) -> None:
    raise HurriedInterrupt


@contextlib.contextmanager
def _handled(handler: Callable[[int, FrameType | None], None], *numbers: signal.Signals) -> Iterator[None]:
    """Have these signals handled within the block; one that was ignored, as nohup has it, stays ignored."""
    taken = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in taken}
    try:
        yield
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)


@contextlib.contextmanager
def _impatience() -> Iterator[threading.Event]:
    """While the parts are being stopped, another Ctrl-C must not leave half of them behind: it hurries them. The end of
    the terminal, which may come right behind the signal, is no request of anybody's."""
    hurry = threading.Event()

    def note(_number: int, _frame: FrameType | None) -> None:
        hurry.set()

    def go_on(_number: int, _frame: FrameType | None) -> None:
        pass

    with (
        _handled(note, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT),
        _handled(go_on, signal.SIGHUP),
    ):
        yield hurry
