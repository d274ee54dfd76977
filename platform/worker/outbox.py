"""What waits to be written to the database, and when it should go. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from jobplatform.queue import Completion, Failure, Lease, LogLine, ProgressReport, Release, ResourceNote

# As many as are claimed at a time. More rows in one flush make the next one bigger still: with no limit one slow flush
# grew to 3,300 rows.
FLUSH_ROWS: Final = 400
# So many endings are worth a flush at once; fewer wait for so long.
FLUSH_FROM: Final = 100
FLUSH_SECONDS: Final = 0.005
# What people look at may be this old; endings never wait for it.
REPORT_SECONDS: Final = 0.25
# What somebody had locked is tried again after so long: whoever has a lock for as long as that mostly keeps it.
HELD_UP_SECONDS: Final = 2.0

Unwritten = Completion | Failure | Release | ResourceNote | Lease
"""What may have to wait for somebody else's lock. A bare lease: that the attempt has begun."""


@dataclass(slots=True)
class Flush:
    """One round of writing. What has begun, lines and progress go before the endings: afterwards the lease is gone."""

    begun: list[Lease] = field(default_factory=list)
    lines: list[LogLine] = field(default_factory=list)
    progress: list[ProgressReport] = field(default_factory=list)
    completions: list[Completion] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    releases: list[Release] = field(default_factory=list)
    notes: list[ResourceNote] = field(default_factory=list)
    held_up: list[Unwritten] = field(default_factory=list)
    """What an earlier flush could not write, because somebody had it locked."""

    def endings(self) -> list[Lease]:
        """The leases that are over when this is written."""
        endings: list[Completion | Failure | Release] = [*self.completions, *self.failures, *self.releases]
        return [ending.lease for ending in endings]

    def leave_out(self, rows: Sequence[Unwritten]) -> None:
        """These are not written with it."""
        if rows:
            self.completions = [row for row in self.completions if row not in rows]
            self.failures = [row for row in self.failures if row not in rows]
            self.releases = [row for row in self.releases if row not in rows]

    def join(self, other: Self) -> None:
        """What ended with the ``other`` ended with this one."""
        self.completions += other.completions
        self.failures += other.failures
        self.releases += other.releases

    @classmethod
    def of(cls, rows: Iterable[Unwritten]) -> Self:
        flush = cls()
        for row in rows:
            match row:
                case Completion():
                    flush.completions.append(row)
                case Failure():
                    flush.failures.append(row)
                case Release():
                    flush.releases.append(row)
                case ResourceNote():
                    flush.notes.append(row)
                case Lease():
                    flush.begun.append(row)
        return flush


class Outbox:
    """Collects endings, progress (the newest of each attempt) and log lines until the finisher is free for them."""

    def __init__(self) -> None:
        self._completions: list[Completion] = []
        self._failures: list[Failure] = []
        self._releases: list[Release] = []
        self._progress: dict[Lease, ProgressReport] = {}
        self._lines: list[LogLine] = []
        self._notes: list[ResourceNote] = []
        self._begun: list[Lease] = []
        self._ended_since: float | None = None
        self._reported_since: float | None = None
        self._held_up: list[Unwritten] = []
        self._try_again_at: float | None = None

    @property
    def endings(self) -> int:
        return len(self._completions) + len(self._failures) + len(self._releases)

    @property
    def empty(self) -> bool:
        """Whether nothing is to be written now. What somebody has locked may be there all the same."""
        return not (self.endings or self._progress or self._lines or self._notes or self._begun)

    @property
    def holds_something_up(self) -> bool:
        return bool(self._held_up)

    def add(self, ending: Completion | Failure | Release, now: float) -> None:
        match ending:
            case Completion():
                self._completions.append(ending)
            case Failure():
                self._failures.append(ending)
            case Release():
                self._releases.append(ending)
        if self._ended_since is None:
            self._ended_since = now

    def complete(self, completion: Completion, now: float) -> None:
        """`add` for the one kind that comes thousands of times a second."""
        self._completions.append(completion)
        if self._ended_since is None:
            self._ended_since = now

    def report(self, report: ProgressReport, now: float) -> None:
        """Keep only the newest report of an attempt."""
        self._progress[report.lease] = report
        self._reported_since = self._reported_since or now

    def log(self, line: LogLine, now: float) -> None:
        self._lines.append(line)
        self._reported_since = self._reported_since or now

    def note(self, note: ResourceNote, now: float) -> None:
        """What an attempt found out about a resource. It goes with its ending."""
        self._notes.append(note)
        if self._ended_since is None:
            self._ended_since = now

    def begin(self, lease: Lease, now: float) -> None:
        """An attempt has begun that had to by some moment. It goes as soon as an ending would."""
        self._begun.append(lease)
        if self._ended_since is None:
            self._ended_since = now

    def hold_up(self, rows: list[Unwritten], now: float) -> None:
        """Somebody has these locked: they go with a later flush."""
        if rows:
            self._held_up += rows
            self._try_again_at = now + HELD_UP_SECONDS

    def due_at(self, *, idle: bool) -> float | None:
        """When the next flush should go, None for not at all. At once when nothing is running that could join it."""
        if idle and not self.empty:
            return 0.0
        if self.endings >= FLUSH_FROM:
            return 0.0
        moments = []
        if self._ended_since is not None:
            moments.append(self._ended_since + FLUSH_SECONDS)
        if self._reported_since is not None:
            moments.append(self._reported_since + REPORT_SECONDS)
        if self._try_again_at is not None:
            moments.append(self._try_again_at)
        return min(moments, default=None)

    def take(self, now: float) -> Flush:
        """The next flush: at most 400 endings of a kind, and every line and report there is up to now."""
        completions = self._completions[:FLUSH_ROWS]
        flush = Flush(
            begun=self._begun and _open(self._begun, completions),
            lines=self._lines,
            progress=list(self._progress.values()),
            completions=completions,
            failures=self._failures[:FLUSH_ROWS],
            releases=self._releases[:FLUSH_ROWS],
            notes=self._notes,
        )
        self._lines, self._progress, self._notes, self._begun = [], {}, [], []
        del self._completions[:FLUSH_ROWS], self._failures[:FLUSH_ROWS], self._releases[:FLUSH_ROWS]
        self._ended_since = now if self.endings else None
        self._reported_since = None
        if self._try_again_at is not None and self._try_again_at <= now:
            flush.held_up, self._held_up, self._try_again_at = self._held_up, [], None
        return flush


def _open(begun: list[Lease], completions: list[Completion]) -> list[Lease]:
    """Those that have not completed meanwhile: of the others nobody would ask."""
    completed = {completion.lease for completion in completions}
    return [lease for lease in begun if lease not in completed]
