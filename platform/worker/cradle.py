"""The cradle: keeps a nursery alive. Starts it, hears it, replaces it when it dies, pauses when that does not help."""

import logging
import math
import selectors
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

import backoff

from jobplatform.worker.nursery_link import NurseryConfig, NurseryGoneError, NurseryLink

#: So many children in a row that never became ready, and starting them rests.
FAILED_STARTS: Final = 3
#: Seconds of such a rest, at most.
LONGEST_PAUSE: Final = 60.0
#: It says so before a child does anything, which takes milliseconds.
ANSWER_SECONDS: Final = 10.0
INSTEAD: Final = (
    "raise the limit of processes (ulimit -u, TasksMax of a unit, the pids of a container) or of memory, "
    "or have fewer slots"
)
NEVER: Final = math.inf

logger = logging.getLogger("jobplatform.worker")


@dataclass(frozen=True, slots=True)
class Events:
    """Whom to tell: a child was started (number, pid), could not be (number), has ended (pid, exit code, peak
    kilobytes), all are gone.
    """

    started: Callable[[int, int], None]
    unstarted: Callable[[int], None]
    ended: Callable[[int, int, int], None]
    all_died: Callable[[], None]


class Cradle:
    """The one nursery there is at a time. Signals go through it: it alone knows which pids are still its children."""

    def __init__(self, config: NurseryConfig, selector: selectors.BaseSelector, events: Events) -> None:
        self.catalogue: list[dict[str, Any]] = []
        """What the tasks are, complete once `up` was true."""
        self.rules: list[dict[str, Any]] = []
        """The rules of health that go with them."""
        self.schedules: list[dict[str, Any]] = []
        """What schedules are declared beside them, likewise."""
        self.import_problems: Sequence[str] = ()
        """Why the tasks could not be imported at the start, and so there is no worker. Never of a later nursery."""
        self.up = False
        self._config = config
        self._selector = selector
        self._events = events
        self._link: NurseryLink | None = None
        self._ever_up = False
        self._child_was_ready = False
        self._failed_starts = 0
        self._pauses = _pauses()
        self._start_at = 0.0
        self._pauses_of_fork: Iterator[float] | None = None
        self._unanswered: dict[int, float] = {}

    def keep_up(self, now: float) -> float:
        """Start a nursery if there is none. Returns when to look again while starting is on pause."""
        if now < self._start_at:
            return self._start_at
        if self._link is None:
            self.up = self._child_was_ready = False
            try:
                self._link = NurseryLink(self._config)
            except OSError as error:
                self._fork_failed(str(error.strerror))
                return self._start_at
            self._selector.register(self._link, selectors.EVENT_READ, self._hear)
        return NEVER

    def spawn(self, number: int, descriptors: Sequence[int]) -> None:
        assert self._link is not None
        self._unanswered.setdefault(number, monotonic())
        self._link.spawn(number, descriptors)

    def expect_answers(self, now: float) -> float:
        """Replace a nursery that does not say what became of a child that was asked for: it is stopped, or stuck, and
        kills nobody either. Returns when to look again.
        """
        if self._link is None or not self._unanswered:
            return NEVER
        answer_by = next(iter(self._unanswered.values())) + ANSWER_SECONDS
        if now < answer_by:
            return answer_by
        logger.error("nursery does not answer and is killed", extra={"pid": self._link.pid})
        self._unanswered.clear()
        self._link.kill_nursery()
        return NEVER

    def kill(self, pid: int, signum: int) -> None:
        if self._link is not None:
            self._link.kill(pid, signum)

    def kill_group(self, pid: int, signum: int) -> None:
        if self._link is not None:
            self._link.kill_group(pid, signum)

    def child_is_ready(self) -> None:
        self._child_was_ready = True
        self._failed_starts = 0

    def all_are_ready(self) -> None:
        """Every slot has its child."""
        if self._pauses_of_fork is not None:
            self._pauses_of_fork = None
            logger.info("processes are started again")

    def start_failed(self, problem: str) -> None:
        """After three in a row stop trying for a while: what is missing won't come back faster for being asked."""
        self._failed_starts += 1
        if self._failed_starts < FAILED_STARTS:
            return
        self._failed_starts = 0
        pause = next(self._pauses)
        self._start_at = monotonic() + pause
        facts = {"problem": problem, "pause_seconds": round(pause, 1)}
        logger.error("no children are started for a while", extra=facts)

    def _fork_failed(self, problem: str) -> None:
        """The system makes no process now. Ask again after a pause; that of several asked for at once is one."""
        now = monotonic()
        if now < self._start_at:
            return
        if self._pauses_of_fork is None:
            self._pauses_of_fork = _pauses()
            logger.error("no process can be started", extra={"problem": problem, "instead": INSTEAD})
        self._start_at = now + next(self._pauses_of_fork)

    def close(self) -> None:
        """Let the nursery kill what is left, and end."""
        if self._link is not None:
            self._selector.unregister(self._link)
            if self.up:
                self._link.close()
            else:
                self._link.close(patience=0)  # Still importing: it has no children and would not look up for long.
            self._link = None
        self.up = False
        self._unanswered.clear()

    # -- hearing ---------------------------------------------------------------------------------

    def _hear(self) -> None:
        assert self._link is not None
        try:
            for message in self._link.messages():
                self._said(message)
        except NurseryGoneError:
            self._died()

    def _said(self, message: list[Any]) -> None:
        match message:
            case ["tasks", tasks] if not self._ever_up:
                self.catalogue += tasks
            case ["rules", rules] if not self._ever_up:
                self.rules += rules
            case ["schedule", declared] if not self._ever_up:
                self.schedules.append(declared)
            case ["up", pid, threads]:
                self._came_up(pid, threads)
            case ["failed", kind, problems, trace]:
                self._import_failed(kind, problems, trace)
            case ["started", number, pid]:
                self._unanswered.pop(number, None)
                self._events.started(number, pid)
            case ["unstarted", number, problem]:
                self._unanswered.pop(number, None)
                self._events.unstarted(number)
                self._fork_failed(problem)
            case ["exit", pid, code, peak_kb]:
                self._events.ended(pid, code, peak_kb)

    def _came_up(self, pid: int, threads: int) -> None:
        self.up = self._ever_up = True
        logger.info("nursery up", extra={"pid": pid, "tasks": len(self.catalogue)})
        if threads:
            logger.warning("the tasks' import started threads; children do not have them", extra={"threads": threads})

    def _import_failed(self, kind: str, problems: Sequence[str], trace: str) -> None:
        tasks, text = self._config.tasks, "; ".join(problems)
        if self._ever_up:
            logger.error("tasks cannot be imported any more", extra={"error_type": kind, "error": text})
        elif kind == "SettingsError":
            self.import_problems = problems
        else:
            self.import_problems = [f"{tasks} cannot be imported: {kind}: {text}\n{trace}"]

    def _died(self) -> None:
        """Its children die with it. A new one starts, after a pause if this one did not get far."""
        if not self.import_problems:  # The start ends with these, and they say more.
            logger.error("nursery died", extra={"was_up": self.up, "pid": self._link.pid if self._link else None})
        self.close()
        self._events.all_died()
        if not self._child_was_ready:
            self.start_failed("the nursery ended before a child was ready")


def _pauses() -> Iterator[float]:
    """Ever longer pauses, jittered, up to a minute."""
    delays = backoff.expo(factor=1, max_value=LONGEST_PAUSE)
    next(delays)
    return (delay / 2 + backoff.full_jitter(delay / 2) for delay in delays)
