"""A child: runs the jobs it is given, one after the other or one in each of its threads.

    1. Read a token: eight bytes naming a job. *Reading it is starting the job*; one that the parent took back was not
       started.
    2. Read the job's body, run the handler, write the result with one write before the next token is read.
    3. The end of the token socket means: leave.

An interruption comes as an order in a pipe and, with one thread, SIGUSR1: its handler raises in the running job, and in
that one only; an order for a job that has just ended raises nothing.
"""

import faulthandler
import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, NoReturn

from jobplatform import tracing
from jobplatform.queue import (
    Ended,
    Happening,
    JobInterrupted,
    Lease,
    RunningJob,
    Tasks,
    execute,
    execute_batch,
    on_happenings,
    wait_for_task,
)
from jobplatform.worker.channel import ItemChannel, JobChannel, Line, RecordHandler
from jobplatform.worker.clock import child_clock
from jobplatform.worker.frames import (
    ENDED,
    HAPPENED,
    NO_JOB,
    OK,
    READY,
    STARTED,
    TOKEN,
    TOO_LATE,
    BodyReader,
    CallSpec,
    JobSpec,
    encode_frame,
    to_json,
)
from jobplatform.worker.handler_session import HandlerSessions
from jobplatform.worker.kernel import die_with_parent, prefer_as_victim
from jobplatform.worker.surroundings import Surroundings

#: Bytes of results of one call that are worth a write.
ENOUGH: Final = 64 << 10
#: The exit code of a child in which we failed, and not a handler.
CHILD_FAILED: Final = 70
#: Seconds after which a job may have changed its surroundings, when there is another one behind it. To put them back
#: takes a thirtieth of this, and as long as a job of no time.
LONG_ENOUGH: Final = 1e-4

logger = logging.getLogger("jobplatform.worker.child")


@dataclass(frozen=True, slots=True)
class ChildConfig:
    """What the nursery passes on to each child."""

    tasks: str
    database_url: str
    threads: int
    log_level: int
    counts: bool = False
    """Whether the parent wants to hear what handlers enqueue."""


class ChildEnds(NamedTuple):
    """The child's descriptors, in the order in which the parent sends them."""

    body: int
    results: int
    orders: int
    output: int
    tokens: int


def run_child(ends: ChildEnds, config: ChildConfig, tasks: Tasks, nursery_pid: int) -> NoReturn:
    """Become a child in this freshly forked process. Never returns."""
    die_with_parent()
    if os.getppid() != nursery_pid:
        os._exit(0)  # The nursery died before the kernel was asked to take us along.
    prefer_as_victim()
    redirect_standard_streams(ends.output)
    child = Child(ends, config, tasks)
    child.serve()


def redirect_standard_streams(output: int) -> None:
    """Nothing to read; what is printed, by C code and subprocesses too, goes to the parent line by line."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    for target in (1, 2):
        os.dup2(output, target)
    # New objects: those of the nursery may believe they write to a file that can seek.
    sys.stdout = open(1, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115 - for ever
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115 - for ever
    faulthandler.enable(file=2)


class Child:
    """A process that runs handlers, seen from within. Owns its ends of the pipes."""

    def __init__(self, ends: ChildEnds, config: ChildConfig, tasks: Tasks) -> None:
        self.ends = ends
        self.config = config
        self.tasks = tasks
        self.pid = os.getpid()
        self.bodies = BodyReader(ends.body)
        self.line = Line(ends.results, ends.orders)
        self.next_job = threading.Lock()
        self.sessions = HandlerSessions(config.database_url, config.threads)
        self.surroundings = Surroundings() if config.threads == 1 else None

    def serve(self) -> NoReturn:
        self.mind_signals()
        self.send_logs_to_parent()
        if self.config.counts:
            on_happenings(self.happened)
        # Before it says that it is ready: a child that gets no threads is one that could not be started.
        for _ in range(self.config.threads - 1):
            threading.Thread(target=self.work, daemon=True).start()
        self.line.send(encode_frame(NO_JOB, READY, child_clock(), 0.0, b""))
        self.work()

    def mind_signals(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if self.config.threads == 1:
            os.set_blocking(self.ends.orders, False)
            signal.signal(signal.SIGUSR1, lambda *_: self.line.interrupt())
        else:
            # A signal would only reach the main thread; a reader sets what the handlers ask for.
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            threading.Thread(target=self.line.read_orders, daemon=True).start()

    def send_logs_to_parent(self) -> None:
        root = logging.getLogger()
        root.handlers = [RecordHandler(self.line)]
        root.setLevel(self.config.log_level)

    def happened(self, happened: Mapping[Happening, int]) -> None:
        told = to_json([(*happening, count) for happening, count in happened.items()])
        self.line.send(encode_frame(self.line.current, HAPPENED, 0.0, 0.0, told.encode()))

    # -- jobs ------------------------------------------------------------------------------------

    def work(self) -> NoReturn:
        """Without one of its threads a child would keep a job for ever; so it ends as a whole."""
        try:
            self.perform_all()
        except BaseException:
            logger.exception("a thread of a child failed, and the child ends")
        finally:
            os._exit(CHILD_FAILED)

    def perform_all(self) -> NoReturn:
        while True:
            try:
                with self.next_job:
                    spec = self.bodies.job(self.next_token())
            except (EOFError, OSError):
                leave()
            if isinstance(spec, CallSpec):
                self.perform_call(spec)
            else:
                self.perform(spec)

    def next_token(self) -> int:
        data = os.read(self.ends.tokens, TOKEN.size)
        if len(data) < TOKEN.size:
            raise EOFError("the parent closed the token socket")
        return int.from_bytes(data, "little")

    def perform(self, spec: JobSpec) -> None:
        started = child_clock()
        if spec.start_by is not None and started >= spec.start_by:
            self.leave_out([spec], started)
            return
        if self.config.threads > 1 or spec.start_by is not None:
            self.line.send(encode_frame(spec.seq, STARTED, started, 0.0, b""))
        channel = JobChannel(self.line, spec.seq)
        ended = self.execute(spec, channel)
        if os.getpid() != self.pid:
            os._exit(0)  # The handler forked and its copy came back here: the job is the original's.
        flush_output()
        seconds = child_clock() - started
        self.line.send(_frame_of(spec.seq, ended, started, seconds))
        self.line.ordered.pop(spec.seq, None)
        if (seconds > LONG_ENOUGH or not self.bodies.waiting) and self.surroundings is not None:
            self.surroundings.put_back()

    def perform_call(self, spec: CallSpec) -> None:
        """One call for several jobs, each of which has its result sent as soon as it counts."""
        now = child_clock()
        if late := [job for job in spec.jobs if job.start_by is not None and now >= job.start_by]:
            self.leave_out(late, now)
            spec = spec._replace(jobs=[job for job in spec.jobs if job not in late])
        if not spec.jobs:
            return
        call = Call(self, spec)
        try:
            self.line.current = spec.seq
            call.execute()
            self.line.current = NO_JOB
        except JobInterrupted as interruption:
            self.line.current = NO_JOB
            call.interrupted(interruption)
        for seq in (spec.seq, *(job.seq for job in spec.jobs)):
            self.line.ordered.pop(seq, None)
        if self.surroundings is not None:
            self.surroundings.put_back()

    def leave_out(self, specs: Sequence[JobSpec], now: float) -> None:
        """Jobs that have to begin by some moment wait here too, behind others, and by now they are too late."""
        self.line.send(b"".join(encode_frame(spec.seq, TOO_LATE, now, 0.0, b"") for spec in specs))
        for spec in specs:
            self.line.ordered.pop(spec.seq, None)

    def execute(self, spec: JobSpec, channel: JobChannel) -> Ended:
        """Run the handler. An order that arrives outside of it, at the edge, counts as an interruption all the same."""
        try:
            job = self.running_job(spec, channel)
            self.line.current = spec.seq
            ended = execute(self.tasks[spec.task], job, spec.payload) if self.has(spec) else wait_for_task(job)
            self.line.current = NO_JOB
            channel.finish()
        except JobInterrupted as interruption:
            self.line.current = NO_JOB
            return Ended("interrupted", outcome=interruption.reason, message=str(interruption))
        return ended

    def has(self, spec: JobSpec | CallSpec) -> bool:
        """Whether this code can run it. A nursery that was started again may have imported other code."""
        if spec.task not in self.tasks:
            return False
        return not isinstance(spec, CallSpec) or self.tasks[spec.task].batch is not None

    def running_job(self, spec: JobSpec, channel: JobChannel) -> RunningJob:
        return RunningJob(
            lease=Lease(spec.workspace_id, spec.job_id, spec.epoch),
            task=spec.task,
            queue=spec.queue,
            attempt=spec.attempt,
            max_attempts=spec.max_attempts,
            channel=channel,
            open_session=lambda: self.sessions.open(spec.workspace_id),
            request_id=spec.request_id,
            trace_parent=spec.trace_parent,
            payload_version=spec.payload_version,
        )


class Call:
    """A call of a batch handler: its jobs, and who of them was heard of."""

    def __init__(self, child: Child, spec: CallSpec) -> None:
        self.child = child
        self.spec = spec
        self.channels = {job.job_id: ItemChannel(child.line, job.seq, spec.seq) for job in spec.jobs}
        self.open = {job.job_id: job.seq for job in spec.jobs}
        self.since = child_clock()
        told = [job for job in spec.jobs if child.config.threads > 1 or job.start_by is not None]
        if told:
            child.line.send(b"".join(encode_frame(job.seq, STARTED, self.since, 0.0, b"") for job in told))

    def execute(self) -> None:
        jobs = [self.child.running_job(job, self.channels[job.job_id]) for job in self.spec.jobs]
        if not self.child.has(self.spec):
            self.report([(job.lease.job_id, wait_for_task(job)) for job in jobs])
            return
        execute_batch(
            self.child.tasks[self.spec.task],
            jobs,
            [job.payload for job in self.spec.jobs],
            told=lambda job: self.channels[job.lease.job_id].told(),
            open_session=lambda: self.child.sessions.open(self.spec.jobs[0].workspace_id),
            report=lambda ends: self.report([(job.lease.job_id, ended) for job, ended in ends]),
        )

    def report(self, ends: Sequence[tuple[str, Ended]]) -> None:
        """Send how jobs ended, with few writes. Together they took the time since those before, each as much of it as
        the others, so that all of them took as long as the call.
        """
        if os.getpid() != self.child.pid:
            os._exit(0)  # A copy that the handler has forked: the jobs are the original's.
        for job_id, _ in ends:
            self.channels[job_id].finish()
        if len(ends) == len(self.open):
            flush_output()
        began, self.since = self.since, child_clock()
        each = (self.since - began) / len(ends)
        frames: dict[str, bytes] = {}
        size = 0
        for number, (job_id, ended) in enumerate(ends):
            frames[job_id] = _frame_of(self.open[job_id], ended, began + number * each, each)
            size += len(frames[job_id])
            if size > ENOUGH:
                self._send(frames)
                frames, size = {}, 0
        if frames:
            self._send(frames)

    def _send(self, frames: Mapping[str, bytes]) -> None:
        # Whoever is interrupted from here on has been heard of, or never will be.
        for job_id in frames:
            del self.open[job_id]
        self.child.line.send(b"".join(frames.values()))

    def interrupted(self, interruption: JobInterrupted) -> None:
        """It came at the edge, outside of the handler."""
        ended = Ended("interrupted", outcome=interruption.reason, message=str(interruption))
        if self.open:
            self.report([(job_id, ended) for job_id in self.open])


def _frame_of(seq: int, ended: Ended, started: float, seconds: float) -> bytes:
    """The body of a plain result's frame is the result itself: the parent passes it on as it is."""
    if ended.kind == "completed" and ended.outcome == "ok":
        return encode_frame(seq, OK, started, seconds, ended.result.encode(errors="replace"))
    return encode_frame(seq, ENDED, started, seconds, to_json(ended._asdict()).encode())


def flush_spans() -> None:
    """Send off what is recorded of traces. A failure is logged and stops nobody."""
    try:
        tracing.flush()
    except Exception:
        logger.exception("spans could not be sent off")


def flush_output() -> None:
    """Write out what handlers have printed. Nothing but an order to stop gets past it."""
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except JobInterrupted:
            raise
        except BaseException:  # noqa: BLE001 - the handler closed or replaced it, and its result comes before the rest
            continue


def leave() -> NoReturn:
    """End this process at once, when all that it has to say is said."""
    flush_output()
    flush_spans()
    os._exit(0)
