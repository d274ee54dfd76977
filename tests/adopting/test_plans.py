"""A portion is read by their own index: to look at all that waits for each would take a million jobs for ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, event

from jobplatform.adopting import PgBoss, Pgqueuer, Procrastinate, Source
from tests.adopting.tables import SCHEMA, ask, make_pg_boss, make_pgqueuer, make_procrastinate

MANY = 5_000
FILL_PG_BOSS = f"""
insert into pgboss.job (name, policy, data, priority, created_on)
select 'send-email', 'standard', '{{}}', n % 3, now() - n * interval '1 ms' from generate_series(1, {MANY}) n
"""
FILL_PROCRASTINATE = f"""
insert into procrastinate_jobs (queue_name, task_name, args, priority, lock)
select 'mail', 'send-email', '{{}}', n % 3, 'lock ' || n from generate_series(1, {MANY}) n
"""
FILL_PGQUEUER = f"""
insert into pgqueuer (priority, status, entrypoint, payload)
select n % 3, 'queued', 'send-email', '{{}}' from generate_series(1, {MANY}) n
"""


@pytest.mark.parametrize(
    ("source", "make", "fill", "index"),
    [
        (PgBoss(), make_pg_boss, FILL_PG_BOSS, "job_common_i11"),
        (Procrastinate(SCHEMA), make_procrastinate, FILL_PROCRASTINATE, "procrastinate_jobs_priority_idx_v1"),
        (Pgqueuer(SCHEMA), make_pgqueuer, FILL_PGQUEUER, "pgqueuer_ep_prio_id_idx"),
    ],
    ids=["pg-boss", "procrastinate", "pgqueuer"],
)
def test_a_portion_is_read_by_their_own_index(
    engine: Engine, direct_url: str, source: Source, make: Callable[[str], None], fill: str, index: str
) -> None:
    make(direct_url)
    ask(f"{direct_url}&options=-csearch_path%3D{SCHEMA}", fill)
    ask(direct_url, "analyze")
    asked: list[tuple[str, Any]] = []

    with engine.connect() as connection:
        source.look(connection)
        first = source.read(connection, "send-email", None, 500, lock=True)
        event.listen(connection, "before_cursor_execute", lambda *said: asked.append((said[2], said[3])))
        second = source.read(connection, "send-email", first[-1], 500, lock=True)
        (statement, parameters) = asked[0]
        plan = "\n".join(connection.exec_driver_sql(f"explain {statement}", parameters).scalars())

    assert len({one.id for one in (*first, *second)}) == 1000
    assert index in plan
    assert "Seq Scan on" not in plan
