"""Complete: the results of attempts that ended well, in one statement for many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy.orm import Session

from jobplatform.queue.after.notices import ask_to_settle, tell_ended
from jobplatform.queue.statement import Lease, lease_arrays, leases_of, run, text_array

# `state + 0`, in every statement that names its rows: with a plain `state = 2` and statistics from a table where
# nothing runs yet, a generic plan takes the partial index of running rows for the cheap side and walks all of it for
# each id (260 ms instead of 3 for 200 jobs). The answer names the refused, because there are hardly ever any (and looks
# for them only where fewer ended than were asked for), and has an empty row when somebody was waiting for what ended.
COMPLETE = f"""
with asked as materialized (
    select u.*
    from unnest(
        %(workspace_ids)s::uuid[], %(ids)s::uuid[], %(epochs)s::int[], %(results)s::jsonb[], %(outcomes)s::text[]
    ) as u(workspace_id, id, epoch, result, outcome)
),
ended as (
    delete from jobplatform.job_queue q
    using asked u
    where q.workspace_id = u.workspace_id and q.id = u.id and q.epoch = u.epoch and q.state + 0 = 2
    returning
        q.workspace_id, q.id, q.epoch, q.attempts, q.crash_count, q.started_at, q.progress, q.followed, q.worker_id,
        u.result, u.outcome
),
written as (
    update jobplatform.job_records r
    set status = 3,
        outcome = e.outcome,
        result = e.result,
        progress = e.progress,
        attempts = e.attempts,
        crash_count = e.crash_count,
        epoch = e.epoch,
        started_at = e.started_at,
        worker_id = e.worker_id,
        completed_at = jobplatform.clock()
    from ended e
    where r.workspace_id = e.workspace_id and r.id = e.id
),
{tell_ended("ended", "3")}
select refused.workspace_id::text, refused.id::text, refused.epoch
from (
    select workspace_id, id, epoch from asked
    except
    select workspace_id, id, epoch from ended
) refused
where (select count(*) from ended) < cardinality(%(ids)s::uuid[])
union all
select null, null, null where exists (select from told)
"""


class Completion(NamedTuple):
    """The end of an attempt that went well. ``result`` is JSON text; ``outcome`` is ``ok`` or ``skipped``."""

    lease: Lease
    result: str = "null"
    outcome: str = "ok"


def complete_jobs(session: Session, completions: Sequence[Completion]) -> set[Lease]:
    """Complete jobs and answer with the leases that still held.

    A lease that is missing in the answer was lost before: its result was *not* written, because the job is somebody
    else's by now or has ended. A repeat of the same call is harmless, and answers with nothing.
    """
    leases, results, outcomes = zip(*completions, strict=True) if completions else ((), (), ())
    rows = run(
        session,
        COMPLETE,
        **lease_arrays(leases),
        results=text_array(results),
        outcomes=text_array(outcomes),
    ).all()
    refused = [row for row in rows if row[0] is not None]
    if len(refused) < len(rows):
        ask_to_settle(session)
    return set(leases).difference(leases_of(refused))
