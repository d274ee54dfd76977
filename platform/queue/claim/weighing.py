"""What there may be to weigh in a claim: whatever limits, or pauses, what is ready.

A new kind of limit is named once, here: the cheaper statements, and the claim of the one job that a bell was rung for,
leave whatever this says is limited to one that weighs it.
"""

from __future__ import annotations

import enum

#: Seconds after which to ask again about what somebody else is just claiming.
CONTENDED = 0.05


class Weighing(enum.IntEnum):
    """What a claim has to weigh: each more than the one before, and for a statement of its own."""

    NOTHING = 0
    #: How much may run in a workspace, or of the queue.
    WORKSPACES = 1
    #: The lanes of workspaces against each other, and what is limited or paused beyond a workspace.
    LANES = 2


# What has to be weighed, by what it costs. A claim that finds more of that than it weighs itself takes nothing.
LIMITS_OF_WORKSPACE = """
    left join jobplatform.workspace_limits w on w.workspace_id = l.workspace_id
    left join jobplatform.plans p on p.name = w.plan
"""
WORKSPACE_IS_LIMITED = "num_nonnulls(w.max_running, p.max_running, w.rate_units, p.rate_units) > 0"
QUEUE_IS_LIMITED = "exists (select from jobplatform.queue_limits where queue = %(queue)s)"
# Of a task that is met here: nearly every installation has one with a limit, and few jobs of it.
TASK_IS_LIMITED = (
    "l.task in (select task from jobplatform.task_limits"
    " where num_nonnulls(max_running, max_running_per_workspace) > 0)"
)
SOMETHING_IS_PAUSED = "exists (select from jobplatform.pauses)"
WEIGHTS = f"""
        greatest(
            max(weighs),
            case
                when {SOMETHING_IS_PAUSED} then {Weighing.LANES:d}
                when {QUEUE_IS_LIMITED} then {Weighing.WORKSPACES:d}
                else {Weighing.NOTHING:d}
            end
        ) as weighs
"""
