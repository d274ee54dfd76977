"""What settling costs, in pages: a few for what ended, whatever else waits or is open."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import Session

from jobplatform.queue import settle_endings
from tests.queue.plans import Plan, run_generic_plan

WS = uuid.UUID(int=1)
LARGE = 50_000
TABLES = ("job_queue", "job_records", "job_edges", "batches")

# Each of many jobs waits for one that runs; each tenth is of a batch of its own.
FILL = """
insert into jobplatform.job_queue
    (workspace_id, id, queue, task, state, priority, max_attempts, timeout_ms, run_after, followed)
select :ws, ('0190' || lpad(to_hex(n), 28, '0'))::uuid, 'default', 'work', case when n <= :jobs then 1 else -1 end,
    0, 3, 600000, now(), n <= :jobs
from generate_series(1, 2 * :jobs) n;
"""
RECORDS = """
insert into jobplatform.job_records (workspace_id, id, task, queue, payload, batch_id)
select workspace_id, id, task, queue, '{}',
    case when row_number() over () % 10 = 0 then ('0192' || substr(id::text, 5))::uuid end
from jobplatform.job_queue
"""
EDGES = """
insert into jobplatform.job_edges (workspace_id, job_id, after_id, number)
select :ws, ('0190' || lpad(to_hex(n + :jobs), 28, '0'))::uuid, ('0190' || lpad(to_hex(n), 28, '0'))::uuid, 0
from generate_series(1, :jobs) n
"""
BATCHES = """
insert into jobplatform.batches (workspace_id, id, total, closed_at)
select workspace_id, batch_id, 2, now() from jobplatform.job_records where batch_id is not null
"""
# One of those that others wait for has ended, and one of a batch.
END = """
with ended as (
    delete from jobplatform.job_queue
    where workspace_id = :ws and id in (
        '01900000-0000-0000-0000-000000000005', '01900000-0000-0000-0000-00000000000a'
    )
    returning id
)
update jobplatform.job_records r
set status = 3, outcome = 'ok', completed_at = now()
from ended
where r.workspace_id = :ws and r.id = ended.id
"""
TELL = """
insert into jobplatform.notices (workspace_id, kind, job_id, batch_id, status)
select workspace_id, 'ended', id, batch_id, 3 from jobplatform.job_records where status = 3
"""


def plans_of_a_round(engine: Engine) -> list[Plan]:
    """Every statement of one round, with the generic plan, in one transaction that is undone."""
    statements: list[tuple[str, dict[str, Any]]] = []

    def note(_connection: Any, _cursor: Any, sql: str, parameters: Any, *_rest: Any) -> None:
        statements.append((sql, parameters))

    event.listen(engine, "before_cursor_execute", note)
    with Session(engine) as session:
        assert len(settle_endings(session).released) == 2
        session.rollback()
    event.remove(engine, "before_cursor_execute", note)
    with engine.connect() as connection:
        plans = [run_generic_plan(connection, sql, parameters) for sql, parameters in statements]
        connection.invalidate()
    return plans


@pytest.mark.parametrize("jobs", [500, LARGE])
def test_a_round_touches_a_few_pages_whatever_else_waits(engine: Engine, jobs: int) -> None:
    with engine.begin() as connection:
        for statement in (FILL, RECORDS, EDGES, BATCHES):
            connection.execute(text(statement), {"ws": WS, "jobs": jobs})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("vacuum analyze"))
    with engine.begin() as connection:
        connection.execute(text(END), {"ws": WS})
        connection.execute(text(TELL))

    plans = plans_of_a_round(engine)

    assert sum(plan.buffers for plan in plans) <= 400
    if jobs == LARGE:
        # A handful of pages may be read whole.
        scans = {node["Relation Name"] for plan in plans for node in plan.nodes if node["Node Type"] == "Seq Scan"}
        assert scans & set(TABLES) == set()
