"""Group errors: jobs that failed alike, in their workspace and in all together."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy.orm import Session

from jobplatform.queue.numbers.fingerprint import common_part, fingerprint_of
from jobplatform.queue.statement import array, run, text_array

#: Failed before anybody could say with what.
NO_TYPE = "Error"

# In the order of the keys; one process at a time does this.
GROUP = """
with failed as materialized (
    select u.*
    from unnest(
        %(workspace_ids)s::uuid[], %(ids)s::uuid[], %(epochs)s::int[], %(ended)s::timestamptz[], %(tasks)s::text[],
        %(error_types)s::text[], %(messages)s::text[], %(fingerprints)s::text[]
    ) as u(workspace_id, id, epoch, ended_at, task, error_type, message, fingerprint)
    limit cardinality(%(ids)s::uuid[])
),
marked as (
    update jobplatform.job_attempts a
    set fingerprint = f.fingerprint
    from failed f
    where a.workspace_id = f.workspace_id and a.job_id = f.id and a.epoch = f.epoch and a.final
),
of_workspaces as (
    insert into jobplatform.error_groups as g (
        workspace_id, fingerprint, task, error_type, message, amount, first_at, last_at, last_job_id
    )
    select
        workspace_id, fingerprint, min(task), min(error_type), min(message), count(*), min(ended_at), max(ended_at),
        (array_agg(id order by ended_at desc, id desc))[1]
    from failed
    group by workspace_id, fingerprint
    order by workspace_id, fingerprint
    on conflict (workspace_id, fingerprint) do update
    set amount = g.amount + excluded.amount,
        last_job_id = case when excluded.last_at >= g.last_at then excluded.last_job_id else g.last_job_id end,
        first_at = least(g.first_at, excluded.first_at),
        last_at = greatest(g.last_at, excluded.last_at)
)
insert into jobplatform.platform_error_groups as g (
    fingerprint, task, error_type, message, amount, first_at, last_at, last_workspace_id, last_job_id
)
select
    fingerprint, min(task), min(error_type), min(message), count(*), min(ended_at), max(ended_at),
    (array_agg(workspace_id order by ended_at desc, id desc))[1],
    (array_agg(id order by ended_at desc, id desc))[1]
from failed
group by fingerprint
order by fingerprint
on conflict (fingerprint) do update
set amount = g.amount + excluded.amount,
    last_workspace_id =
        case when excluded.last_at >= g.last_at then excluded.last_workspace_id else g.last_workspace_id end,
    last_job_id = case when excluded.last_at >= g.last_at then excluded.last_job_id else g.last_job_id end,
    first_at = least(g.first_at, excluded.first_at),
    last_at = greatest(g.last_at, excluded.last_at)
"""


class Failed(NamedTuple):
    """A job that failed, as its record says."""

    workspace_id: str
    job_id: str
    epoch: int
    ended_at: datetime.datetime
    task: str
    error_type: str | None
    error: str | None


def group_errors(session: Session, failed: Sequence[Failed]) -> None:
    """Add these to their groups, and write on their last attempts which those are."""
    if not failed:
        return
    types = [one.error_type or NO_TYPE for one in failed]
    messages = [common_part(one.error) for one in failed]
    fingerprints = _fingerprints(failed, types, messages)
    run(
        session,
        GROUP,
        workspace_ids=array(one.workspace_id for one in failed),
        ids=array(one.job_id for one in failed),
        epochs=array(one.epoch for one in failed),
        ended=text_array(one.ended_at.isoformat() for one in failed),
        tasks=text_array(one.task for one in failed),
        error_types=text_array(types),
        messages=text_array(messages),
        fingerprints=text_array(fingerprints),
    )


def _fingerprints(failed: Sequence[Failed], types: Iterable[str], messages: Iterable[str]) -> list[str]:
    return [
        fingerprint_of(one.task, error_type, message)
        for one, error_type, message in zip(failed, types, messages, strict=True)
    ]
