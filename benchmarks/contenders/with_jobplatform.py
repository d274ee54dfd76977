"""jobplatform: the worker as it is started in production, and enqueues through a Session and its commit.

The worker cannot be told to wait for a word. So it is started on an empty database, shown to work by one job,
and stopped by SIGSTOP while the backlog is loaded; SIGCONT is the word.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from backlog import load_backlog, workspace
from bench_tasks import tasks
from protocol import (
    BEFORE_THE_QUIET,
    DATABASE_URL,
    Crowd,
    Stopwatch,
    answer,
    payload,
    run,
    stamp,
    ticks,
    wait_for_go,
    wait_for_the_end,
)
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.migrations import upgrade
from jobplatform.models import make_engine
from jobplatform.queue import NewJob, enqueue_jobs

#: As many as cores here: more handler processes than that only take turns on jobs that never wait.
SLOTS = 2
BULK = 1000
START_SECONDS = 30.0

ENDED: LiteralString = "select count(*) from jobplatform.job_records where task = 'stamp' and status = 3"
ENDED_QUIET: LiteralString = f"{ENDED} and payload ->> 'key' like 'quiet%%'"
STILL_RUNNING: LiteralString = "select exists (select from jobplatform.job_queue where state = 2 and started_at < %s)"
STARTED: LiteralString = """
select payload ->> 'key', result -> 'started'
from jobplatform.job_records
where task = 'stamp' and status = 3
"""


def install() -> None:
    upgrade(DATABASE_URL)
    answer()


def load(jobs: int, workspaces: int, size: int) -> None:
    load_backlog(DATABASE_URL, jobs, workspaces, payload(size))
    with psycopg.connect(DATABASE_URL, autocommit=True) as connection:
        connection.execute("notify jobplatform, 'q:default'")
    answer()


def enqueue_single(jobs: int, size: int) -> None:
    sessions = _sessions()
    _enqueue(sessions, "noop", payload(size), "warm")
    with Stopwatch() as watch:
        for number in range(jobs):
            _enqueue(sessions, "noop", payload(size), f"workspace {number % 10}")
    answer(jobs=jobs, seconds=watch.seconds)


def enqueue_bulk(batches: int, batch: int, size: int) -> None:
    sessions = _sessions()
    _enqueue_many(sessions, "noop", [("warm", payload(size))] * batch)
    with Stopwatch() as watch:
        for _ in range(batches):
            _enqueue_many(sessions, "noop", [(f"workspace {n % 10}", payload(size)) for n in range(batch)])
    answer(jobs=batches * batch, seconds=watch.seconds)


def drain(jobs: int) -> None:
    worker = _start_worker(SLOTS)
    worker.send_signal(signal.SIGSTOP)
    answer(pid=worker.pid)
    wait_for_go()
    with psycopg.connect(DATABASE_URL, autocommit=True) as connection:
        started_at = _one(connection, "select clock_timestamp()")
        worker.send_signal(signal.SIGCONT)
        while _one(connection, "select exists (select from jobplatform.job_queue)"):
            time.sleep(0.25)
        # Each look reads past all rows that are gone, and the server's time counts: others' programs see for themselves
        # when they are through. The last job's own time stamp is exact.
        ended_at = _one(connection, "select max(completed_at) from jobplatform.job_records where status = 3")
    answer(jobs=jobs, seconds=(ended_at - started_at).total_seconds())
    wait_for_the_end()


def work(slots: int) -> None:
    """Ours alone: be ready to work → {pid}, then stay until killed. Whoever asks looks into the database itself."""
    answer(pid=_start_worker(slots).pid)
    wait_for_the_end()


def serve(jobs: int, slots: int, only_quiet: int = 0) -> None:
    answer(pid=_start_worker(slots or SLOTS).pid)
    with psycopg.connect(DATABASE_URL, autocommit=True) as connection:
        ended = ENDED_QUIET if only_quiet else ENDED
        while _one(connection, ended) < jobs:
            time.sleep(0.2)
        now = _one(connection, "select clock_timestamp()")
        while only_quiet and _one(connection, STILL_RUNNING, now):
            time.sleep(0.05)
        answer(started=dict(connection.execute(STARTED).fetchall()))


def feed(jobs: int, rate: int) -> None:
    sessions, committed = _sessions(), {}
    for number, pause in ticks(jobs, rate):
        time.sleep(pause)
        _enqueue(sessions, "stamp", stamp(str(number)), "feed")
        committed[str(number)] = time.monotonic()
    answer(committed=committed)
    wait_for_the_end()


def crowd(*numbers: int) -> None:
    sessions, committed = _sessions(), {}
    crowd = Crowd(*numbers)
    for start in range(0, len(crowd.noisy), BULK):
        jobs = [
            _new_job("stamp", arguments, owner, key if crowd.is_spread else None)
            for owner, key, arguments in crowd.noisy[start : start + BULK]
        ]
        _enqueue_jobs(sessions, jobs)
    time.sleep(BEFORE_THE_QUIET)
    for owner, arguments in crowd.quiet.items():
        if len(arguments) == 1:
            _enqueue(sessions, "stamp", arguments[0], owner)
        else:
            _enqueue_many(sessions, "stamp", [(owner, each) for each in arguments])
        committed[owner] = time.monotonic()
    answer(committed=committed)
    wait_for_the_end()


def _sessions() -> sessionmaker[Session]:
    return sessionmaker(make_engine(DATABASE_URL))


def _enqueue(sessions: sessionmaker[Session], task: str, arguments: dict[str, Any], owner: str) -> None:
    """As an application does: a Session, an enqueue, a commit. The doorbell rings after it."""
    with sessions.begin() as session:
        tasks[task].enqueue(session, arguments, workspace_id=workspace(owner))


def _enqueue_many(sessions: sessionmaker[Session], task: str, jobs: list[tuple[str, dict[str, Any]]]) -> None:
    _enqueue_jobs(sessions, [_new_job(task, arguments, owner) for owner, arguments in jobs])


def _enqueue_jobs(sessions: sessionmaker[Session], jobs: list[NewJob]) -> None:
    with sessions.begin() as session:
        enqueue_jobs(session, jobs)


def _new_job(task: str, arguments: dict[str, Any], owner: str, resource: str | None = None) -> NewJob:
    return NewJob(workspace_id=workspace(owner), task=task, payload=arguments, resource=resource)


def _start_worker(slots: int) -> subprocess.Popen[bytes]:
    """A worker that has run a job: connected, its tasks imported, its handler processes up."""
    command = [str(Path(sys.executable).parent / "jobplatform"), "worker", "-c", str(slots)]
    environment = {
        **os.environ,
        "JOBS_DATABASE_URL": DATABASE_URL,
        "JOBPLATFORM_TASKS": "bench_tasks:tasks",
        "JOBPLATFORM_LOG_LEVEL": "WARNING",
        "PYTHONPATH": str(Path(__file__).parent),
    }
    worker = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    _enqueue(_sessions(), "noop", {}, "first")
    deadline = time.monotonic() + START_SECONDS
    with psycopg.connect(DATABASE_URL, autocommit=True) as connection:
        while _one(connection, "select exists (select from jobplatform.job_queue)"):
            if worker.poll() is not None or time.monotonic() > deadline:
                worker.kill()
                sys.exit("the worker did not run its first job")
            time.sleep(0.02)
    return worker


def _one(connection: psycopg.Connection[Any], query: LiteralString, *values: Any) -> Any:
    row = connection.execute(query, values).fetchone()
    assert row is not None
    return row[0]


if __name__ == "__main__":
    actions = (install, load, enqueue_single, enqueue_bulk, drain, work, serve, feed, crowd)
    run({action.__name__: action for action in actions})
