"""The bytes between the worker's parent process and its children.

Parent to child: a body frame (u32 length, then a JSON list of jobs, and of calls that take several) into the body pipe,
then one u64 token per job or call into the token socket; orders (sequence number and reason) into the order pipe.
Child to parent: a head of 29 bytes (length, sequence number, kind, start, seconds) and that many bytes of body, in one
`write`.

Payloads and results are spliced in and taken out as text: the parent never decodes them.
"""

import json
import os
import struct
from collections.abc import Collection, Iterable
from enum import IntEnum
from functools import lru_cache
from math import inf
from typing import Any, Final, NamedTuple

from jobplatform.queue import ClaimedJob, quick_maker

# 32 bits of sequence numbers last for a day of jobs that take no time.
HEAD: Final = struct.Struct("<IQBdd")
TOKEN: Final = struct.Struct("<Q")
ORDER: Final = struct.Struct("<QB")
LENGTH: Final = struct.Struct("<I")

# The sequence number that no job has.
NO_JOB: Final = 0

# Kinds of frames from a child. Plain numbers: one comparison for every job.
READY: Final = 0
STARTED: Final = 1
OK: Final = 2
ENDED: Final = 3
PROGRESS: Final = 4
LOG: Final = 5
RECORD: Final = 6
COMPLETING: Final = 7
HAPPENED: Final = 8
TOO_LATE: Final = 9
LAST_KIND: Final = TOO_LATE

#: Bytes of a message between the parent and the nursery, at most.
MESSAGE_SIZE: Final = 256 << 10
#: A body with more fields than a call of several jobs has is one job.
FIELDS_OF_CALL: Final = 3

# Levels of the lines that are kept with a job.
LEVELS: Final = frozenset({"debug", "info", "warning", "error", "critical"})

# Above what the queue accepts as a result; a longer frame can only come from a child whose memory is in ruins.
MAX_FRAME: Final = 64 << 20
READ_SIZE: Final = 256 << 10


# Made when the child is: what a handler does to the json module must not reach what its process and the parent say to
# each other.
to_json: Final = json.JSONEncoder().encode
_from_json: Final = json.JSONDecoder().decode


class Reason(IntEnum):
    """Why a running attempt is interrupted."""

    TIMEOUT = 1
    CANCELLED = 2
    LEASE_LOST = 3
    SHUTDOWN = 4


class Frame(NamedTuple):
    """One message of a child. `started` is on the machine's monotonic clock, which parent and child share."""

    seq: int
    kind: int
    started: float
    seconds: float
    body: bytes


_frame = quick_maker(Frame)


def encode_frame(seq: int, kind: int, started: float, seconds: float, body: bytes) -> bytes:
    """A frame as a child writes it. ``started`` is by the monotonic clock, in seconds."""
    return HEAD.pack(len(body), seq, kind, started, seconds) + body


class FrameReader:
    """Cuts a child's byte stream into frames; what is not complete waits for the next bytes."""

    def __init__(self) -> None:
        self._partial = bytearray()
        self._wanted = HEAD.size
        self.broken: str | None = None
        """What was wrong with the first bytes that were no frame. Nothing after them is read."""

    def feed(self, data: bytes, now: float) -> list[Frame]:
        """The frames that `data`, read before `now`, completes. A frame cut off by the child's death never appears."""
        if self.broken is not None:
            return []
        self._partial += data
        # A long result comes in many pieces; they are looked at when the last one is here.
        if len(self._partial) < self._wanted:
            return []
        frames, length = self._cut(bytes(self._partial), now)
        del self._partial[:length]
        return frames

    def _cut(self, data: bytes, now: float) -> tuple[list[Frame], int]:
        """The whole frames at the beginning of `data`, and how many bytes they are."""
        frames: list[Frame] = []
        start, end, head = 0, len(data), HEAD.size
        self._wanted = head
        while (body := start + head) <= end:
            size, seq, kind, started, seconds = HEAD.unpack_from(data, start)
            if size > MAX_FRAME or kind > LAST_KIND or not -inf < started + seconds < inf:
                self.broken = f"a child sent a frame of kind {kind} with {size} bytes, from {started} for {seconds} s"
                break
            if body + size > end:
                self._wanted += size
                break
            start = body + size
            if started < 0.0 or seconds < 0.0 or started + seconds > now:
                started, seconds = _possible(started, seconds, now)
            frames.append(_frame((seq, kind, started, seconds, data[body:start])))
        return frames, start


def _possible(started: float, seconds: float, now: float) -> tuple[float, float]:
    """Of what a clock that was frozen or set says, as much as can be: nothing begins or ends after it was heard of."""
    started = min(max(started, 0.0), now)
    return started, min(max(seconds, 0.0), now - started)


class JobSpec(NamedTuple):
    """What a child is told about an attempt; the order of the fields is the wire's.

    ``start_by`` is when it must have begun, on the machine's monotonic clock; None if it may at any time.
    """

    seq: int
    task: str
    queue: str
    workspace_id: str
    job_id: str
    epoch: int
    attempt: int
    max_attempts: int
    payload_version: int
    request_id: str | None
    trace_parent: str | None
    start_by: float | None
    payload: object


_job_spec = quick_maker(JobSpec)


class CallSpec(NamedTuple):
    """Jobs for one call of a handler, all of one task and one workspace. Its own sequence number is what is started."""

    seq: int
    task: str
    jobs: list[JobSpec]


def encode_call(seq: int, task: str, jobs: Iterable[str]) -> str:
    """Jobs that `encode_job` made, for one call."""
    return f"[{seq},{_quoted(task)},[{','.join(jobs)}]]"


def encode_job(seq: int, job: ClaimedJob, start_by: float | None = None) -> str:
    """One job as JSON. The payload is JSON text and goes in as it is: the child parses everything once."""
    (workspace_id, job_id, epoch), queue, task, attempt, max_attempts, _, _, payload, version, request_id, trace, *_ = (
        job
    )
    numbers = _numbers(epoch, attempt, max_attempts, version)
    return (
        f'[{seq},{_quoted(task)},{_quoted(queue)},"{workspace_id}","{job_id}",{numbers},'
        f"{_quoted(request_id)},{_quoted(trace)},{'null' if start_by is None else start_by},{payload}]"
    )


@lru_cache(maxsize=1024)
def _numbers(*numbers: int) -> str:
    return ",".join(map(str, numbers))


@lru_cache(maxsize=4096)
def _quoted(text: str | None) -> str:
    return json.dumps(text)


def encode_run(jobs: Iterable[str]) -> bytes:
    """A body frame of jobs that `encode_job` made."""
    body = f"[{','.join(jobs)}]".encode()
    return LENGTH.pack(len(body)) + body


def encode_tokens(seqs: Collection[int]) -> bytes:
    """The tokens with which these jobs, by their numbers, are given to a child."""
    return struct.pack(f"<{len(seqs)}Q", *seqs)


def decode_tokens(data: bytes) -> set[int]:
    """The numbers of the jobs whose tokens these are."""
    return {seq for (seq,) in TOKEN.iter_unpack(data)}


def decode_orders(data: bytes) -> list[tuple[int, Reason]]:
    """The numbers of the jobs that are to stop, and why."""
    return [(seq, Reason(reason)) for seq, reason in ORDER.iter_unpack(data)]


class BodyReader:
    """The child's end of the body pipe: finds the job a token names."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._buffer = bytearray()
        self.waiting: dict[int, JobSpec | CallSpec] = {}
        """What was read and is not asked for yet; some of it may have been taken back."""

    def job(self, seq: int) -> JobSpec | CallSpec:
        """Return the job, reading on until it is there. Raises EOFError when the parent is gone.

        Tokens rise, so whatever is older than `seq` was taken back by the parent and is dropped.
        """
        if seq not in self.waiting:
            while seq not in self.waiting:
                self._read_run()
            self.waiting = {other: spec for other, spec in self.waiting.items() if other >= seq}
        return self.waiting.pop(seq)

    def _read_run(self) -> None:
        (size,) = LENGTH.unpack(self._read(LENGTH.size))
        for fields in _from_json(self._read(size).decode()):
            self.waiting[fields[0]] = _job_spec(fields) if len(fields) > FIELDS_OF_CALL else _call(*fields)

    def _read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            data = os.read(self._fd, READ_SIZE)
            if not data:
                raise EOFError("the parent closed the body pipe")
            self._buffer += data
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data


def _call(seq: int, task: str, jobs: list[list[Any]]) -> CallSpec:
    return CallSpec(seq, task, [JobSpec._make(fields) for fields in jobs])


def write_all(fd: int, data: bytes) -> None:
    """Write everything to a blocking pipe."""
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, memoryview(data)[written:])
