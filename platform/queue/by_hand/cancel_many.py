"""Cancel what belongs together: a job with everything that waits for it, or a batch.

Each job is cancelled as ``cancel_job`` cancels one. Rows that somebody has locked at this moment (they are being
claimed, or finished) are not waited for, since two who each hold some would wait for each other: a notice asks for
them, and whoever settles it goes on.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from typing import NamedTuple

from sqlalchemy.orm import Session

from jobplatform.models import visit
from jobplatform.queue.after.notices import ask_to_settle, tell_ended
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.doorbell import CANCEL, ring_after_commit
from jobplatform.queue.end_waiting import end_waiting
from jobplatform.queue.enqueue.edges import note
from jobplatform.queue.snapshot import says_what_it_cannot_see
from jobplatform.queue.statement import array, one_transaction, run

#: Members of a batch that are cancelled in one go.
PORTION = 1_000
#: Of a larger tree the rest is called off as what it waits for ends.
LARGEST_TREE = 10_000


def _tree(begin: str) -> str:
    """Down every edge, also those that would let a job run. A tree, or whatever has no circles."""
    return f"""
with recursive tree(id) as (
    {begin.strip()}
    union
    select e.job_id
    from tree
    join jobplatform.job_edges e on e.workspace_id = %(workspace_id)s and e.after_id = tree.id
)
select id::text from tree limit {LARGEST_TREE}
"""


TREE = _tree("""
    select r.id
    from jobplatform.job_records r
    where r.workspace_id = %(workspace_id)s and r.id = %(id)s
""")

# From whatever waits for a batch or for one of its jobs.
TREE_OF_BATCH = _tree("""
    (
        select e.job_id
        from jobplatform.job_edges e
        where e.workspace_id = %(workspace_id)s and e.after_id = %(id)s
        union
        select e.job_id
        from jobplatform.job_records r
        join jobplatform.job_edges e on e.workspace_id = r.workspace_id and e.after_id = r.id
        where r.workspace_id = %(workspace_id)s and r.batch_id = %(id)s
    )
""")

CANCEL_MANY = f"""
with asked as materialized (
    select * from unnest(%(workspace_ids)s::uuid[], %(ids)s::uuid[]) as u(workspace_id, id)
    limit cardinality(%(ids)s::uuid[])
),
waiting as materialized (
    select q.ctid as tid
    from asked a
    join jobplatform.job_queue q on q.workspace_id = a.workspace_id and q.id = a.id
    where q.state + 0 < 2
    order by q.workspace_id, q.id
    for update of q skip locked
),
running as materialized (
    select q.ctid as tid
    from asked a
    join jobplatform.job_queue q on q.workspace_id = a.workspace_id and q.id = a.id
    where q.state + 0 = 2 and q.cancel_requested_at is null
    order by q.workspace_id, q.id
    for update of q skip locked
),
gone as (
    delete from jobplatform.job_queue
    where ctid = any(array(select tid from waiting))
    returning workspace_id, id, attempts, crash_count, epoch, progress, followed
),
flagged as (
    update jobplatform.job_queue
    set cancel_requested_at = jobplatform.clock(),
        resource = resource
    where ctid = any(array(select tid from running))
    returning workspace_id, id
),
ended as (
    {end_waiting("cancelled")}
),
{tell_ended("gone", "5")}
select
    a.workspace_id::text,
    a.id::text,
    case
        when exists (select from gone g where g.workspace_id = a.workspace_id and g.id = a.id) then 'cancelled'
        when q.cancel_requested_at is not null then 'asked before'
        when exists (select from flagged f where f.workspace_id = a.workspace_id and f.id = a.id) then 'requested'
        when q.id is not null then 'busy'
        else 'finished'
    end
from asked a
left join jobplatform.job_queue q on q.workspace_id = a.workspace_id and q.id = a.id
"""

# Whoever is adding to it holds it until that is committed; only then it is known what there is to cancel.
HOLD = """
select ended_at is not null
from jobplatform.batches
where workspace_id = %(workspace_id)s and id = %(id)s
for update
"""
CLOSE = """
update jobplatform.batches
set closed_at = coalesce(closed_at, jobplatform.clock()),
    cancelled_at = coalesce(cancelled_at, jobplatform.clock())
where workspace_id = %(workspace_id)s and id = %(id)s
"""

# In the order of their ids, a portion at a time, so that no member is looked at twice.
MEMBERS = f"""
select r.id::text
from jobplatform.job_records r
where r.workspace_id = %(workspace_id)s and r.batch_id = %(batch_id)s and r.id > %(beyond)s::uuid
order by r.id
limit {PORTION}
"""

FIRST = uuid.UUID(int=0)


class ManyCancelled(NamedTuple):
    """What became of a request to cancel several jobs.

    ``cancelled`` waited and have ended, ``requested`` run and are being told, ``finished`` had ended already. ``later``
    changed hands at this moment, or are still to be looked at: whoever settles next cancels them.
    """

    cancelled: int = 0
    requested: int = 0
    finished: int = 0
    later: int = 0


@checks_arguments()
@says_what_it_cannot_see
def cancel_tree(session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID) -> ManyCancelled | None:
    """Cancel a job and everything that waits for it, and for that, and so on; None when there is no such job."""
    with one_transaction(session):
        visit(session, workspace_id)
        ids = run(session, TREE, workspace_id=workspace_id, id=job_id).scalars().all()
        if not ids:
            return None
        places = [(str(workspace_id), found) for found in ids]
        return tell_cancelled(session, cancel_places(session, places))


@checks_arguments()
@says_what_it_cannot_see
def cancel_batch(
    session: Session, workspace_id: uuid.UUID, batch_id: uuid.UUID, *, tree: bool = False
) -> ManyCancelled | None:
    """Close a batch and cancel all of its jobs; None when there is no such batch.

    The first thousand here and now, the rest by whoever settles next. One that has ended stays as it is. What waits
    for the batch runs as it would anyway, or is cancelled with the ``tree``: and what waits for that, and so on.
    """
    with one_transaction(session):
        visit(session, workspace_id)
        has_ended = run(session, HOLD, workspace_id=workspace_id, id=batch_id).scalar_one_or_none()
        if has_ended is None:
            return None
        answers = _cancel_what_waits(session, workspace_id, batch_id) if tree else []
        if has_ended:
            return tell_cancelled(session, answers)
        run(session, CLOSE, workspace_id=workspace_id, id=batch_id)
        note(session, [(workspace_id, "look", None, batch_id, 0)])
        answers += cancel_members(session, str(workspace_id), str(batch_id), str(FIRST))
        ask_to_settle(session)
        return tell_cancelled(session, answers)


def _cancel_what_waits(session: Session, workspace_id: uuid.UUID, batch_id: uuid.UUID) -> list[str]:
    """Before the batch's own jobs: each of those that ends could let it go."""
    ids = run(session, TREE_OF_BATCH, workspace_id=workspace_id, id=batch_id).scalars().all()
    return cancel_places(session, [(str(workspace_id), found) for found in ids])


def cancel_members(session: Session, workspace_id: str, batch_id: str, beyond: str) -> list[str]:
    """Cancel a portion of the members behind ``beyond``, and leave a notice if there are more."""
    ids = run(session, MEMBERS, workspace_id=workspace_id, batch_id=batch_id, beyond=beyond).scalars().all()
    if len(ids) == PORTION:
        note(session, [(workspace_id, "cancel", ids[-1], batch_id, 0)])
    return cancel_places(session, [(workspace_id, found) for found in ids])


def cancel_places(session: Session, places: Collection[tuple[str, str]]) -> list[str]:
    """Cancel these (workspace, job), and leave a notice for each that is not to be had now; a word for each."""
    return list(cancel_each(session, places).values())


def cancel_each(session: Session, places: Collection[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The same, saying of which (workspace, job) each word is."""
    if not places:
        return {}
    rows = run(
        session,
        CANCEL_MANY,
        workspace_ids=array(place[0] for place in places),
        ids=array(place[1] for place in places),
    ).all()
    note(session, [(row[0], "cancel", row[1], None, 0) for row in rows if row[2] == "busy"])
    return {(row[0], row[1]): row[2] for row in rows}


def tell_cancelled(session: Session, answers: Sequence[str]) -> ManyCancelled:
    """Wake whoever has to do something about these answers, and count them."""
    if answers:
        ask_to_settle(session)
    if "requested" in answers:
        ring_after_commit(session, {CANCEL})
    return ManyCancelled(
        cancelled=answers.count("cancelled"),
        requested=answers.count("requested") + answers.count("asked before"),
        finished=answers.count("finished"),
        later=answers.count("busy"),
    )
