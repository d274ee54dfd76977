"""The two rows of a job, written by psycopg and nothing else: what any enqueue on these tables has to pay.

``two``: as a program of one's own would do it, two INSERTs and a commit. ``one``: both in a single statement
that is its own transaction, the least there can be. ``session``: the two again, through a SQLAlchemy Session made for
each job, as an application that has one would write them; what is left to the front door is its checks and its bell.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import psycopg
from backlog import workspace
from protocol import DATABASE_URL, Stopwatch, answer, payload, run
from sqlalchemy.orm import Session, sessionmaker
from uuid_utils.compat import uuid7

from jobplatform.migrations import upgrade
from jobplatform.models import make_engine

QUEUE_ROW = """
insert into jobplatform.job_queue (
    workspace_id, id, queue, task, state, priority, max_attempts, timeout_ms, run_after
)
values (%(workspace_id)s, %(id)s, 'default', 'noop', 1, 0, 3, 600000, now())
"""
RECORD = """
insert into jobplatform.job_records (workspace_id, id, queue, task, payload)
values (%(workspace_id)s, %(id)s, 'default', 'noop', %(payload)s::jsonb)
"""
BOTH = f"with queued as ({QUEUE_ROW}) {RECORD}"


def install() -> None:
    upgrade(DATABASE_URL)
    answer()


def enqueue_two(jobs: int, size: int) -> None:
    with psycopg.connect(DATABASE_URL, prepare_threshold=0) as connection:
        _write_two(connection, _rows(1, size)[0])
        with Stopwatch() as watch:
            for row in _rows(jobs, size):
                _write_two(connection, row)
    answer(jobs=jobs, seconds=watch.seconds)


def enqueue_one(jobs: int, size: int) -> None:
    with psycopg.connect(DATABASE_URL, autocommit=True, prepare_threshold=0) as connection:
        connection.execute(BOTH, _rows(1, size)[0])
        with Stopwatch() as watch:
            for row in _rows(jobs, size):
                connection.execute(BOTH, row)
    answer(jobs=jobs, seconds=watch.seconds)


def enqueue_session(jobs: int, size: int) -> None:
    sessions = sessionmaker(make_engine(DATABASE_URL))
    _write_in_session(sessions, _rows(1, size)[0])
    with Stopwatch() as watch:
        for row in _rows(jobs, size):
            _write_in_session(sessions, row)
    answer(jobs=jobs, seconds=watch.seconds)


def _write_in_session(sessions: sessionmaker[Session], row: dict[str, Any]) -> None:
    with sessions.begin() as session:
        connection = session.connection()
        connection.exec_driver_sql(QUEUE_ROW, row)
        connection.exec_driver_sql(RECORD, row)


def _write_two(connection: psycopg.Connection[Any], row: dict[str, Any]) -> None:
    connection.execute(QUEUE_ROW, row)
    connection.execute(RECORD, row)
    connection.commit()


def _rows(count: int, size: int) -> list[dict[str, Any]]:
    text = json.dumps(payload(size))
    return [{"workspace_id": workspace(f"workspace {n % 10}"), "id": uuid7(), "payload": text} for n in range(count)]


if __name__ == "__main__":
    form = sys.argv.pop(1)
    forms = {"two": enqueue_two, "one": enqueue_one, "session": enqueue_session}
    run({"install": install, "enqueue_single": forms[form]})
