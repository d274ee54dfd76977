"""Begin: a handler has begun with a job that had to begin by some moment. From then on that moment means nothing.

It is written down of such jobs alone. A claim does not tell it: a worker claims ahead of what it begins.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from jobplatform.queue.statement import Lease, lease_arrays, leases_of, run

BEGIN = """
update jobplatform.job_queue q
set start_by = null,
    resource = q.resource
from unnest(%(workspace_ids)s::uuid[], %(ids)s::uuid[], %(epochs)s::int[]) as u(workspace_id, id, epoch)
where q.workspace_id = u.workspace_id and q.id = u.id and q.epoch = u.epoch and q.state + 0 = 2
returning q.workspace_id::text, q.id::text, q.epoch
"""


def begin_jobs(session: Session, leases: Sequence[Lease]) -> set[Lease]:
    """Write down that these attempts have begun, and answer with the leases that still held."""
    return leases_of(run(session, BEGIN, **lease_arrays(leases)))
