"""One slot: a child process seen from the parent, with the pipes to it and the jobs it was given.

States and what leaves them:

    STARTING  the nursery was asked for a child       READY frame → IDLE; exit → gone
    IDLE      nothing given                           jobs given → BUSY; told to retire → LEAVING
    BUSY      jobs given                              last result → IDLE; an attempt is interrupted → ASKED
    ASKED     a running attempt was told to stop      its result → BUSY or IDLE; grace over → TERMING
    TERMING   SIGTERM sent to the process group       exit → gone; grace over → KILLING
    KILLING   SIGKILL sent to the process group       exit → gone; no exit for seconds → LOST
    LEAVING   token socket half closed                exit → gone
    LOST      unkillable (waits in the kernel)        exit → gone; its place was given to another child
    STRUCK    dead of a signal that stops a worker    the worker hears of its stop, or a moment is over → gone

Jobs are given only in IDLE and BUSY. A child that got SIGTERM is never given another job, even if its handler
obeyed in the last moment: the signal is on its way, and it would hit an innocent job.
"""

import fcntl
import os
import socket
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from enum import Enum, auto
from time import monotonic
from typing import Final

from jobplatform.worker.attempt import Attempt
from jobplatform.worker.frames import (
    ORDER,
    READ_SIZE,
    Frame,
    FrameReader,
    Reason,
    decode_tokens,
    encode_call,
    encode_run,
    encode_tokens,
)

# Fewer wake-ups of a child that writes a long result. Unprivileged users may be refused; 64 KiB works as well.
PIPE_SIZE: Final = 256 << 10


class State(Enum):
    """The states of a slot; the module says what leaves each."""

    STARTING = auto()
    IDLE = auto()
    BUSY = auto()
    ASKED = auto()
    TERMING = auto()
    KILLING = auto()
    LEAVING = auto()
    LOST = auto()
    STRUCK = auto()


class Slot:
    """A child and its run of jobs, oldest first. Owns the parent's ends of its pipes."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.pid: int | None = None
        self.state = State.STARTING
        self.run: deque[Attempt] = deque()
        self.since = monotonic()
        self._offered_at = self.since
        self._unheard = 0.0
        self.escalate_at = 0.0
        self.ended_with: int | None = None
        self.served = 0
        self.head_started = False
        self.retiring = False
        self.condemned: tuple[str, str] | None = None
        self._reader = FrameReader()
        self._rest = bytearray()
        self._open_pipes()

    def _open_pipes(self) -> None:
        body_end, self.body = os.pipe()
        self.results, result_end = os.pipe()
        order_end, self.orders = os.pipe()
        self.output, output_end = os.pipe()
        self.tokens, self.token_end = socket.socketpair()
        for pipe in (self.body, self.results):
            with suppress(OSError, AttributeError):
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        for pipe in (self.body, self.results, self.orders, self.output):
            os.set_blocking(pipe, False)
        self._child_ends = [body_end, result_end, order_end, output_end]

    # -- the child's ends ------------------------------------------------------------------------

    def child_ends(self) -> list[int]:
        """Descriptors for the child: body, results, orders, output, tokens."""
        return [*self._child_ends, self.token_end.fileno()]

    def close_child_ends(self) -> None:
        """After they were sent. The token socket's end stays: jobs are taken back through it."""
        for fd in self._child_ends:
            os.close(fd)
        self._child_ends = []

    # -- giving and taking back ------------------------------------------------------------------

    @property
    def takes_jobs(self) -> bool:
        """One that has a job which wants to be alone takes no other."""
        return self.state in (State.IDLE, State.BUSY) and not self.retiring and not (self.run and self.run[0].apart)

    def load(self) -> tuple[int, bool]:
        """What it has to do. Of two that have as much, one that has started nothing of what it was given has more."""
        return len(self.run), self._unheard > 0

    @property
    def has_rest(self) -> bool:
        """Whether bytes of a body still wait for room in the pipe."""
        return bool(self._rest)

    def give(self, attempts: Sequence[Attempt]) -> None:
        """Send jobs, or those of one call: the bodies first, then the tokens. Never blocks, however long a body is."""
        if not self.run:
            self.since = self._offered_at = monotonic()
            self.head_started = False
        self.run.extend(attempts)
        call, jobs = attempts[0].call, [attempt.wire() for attempt in attempts]
        self._rest += encode_run(jobs if call is None else [encode_call(call, attempts[0].task, jobs)])
        self.write_rest()
        self.tokens.sendall(encode_tokens([attempt.seq for attempt in attempts] if call is None else [call]))
        self.settle()

    def write_rest(self) -> None:
        """Write as much of the waiting bodies as the pipe takes."""
        try:
            while self._rest:
                del self._rest[: os.write(self.body, self._rest)]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            # The child is dead and its exit not yet read. The tokens come back with `take_back` then.
            self._rest.clear()

    def take_back(self) -> list[Attempt]:
        """Take the unread tokens out of the child's socket and return their jobs, in order: none of them was started
        and none will be. The kernel decides who got a token, so this is exact whatever the child is doing. What is
        left in `run` was started.
        """
        seqs: set[int] = set()
        with suppress(BlockingIOError):
            while data := self.token_end.recv(READ_SIZE, socket.MSG_DONTWAIT):
                seqs |= decode_tokens(data)
        if not seqs:
            return []
        taken = [attempt for attempt in self.run if attempt.token in seqs]
        self.run = deque(attempt for attempt in self.run if attempt.token not in seqs)
        if not self.run:
            self._unheard += monotonic() - self._offered_at
        self.settle()
        return taken

    def starts_nothing_at(self, seconds: float) -> float:
        """When it will have had something to start for so many seconds since it was last heard of, if it goes on like
        this. What was taken back from it meanwhile, to be given to others or to it once more, counts.
        """
        return self._offered_at + seconds - self._unheard

    # -- hearing and telling ---------------------------------------------------------------------

    def read(self) -> list[Frame]:
        """Every frame the child has completed so far."""
        frames: list[Frame] = []
        with suppress(BlockingIOError):
            while data := os.read(self.results, READ_SIZE):
                frames += self._reader.feed(data, monotonic())
                if len(data) < READ_SIZE // 4:
                    break
        return frames

    @property
    def broken(self) -> str | None:
        """What the child wrote instead of a frame; it can't be trusted with a job any more."""
        return self._reader.broken

    def order(self, attempt: Attempt, reason: Reason) -> None:
        """Tell the child which attempt is to stop and why; read by its signal handler, or by a thread of it.

        A call stops as a whole. What it was told of one of its jobs before stays that one's reason.
        """
        if attempt.call is None:
            attempt.reason = reason
        for other in self.call_of(attempt):
            other.reason = other.told or reason
        self._order(attempt.token, reason)

    def tell(self, attempt: Attempt, reason: Reason) -> None:
        """Tell the child that one job of a call is to stop, for the handler to ask about; the others go on."""
        attempt.told = reason
        self._order(attempt.seq, reason)

    def call_of(self, attempt: Attempt) -> list[Attempt]:
        """The jobs of its call that are not over; none for one that runs by itself."""
        return [other for other in self.run if attempt.call is not None and other.call == attempt.call]

    def _order(self, seq: int, reason: Reason) -> None:
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(self.orders, ORDER.pack(seq, reason))

    def finished(self, seq: int, at: float) -> Attempt | None:
        """Take the attempt whose result came out of the run; None if it isn't there."""
        run = self.run
        if run and run[0].seq == seq:
            attempt: Attempt | None = run.popleft()
        else:
            attempt = next((attempt for attempt in run if attempt.seq == seq), None)
            if attempt is not None:
                run.remove(attempt)
        self.served += 1
        self._unheard, self._offered_at = 0.0, at
        # Jobs of a call lie beside each other, and mostly end in their order: the next one tells.
        if attempt is None or attempt.call is None or not any(other.call == attempt.call for other in run):
            self.since = max(self.since, at)
            self.head_started = False
        return attempt

    def find(self, seq: int) -> Attempt | None:
        return next((attempt for attempt in self.run if attempt.seq == seq), None)

    # -- state -----------------------------------------------------------------------------------

    def settle(self) -> None:
        """Bring the state in line with the run. Called after every change of it: a child whose last job was taken
        back while it was told to leave would otherwise never leave.
        """
        if self.state not in (State.IDLE, State.BUSY, State.ASKED):
            return
        if any(attempt.reason for attempt in self.run):
            self.state = State.ASKED
        elif self.run:
            self.state = State.BUSY
        elif self.retiring:
            self._leave()
        else:
            self.state = State.IDLE

    def retire(self) -> None:
        """No further jobs; the child leaves when its run is empty."""
        self.retiring = True
        self.settle()

    def _leave(self) -> None:
        self.state = State.LEAVING
        with suppress(OSError):
            self.tokens.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.close_child_ends()
        for fd in (self.body, self.results, self.orders, self.output):
            os.close(fd)
        self.tokens.close()
        self.token_end.close()
