"""Stats: how much there is to do, how quickly it is done, and how it ends."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from jobplatform.errors import InvalidJobError, Problem
from jobplatform.models import visit
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.health.rules import failure_rate
from jobplatform.queue.numbers.counts import HOUR, Done, Live, count_done, count_live, likely_reach
from jobplatform.queue.numbers.waited import WAITED
from jobplatform.queue.statement import run

TIMES = f"""
with ended as materialized (
    select
        r.task,
        {WAITED} as wait,
        greatest(0, extract(epoch from r.completed_at - r.started_at)) as run
    from jobplatform.job_records r
    where r.created_at > jobplatform.clock() - make_interval(secs => %(reach)s)
        and r.completed_at > jobplatform.clock() - make_interval(secs => %(within)s)
        and r.status in (3, 4)
        and r.started_at is not null
        and (%(workspace_id)s::uuid is null or r.workspace_id = %(workspace_id)s::uuid)
)
select
    task,
    percentile_disc(array[0.5, 0.95, 0.99]) within group (order by wait::float8),
    percentile_disc(array[0.5, 0.95, 0.99]) within group (order by run::float8)
from ended
group by grouping sets ((), (task))
"""

# The two partial indexes of waiting jobs, each for its own state.
SIZE = """
select
    (select count(*)
     from jobplatform.job_queue q
     where q.state = 1 and q.queue = %(queue)s
         and (%(task)s::text is null or q.task = %(task)s)
         and (%(workspace_id)s::uuid is null or q.workspace_id = %(workspace_id)s::uuid))
    + (select count(*)
       from jobplatform.job_queue q
       where q.state = 0 and q.queue = %(queue)s
           and (%(task)s::text is null or q.task = %(task)s)
           and (%(workspace_id)s::uuid is null or q.workspace_id = %(workspace_id)s::uuid))
"""


@dataclass(frozen=True, slots=True)
class Times:
    """How many seconds half, 95 % and 99 % of the jobs needed at most."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Part:
    """The numbers of one queue or one task, or of everything. What ended, ended within ``Stats.within_seconds``.

    ``wait`` and ``run`` are None where nothing tells of them; queues have none.
    """

    name: str
    ready: int
    scheduled: int
    blocked: int
    running: int
    completed: int
    failed: int
    cancelled: int
    oldest_ready_seconds: float | None
    failure_rate: float | None
    per_minute: float
    wait: Times | None = None
    run: Times | None = None

    @property
    def pending(self) -> int:
        return self.ready + self.scheduled + self.blocked


@dataclass(frozen=True, slots=True)
class Stats:
    """Everything, and the same by queue and by task.

    Live jobs are exact. What completed or was cancelled is counted if it was made within ``reach_seconds``, which grows
    with how long jobs wait and run now; what failed is counted however old it was.
    """

    total: Part
    queues: tuple[Part, ...]
    tasks: tuple[Part, ...]
    within_seconds: float
    reach_seconds: float

    @property
    def by_status(self) -> dict[str, int]:
        """Jobs by status: live ones now, final ones of the last hour."""
        whole = self.total
        return {
            "pending": whole.pending,
            "running": whole.running,
            "completed": whole.completed,
            "failed": whole.failed,
            "cancelled": whole.cancelled,
        }


@checks_arguments()
def queue_stats(session: Session, workspace_id: uuid.UUID | None = None, *, within: datetime.timedelta = HOUR) -> Stats:
    """Counts, throughput, failures and times; of one workspace, or of all. ``within``: how far back endings count.

    Reads the table of live jobs and the records of the last hours: for looking every few seconds, not for every page
    that somebody opens.
    """
    if within <= datetime.timedelta(0):
        raise InvalidJobError([Problem("/within", "must be longer than nothing")])
    if workspace_id is not None:
        visit(session, workspace_id)
    live = count_live(session, workspace_id, HOUR)
    reach = likely_reach(live, within)
    parameters = {"workspace_id": workspace_id, "reach": reach.total_seconds(), "within": within.total_seconds()}
    done = count_done(session, workspace_id, reach, within)
    times = {row[0]: (_times(row[1]), _times(row[2])) for row in run(session, TIMES, **parameters)}
    counted = _Counted(live, done, within)
    return Stats(
        total=counted.part("", times=times.get(None)),
        queues=tuple(counted.part(name, queue=name) for name in counted.queues),
        tasks=tuple(counted.part(name, task=name, times=times.get(name)) for name in counted.tasks),
        within_seconds=within.total_seconds(),
        reach_seconds=reach.total_seconds(),
    )


@checks_arguments()
def queue_size(session: Session, queue: str, *, task: str | None = None, workspace_id: uuid.UUID | None = None) -> int:
    """How many jobs of a queue wait, those for later included; of one task or workspace if that is said.

    Those that wait for other jobs are not among them.
    """
    if workspace_id is not None:
        visit(session, workspace_id)
    return int(run(session, SIZE, queue=queue, task=task, workspace_id=workspace_id).scalar_one())


@dataclass(frozen=True, slots=True)
class _Counted:
    """What the statements answered, to be added up by queue and by task."""

    live: Sequence[Live]
    done: Sequence[Done]
    within: datetime.timedelta

    @property
    def queues(self) -> list[str]:
        return sorted({*(one.queue for one in self.live), *(one.queue for one in self.done)})

    @property
    def tasks(self) -> list[str]:
        return sorted({*(one.task for one in self.live), *(one.task for one in self.done)})

    def part(
        self,
        name: str,
        *,
        queue: str | None = None,
        task: str | None = None,
        times: tuple[Times | None, Times | None] | None = None,
    ) -> Part:
        live = [one for one in self.live if queue in (None, one.queue) and task in (None, one.task)]
        done = [one for one in self.done if queue in (None, one.queue) and task in (None, one.task)]
        completed, failed = sum(one.completed for one in done), sum(one.failed for one in done)
        wait, run_time = times or (None, None)
        return Part(
            name=name,
            ready=sum(one.ready for one in live),
            scheduled=sum(one.scheduled for one in live),
            blocked=sum(one.blocked for one in live),
            running=sum(one.running for one in live),
            completed=completed,
            failed=failed,
            cancelled=sum(one.cancelled for one in done),
            oldest_ready_seconds=max(
                (one.oldest_ready_seconds for one in live if one.oldest_ready_seconds is not None), default=None
            ),
            failure_rate=failure_rate(done),
            per_minute=(completed + failed) / (self.within.total_seconds() / 60),
            wait=wait,
            run=run_time,
        )


def _times(values: Sequence[float | None] | None) -> Times | None:
    if values is None or values[0] is None:
        return None
    return Times(*(float(value or 0.0) for value in values))
