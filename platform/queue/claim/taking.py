"""What is the same in every claim: what may run here at all, how it becomes running, and the answer."""

from __future__ import annotations

from jobplatform.queue.claim.claimed_job import COLUMNS

# As many as the columns, the weight and the place.
NO_JOB = ", ".join(["null"] * 18)

# The resource is set to what it is: see LANE in `models`. A server that has taken over from another one may not know
# what that has handed out last, so its numbers begin higher.
TAKE = """
    update jobplatform.job_queue q
    set state = 2,
        epoch = greatest(q.epoch + 1, (select jobplatform.first_number())),
        attempts = q.attempts + 1,
        worker_id = %(worker_id)s,
        started_at = jobplatform.clock(),
        progress = null,
        resource = q.resource
"""

# A payload that newer code has written waits for a worker with such code. Nearly all are of the first version, and then
# nothing is looked up.
READABLE = (
    "(l.payload_version = 1"
    " or l.payload_version <= (%(versions)s::integer[])[array_position(%(tasks)s::text[], l.task)])"
)
MAY_RUN = f"l.task = any(%(tasks)s) and {READABLE} and (l.place < 0 or l.workspace_id <> all(%(newcomers)s::uuid[]))"

# The jobs of the lane whose `turn` it is, best first, locked as they are read. 400 is LARGEST_CLAIM: with a parameter
# there, the planner assumes a tenth of the table and turns to a sequential scan (92 ms instead of 5 ms at 100,000 ready
# jobs).
OF_THE_LANE = """from jobplatform.job_queue q
            where q.state = 1 and q.queue = %(queue)s and q.workspace_id = turn.workspace_id and q.lane = turn.lane
            order by q.priority desc, q.run_after, q.id
            limit 400
            for update skip locked"""

# The rows are locked when their ctids are handed over, so they cannot move, and a TID scan is the one plan that no
# statistics can turn into something else.
TAKEN = f"""
taken as (
    {TAKE}
    where q.ctid = any(array(select tid from pick))
    returning q.*
)
"""


def answer(seen: str, same_lane: str = "") -> str:
    """A row with what there is to say of the claim, then the claimed jobs in the order of their turns.

    What is said of the claim in each job's row has to be written and read that often, which was a thirtieth of a claim.
    PostgreSQL gives the branches of a ``union all`` one after the other where nothing runs in parallel, and in a
    statement that writes nothing does.
    """
    return f"""
select
    seen.last_workspace::text, seen.workspaces, seen.weighs, seen.leads, seen.wait, seen.held_back, seen.paid,
    {NO_JOB}
from ({seen}) seen
union all
(
    select
        null, null, null, null, null, null, null,
        {COLUMNS}, open.weight, open.place
    from taken u
    join jobplatform.job_records r on r.workspace_id = u.workspace_id and r.id = u.id
    join open on open.workspace_id = u.workspace_id{same_lane}
    order by open.lead, open.place, u.priority desc, u.run_after, u.id
)
"""
