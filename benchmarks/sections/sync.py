"""Syncs: whether a worker's memory stays as it is while it copies a large source, and how quickly it does."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
import uuid
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import LiteralString
from urllib.parse import parse_qs, urlsplit

import psutil
import psycopg
from contenders.backlog import workspace
from harness.contenders import jobplatform
from harness.figures import middle, shown
from harness.programs import ProgramError
from harness.report import Table, Target
from harness.rounds import Part, Rounds, alternate, column
from harness.run import Run
from harness.workers import enqueue, one, wait_until, workers

from jobplatform.queue import NewJob

MANY, QUICK, WARM = 100_000, 10_000, 2_000
PAGE = 500
LOOK_SECONDS = 0.1
#: A handler that leaks a page of records would show it within a few.
MOST_GROWTH = 4.0
EMPTY: LiteralString = "select not exists (select from jobplatform.job_queue)"
COPIED: LiteralString = "select count(*) from jobplatform.records where workspace_id = %s"
FAILED: LiteralString = "select (select error from jobplatform.job_records where task = 'sync' and status <> 3 limit 1)"
CONNECT: LiteralString = """
insert into jobplatform.connections (workspace_id, id, connector_type, name, config)
values (%s, %s, 'http_json', 'bench', %s)
"""

EXPLANATION = """
A worker with one slot copies a source of {records} records (about 300 bytes each, {page} a page) over HTTP in one
initial sync, after a small one that has everything imported. The source is a server on this machine, whose time counts.
Memory is the proportional set size (PSS) of the handler process, in MiB, the largest of each tenth of the run; *growth*
is what the last tenth takes more than the second.
"""


class _Source(ThreadingHTTPServer):
    """Serves ``records`` made-up records in pages, as a CRM's API does."""

    daemon_threads = True

    def __init__(self, records: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.records = records

    @property
    def config(self) -> str:
        url = f"http://127.0.0.1:{self.server_address[1]}"
        return json.dumps({"baseUrl": url, "pageSize": PAGE, "streams": {"contacts": {"path": "/contacts"}}})


class _Handler(BaseHTTPRequestHandler):
    server: _Source
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        start, limit = int(query.get("after", ["0"])[0]), int(query["limit"][0])
        end = min(start + limit, self.server.records)
        answer = {"total": self.server.records, "results": [_record(number) for number in range(start, end)]}
        if end < self.server.records:
            answer["paging"] = {"next": {"after": str(end)}}
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def _record(number: int) -> dict[str, object]:
    text = f"Somebody of number {number}, who has a name, an address and a few other things to tell. "
    return {"id": str(number), "name": f"Name {number}", "about": text * 2, "amount": number * 1.5, "tags": ["a", "b"]}


@contextlib.contextmanager
def _serving(records: int) -> Iterator[_Source]:
    with _Source(records) as source:
        thread = threading.Thread(target=source.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield source
        finally:
            source.shutdown()
            thread.join()


def measure(run: Run) -> tuple[list[Table], list[Target]]:
    records = QUICK if run.quick else MANY
    name = f"{records:,} records"
    results = alternate(
        "sync", [Part(name, partial(_copy, records=records))], run.rounds, lambda part: part.measure(run)
    )
    return [_table(results, name, records)], [
        Target.at_most(
            "memory that a large initial sync takes more and more (PSS), MiB", MOST_GROWTH, _growth(results, name), 1
        )
    ]


def _copy(run: Run, records: int) -> dict[str, float]:
    contender = jobplatform()
    url = contender.fresh_database(run.databases)
    with workers(contender, url, 1) as (pid,):
        with _serving(WARM) as source:
            _sync(url, "warm", source)
            wait_until(url, EMPTY, seconds=60)
        child = _handler_of(pid)
        with _serving(records) as source:
            _sync(url, "large", source)
            began = time.monotonic()
            samples = list(_sampled(url, child))
            seconds = time.monotonic() - began
        _require_all(url, records)
        return {"records_per_s": records / seconds, **_tenths(samples)}


def _sync(url: str, name: str, source: _Source) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(CONNECT, (workspace(name), uuid.uuid4(), source.config))
    enqueue(url, [NewJob(workspace_id=workspace(name), task="sync")])


def _handler_of(pid: int) -> psutil.Process:
    """The one handler process of a worker: a child of its nursery."""
    found = [child for nursery in psutil.Process(pid).children() for child in nursery.children()]
    if len(found) != 1:
        raise ProgramError(f"{len(found)} handler processes where there should be one")
    return found[0]


def _sampled(url: str, child: psutil.Process) -> Iterator[float]:
    """The handler's memory, as long as there is a job."""
    with psycopg.connect(url, autocommit=True) as connection:
        while not one(connection, EMPTY):
            pss = getattr(child.memory_full_info(), "pss", None)
            if pss is None:
                raise ProgramError("this system does not tell the memory of a process (PSS)")
            yield pss / 2**20
            time.sleep(LOOK_SECONDS)


def _require_all(url: str, records: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        if (failed := one(connection, FAILED)) is not None:
            raise ProgramError(f"the sync failed: {failed}")
        if (copied := one(connection, COPIED, workspace("large"))) != records:
            raise ProgramError(f"{copied} of {records} records were copied")


def _tenths(samples: list[float]) -> dict[str, float]:
    """The most in each tenth of the run."""
    if len(samples) < 10:
        raise ProgramError("the sync was over before its memory could be watched")
    edges = [len(samples) * tenth // 10 for tenth in range(11)]
    most = [max(samples[first:last]) for first, last in itertools.pairwise(edges)]
    return {"second": most[1], "middle": most[5], "last": most[9], "growth": most[9] - most[1]}


def _growth(results: Rounds, name: str) -> float | None:
    measured = [value for value in column(results, name, "growth") if value is not None]
    return max(measured, default=None)


def _table(results: Rounds, name: str, records: int) -> Table:
    figures = ("second", "middle", "last", "growth")
    row = [
        name,
        shown(middle(column(results, name, "records_per_s"))),
        *(shown(middle(column(results, name, figure)), 1) for figure in figures),
    ]
    return Table(
        "A large sync",
        EXPLANATION.format(records=f"{records:,}", page=PAGE),
        ("", "records/s", "2nd tenth, MiB", "6th", "last", "growth"),
        [row],
    )
