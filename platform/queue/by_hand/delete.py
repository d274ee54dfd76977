"""Delete: jobs that have ended, with everything that was kept of them, before retention would."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Final

from sqlalchemy.orm import Session

from jobplatform.queue.by_hand.needed import NEEDED, WITH_THEM
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.statement import array, run

DELETED, LIVE, NEEDED_STILL, UNKNOWN, BUSY = "deleted", "live", "needed", "unknown", "busy"

# As retention does it. What somebody has locked is being retried at this moment.
DELETE: Final = f"""
with asked as materialized (
    select u.*
    from unnest(%(workspace_ids)s::uuid[], %(ids)s::uuid[]) as u(workspace_id, id)
    limit cardinality(%(ids)s::uuid[])
),
found as materialized (
    select a.workspace_id, a.id, r.tid, r.status, r.needed
    from asked a
    left join lateral (
        select r.ctid as tid, r.status, r.status is not null and {NEEDED} as needed
        from jobplatform.job_records r
        where r.workspace_id = a.workspace_id and r.id = a.id
        limit 1
    ) r on true
),
due as materialized (
    select r.ctid as tid
    from jobplatform.job_records r
    where r.ctid = any(array(select tid from found where status is not null and not needed))
        and r.status is not null
    for update skip locked
),
deleted as (
    delete from jobplatform.job_records
    where ctid = any(array(select tid from due))
    returning workspace_id, id
),
{WITH_THEM}
select
    f.workspace_id,
    f.id,
    case
        when d.id is not null then '{DELETED}'
        when f.tid is null then '{UNKNOWN}'
        when f.status is null then '{LIVE}'
        when f.needed then '{NEEDED_STILL}'
        else '{BUSY}'
    end
from found f
left join deleted d on d.workspace_id = f.workspace_id and d.id = f.id
"""


@checks_arguments()
def delete_jobs(
    session: Session, keys: Sequence[tuple[uuid.UUID, uuid.UUID]]
) -> dict[tuple[uuid.UUID, uuid.UUID], str]:
    """Delete these (workspace, job) and say of each what became of it. A worker's role has the right to.

    ``deleted``; ``live``: it has not ended; ``needed``: a job that has not ended waits for it, or its batch has not
    ended; ``busy``: somebody was at it; ``unknown``: there is no such job.
    """
    rows = run(session, DELETE, workspace_ids=array(key[0] for key in keys), ids=array(key[1] for key in keys)).all()
    return {(row[0], row[1]): row[2] for row in rows}
