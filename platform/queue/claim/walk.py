"""The walk: where every claim looks, workspace by workspace along the ring, lane by lane in each of them."""

from __future__ import annotations

#: Lanes of one workspace that a claim looks at in a row.
STRETCH = 32


# One row of `lane` is one lane of one workspace. A step goes to the workspace's next lane or, past the last one, to the
# next workspace: one index descent either way. A workspace with many lanes is looked at in two stretches, its first
# ones and those from a random point on, so that none of them is overlooked for ever. Newcomers come first, at negative
# places; their part of the recursion never leaves their workspace.
# `high` bounds the part of the ring still ahead: the last uuid before the wrap, the cursor after it. It has to be an
# index condition; as a filter the scan of the wrapped part would run to the end of the index. `wrapped` is not read
# off `high`: with the cursor on the last uuid of all, both parts have the same bound.
def lane(*head: str) -> str:
    """The walk. ``head`` are columns to bring along of each lane's best job, the one that the index has first."""
    columns = ("lane", "task", "resource", "payload_version", *head)
    of, of_first, of_head, of_next = (
        ", ".join(prefix + column for column in columns) for prefix in ("", "first.", "head.", "next.")
    )
    best_first = ", priority desc, run_after, id" if head else ""
    return f"""
lane(workspace_id, {of}, high, wrapped, place, nth, entry) as (
    (
        select first.workspace_id, {of_first}, first.high, first.wrapped, 1, 1, 1
        from (
            (
                select workspace_id, {of}, %(last)s::uuid as high, false as wrapped
                from jobplatform.job_queue
                where state = 1 and queue = %(queue)s and workspace_id > %(cursor)s::uuid
                order by workspace_id, lane{best_first}
                limit 1
            )
            union all
            (
                select workspace_id, {of}, %(cursor)s::uuid, true
                from jobplatform.job_queue
                where state = 1 and queue = %(queue)s and workspace_id <= %(cursor)s::uuid
                order by workspace_id, lane{best_first}
                limit 1
            )
        ) first
        limit 1
    )
    union all
    (
        select newcomer.id, {of_head}, newcomer.id, true, -newcomer.nth::integer, 1, 1
        from unnest(%(newcomers)s::uuid[]) with ordinality as newcomer(id, nth)
        cross join lateral (
            select {of}
            from jobplatform.job_queue
            where state = 1 and queue = %(queue)s and workspace_id = newcomer.id
            order by lane{best_first}
            limit 1
        ) head
    )
    union all
    select
        next.workspace_id, {of_next}, next.high, next.wrapped,
        case when next.workspace_id = lane.workspace_id then lane.place else lane.place + 1 end,
        case when next.workspace_id = lane.workspace_id then lane.nth + 1 else 1 end,
        lane.entry + 1
    from lane
    cross join lateral (
        (
            select workspace_id, {of}, lane.high, lane.wrapped
            from jobplatform.job_queue
            where state = 1 and queue = %(queue)s
                and (workspace_id, lane) > (
                    lane.workspace_id,
                    case lane.nth
                        when {STRETCH} then greatest(lane.lane, %(pivot)s::bigint)
                        when {2 * STRETCH} then 9223372036854775807
                        else lane.lane
                    end
                )
                and workspace_id <= lane.high
            order by workspace_id, lane{best_first}
            limit 1
        )
        union all
        (
            select workspace_id, {of}, %(cursor)s::uuid, true
            from jobplatform.job_queue
            where not lane.wrapped
                and state = 1 and queue = %(queue)s and workspace_id <= %(cursor)s::uuid
            order by workspace_id, lane{best_first}
            limit 1
        )
        limit 1
    ) next
    where lane.entry < %(workspaces)s + {2 * STRETCH}
        and (lane.place < %(workspaces)s or next.workspace_id = lane.workspace_id)
)"""


# Where the next claim goes on from, if this one took all it was let.
SEEN = """
        (select workspace_id from lane order by place desc limit 1) as last_workspace,
        (select max(place) from lane) as workspaces,
"""
