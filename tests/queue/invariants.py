"""What must hold of the rows at any moment, whatever has happened. The numbers are those of the design."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.orm import Session

INVARIANTS = {
    "I1: a queue row exists exactly while its record has no final status": """
        select coalesce(r.id, q.id)
        from jobplatform.job_records r
        full join jobplatform.job_queue q on q.workspace_id = r.workspace_id and q.id = r.id
        where r.id is null or (r.status is null) <> (q.id is not null)
    """,
    "I2: no attempt of a job is recorded under an epoch that was not handed out": """
        select a.job_id
        from jobplatform.job_attempts a
        join jobplatform.jobs j on j.workspace_id = a.workspace_id and j.id = a.job_id
        where a.epoch > j.epoch
    """,
    "I4: at most one live job of a workspace has a unique key": """
        select min(id::text)
        from jobplatform.job_queue
        where unique_key is not null
        group by workspace_id, unique_key
        having count(*) > 1
    """,
    "I4b: whoever waits for a key waits for somebody, runs not, and nobody else of that key waits": """
        select s.id
        from jobplatform.job_queue s
        left join jobplatform.job_queue h
            on h.workspace_id = s.workspace_id and h.unique_key = substr(s.unique_key, 2)
        where left(s.unique_key, 1) = chr(30) and (s.state <> -1 or h.state < 2)
    """,
    "I9: a job is blocked only if it waits for something": """
        select q.id
        from jobplatform.job_queue q
        where q.state = -1
            and (q.unique_key is null or left(q.unique_key, 1) <> chr(30))
            and not exists (
                select from jobplatform.job_edges e where e.workspace_id = q.workspace_id and e.job_id = q.id
            )
    """,
    "I10: a batch counts no more than it has": """
        select id
        from jobplatform.batches
        where completed + failed + cancelled > total or least(total, completed, failed, cancelled) < 0
    """,
    "I5: attempts and crashes stay within their caps": """
        select id from jobplatform.jobs where attempts > max_attempts or crash_count > 3
    """,
}


def violations(session: Session) -> list[str]:
    """Every invariant that does not hold, with the jobs that break it."""
    return [
        f"{name}: {', '.join(map(str, found))}"
        for name, sql in INVARIANTS.items()
        if (found := session.scalars(text(sql)).all())
    ]
