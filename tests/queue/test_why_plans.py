"""What asking why costs, in pages and rows, at a small and at a large backlog: see ``test_plans``."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import NamedTuple

import pytest
from sqlalchemy.orm import Session

from jobplatform.queue import why_waiting
from jobplatform.queue.statement import run
from jobplatform.queue.why.crowd_facts import (
    IN_A_ROW,
    MOST_BEFORE,
    MOST_OF_OTHERS,
    MOST_RUNNING,
    MOST_WORKSPACES,
    OTHERS_ON_THE_RING,
    PAGES,
    RECORDS,
    read_ended,
    read_ended_anywhere,
    read_line,
    read_others,
    read_running,
)
from jobplatform.queue.why.hold_facts import read_holds, read_pauses, read_workers
from jobplatform.queue.why.job_facts import JobFacts, read_job, read_retry
from tests.queue import test_plans
from tests.queue.plans import explain
from tests.queue.test_plans import LIVING, RUNNING, Backlog

#: The same database as those tests have, loaded for this module too.
backlog = test_plans.backlog

#: The workspace with the longest line, and the job at its end.
LONGEST = """
select workspace_id from jobplatform.job_queue where state = 1 group by 1 order by count(*) desc, 1 limit 1
"""
LAST_OF_IT = """
select id from jobplatform.job_queue where state = 1 and workspace_id = %(workspace_id)s
order by priority, run_after desc, id desc limit 1
"""


class Place(NamedTuple):
    workspace_id: uuid.UUID
    job_id: uuid.UUID
    facts: JobFacts


Read = Callable[[Session, Place], object]

#: Each statement, with the most rows of the job tables that it may look at and the most pages it may touch.
STATEMENTS: dict[str, tuple[Read, int, int]] = {
    "job": (lambda session, at: read_job(session, at.workspace_id, at.job_id), 2, 50),
    "holds": (lambda session, at: read_holds(session, at.workspace_id, at.facts), RUNNING, 3_000),
    "pauses": (lambda session, at: read_pauses(session, at.workspace_id, at.facts), 0, 50),
    "workers": (lambda session, at: read_workers(session, at.facts), 10, 200),
    "in line": (
        lambda session, at: read_line(session, at.workspace_id, at.job_id, at.facts, [LIVING]),
        2 * MOST_BEFORE,
        3 * MOST_BEFORE,
    ),
    "others": (
        lambda session, at: read_others(session, at.workspace_id, at.facts.queue),
        IN_A_ROW + 1,
        IN_A_ROW + 100,
    ),
    "others on the ring": (
        lambda session, at: run(session, OTHERS_ON_THE_RING, workspace_id=at.workspace_id, queue=at.facts.queue).all(),
        MOST_OF_OTHERS + MOST_WORKSPACES,
        MOST_OF_OTHERS + 10 * MOST_WORKSPACES,
    ),
    "running": (lambda session, _: read_running(session, [LIVING]), MOST_RUNNING, 5_000),
    "ended": (
        lambda session, at: read_ended(session, [str(at.workspace_id), str(uuid.UUID(int=1))]),
        2 * 2 * RECORDS + 50,
        600,
    ),
    "ended anywhere": (lambda session, _: read_ended_anywhere(session), 100 * PAGES, 2 * PAGES + 50),
    "retry": (lambda session, at: read_retry(session, at.workspace_id, "key"), 10, 50),
}


def last_in_line(backlog: Backlog) -> Place:
    with Session(backlog.engine) as session:
        connection = session.connection()
        workspace_id = connection.exec_driver_sql(LONGEST).scalar_one()
        job_id = connection.exec_driver_sql(LAST_OF_IT, {"workspace_id": workspace_id}).scalar_one()
        facts = read_job(session, workspace_id, job_id)
    assert facts is not None
    return Place(workspace_id, job_id, facts)


@pytest.mark.parametrize("name", STATEMENTS)
def test_asking_why_never_reads_a_whole_table(backlog: Backlog, name: str) -> None:
    read, most_rows, most_buffers = STATEMENTS[name]
    place = last_in_line(backlog)

    plan = explain(backlog.engine, lambda session: read(session, place))

    assert plan.sequential_scans == []
    assert plan.rows_visited("job_queue") + plan.rows_visited("job_records") <= most_rows
    assert plan.buffers <= most_buffers


def test_the_last_job_of_the_longest_line_gets_an_answer(backlog: Backlog) -> None:
    place = last_in_line(backlog)

    with Session(backlog.engine) as session:
        why = why_waiting(session, place.workspace_id, place.job_id)

    assert why is not None
    assert why.position is not None
    assert why.position > 0
