"""The place of somebody who follows a workspace: where each of its jobs was, in a text that fits into a header.

Nothing in the database rises with every change of a workspace's jobs, and nothing is written to make it so. So the
place says it job by job: the unfinished ones with their positions, and those that ended within the last seconds, which
would otherwise be taken for new ones.
"""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Iterator

from jobplatform.queue import WINDOW_MS, Position

#: How long a text may be: a header's line is 8 KiB at most, with most servers.
LONGEST = 6_800
#: Bytes of that, before they are made into letters.
ROOM = LONGEST * 3 // 4 - 64
#: Milliseconds after which a place is worth nothing: too much may have come and gone.
WORTH_MS = 600_000
#: How a job waits that nobody has ever run; most do, and take a byte less to say it.
NEW = Position(0, 0, 1)

_PREFIX = "w1-"
#: The last moment that an id can have.
_LAST = 2**48 - 1
_TAIL = 6


class WorkspacePlace:
    """Where somebody is who follows a workspace. ``at`` is the moment of the last look, in milliseconds."""

    def __init__(self, at: int | None = None, *, exact: bool = True) -> None:
        self.at = at
        self.exact = exact
        self.jobs: dict[str, Position] = {}
        self._ended: dict[bytes, int] = {}

    def note_ended(self, job_id: str) -> None:
        identity = uuid.UUID(job_id)
        made_at = _made_at(identity)
        if made_at >= self._window:
            self._ended[identity.bytes[-_TAIL:]] = made_at

    def has_ended(self, job_id: str) -> bool:
        return uuid.UUID(job_id).bytes[-_TAIL:] in self._ended

    def forget_ended(self) -> None:
        """Those that are too old to be looked for again."""
        self._ended = {tail: made_at for tail, made_at in self._ended.items() if made_at >= self._window}

    def is_too_old(self, now: int) -> bool:
        return self.at is not None and now - self.at > WORTH_MS

    @property
    def has_room(self) -> bool:
        """Whether a text of it is still short enough, with something to spare for what comes next."""
        return sum(map(_most_bytes, self.jobs.values())) + 10 * len(self._ended) < ROOM

    @property
    def _window(self) -> int:
        # Twice as far back as a look goes: the next one starts from here.
        return (self.at or 0) - 2 * WINDOW_MS

    def __str__(self) -> str:
        data = bytearray([int(self.exact)])
        _write(data, self.at or 0)
        _write(data, len(self.jobs))
        last = 0
        for job_id, position in sorted(self.jobs.items()):
            identity = uuid.UUID(job_id)
            _write(data, _made_at(identity) - last)
            last = _made_at(identity)
            data += identity.bytes[6:]
            _write_position(data, position)
        _write(data, len(self._ended))
        for tail, made_at in sorted(self._ended.items(), key=lambda ended: ended[1]):
            _write(data, max(0, made_at - self._window))
            data += tail
        return _PREFIX + base64.urlsafe_b64encode(bytes(data)).decode().rstrip("=")


def read_place(text: str) -> WorkspacePlace:
    """The place that ``str`` of one wrote. Raises ValueError for anything else."""
    try:
        if not text.startswith(_PREFIX) or len(text) > LONGEST * 2:
            raise ValueError("it does not begin like one")
        letters = text.removeprefix(_PREFIX)
        data = base64.b64decode(letters + "=" * (-len(letters) % 4), altchars=b"-_", validate=True)
        return _read_place(iter(data), len(data))
    except (ValueError, StopIteration, RuntimeError, binascii.Error) as error:
        raise ValueError("not a position of a workspace") from error


def _read_place(data: Iterator[int], length: int) -> WorkspacePlace:
    exact = next(data)
    place = WorkspacePlace(_read(data), exact=exact == 1)
    made_at = 0
    for _ in range(min(_read(data), length)):
        made_at += _read(data)
        if made_at > _LAST:
            raise ValueError("no id is so late")
        identity = uuid.UUID(bytes=made_at.to_bytes(6, "big") + _take(data, 10))
        place.jobs[str(identity)] = _read_position(data)
    for _ in range(min(_read(data), length)):
        made_at = place._window + _read(data)
        place._ended[_take(data, _TAIL)] = made_at
    if next(data, None) is not None:
        raise ValueError("it goes on")
    return place


def _made_at(identity: uuid.UUID) -> int:
    """The first 48 bits of an id: of a UUIDv7 the millisecond it was made in."""
    return identity.int >> 80


def _most_bytes(position: Position) -> int:
    if position == NEW:
        return 17
    # One that was never run and waits for a moment has its digest beside four small numbers.
    return 25 if position._replace(progress="") == NEW else 38


def _write_position(data: bytearray, position: Position) -> None:
    if position == NEW:
        _write(data, 0)
        return
    _write(data, 1 + position.phase + (4 if position.progress else 0))
    for number in (position.retries, position.epoch, position.log_epoch, position.log_line):
        _write(data, number)
    data += bytes.fromhex(position.progress)


def _read_position(data: Iterator[int]) -> Position:
    form = _read(data)
    if form == 0:
        return NEW
    retries, epoch, log_epoch, log_line = (_read(data, most=2**31 - 1) for _ in range(4))
    progress = _take(data, 4).hex() if form - 1 >= 4 else ""
    phase = (form - 1) % 4
    if form > 8 or phase > 2:
        raise ValueError("no such phase")
    return Position(retries, epoch, phase, progress, log_epoch, log_line)


def _write(data: bytearray, number: int) -> None:
    """Seven bits a byte, the last one without the eighth."""
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    data.append(number)


def _read(data: Iterator[int], *, most: int = _LAST) -> int:
    number, shift = 0, 0
    for byte in data:
        number |= (byte & 127) << shift
        shift += 7
        if number > most or shift > 49:
            raise ValueError("too large a number")
        if byte < 128:
            return number
    raise ValueError("it breaks off")


def _take(data: Iterator[int], count: int) -> bytes:
    taken = bytes(byte for _, byte in zip(range(count), data, strict=False))
    if len(taken) < count:
        raise ValueError("it breaks off")
    return taken
