"""Logs: the lines a handler wrote, kept with the attempt that wrote them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy.orm import Session

from jobplatform.queue.safe_json import LOG_LINE_LIMIT, safe_text
from jobplatform.queue.statement import Lease, array, lease_arrays, run, text_array

#: Lines kept of one attempt; a handler that logs in a loop must not fill the disk.
MOST_LINES = 1000

# A line of an attempt that lost its lease is still true of that attempt, but it must not appear beside the job after
# somebody else finished it: the fence holds for lines too. The one exception is the attempt that completed the job,
# which may have done so in a transaction of its handler's, while its last lines were on their way here; nobody but the
# lease's holder can have completed it. Lateral, so that no plan can read a whole table.
APPEND = """
insert into jobplatform.job_logs (workspace_id, job_id, epoch, line, level, message)
select u.workspace_id, u.id, u.epoch, u.line, u.level, u.message
from unnest(
    %(workspace_ids)s::uuid[], %(ids)s::uuid[], %(epochs)s::int[], %(lines)s::int[], %(levels)s::text[],
    %(messages)s::text[]
) as u(workspace_id, id, epoch, line, level, message)
cross join lateral (
    (
        select
        from jobplatform.job_queue q
        where q.workspace_id = u.workspace_id and q.id = u.id and q.epoch = u.epoch and q.state + 0 = 2
    )
    union all
    (
        select
        from jobplatform.job_records r
        where r.workspace_id = u.workspace_id and r.id = u.id and r.epoch = u.epoch and r.status = 3
    )
    limit 1
) entitled
on conflict do nothing
"""


class LogLine(NamedTuple):
    """Line number ``line`` (from 1, rising) of an attempt."""

    lease: Lease
    line: int
    level: str
    message: str


def append_log_lines(session: Session, lines: Sequence[LogLine]) -> int:
    """Keep log lines of attempts whose lease still holds and say how many were kept. Repeating the call adds none.

    Call it before the attempt is finished: afterwards its lease is gone, unless it completed the job.
    """
    result = run(
        session,
        APPEND,
        **lease_arrays([line.lease for line in lines]),
        lines=array(line.line for line in lines),
        levels=text_array(line.level for line in lines),
        messages=text_array(safe_text(line.message, LOG_LINE_LIMIT) for line in lines),
    )
    return result.rowcount
