"""Adaptive limits: how near to what an API takes its limit comes by itself, also when that changes."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import LiteralString

import psycopg
from contenders.backlog import workspace
from harness.contenders import jobplatform
from harness.figures import middle, ratios, shown_share
from harness.programs import ProgramError
from harness.report import Table, Target
from harness.rounds import Rounds, alternate, column
from harness.run import Run
from harness.workers import enqueue, one, workers
from sqlalchemy.orm import Session

from jobplatform.models import make_engine
from jobplatform.queue import Adaptive, NewJob, set_resource_limit

CAPACITY, HALF = 20, 10
#: Seconds that the API takes for a request.
SERVICE = 0.5
WORKERS, SLOTS, THREADS = 2, 2, 10
PHASE, QUICK = 60.0, 20.0
LOOK_SECONDS = 0.25
RESOURCE = "api:1"
WIDE = Adaptive(1, 50)
FAILED: LiteralString = "select (select error from jobplatform.job_records where task = 'ask' and status = 4 limit 1)"
LEVEL: LiteralString = "select jobplatform.level_of_resource('api:1', 1, 50)"

EXPLANATION = """
A made-up API over HTTP takes {capacity} requests at a time, {service:.1f} s each, and answers 429 at once to any more;
after {phase:.0f} s it takes {half}. {workers} workers with {slots} slots each have more jobs than they can do, each of
one request; a job that is refused comes back after a second or two. *Goodput* is what the API answered with success, as
a share of what it could (capacity by time): in all of the first and second {phase:.0f} s, and in the second half of
each, when it has found its level. *Swing* is the highest level less the lowest, to their mean, in those halves.
*Refused*: requests, of all. *By hand*: a limit that somebody sets to the very capacity, and changes in the moment in
which that changes: what is lost there is the time between the end of a job and the next. *Too high*: such a limit that
nobody changes.
"""


class Api(ThreadingHTTPServer):
    """Takes ``capacity`` requests at a time. ``answers`` are when it answered, and whether with success."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.capacity = CAPACITY
        self.lock = threading.Lock()
        self.busy = 0
        self.answers: list[tuple[float, bool]] = []

    def enter(self) -> bool:
        with self.lock:
            if self.busy >= self.capacity:
                return False
            self.busy += 1
            return True

    def leave(self) -> None:
        with self.lock:
            self.busy -= 1


class _Handler(BaseHTTPRequestHandler):
    server: Api

    def do_GET(self) -> None:
        taken = self.server.enter()
        if taken:
            time.sleep(SERVICE)
            self.server.leave()
        self.server.answers.append((time.monotonic(), taken))
        self.send_response(200 if taken else 429)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@dataclass(frozen=True)
class Way:
    """How the limit is set, at first and when the capacity has halved."""

    name: str
    first: int | Adaptive
    second: int | Adaptive


WAYS = (
    Way("adaptive, 1 to 50", WIDE, WIDE),
    Way("by hand, at the moment", CAPACITY, HALF),
    Way("too high", 2 * CAPACITY, 2 * CAPACITY),
)


@dataclass
class Seen:
    began: float = 0.0
    halved: float = 0.0
    ended: float = 0.0
    levels: list[tuple[float, int]] = field(default_factory=list)


def measure(run: Run) -> tuple[list[Table], list[Target]]:
    phase = QUICK if run.quick else PHASE
    results = alternate("adaptive", WAYS, run.rounds, lambda way: _figures(run, way, phase))
    table = Table(
        "Adaptive limits",
        EXPLANATION.format(
            capacity=CAPACITY, half=HALF, service=SERVICE, phase=phase, workers=WORKERS, slots=SLOTS * THREADS
        ),
        ("", "goodput, first", "settled", "goodput, halved", "settled", "swing, first", "halved", "refused"),
        [_row(way.name, results) for way in WAYS],
    )
    return [table], _targets(results)


def _figures(run: Run, way: Way, phase: float) -> dict[str, float]:
    contender = jobplatform(threads=str(THREADS))
    url = contender.fresh_database(run.databases)
    with _serving() as api, workers(contender, url, SLOTS, WORKERS):
        _limit(url, way.first)
        enqueue(url, _jobs(api, round(1.3 * phase * (CAPACITY + HALF) / SERVICE)))
        seen = _watched(url, api, way, phase)
    answers = list(api.answers)
    refused = sum(not taken for _, taken in answers) / max(1, len(answers))
    first, halved = (seen.began, seen.halved), (seen.halved, seen.ended)
    return {
        "first": _goodput(answers, *first, CAPACITY),
        "first settled": _goodput(answers, *_last_half(*first), CAPACITY),
        "halved": _goodput(answers, *halved, HALF),
        "halved settled": _goodput(answers, *_last_half(*halved), HALF),
        "refused": refused,
    } | ({"swing": _swing(seen, *first), "swing halved": _swing(seen, *halved)} if way.first is WIDE else {})


def _jobs(api: Api, count: int) -> list[NewJob]:
    facts = {"workspace_id": workspace("bench"), "task": "ask", "resource": RESOURCE}
    return [NewJob(payload={"at": [*api.server_address]}, **facts) for _ in range(count)]


def _watched(url: str, api: Api, way: Way, phase: float) -> Seen:
    seen = Seen(began=time.monotonic())
    with psycopg.connect(url, autocommit=True) as connection:
        _look(seen, connection, seen.began + phase)
        api.capacity = HALF
        if way.second != way.first:
            _limit(url, way.second)
        seen.halved = time.monotonic()
        _look(seen, connection, seen.halved + phase)
        seen.ended = time.monotonic()
        if (failed := one(connection, FAILED)) is not None:
            raise ProgramError(f"a job failed: {failed}")
        if not one(connection, "select exists (select from jobplatform.job_queue where state = 1)"):
            raise ProgramError("there were not enough jobs")
    return seen


def _look(seen: Seen, connection: psycopg.Connection[tuple[int]], until: float) -> None:
    while (now := time.monotonic()) < until:
        seen.levels.append((now, one(connection, LEVEL)))
        time.sleep(LOOK_SECONDS)


def _limit(url: str, limit: int | Adaptive) -> None:
    engine = make_engine(url)
    with Session(engine) as session, session.begin():
        set_resource_limit(session, "api:*", limit)
    engine.dispose()


def _goodput(answers: list[tuple[float, bool]], begin: float, end: float, capacity: int) -> float:
    good = sum(taken and begin <= at < end for at, taken in answers)
    return good * SERVICE / (capacity * (end - begin))


def _swing(seen: Seen, begin: float, end: float) -> float:
    begin, end = _last_half(begin, end)
    levels = [level for at, level in seen.levels if begin <= at < end]
    return (max(levels) - min(levels)) / (sum(levels) / len(levels))


def _last_half(begin: float, end: float) -> tuple[float, float]:
    return (begin + end) / 2, end


@contextlib.contextmanager
def _serving() -> Iterator[Api]:
    with Api() as api:
        thread = threading.Thread(target=api.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield api
        finally:
            api.shutdown()
            thread.join()


def _row(name: str, results: Rounds) -> list[str]:
    figures = ("first", "first settled", "halved", "halved settled", "swing", "swing halved", "refused")
    return [name, *(shown_share(middle(column(results, name, figure))) for figure in figures)]


def _targets(results: Rounds) -> list[Target]:
    ours, by_hand = WAYS[0].name, WAYS[1].name
    figures = ("first settled", "halved settled")
    goodputs = [middle(ratios(column(results, ours, figure), column(results, by_hand, figure))) for figure in figures]
    swings = [middle(column(results, ours, figure)) for figure in ("swing", "swing halved")]
    least = min((value for value in goodputs if value is not None), default=None)
    most = max((value for value in swings if value is not None), default=None)
    return [
        Target.at_least("goodput under an adaptive limit, of what one that is set by hand gets", 0.9, least, 2),
        Target.at_most("how far an adaptive limit swings, of its mean", 0.2, most, 2),
    ]
