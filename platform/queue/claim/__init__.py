"""Claim: the next jobs for a worker's free slots, fair between workspaces, at a cost nobody's backlog changes.

The workspaces that have ready jobs form a ring, ordered by id. A claim walks a stretch of it from a cursor that the
worker keeps in memory: one index descent finds the next workspace (a loose index scan), a second takes its best jobs by
priority, then ``run_after``, then age. Each gets a share by its weight, and no more than its limits leave free. Nothing
is stored about ring, shares or limits, so nothing about them can drift, and an enqueue has nothing to share with
another. Rows that another claimer has locked are skipped.

Each claimed row gets a higher ``epoch`` (the fence, never reused), ``attempts + 1`` (a job that kills its worker must
not try for ever) and the worker's id.

There are three statements, which see the same ring. ``CLAIM`` (in ``plain``) is for the usual case: nothing it looks at
has a limit, nothing is paused, no workspace has jobs in several lanes. ``LIMITED_CLAIM`` (in ``limited``) knows the
limits and rates of workspaces, and the limit of the queue. Each of them notices when there is more than that, and then
takes nothing. ``WEIGHED_CLAIM`` (in ``weighed``) weighs everything against everything; it takes twice the server's
time, which is why it is not the only one.

    lane     the workspaces ahead and, in each, its lanes: jobs of one task on one resource
    open     the lanes that may run at all: task and version known here, nothing about them paused, no bucket closed
    allowed  what limits leave free, counted under a lock; what rates leave, locked in buckets
    room     what limits on resources leave free, counted under a lock as far as this claim may need them
    turn     each workspace's share of this claim by weight, those behind their fair share first
    best     its best jobs by priority, then ``run_after``, then age; locked, and what others have locked is skipped
    admitted those of them that the limits on tasks and resources admit together, one of a resource on trial
    pick     as many as are wanted and the queue's own limit leaves free
    taken    the picked rows become running

They are put together from the walk (``walk``), what there may be to weigh (``weighing``), what a claim of workspaces
does with each (``by_workspace``) and what every claim does (``taking``). ``jobs`` asks them, from where the worker's
``ring`` is. ``rung`` claims the one job that a worker with nothing to do was woken for, ``one`` a job that is known.
"""

from jobplatform.queue.claim.claimed_job import ClaimedJob
from jobplatform.queue.claim.jobs import NOBODY, Ahead, Claim, claim_jobs, prepare_claims
from jobplatform.queue.claim.one import claim_job
from jobplatform.queue.claim.ring import Ring
from jobplatform.queue.claim.rung import Rung

__all__ = [
    "NOBODY",
    "Ahead",
    "Claim",
    "ClaimedJob",
    "Ring",
    "Rung",
    "claim_job",
    "claim_jobs",
    "prepare_claims",
]
