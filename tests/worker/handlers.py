"""The tasks that the worker's tests run: good ones, slow ones, and every kind of bad one."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

from sqlalchemy import text

from jobplatform.errors import JobPlatformError
from jobplatform.queue import Discard, Items, JobInterrupted, RateLimited, RetryPolicy, RunningJob, Skip, Snooze, Tasks
from jobplatform.worker.frames import ENDED, HAPPENED, LOG, OK, PROGRESS, READY, RECORD, encode_frame

tasks = Tasks()

Payload = dict[str, Any]

AT_ONCE = RetryPolicy(base=0.0, cap=0.0, jitter="none")


def append(path: str, line: object) -> None:
    """Say something to the test. One write at the end of the file: nothing is torn or lost, whoever dies next."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{line}\n".encode())
    os.close(fd)


def wait_for_file(path: str) -> None:
    """Run until the test says so."""
    while not Path(path).exists():
        time.sleep(0.01)


@tasks.task("noop")
def noop(job: RunningJob, payload: Payload) -> dict[str, bool]:
    return {"ok": True}


@tasks.task("echo")
def echo(job: RunningJob, payload: Payload) -> Payload:
    return payload


@tasks.task("tell", retry=AT_ONCE)
def tell(job: RunningJob, payload: Payload) -> int:
    """Says that it started; every so often one takes long."""
    append(payload["file"], payload["number"])
    if payload["number"] % 40 == 7:
        time.sleep(0.09)
    return int(payload["number"])


@tasks.task("wait", retry=AT_ONCE)
def wait(job: RunningJob, payload: Payload) -> str:
    """Says that it started and waits to be told to end."""
    append(payload["file"], f"{job.id} {os.getpid()}")
    wait_for_file(payload["until"])
    return "waited"


@tasks.task("freeze", retry=AT_ONCE)
def freeze(job: RunningJob, payload: Payload) -> None:
    """Stops the clock as freezegun does, wherever a module of its process has it by name, until it is told to end."""
    clock = time.monotonic
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("jobplatform.")]
    names = [(module, name) for module in modules for name, value in vars(module).items() if value is clock]
    for module, name in names:
        setattr(module, name, lambda: payload["at"])
    append(payload["file"], "frozen")
    wait_for_file(payload["until"])
    for module, name in names:
        setattr(module, name, clock)


@tasks.task("pages", retry=AT_ONCE)
def pages(job: RunningJob, payload: Payload) -> int:
    """Applies pages and goes on where an earlier attempt was; half of them as steps, half by a checkpoint."""

    def apply(page: int) -> None:
        if page % 2:
            stay(payload, page)
        values = {"job": job.id, "page": page, "epoch": job.epoch}
        job.session.execute(text("insert into pages values (:job, :page, :epoch)"), values)
        time.sleep(payload.get("seconds", 0))
        if not page % 2:
            stay(payload, page)

    half, count = payload["count"] // 2, payload["count"]
    # Not "its epoch is 1": an attempt that is handed back before it begins has taken an epoch too.
    is_first = job.checkpoint_state is None
    for page in range(half):
        with job.step(f"page-{page}") as step:
            if step:
                apply(page)
    for page in range(job.checkpoint_state or half, count):
        apply(page)
        if page == payload.get("ends_at") and is_first:
            return end_early(payload)
        job.checkpoint(page + 1)
    return job.epoch


def stay(payload: Payload, page: int) -> None:
    """Where the test wants to kill it: the first time that it comes there it says so, and goes no further."""
    if page in payload.get("stays_at", ()) and str(page) not in Path(payload["file"]).read_text().split():
        append(payload["file"], page)
        time.sleep(60)


def end_early(payload: Payload) -> int:
    """As the test says."""
    match payload["ends_by"]:
        case "snooze":
            raise Snooze(0)
        case "error":
            raise RuntimeError("no")
        case "exit":
            os._exit(3)
    append(payload["file"], "waits")
    time.sleep(60)
    return 0


@tasks.task("polite", retry=AT_ONCE)
def polite(job: RunningJob, payload: Payload) -> None:
    """Runs for ever, but an exception ends it; says which."""
    try:
        append(payload["file"], f"started {os.getpid()}")
        while True:
            time.sleep(0.01)
    except BaseException as interruption:
        append(payload["file"], type(interruption).__name__)
        raise


@tasks.task("stuck", retry=AT_ONCE)
def stuck(job: RunningJob, payload: Payload) -> None:
    """Swallows whatever is raised in it."""
    append(payload["file"], f"started {os.getpid()}")
    while True:
        with contextlib.suppress(BaseException):
            while True:
                time.sleep(0.01)


@tasks.task("hold_gil", retry=AT_ONCE)
def hold_gil(job: RunningJob, payload: Payload) -> None:
    """One C call that never gives the interpreter back."""
    append(payload["file"], f"started {os.getpid()}")
    collections.deque(itertools.repeat(0), maxlen=0)


@tasks.task("exit", retry=AT_ONCE)
def exit_process(job: RunningJob, payload: Payload) -> None:
    os._exit(3)


@tasks.task("segfault", retry=AT_ONCE)
def segfault(job: RunningJob, payload: Payload) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(60)


@tasks.task("terminate", retry=AT_ONCE)
def terminate(job: RunningJob, payload: Payload) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


@tasks.task("eat_memory", retry=AT_ONCE)
def eat_memory(job: RunningJob, payload: Payload) -> None:
    eaten = [bytearray(10 << 20) for _ in range(40)]
    time.sleep(60)
    del eaten


@tasks.task("family", retry=AT_ONCE)
def family(job: RunningJob, payload: Payload) -> None:
    """Starts a process of its own and then never ends."""
    grandchild = subprocess.Popen(["sleep", "300"])
    append(payload["file"], f"{os.getpid()} {grandchild.pid}")
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(10)


@tasks.task("elsewhere")
def elsewhere(job: RunningJob, payload: Payload) -> None:
    """Puts itself into the nursery's group and never ends."""
    os.setpgid(0, os.getpgid(os.getppid()))
    append(payload["file"], os.getpid())
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(10)


@tasks.task("boom", retry=RetryPolicy(max_attempts=2, base=0.0, cap=0.0, jitter="none"))
def boom(job: RunningJob, payload: Payload) -> None:
    raise ValueError(payload.get("text", "boom"))


@tasks.task("say_nothing_good", retry=AT_ONCE)
def say_nothing_good(job: RunningJob, payload: Payload) -> Any:
    """Ends in a way that only its author finds reasonable."""
    return HOSTILE[payload["kind"]](job)


@tasks.task("tick")
def tick(job: RunningJob, payload: Payload) -> int:
    """Keeps a line at each tick of an alarm, until one has come in the middle of a write. Says how many it kept."""
    channel: Any = job._channel
    line = channel._line
    met: list[bool] = []

    def keep(*_: object) -> None:
        met.append(line._local.writing)
        job.log("tick")

    signal.signal(signal.SIGALRM, keep)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    while not any(met):
        line.send(encode_frame(channel._seq, PROGRESS, 0.0, 0.0, b'{"current": 1}'))
    signal.setitimer(signal.ITIMER_REAL, 0)
    return len(met)


@tasks.task("move")
def move(job: RunningJob, payload: Payload) -> dict[str, Any]:
    """Says where it is, and leaves for somewhere else, with a bomb behind it."""
    umask = os.umask(0o777)
    found = {"folder": os.getcwd(), "umask": umask, "alarm": signal.getitimer(signal.ITIMER_REAL)[0] > 0}
    os.chdir(payload["to"])
    signal.setitimer(signal.ITIMER_REAL, payload["seconds"])
    if payload["long"]:
        time.sleep(0.001)
    return found | {"pid": os.getpid()}


@tasks.task("outcome")
def outcome(job: RunningJob, payload: Payload) -> Any:
    if payload["kind"] == "skip":
        return Skip("nothing to do")
    if payload["kind"] == "discard":
        raise Discard("never again")
    if payload["kind"] == "snooze" and not Path(payload["file"]).exists():
        append(payload["file"], "snoozed")
        return Snooze(timedelta(milliseconds=50))
    if payload["kind"] == "fail":
        raise RuntimeError("not now")
    return "done"


@tasks.task("use", resource="{resource}", retry=AT_ONCE)
def use(job: RunningJob, payload: Payload) -> str:
    """Uses an external resource, which works, is too busy, or is not there."""
    append(payload["file"], f"used {job.workspace_id}")
    if payload["answer"] == "busy" and not Path(payload["open"]).exists():
        raise RateLimited(timedelta(seconds=payload["seconds"]))
    if payload["answer"] == "gone" and not Path(payload["open"]).exists():
        raise ConnectionRefusedError("nobody there")
    return "ok"


@tasks.task("sleep")
def sleep(job: RunningJob, payload: Payload) -> None:
    time.sleep(payload["seconds"])


@tasks.task("take", retry=AT_ONCE)
def take(job: RunningJob, payload: Payload) -> float:
    """Says that it started, takes a while, and answers with how long that was."""
    append(payload["file"], job.id)
    began = time.monotonic()
    time.sleep(payload["seconds"])
    return time.monotonic() - began


@tasks.task("aio")
async def aio(job: RunningJob, payload: Payload) -> int:
    await asyncio.sleep(0.002)
    return int(payload["number"])


@tasks.task("aio_polite", retry=AT_ONCE)
async def aio_polite(job: RunningJob, payload: Payload) -> None:
    try:
        append(payload["file"], f"started {os.getpid()}")
        await asyncio.sleep(300)
    except asyncio.CancelledError:
        append(payload["file"], "CancelledError")
        raise


@tasks.task("cooperative", retry=AT_ONCE)
def cooperative(job: RunningJob, payload: Payload) -> None:
    """Runs for ever but reports, which is where threads are interrupted."""
    try:
        append(payload["file"], f"started {os.getpid()}")
        for step in itertools.count():
            time.sleep(0.01)
            job.progress(step)
    except JobInterrupted as interruption:
        append(payload["file"], type(interruption).__name__)
        raise


@tasks.task("report")
def report(job: RunningJob, payload: Payload) -> str:
    for step in range(payload["steps"]):
        job.progress(step + 1, payload["steps"], f"step {step + 1}")
        job.log(f"line {step + 1}", "warning" if step == 0 else "info")
    if "until" in payload:
        append(payload["file"], job.id)
        wait_for_file(payload["until"])
    return "reported"


@tasks.task("print")
def print_something(job: RunningJob, payload: Payload) -> None:
    print("to standard output")  # noqa: T201
    sys.stderr.write("to standard error\n")
    os.system("echo from a shell")
    job.logger.warning("through the logger", extra={"color": "red"})
    append(payload["file"], job.id)
    wait_for_file(payload["until"])


@tasks.task("context")
def context(job: RunningJob, payload: Payload) -> dict[str, Any]:
    """What a handler gets to know, and whether its Session works."""
    return {
        "workspace_id": str(job.workspace_id),
        "id": str(job.id),
        "task": job.task,
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "request_id": job.request_id,
        "fence": job.fence,
        "idempotency_key": job.idempotency_key,
        "cancelled": job.cancelled,
        "database": job.session.execute(text("select current_database()")).scalar_one(),
    }


@tasks.task("complete_in")
def complete_in(job: RunningJob, payload: Payload) -> str:
    """Its rows and its completion are one commit."""
    job.session.execute(text("insert into written values (:id)"), {"id": str(job.id)})
    job.complete_in(job.session, {"in": "transaction"})
    job.session.commit()
    return "not this"


left_open: list[Any] = []


@tasks.task("leave_its_step_open")
def leave_its_step_open(job: RunningJob, payload: Payload) -> str:
    """Forget to commit what a step is written in. It goes away at some time."""
    session = job.looking()
    with job.step("page", session=session) as step:
        if step:
            step.result = 1
    append(payload["file"], "saved, and not committed")
    left_open.append(session)

    def close() -> None:
        wait_for_file(payload["until"])
        session.rollback()

    threading.Thread(target=close, daemon=True).start()
    return "done"


@tasks.task("go_on_after_complete_in")
def go_on_after_complete_in(job: RunningJob, payload: Payload) -> None:
    """Still has something to do and to say when its completion is committed."""
    job.progress(1, 2)
    job.log("before the commit")
    job.complete_in(job.session, "early")
    job.session.commit()
    job.log("after the commit")
    append(payload["file"], "committed")
    try:
        wait_for_file(payload["until"])
    except JobInterrupted as interruption:
        append(payload["file"], f"interrupted: {interruption.reason}")
        raise
    append(payload["file"], "went on to its end")


@tasks.task("spawn", retry=AT_ONCE)
def spawn(job: RunningJob, payload: Payload) -> None:
    """Enqueues children together with rows of its own, and fails if it is told to."""
    job.session.execute(text("insert into written values (:id)"), {"id": str(job.id)})
    job.enqueue(echo, {"by": "job"}, tags=("child",))
    echo.enqueue(job.session, {"by": "task"})
    tasks.enqueue_many(job.session, [echo.new_job({"by": "many"}, workspace_id=job.workspace_id)])
    if payload.get("fails") and job.attempt == 1:
        raise RuntimeError("not yet")


@tasks.task("descend", retry=AT_ONCE)
def descend(job: RunningJob, payload: Payload) -> None:
    """Says that it started, and enqueues two of the next generation."""
    append(payload["file"], job.id)
    if payload["generations"]:
        for _ in range(2):
            job.enqueue(descend, payload | {"generations": payload["generations"] - 1})


class Leaving(collections.UserDict[str, int]):
    """What ends whoever looks at it closely."""

    def __iter__(self) -> NoReturn:
        raise SystemExit(3)

    items = keys = __iter__  # type: ignore[assignment]


@tasks.batch_task("check", size=5, retry=AT_ONCE)
def check(batch: Items[Payload]) -> list[Any]:
    """Says who came together; each item ends as it asks for."""
    append(batch[0].payload["file"], " ".join(str(item.payload["n"]) for item in batch))
    ends: dict[str, Any] = {
        "skip": Skip("nothing to do"),
        "fail": ValueError("this one"),
        "discard": Discard("never"),
        "bad": b"no json",
        "worse": Leaving(),
    }
    return [ends.get(item.payload.get("end", ""), {"n": item.payload["n"]}) for item in batch]


def hang() -> NoReturn:
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(10)


@tasks.batch_task("gather", size=5, wait=60.0, retry=AT_ONCE)
def gather(batch: Items[Payload]) -> None:
    """Its jobs wait in the worker to be more."""
    append(batch[0].payload["file"], " ".join(str(item.payload["n"]) for item in batch))


@tasks.batch_task("one_by_one", size=5, retry=AT_ONCE)
def one_by_one(batch: Items[Payload]) -> None:
    """Ends items one after the other; some never, some take the process along."""
    append(batch[0].payload["file"], f"{os.getpid()}: " + " ".join(str(item.payload["n"]) for item in batch))
    for item in batch:
        if item.payload.get("end") == "hang":
            hang()
        if item.payload.get("end") == "crash":
            os._exit(3)
        while item.payload.get("end") == "until cancelled" and not item.cancelled:
            time.sleep(0.01)
        if item.payload.get("until") and not item.cancelled:
            wait_for_file(item.payload["until"])
        if not item.cancelled:
            item.done(item.payload["n"])
    if batch[0].payload.get("then") == "sleep":
        time.sleep(600)
    if batch[0].payload.get("then") == "hang" and batch[-1].job.attempt == 1:
        hang()


@tasks.batch_task("write_rows", size=5, retry=AT_ONCE)
def write_rows(batch: Items[Payload]) -> None:
    """Commits in between; the last one fails the call."""
    for item in batch:
        batch.session.execute(text("insert into written values (:id)"), {"id": str(item.job.id)})
        item.done("written")
        if item.payload.get("then") == "commit":
            batch.session.commit()
        if item.payload.get("then") == "raise" and item.job.attempt == 1:
            raise RuntimeError("out of paper")


@tasks.task("alone", isolation="process", retry=AT_ONCE)
def alone(job: RunningJob, payload: Payload) -> None:
    """Never ends by itself, and swallows whatever is raised in it."""
    append(payload["file"], f"alone {os.getpid()}")
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(10)


@tasks.task("trespass", retry=RetryPolicy(max_attempts=1))
def trespass(job: RunningJob, payload: Payload) -> None:
    echo.enqueue(job.session, {}, workspace_id=uuid.UUID(payload["workspace_id"]))


def return_bytes(_job: RunningJob) -> object:
    return b"bytes"


def return_itself(_job: RunningJob) -> object:
    loop: list[object] = []
    loop.append(loop)
    return loop


def return_deep(_job: RunningJob) -> object:
    value: object = 0
    for _ in range(5_000):
        value = [value]
    return value


def raise_unprintable(_job: RunningJob) -> object:
    class UnprintableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    raise UnprintableError


def raise_ugly(_job: RunningJob) -> object:
    raise ValueError("nul \0, surrogate \ud800, " + "long " * 100_000)


def raise_exit(_job: RunningJob) -> object:
    raise SystemExit(0)


def raise_keyboard_interrupt(_job: RunningJob) -> object:
    raise KeyboardInterrupt


def report_ugly(job: RunningJob) -> object:
    job.progress(float("nan"), float("inf"), "nul \0 and \ud800" + "x" * 100_000)
    job.log("nul \0, surrogate \ud800" + "x" * 100_000, "no such level")
    for number in range(3_000):
        job.log(f"flood {number}")
    return "reported"


def fork_and_return(_job: RunningJob) -> object:
    """Both of the processes come back from the handler."""
    os.fork()
    return "forked"


def write_everywhere(_job: RunningJob) -> object:
    """Writes rubbish to every descriptor of the process, the worker's own pipes among them."""
    for fd in range(3, 64):
        try:
            os.write(fd, b"\xff" * 100)
        except OSError:
            continue
    time.sleep(60)
    return None


def close_everything(_job: RunningJob) -> object:
    os.closerange(0, 64)
    return "closed"


def snooze_for_ever(_job: RunningJob) -> object:
    return Snooze(float("inf"))


def close_ugly(_job: RunningJob) -> object:
    return RateLimited(60, "nul \0")


def name_ugly(job: RunningJob) -> object:
    """Whatever has a name, with a name that cannot be one."""
    doors: dict[str, Callable[[], object]] = {
        "step": lambda: job.step("nul \0", list),
        "resource": lambda: use.enqueue(job.session, {"resource": "nul \0", "answer": "", "file": ""}),
        "tag": lambda: job.enqueue(echo, {}, tags=("surrogate \ud800",)),
        "payload": lambda: job.enqueue(echo, {"nul \0": "surrogate \ud800"}),
        "closed": lambda: RateLimited(60, "surrogate \ud800"),
    }
    refused = []
    for door, say in doors.items():
        try:
            say()
        except (ValueError, JobPlatformError) as error:
            refused.append(f"{door}: {type(error).__name__}")
    return refused


def raise_ugly_type(_job: RunningJob) -> object:
    class UglyType(type):
        __name__ = "nul \0"  # type: ignore[assignment]  # as a library that makes classes from data may name them

    raise UglyType("Error", (Exception,), {})


def raise_nameless(_job: RunningJob) -> object:
    class NamelessType(type):
        __name__ = None  # type: ignore[assignment]  # so that nobody can record what was raised

    raise NamelessType("Error", (Exception,), {})


def raise_in_thread(_job: RunningJob) -> object:
    thread = threading.Thread(target=lambda: json.loads("no"))
    thread.start()
    thread.join()
    return "survived"


def raise_hiding(_job: RunningJob) -> object:
    class HidingError(Exception):
        def __getattr__(self, name: str) -> object:
            raise RuntimeError(f"nobody is told {name}")

    raise HidingError("hidden")


class Undecided:
    """As an array: neither true nor false."""

    def __bool__(self) -> bool:
        raise ValueError("ambiguous")


def refuse_to_say(_error: BaseException) -> object:
    raise RuntimeError("not yet loaded")


def raise_evasive(_job: RunningJob) -> object:
    class EvasiveError(Exception):
        should_retry = Undecided()
        retry_after = property(refuse_to_say)
        infrastructure = property(refuse_to_say)
        response = property(refuse_to_say)

    raise EvasiveError("evasive")


def raise_exiting(_job: RunningJob) -> object:
    class ExitingError(Exception):
        def __str__(self) -> str:
            raise SystemExit(5)

        __repr__ = __str__

    raise ExitingError


def raise_groups(_job: RunningJob) -> object:
    error: Exception = ValueError("the innermost")
    for _ in range(3_000):
        error = ExceptionGroup("a group", [error])
    raise error


def discard_for_no_text(_job: RunningJob) -> object:
    raise Discard(None)  # type: ignore[arg-type]  # as a handler without types may write


def record_at_length(job: RunningJob) -> object:
    job.logger.warning("with all of it", extra={"data": "x" * 70_000_000, "parts": ["y" * 100_000] * 9})
    return "recorded"


def break_output(_job: RunningJob) -> object:
    class Unflushable:
        def write(self, text: str) -> int:
            return len(text)

        def flush(self) -> None:
            raise RuntimeError("cannot be flushed")

    sys.stdout = Unflushable()  # type: ignore[assignment]
    return "a good result"


def break_json() -> None:
    """As a handler's library might, for all that is in its process."""
    json.dumps = lambda value, **_options: repr(value)  # type: ignore[assignment]


def break_json_and_raise(_job: RunningJob) -> object:
    break_json()
    raise ValueError("after json was broken")


def break_json_and_report(job: RunningJob) -> object:
    break_json()
    job.log("a line")
    job.logger.warning("a record")
    return "reported"


def send(kind: int, body: bytes, *, started: float = 0.0, seconds: float = 0.0) -> Callable[[RunningJob], object]:
    """Sends a frame to the parent that is one by its form, and in the name of the job."""

    def handle(job: RunningJob) -> object:
        channel: Any = job._channel
        channel._line.send(encode_frame(channel._seq, kind, started, seconds, body))
        time.sleep(60)
        return None

    return handle


HOSTILE = {
    "returns bytes": return_bytes,
    "returns itself": return_itself,
    "returns deep": return_deep,
    "returns nan": lambda _job: [float("nan"), float("-inf")],
    "returns nul": lambda _job: {"nul \0": "surrogate \ud800"},
    "returns large": lambda _job: "x" * 900_000,
    "returns too large": lambda _job: "x" * 1_100_000,
    "returns a huge number": lambda _job: 10**5000,
    "raises unprintable": raise_unprintable,
    "raises ugly": raise_ugly,
    "raises SystemExit": raise_exit,
    "raises KeyboardInterrupt": raise_keyboard_interrupt,
    "reports ugly": report_ugly,
    "forks": fork_and_return,
    "writes everywhere": write_everywhere,
    "closes everything": close_everything,
    "snoozes for ever": snooze_for_ever,
    "raises in a thread": raise_in_thread,
    "skips ugly": lambda _job: Skip("nul \0, surrogate \ud800"),
    "discards ugly": lambda _job: Discard("nul \0, surrogate \ud800"),
    "closes ugly": close_ugly,
    "names ugly": name_ugly,
    "raises an ugly type": raise_ugly_type,
    "raises what has no name": raise_nameless,
    "raises what hides its attributes": raise_hiding,
    "raises what cannot be asked": raise_evasive,
    "raises what exits when shown": raise_exiting,
    "raises groups in groups": raise_groups,
    "discards for no text": discard_for_no_text,
    "records at length": record_at_length,
    "breaks its output": break_output,
    "breaks json and raises": break_json_and_raise,
    "breaks json and reports": break_json_and_report,
    "sends an end without a body": send(ENDED, b""),
    "sends a line of rubbish": send(LOG, b"abc"),
    "sends a record of rubbish": send(RECORD, b"[]"),
    "sends counts of rubbish": send(HAPPENED, b'[["enqueued", "default", "task", "many"]]'),
    "sends zeros": send(READY, bytes(250)),
    "sends a result of no time": send(OK, b"null", started=math.inf, seconds=math.nan),
}


@tasks.task("part")
def part(job: RunningJob, payload: Payload) -> Payload:
    """A part of a batch; one of them adds another, in the transaction in which it completes itself."""
    if payload.get("adds"):
        assert job.batch is not None
        part.enqueue(job.session, {"number": 100}, workspace_id=job.workspace_id, batch_id=job.batch.id)
        job.complete_in(job.session, payload)
    return payload


@tasks.task("sum_up")
def sum_up(job: RunningJob, payload: Payload) -> dict[str, Any]:
    """Says what it knows of what it waited for."""
    batch = job.batch
    return {
        "batch": None if batch is None else [batch.status, batch.total, batch.completed],
        "results": [one.result for one in job.results_of_predecessors()],
    }
