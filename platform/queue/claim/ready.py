"""Whether anything is ready: the first jobs of each of some queues, at a cost that no backlog changes."""

from __future__ import annotations


def first_ready(of_each: int) -> str:
    """A row for each ready job of the queues ``%(queues)s``, ``of_each`` of each at most; the rows say no more.

    In the order of an index, because for two rows in none the planner reads the table.
    """
    return f"""from unnest(%(queues)s::text[]) as mine(queue)
    cross join lateral (
        select
        from jobplatform.job_queue q
        where q.state = 1 and q.queue = mine.queue
        order by q.workspace_id, q.lane
        limit {of_each}
    ) ready"""
