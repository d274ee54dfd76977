"""Compact: rewrite the narrow queue table in place when a long snapshot elsewhere keeps its dead rows alive.

As long as any transaction of the database holds an old snapshot, vacuum may remove nothing, and every claim walks past
the rows of all jobs that have ended since: queues on PostgreSQL fall to a tenth of their speed within a minute of it.
This table holds only live jobs and is small, so it can simply be written anew while that snapshot is still open:
locked, emptied, filled again, which takes about 10 µs for each live job.

What it costs: that old transaction would see no live jobs if it looked at ``job_queue`` only now. And it cannot run
while somebody holds a lock on the table itself (``pg_dump`` does, for as long as it runs).
"""

from __future__ import annotations

from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from jobplatform.models import QueueRow
from jobplatform.queue.statement import run

#: Fewer dead rows than this are not what makes claims slow.
FEWEST_DEAD = 20_000
#: More live rows than this would take too long to copy under the lock.
MOST_LIVE = 200_000

# The rows are counted by the server as it goes, without touching the table.
WORTH_IT = """
select n_dead_tup >= %(fewest_dead)s and n_live_tup <= %(most_live)s
from pg_stat_user_tables
where schemaname = 'jobplatform' and relname = 'job_queue'
"""

# Every claim and enqueue queues up behind a lock that is waited for: 50 ms at most, and then for as long as the copy
# takes.
COLUMNS = ", ".join(column.name for column in QueueRow.__table__.columns if column.computed is None)
REWRITE = (
    "set local lock_timeout = '50ms'",
    "lock table jobplatform.job_queue in access exclusive mode",
    "create temporary table job_queue_live on commit drop as select * from jobplatform.job_queue",
    "truncate jobplatform.job_queue",
    f"insert into jobplatform.job_queue ({COLUMNS}) select {COLUMNS} from pg_temp.job_queue_live",
)


def needs_compacting(session: Session) -> bool:
    """Whether dead rows have piled up in a table that is small enough to be rewritten."""
    worth_it = run(session, WORTH_IT, fewest_dead=FEWEST_DEAD, most_live=MOST_LIVE).scalar()
    return bool(worth_it)


def compact_queue(session: Session) -> None:
    """Rewrite the queue table in the caller's transaction, which holds it locked until it ends: commit at once.

    Raises ``OperationalError`` when the lock is not to be had within 50 ms; try again later. A worker's role has the
    right to.
    """
    for statement in REWRITE:
        run(session, statement)


def compact_now(engine: Engine) -> bool:
    """Rewrite the queue table in a transaction of its own; False when somebody else was using it."""
    try:
        # A worker's engine commits each statement by itself; these five are one transaction.
        one_transaction = engine.connect().execution_options(isolation_level="READ COMMITTED")
        with one_transaction as connection, Session(connection) as session, session.begin():
            compact_queue(session)
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) == "55P03":
            return False
        raise
    return True
