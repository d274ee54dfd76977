"""A claimed job, and the columns in which every claim answers with one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from jobplatform.queue.statement import Lease, quick_maker

# In the order of ClaimedJob's fields; the first three are its lease's. Its weight follows, and its place in the claim.
COLUMNS = """
    u.workspace_id::text, u.id::text, u.epoch, u.queue, u.task, u.attempts, u.max_attempts, u.crash_count,
    u.timeout_ms, r.payload::text, r.payload_version, r.request_id, r.trace_parent, u.resource,
    extract(epoch from u.started_at - u.run_after)::float8, extract(epoch from u.start_by - u.started_at)::float8
"""


class ClaimedJob(NamedTuple):
    """A job and the lease on its next attempt. ``payload`` is JSON text, as stored: nobody decodes it on the way.

    ``waited`` is for how many seconds it could have been claimed already, ``start_within`` in how many it has to begin,
    from the claim on: not more than 0 when it is too late, None where it does not matter (any more). ``weight`` is its
    workspace's, for whoever accounts for the time it takes.
    """

    lease: Lease
    queue: str
    task: str
    attempt: int
    max_attempts: int
    crash_count: int
    timeout_ms: int
    payload: str
    payload_version: int
    request_id: str | None
    trace_parent: str | None
    resource: str | None = None
    waited: float = 0.0
    start_within: float | None = None
    weight: int = 1


_job = quick_maker(ClaimedJob)
_lease = quick_maker(Lease)


def claimed(row: Sequence[Any]) -> ClaimedJob:
    """The job of a row: the columns, its weight and its place."""
    return _job((_lease(row[:3]), *row[3:-1]))
