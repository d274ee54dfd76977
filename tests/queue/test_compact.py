"""The queue table can be rewritten while somebody else's old snapshot keeps its dead rows."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.models import Role, make_engine
from jobplatform.queue import NewJob, enqueue_jobs
from jobplatform.queue.chores.compact import compact_now, needs_compacting
from jobplatform.testing import wait_until

CHURN = 25_000


def queue_pages(session: Session) -> int:
    size = session.execute(text("select pg_relation_size('jobplatform.job_queue') / 8192")).scalar_one()
    session.commit()
    return int(size)


def leave_dead_rows(session: Session, workspace_id: uuid.UUID) -> None:
    """As many as a busy minute leaves: rows that were live and are not any more."""
    session.execute(
        text(
            "insert into jobplatform.job_queue "
            "(workspace_id, id, queue, task, state, priority, max_attempts, timeout_ms, run_after) "
            "select :workspace_id, gen_random_uuid(), 'default', 'gone', 1, 0, 3, 1000, now() "
            "from generate_series(1, :rows)"
        ),
        {"workspace_id": workspace_id, "rows": CHURN},
    )
    session.commit()
    session.execute(text("delete from jobplatform.job_queue where task = 'gone'"))
    session.commit()


def dead_rows_are_counted(session: Session) -> bool:
    """The server counts them after the transaction that made them, in its own time."""
    with session.begin():
        return needs_compacting(session)


def test_a_held_snapshot_does_not_keep_the_queue_table_bloated(
    engine: Engine, session: Session, sessions: sessionmaker[Session], workspace_id: uuid.UUID
) -> None:
    jobs = [NewJob(workspace_id=workspace_id, task="sync", priority=priority) for priority in range(50)]
    enqueue_jobs(session, jobs)
    session.commit()
    with sessions() as elsewhere:
        elsewhere.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        elsewhere.execute(text("select 1 from pg_class limit 1"))
        leave_dead_rows(session, workspace_id)
        wait_until(lambda: dead_rows_are_counted(session), what="the server to count the dead rows")
        bloated = queue_pages(session)

        # The server's own upkeep, for one, may be at the table for a moment.
        wait_until(lambda: compact_now(engine), what="nobody to use the queue table")

        assert queue_pages(session) < bloated / 50
    rows = session.execute(text("select id, priority from jobplatform.job_queue order by priority")).all()
    assert [tuple(row) for row in rows] == [(job.id, job.priority) for job in jobs]


def test_the_table_is_left_alone_while_somebody_uses_it(
    engine: Engine, session: Session, sessions: sessionmaker[Session], workspace_id: uuid.UUID
) -> None:
    with sessions() as enqueuer:
        enqueue_jobs(enqueuer, [NewJob(workspace_id=workspace_id, task="sync")])

        assert not compact_now(engine)

        enqueuer.commit()
    assert session.execute(text("select count(*) from jobplatform.job_queue")).scalar_one() == 1


def test_a_worker_s_login_has_the_right_to_it(
    login_url: Callable[..., str], session: Session, workspace_id: uuid.UUID
) -> None:
    enqueue_jobs(session, [NewJob(workspace_id=workspace_id, task="sync") for _ in range(3)])
    session.commit()
    worker = make_engine(login_url(Role.WORKER), autocommit=True, role=Role.WORKER)

    wait_until(lambda: compact_now(worker), what="nobody to use the queue table")

    worker.dispose()
    assert session.execute(text("select count(*) from jobplatform.job_queue")).scalar_one() == 3


def test_a_quiet_table_needs_no_compacting(session: Session) -> None:
    assert not needs_compacting(session)
