"""Look around: is there anything to do for whoever does the chores? One statement, which every worker asks at its poll.

Nearly always there is nothing. Each verb found that out for itself before, in one to four statements, and most of what
an idle worker costs was that. A sign says where to look and never what is true: the verb it is for takes what it does
under its own locks, as if nobody had looked before.

Each part reads from the index by which its verb finds what is due, and only until the first one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy.orm import Session

from jobplatform.queue.after.succeed import WAITING
from jobplatform.queue.attempts.rescue import LEFT_BEHIND
from jobplatform.queue.chores.end_late import NEXT_LATE
from jobplatform.queue.claim.ready import first_ready
from jobplatform.queue.schedules.fire import NEXT_DUE
from jobplatform.queue.statement import run, text_array
from jobplatform.queue.workers import SILENT

# Something ended that others wait for, or that is to be counted.
ENDINGS = """(
        (select true from jobplatform.notices where batch_id is null order by id limit 1) is true
        or (
            select true from jobplatform.notices where batch_id is not null order by workspace_id, batch_id limit 1
        ) is true
    )"""

# What a rescue looks for costs as much as there are running jobs, so it is asked for as seldom as there is a rescue.
LOOK = f"""
select
    (
        select extract(epoch from run_after - jobplatform.clock())::float8
        from jobplatform.job_queue
        where state = 0
        order by run_after
        limit 1
    ) as scheduled_in,
    ({NEXT_LATE}) as late_in,
    ({NEXT_DUE.strip()}) as tick_in,
    {ENDINGS} as endings,
    (select true {WAITING.strip()} limit 1) is true as successors,
    (select true from jobplatform.bulk_actions where state in ('waiting', 'running') limit 1) is true as bulk,
    case when %(dead)s::bool then
        (select true {SILENT.strip()} limit 1) is true or (select true {LEFT_BEHIND.strip()} limit 1) is true
    else
        false
    end as dead,
    array(select name from jobplatform.chores where due_at > jobplatform.clock()) as resting,
    (
        select true
        {first_ready(1)}
        limit 1
    ) is true as ready
"""


class Signs(NamedTuple):
    """What there is to do. Seconds are from now on, not more than 0 for what is due, None where nothing is planned.

    ``scheduled_in``: the next scheduled job. ``late_in``: the next job that will be too late. ``tick_in``: the next
    tick of a schedule. ``endings``: something ended that others wait for. ``successors``: a job waits for one of its
    key that has ended. ``bulk``: an operator wants something done to many jobs. ``dead``: a worker is silent, or has
    left jobs behind. ``resting`` are the chores of the whole platform that are not due. ``ready``: a job is, in a queue
    that was asked about.
    """

    scheduled_in: float | None
    late_in: float | None
    tick_in: float | None
    endings: bool
    successors: bool
    bulk: bool
    dead: bool
    resting: frozenset[str]
    ready: bool


def look_around(
    session: Session, tasks: Iterable[str], *, lease: float, dead: bool = True, queues: Iterable[str] = ()
) -> Signs:
    """Look, on behalf of a worker that knows these ``tasks``. A worker that is silent for ``lease`` seconds is dead.

    Without ``dead`` nobody is looked for who might be. Jobs that are ready are looked for in ``queues``.
    """
    row = run(session, LOOK, tasks=text_array(tasks), lease=lease, dead=dead, queues=text_array(queues)).one()
    signs = Signs._make(row)
    return signs._replace(resting=frozenset(signs.resting))
