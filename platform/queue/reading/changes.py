"""Changes: all that has happened to a job, in order, from the rows that are there anyway. Does no input or output.

Nobody writes a second log. An attempt's number (``epoch``) is handed out once, so from the one that a job has now
follows what it went through: it waited, ran as 1, waited again, ran as 2. What ended a run is in ``job_attempts``
unless it went well or was handed back, and a retry by hand keeps the ending that it took back in ``past_endings``.
A server that takes over from another one goes on with higher numbers: those between them nobody ever had.
Log lines are numbered. Of progress only the newest report is kept, so only that one can be told. So it is with the
moment that a job waits for: that it waits is told again when somebody has changed it.

A :class:`Position` says how far somebody has got, and :func:`changes_since` what is newer: each state and each line
once, whoever asks, however much later, and whatever process answers.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jobplatform.queue.statement import EPOCHS_APART

#: Where an attempt is: it runs, it is over and the job waits again (as a new one does at epoch 0), the job has ended.
RUNS, WAITS, ENDED = 0, 1, 2

_POSITION = re.compile(r"1-(\d{1,6})\.(\d{1,10})\.([012])\.([0-9a-f]{0,8})\.(\d{1,10})\.(\d{1,10})")
_MOST = 2**31 - 1


class Position(NamedTuple):
    """How far a job has been followed: its last state, the digest of its last progress, its last log line.

    Of a job that waits for a moment the digest stands for that too.
    """

    retries: int = 0
    epoch: int = 0
    phase: int = RUNS
    progress: str = ""
    log_epoch: int = 0
    log_line: int = 0

    @property
    def state(self) -> tuple[int, int, int]:
        """Rises with every change of the job's state."""
        return (self.retries, self.epoch, self.phase)

    def __str__(self) -> str:
        return "1-" + ".".join(str(part) for part in self)


#: Before everything: a job is not there at epoch 0 before it waits.
START = Position()


def read_position(text: str) -> Position:
    """The position that ``str`` of one wrote. Raises ValueError for anything else."""
    match = _POSITION.fullmatch(text)
    if match is None:
        raise ValueError("not a position of a job")
    retries, epoch, phase, progress, log_epoch, log_line = match.groups()
    numbers = [int(number) for number in (retries, epoch, phase, log_epoch, log_line)]
    if max(numbers) > _MOST:
        raise ValueError("not a position of a job")
    return Position(numbers[0], numbers[1], numbers[2], progress, numbers[3], numbers[4])


class Attempt(NamedTuple):
    """An attempt that did not simply succeed."""

    epoch: int
    number: int
    started_at: str | None
    ended_at: str
    outcome: str
    final: bool
    error_type: str | None
    error: str | None


class Line(NamedTuple):
    """A log line."""

    epoch: int
    line: int
    level: str
    message: str
    logged_at: str


class Ending(NamedTuple):
    """How a job ended, once. ``retried_at``: when somebody took that back."""

    epoch: int
    status: str
    outcome: str | None
    ended_at: str
    retried_at: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """A job's rows, from one snapshot: attempts from the position's epoch on, and the lines after the position.

    ``reach`` is the last epoch whose attempt is there, ``lines_reach`` the last that has a line; None when all are.
    """

    workspace_id: str
    job_id: str
    task: str
    created_at: str
    epoch: int
    running: bool
    ending: Ending | None
    ready: bool = False
    past: Sequence[Ending] = ()
    attempts: Mapping[int, Attempt] = field(default_factory=dict)
    lines: Sequence[Line] = ()
    progress: Any = None
    progress_digest: str = ""
    result: Any = None
    error_type: str | None = None
    error: str | None = None
    attempt_number: int = 0
    started_at: str | None = None
    run_after: str | None = None
    reach: int | None = None
    lines_reach: int | None = None


class Change(NamedTuple):
    """Something that happened: ``kind`` is a status, ``progress`` or ``log``; ``about`` what there is to say of it.

    ``position`` is where a follower is who has seen this and all before it.
    """

    kind: str
    about: dict[str, Any]
    position: Position


def changes_since(position: Position, facts: Facts) -> tuple[list[Change], bool]:
    """What is newer than ``position``, in order, and whether there is more of it than ``facts`` hold."""
    teller = _Teller(position, facts)
    return list(teller.tell()), teller.cut


def digest(progress: str | None) -> str:
    """What stands for a report in a position: equal for equal reports. Empty for none."""
    return f"{zlib.crc32(progress.encode()):08x}" if progress else ""


def present_position(position: Position, facts: Facts) -> Position:
    """Where somebody is who wants to know nothing of what has been until now, as far as ``facts`` have the lines."""
    phase = ENDED if facts.ending else RUNS if facts.running else WAITS
    last = (facts.lines[-1].epoch, facts.lines[-1].line) if facts.lines else (position.log_epoch, position.log_line)
    told = _digest_of_wait(facts) if phase == WAITS else facts.progress_digest
    return Position(len(facts.past), facts.epoch, phase, told, *last)


def _digest_of_wait(facts: Facts) -> str:
    """What has been told of a job that waits: its report, and the moment if it waits for one."""
    return _digest_with_moment(facts) if _waits_for_moment(facts) else facts.progress_digest


def _digest_with_moment(facts: Facts) -> str:
    return digest(f"{facts.progress_digest} {facts.run_after}")


def _waits_for_moment(facts: Facts) -> bool:
    return not facts.ready and facts.run_after is not None and facts.run_after > facts.created_at


class _State(NamedTuple):
    retries: int
    epoch: int
    phase: int
    kind: str
    about: dict[str, Any]


class _Teller:
    """Merges states, lines and progress into one order: what an attempt said stands between its start and its end."""

    def __init__(self, position: Position, facts: Facts) -> None:
        self.position = position
        self.facts = facts
        self.cut = False
        self._lines = [line for line in facts.lines if line.epoch <= facts.epoch]
        self._next = 0

    def tell(self) -> Iterator[Change]:
        for state in _states(self.facts, self.position):
            if not self._is_within_reach(state):
                self.cut = True
                break
            yield from self._lines_before(state)
            if state.phase != RUNS and state.epoch == self.facts.epoch:
                yield from self._progress()
            yield self._state(state)
        if not self.cut:
            yield from self._progress()
            yield from self._other_moment()
        yield from self._lines_up_to(self.facts.epoch)
        self.cut = self.cut or self.facts.lines_reach is not None

    def _is_within_reach(self, state: _State) -> bool:
        """The end of an attempt is told when all its lines are known; how it ended, when all its attempts are."""
        lines, attempts = self.facts.lines_reach, self.facts.reach
        if attempts is not None and state.epoch > attempts:
            return False
        return lines is None or (state.epoch, state.phase) <= (lines, RUNS)

    def _lines_before(self, state: _State) -> Iterator[Change]:
        return self._lines_up_to(state.epoch - 1 if state.phase == RUNS else state.epoch)

    def _lines_up_to(self, epoch: int) -> Iterator[Change]:
        while self._next < len(self._lines) and self._lines[self._next].epoch <= epoch:
            line = self._lines[self._next]
            self._next += 1
            self.position = self.position._replace(log_epoch=line.epoch, log_line=line.line)
            about = {"epoch": line.epoch, "line": line.line, "level": line.level, "message": line.message}
            yield self._change("log", {**about, "at": line.logged_at})

    def _progress(self) -> Iterator[Change]:
        facts = self.facts
        known = facts.progress_digest
        # The report is that of the newest attempt, so it is news only to who has heard of that one's start.
        started = self.position.epoch == facts.epoch and self.position.phase == RUNS
        if facts.progress is None or not started or known == self.position.progress:
            return
        self.position = self.position._replace(progress=known)
        yield self._change("progress", {"epoch": facts.epoch, "progress": facts.progress})

    def _other_moment(self) -> Iterator[Change]:
        """The job waits still, and not for the moment that was told."""
        facts, told = self.facts, self.position.progress
        waits = None if facts.running or facts.ending else _last_state(facts, self.position)
        if waits is None or waits[:3] != self.position.state or told == _digest_with_moment(facts):
            return
        # Of one that is ready it is news only if another moment was told: that it became ready by itself is none.
        if told != facts.progress_digest or _waits_for_moment(facts):
            self.position = self.position._replace(progress=_digest_with_moment(facts))
            yield self._tell(waits)

    def _state(self, state: _State) -> Change:
        # A new attempt has said nothing yet; the same words from it are news.
        progress = "" if state.phase == RUNS else self.position.progress
        if state.retries > self.position.retries:
            progress = ""
        if state.phase == WAITS and self._is_present(state):
            progress = _digest_of_wait(self.facts)
        self.position = self.position._replace(
            retries=state.retries, epoch=state.epoch, phase=state.phase, progress=progress
        )
        return self._tell(state)

    def _is_present(self, state: _State) -> bool:
        facts = self.facts
        return not (facts.running or facts.ending) and state[:2] == (len(facts.past), facts.epoch)

    def _tell(self, state: _State) -> Change:
        return self._change(state.kind, {"epoch": state.epoch, "status": state.kind, **state.about})

    def _change(self, kind: str, about: dict[str, Any]) -> Change:
        known = {"workspace_id": self.facts.workspace_id, "job_id": self.facts.job_id, "job_type": self.facts.task}
        return Change(kind, {**known, **about}, self.position)


def _states(facts: Facts, position: Position) -> Iterator[_State]:
    """The states after ``position``, first to last."""
    return (state for state in _all_states(facts, position) if state[:3] > position.state)


def _last_state(facts: Facts, position: Position) -> _State:
    *_, last = _all_states(facts, position)
    return last


def _all_states(facts: Facts, position: Position) -> Iterator[_State]:
    """From the generation of ``position`` on: what is between two retries is a generation."""
    begin, waits_since = 0, facts.created_at
    for retries, ending in enumerate([*facts.past, facts.ending]):
        epoch = facts.epoch if ending is None else ending.epoch
        if retries >= position.retries:
            yield from _generation(facts, retries, begin, epoch, ending, waits_since, position)
        if ending is not None:
            begin, waits_since = epoch, ending.retried_at or ending.ended_at


def _generation(
    facts: Facts, retries: int, begin: int, last: int, ending: Ending | None, since: str, position: Position
) -> Iterator[_State]:
    waiting_anew = {"at": since, "run_after": facts.run_after if _is_now(facts, retries, begin, ending) else None}
    yield _State(retries, begin, WAITS, "pending", waiting_anew)
    # What is long past is not gone through again: a job may have had ten thousand attempts.
    told = position.epoch if retries == position.retries else 0
    for epoch in _handed_out(facts, max(begin + 1, told), last, told):
        yield _State(retries, epoch, RUNS, "running", _about_start(facts, epoch, is_last=epoch == facts.epoch))
        if epoch < last or (ending is None and not facts.running) or (ending and _ended_waiting(facts, ending)):
            yield _State(retries, epoch, WAITS, "pending", _about_wait(facts, epoch, is_last=epoch == facts.epoch))
    if ending is not None:
        yield _State(retries, last, ENDED, ending.status, _about_end(facts, ending, is_last=retries == len(facts.past)))


def _handed_out(facts: Facts, first: int, last: int, told: int) -> Iterator[int]:
    """The epochs from ``first`` to ``last`` that the job had: all of the server that it is on, and of those before it
    the ones of which something is known."""
    begin = last - (last - 1) % EPOCHS_APART
    if first < begin:
        known = {told, *facts.attempts, *(line.epoch for line in facts.lines)}
        yield from sorted(epoch for epoch in known if first <= epoch < begin)
    yield from range(max(first, begin), last + 1)


def _is_now(facts: Facts, retries: int, epoch: int, ending: Ending | None) -> bool:
    return ending is None and not facts.running and retries == len(facts.past) and epoch == facts.epoch


def _ended_waiting(facts: Facts, ending: Ending) -> bool:
    """Whether the job had gone back to waiting before it ended: then its last attempt is not what ended it.

    Every end of a running job that is not its completion leaves an attempt that says it was final.
    """
    attempt = facts.attempts.get(ending.epoch)
    return ending.status != "completed" and not (attempt and attempt.final)


def _about_start(facts: Facts, epoch: int, *, is_last: bool) -> dict[str, Any]:
    attempt = facts.attempts.get(epoch)
    if attempt is not None:
        return {"attempt": attempt.number, "at": attempt.started_at}
    if is_last and facts.started_at:
        return {"attempt": facts.attempt_number, "at": facts.started_at}
    return {"attempt": None, "at": None}


def _about_wait(facts: Facts, epoch: int, *, is_last: bool) -> dict[str, Any]:
    """After an attempt: what was wrong with it, unless it was handed back."""
    attempt = facts.attempts.get(epoch)
    about: dict[str, Any] = {"at": attempt.ended_at if attempt else None, "error": None}
    if attempt is not None:
        about |= {"attempt": attempt.number, "outcome": attempt.outcome, "error": _error(attempt)}
    return {**about, "run_after": facts.run_after if is_last and facts.ending is None else None}


def _about_end(facts: Facts, ending: Ending, *, is_last: bool) -> dict[str, Any]:
    about: dict[str, Any] = {"at": ending.ended_at, "outcome": ending.outcome}
    attempt = facts.attempts.get(ending.epoch)
    if ending.status == "completed":
        return {**about, "attempt": facts.attempt_number, "result": facts.result}
    if is_last:
        error = _error(facts) if facts.error_type or facts.error else None
    else:
        error = _error(attempt) if attempt and ending.status == "failed" else None
    return {**about, "attempt": attempt.number if attempt else None, "error": error}


def _error(failed: Attempt | Facts) -> dict[str, str] | None:
    if failed.error_type is None and failed.error is None:
        return None
    return {"type": failed.error_type or "Error", "message": failed.error or ""}
