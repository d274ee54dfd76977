"""Levels: how much is live in each queue right now, and who is there to do it. For gauges."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from sqlalchemy.orm import Session

from jobplatform.models import State
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.silent import lease_seconds
from jobplatform.queue.statement import run

#: Live jobs that are counted at most. With more of them than this the numbers say "at least so many".
MOST_COUNTED: Final = 1_000_000
#: The queue of everything that is in a queue nobody has named: anybody who may enqueue can make up names.
OTHER: Final = "other"

LEVELS = f"""
select q.queue, q.state, count(*), extract(epoch from jobplatform.clock() - min(q.run_after))::float8
from (select queue, state, run_after from jobplatform.job_queue limit {MOST_COUNTED}) q
group by q.queue, q.state
"""

WORKERS = """
select
    count(*),
    (
        select array_agg(distinct queue)
        from jobplatform.workers served
        cross join lateral unnest(served.queues) as queue
        where served.dead_at is null
    )
from jobplatform.workers
where dead_at is null and heartbeat_at >= jobplatform.clock() - make_interval(secs => %(lease)s)
"""

_WORDS: Final = {
    State.BLOCKED: "blocked",
    State.SCHEDULED: "scheduled",
    State.READY: "ready",
    State.RUNNING: "running",
}


class Levels(NamedTuple):
    """Live jobs by queue and state, how long the oldest ready one of each queue has been so, and live workers. Of each
    adaptive limit of resources the lowest and the highest level, where somebody has asked for those too."""

    jobs: dict[tuple[str, str], int]
    oldest_ready_seconds: dict[str, float]
    workers: int
    resources: Mapping[str, tuple[int, int]] = {}


@checks_arguments()
def measure_levels(session: Session, queues: Collection[str] = ()) -> Levels:
    """Look at all of it, in two statements. Queues that no live worker serves and that are not among ``queues`` are
    one, :data:`OTHER`. It reads the narrow table, so whoever asks often should keep the answer for a while.
    """
    workers, served = run(session, WORKERS, lease=lease_seconds()).one()
    named = {*queues, *(served or ())}
    jobs = {(queue, word): 0 for queue in named for word in _WORDS.values()}
    oldest = dict.fromkeys(named, 0.0)
    for queue, state, count, seconds in run(session, LEVELS):
        name = queue if queue in named else OTHER
        place = (name, _WORDS[State(state)])
        jobs[place] = jobs.get(place, 0) + count
        if state == State.READY:
            oldest[name] = max(oldest.get(name, 0.0), seconds)
    return Levels(jobs, oldest, workers)
