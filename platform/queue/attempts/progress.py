"""Progress: what a running job says of itself, for many jobs in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy.orm import Session

from jobplatform.queue.statement import Lease, lease_arrays, leases_of, run, text_array

REPORT = """
update jobplatform.job_queue q
set progress = u.progress,
    resource = q.resource
from unnest(%(workspace_ids)s::uuid[], %(ids)s::uuid[], %(epochs)s::int[], %(reports)s::jsonb[])
    as u(workspace_id, id, epoch, progress)
where q.workspace_id = u.workspace_id and q.id = u.id and q.epoch = u.epoch and q.state + 0 = 2
returning q.workspace_id::text, q.id::text, q.epoch
"""


class ProgressReport(NamedTuple):
    """``progress`` is JSON text: ``{"current": …, "total": …, "message": …}``."""

    lease: Lease
    progress: str


def report_progress(session: Session, reports: Sequence[ProgressReport]) -> set[Lease]:
    """Write the newest progress of attempts and answer with the leases that still hold. At most one report a lease."""
    rows = run(
        session,
        REPORT,
        **lease_arrays([report.lease for report in reports]),
        reports=text_array(report.progress for report in reports),
    )
    return leases_of(rows)
