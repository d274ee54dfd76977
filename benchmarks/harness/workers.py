"""Our workers, started for a measurement that loads and looks into the database itself."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from typing import Any, LiteralString

import psycopg
from sqlalchemy.orm import Session

from harness.contenders import Contender
from harness.programs import ProgramError
from jobplatform.models import make_engine
from jobplatform.queue import NewJob, enqueue_jobs

START_SECONDS = 60
BULK = 1_000
STARTED: LiteralString = """
select payload ->> 'key', result -> 'started'
from jobplatform.job_records
where task = 'stamp' and status = 3
"""


@contextlib.contextmanager
def workers(contender: Contender, url: str, slots: int, count: int = 1) -> Iterator[list[int]]:
    """So many workers that have run a job each, and their process ids. They end with the block."""
    with contextlib.ExitStack() as stack:
        pids: list[int] = []
        for _ in range(count):
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)  # or an earlier one runs the job that shows the next one to work
            program = stack.enter_context(contender.run(url, "work", slots))
            pids.append(int(program.answer(START_SECONDS)["pid"]))
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        yield pids


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The worker does nothing during the block: time to load a backlog for it."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def enqueue(url: str, jobs: Sequence[NewJob]) -> None:
    """Through the front door, a thousand in a transaction."""
    engine = make_engine(url)
    for start in range(0, len(jobs), BULK):
        with Session(engine) as session, session.begin():
            enqueue_jobs(session, jobs[start : start + BULK])
    engine.dispose()


def wait_until(url: str, condition: LiteralString, *values: Any, seconds: float, every: float = 0.1) -> None:
    """Until the query says true; :class:`ProgramError` when it does not in time."""
    deadline = time.monotonic() + seconds
    with psycopg.connect(url, autocommit=True) as connection:
        while not one(connection, condition, *values):
            if time.monotonic() > deadline:
                raise ProgramError(f"not within {seconds:.0f} s: {' '.join(condition.split())}")
            time.sleep(every)


def started(url: str) -> dict[str, float]:
    """When each job of the task ``stamp`` that has ended was started, by its key."""
    with psycopg.connect(url) as connection:
        return dict(connection.execute(STARTED).fetchall())


def one(connection: psycopg.Connection[Any], query: LiteralString, *values: Any) -> Any:
    row = connection.execute(query, values or None).fetchone()
    assert row is not None
    return row[0]
