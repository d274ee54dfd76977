"""Watch: what is new about jobs that somebody follows, for many followers in a statement.

    1. :func:`find_news`: whose job has changed at all. Compares the version of its queue row with the one seen last,
       and looks for a newer log line; it costs two index lookups a job and reads nothing else.
    2. :func:`look_at_jobs`: the :class:`Facts` of those, each from one snapshot, with what is newer than its follower's
       position.
    3. :func:`look_at_workspace`: the jobs that are in a workspace, for who follows all of it.

Everything is read by explicit keys, so a Session that may see all workspaces serves the followers of each.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from jobplatform.queue.moments import moment_text
from jobplatform.queue.reading.changes import Attempt, Ending, Facts, Line, Position, digest
from jobplatform.queue.statement import array, run, text_array
from jobplatform.queue.vault import reveal_value

#: Of a job, in one look: so many of its log lines and attempts, and the rest in the next.
LINES = 50
ATTEMPTS = 50
#: Unfinished jobs of a workspace that can be followed all at once, and those that ended a moment ago.
MOST_LIVE = 250
MOST_ENDED = 500
#: A job that was enqueued and ended between two looks is looked for among those whose id is not older than this. It has
#: to cover how long an enqueuing transaction stays open, and how far the clocks of hosts are apart.
WINDOW_MS = 15_000
#: The last lines of a handler that completed its job in its own transaction may come so many seconds later.
LATE_LINES = 2.0

FINAL = {3: "completed", 4: "failed", 5: "cancelled"}
READY, RUNNING = 1, 2


def _moment(column: str) -> str:
    """As an answer has it."""
    return f"""to_char({column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


# `xmin` is the transaction that wrote this version of the row: whatever is updated, it changes. Rows that the queue's
# rewrite copied are looked at in vain once.
NEWS = """
select a.nth::int
from unnest(
    %(workspace_ids)s::uuid[], %(ids)s::uuid[], %(versions)s::text[], %(log_epochs)s::int[], %(log_lines)s::int[]
) with ordinality as a(workspace_id, id, version, log_epoch, log_line, nth)
left join jobplatform.job_queue q on q.workspace_id = a.workspace_id and q.id = a.id
where coalesce(q.xmin::text, '') <> a.version
    or (
        a.log_epoch >= 0
        and (q.id is null or q.state + 0 = 2)
        and exists (
            select
            from jobplatform.job_logs l
            where l.workspace_id = a.workspace_id
                and l.job_id = a.id
                and (l.epoch, l.line) > (a.log_epoch, a.log_line)
        )
    )
"""

LOOK = f"""
select
    a.nth::int,
    coalesce(q.xmin::text, ''),
    coalesce(r.completed_at > jobplatform.clock() - interval '{LATE_LINES} seconds', q.id is not null),
    r.workspace_id::text,
    r.id::text,
    r.task,
    {_moment("r.created_at")},
    coalesce(q.epoch, r.epoch),
    q.state,
    r.status,
    r.outcome,
    {_moment("r.completed_at")},
    r.past_endings::text,
    (case when q.id is null then r.progress else q.progress end)::text,
    r.result::text,
    r.error_type,
    r.error,
    coalesce(q.attempts, r.attempts),
    {_moment("coalesce(q.started_at, r.started_at)")},
    {_moment("coalesce(q.run_after, r.run_after)")},
    attempts.found::text,
    lines.found::text
from unnest(
    %(workspace_ids)s::uuid[], %(ids)s::uuid[], %(epochs)s::int[], %(log_epochs)s::int[], %(log_lines)s::int[]
) with ordinality as a(workspace_id, id, epoch, log_epoch, log_line, nth)
join jobplatform.job_records r on r.workspace_id = a.workspace_id and r.id = a.id
left join jobplatform.job_queue q on q.workspace_id = r.workspace_id and q.id = r.id
cross join lateral (
    select jsonb_agg(
        jsonb_build_array(
            t.epoch, t.attempt, {_moment("t.started_at")}, {_moment("t.ended_at")},
            t.outcome, t.final, t.error_type, t.error
        )
        order by t.epoch
    )
    from (
        select *
        from jobplatform.job_attempts t
        where t.workspace_id = a.workspace_id and t.job_id = a.id and t.epoch >= a.epoch
        order by t.epoch
        limit {ATTEMPTS + 1}
    ) t
) attempts(found)
cross join lateral (
    select jsonb_agg(
        jsonb_build_array(l.epoch, l.line, l.level, l.message, {_moment("l.logged_at")})
        order by l.epoch, l.line
    )
    from (
        select *
        from jobplatform.job_logs l
        where l.workspace_id = a.workspace_id
            and l.job_id = a.id
            and (l.epoch, l.line) > (a.log_epoch, a.log_line)
        order by l.epoch, l.line
        limit {LINES + 1}
    ) l
) lines(found)
"""

# Ids begin with the millisecond they were made in, so the newest of a workspace are the end of one index.
WORKSPACE = f"""
with asked as materialized (
    select
        u.nth,
        u.workspace_id,
        (lpad(to_hex(coalesce(u.since, (extract(epoch from now()) * 1000)::bigint - {WINDOW_MS})), 12, '0')
            || repeat('0', 20))::uuid as since
    from unnest(%(workspace_ids)s::uuid[], %(since)s::bigint[]) with ordinality as u(workspace_id, since, nth)
)
select
    a.nth::int,
    array(
        select q.id::text
        from jobplatform.job_queue q
        where q.workspace_id = a.workspace_id
        order by q.id desc
        limit {MOST_LIVE + 1}
    ),
    array(
        select r.id::text
        from jobplatform.job_records r
        where r.workspace_id = a.workspace_id and r.id >= a.since and r.status is not null
        order by r.id desc
        limit {MOST_ENDED + 1}
    ),
    array(
        select q.id::text
        from jobplatform.job_queue q
        where q.workspace_id = a.workspace_id and q.state = 2
        limit {MOST_LIVE}
    ),
    (extract(epoch from now()) * 1000)::bigint
from asked a
"""


class Followed(NamedTuple):
    """A job that somebody follows. ``version``: the queue row's, as seen last. Without ``lines`` none are wanted."""

    workspace_id: str
    job_id: str
    version: str
    position: Position
    lines: bool = True


class Seen(NamedTuple):
    """A look at a job. ``settling``: more may still be said of it."""

    version: str
    settling: bool
    facts: Facts


class WorkspaceLook(NamedTuple):
    """The newest unfinished jobs of a workspace, those that ended just now, those that run, and the moment (ms)."""

    live: list[str]
    ended: list[str]
    running: list[str]
    at: int


def find_news(session: Session, followed: Sequence[Followed]) -> list[int]:
    """The places in ``followed`` of the jobs that have changed or said something."""
    if not followed:
        return []
    rows = run(
        session,
        NEWS,
        **_names(followed),
        versions=text_array(one.version for one in followed),
        log_epochs=array(one.position.log_epoch if one.lines else -1 for one in followed),
        log_lines=array(one.position.log_line for one in followed),
    )
    return [row[0] - 1 for row in rows]


def look_at_jobs(session: Session, followed: Sequence[Followed]) -> dict[int, Seen]:
    """Each of ``followed`` by its place. One that is missing in the answer does not exist (any more)."""
    if not followed:
        return {}
    rows = run(
        session,
        LOOK,
        **_names(followed),
        epochs=array(one.position.epoch for one in followed),
        log_epochs=array(one.position.log_epoch for one in followed),
        log_lines=array(one.position.log_line for one in followed),
    )
    return {row[0] - 1: Seen(row[1], row[2], _facts(*row[3:])) for row in rows}


def look_at_workspace(session: Session, asked: Sequence[tuple[str, int | None]]) -> list[WorkspaceLook]:
    """Which jobs there are in each workspace. With each comes the moment of an earlier look, None for the first."""
    if not asked:
        return []
    rows = run(
        session,
        WORKSPACE,
        workspace_ids=array(workspace_id for workspace_id, _ in asked),
        since=array("null" if at is None else max(0, at - WINDOW_MS) for _, at in asked),
    )
    found = {row[0]: WorkspaceLook(*row[1:]) for row in rows}
    return [found[number] for number in range(1, len(asked) + 1)]


def reveal_facts(session: Session, facts: Facts, *, to_reader: bool) -> Facts:
    """The same with everything sealed opened, or closed where it cannot be or its reader may not see it."""

    def shown(field: str, value: Any) -> Any:
        return reveal_value(session, facts.workspace_id, facts.job_id, field, value, to_reader=to_reader)

    progress = facts.progress
    if isinstance(progress, dict) and "message" in progress:
        progress = {**progress, "message": shown("progress", progress["message"])}
    return dataclasses.replace(
        facts,
        progress=progress,
        result=shown("result", facts.result),
        error=shown("error", facts.error),
        attempts={
            epoch: attempt._replace(error=shown("error", attempt.error)) for epoch, attempt in facts.attempts.items()
        },
        lines=[line._replace(message=shown("log", line.message)) for line in facts.lines],
    )


def _names(followed: Sequence[Followed]) -> dict[str, str]:
    return {
        "workspace_ids": array(one.workspace_id for one in followed),
        "ids": array(one.job_id for one in followed),
    }


def _facts(
    workspace_id: str,
    job_id: str,
    task: str,
    created_at: str,
    epoch: int,
    state: int | None,
    status: int | None,
    outcome: str | None,
    completed_at: str | None,
    past: str | None,
    progress: str | None,
    result: str | None,
    error_type: str | None,
    error: str | None,
    attempt_number: int,
    started_at: str | None,
    run_after: str | None,
    attempts: str | None,
    lines: str | None,
) -> Facts:
    known = [Attempt(*attempt) for attempt in json.loads(attempts or "[]")]
    said = [Line(*line) for line in json.loads(lines or "[]")]
    return Facts(
        workspace_id=workspace_id,
        job_id=job_id,
        task=task,
        created_at=created_at,
        epoch=epoch,
        running=state == RUNNING,
        ready=state == READY,
        ending=Ending(epoch, FINAL[status], outcome, completed_at or "") if status is not None else None,
        past=[_past_ending(**ending) for ending in json.loads(past or "[]")],
        attempts={attempt.epoch: attempt for attempt in known[:ATTEMPTS]},
        lines=said[:LINES],
        progress=json.loads(progress) if progress else None,
        progress_digest=digest(progress),
        result=json.loads(result) if result else None,
        error_type=error_type,
        error=error,
        attempt_number=attempt_number,
        started_at=started_at,
        run_after=run_after,
        reach=known[ATTEMPTS - 1].epoch if len(known) > ATTEMPTS else None,
        lines_reach=said[LINES - 1].epoch if len(said) > LINES else None,
    )


def _past_ending(epoch: int, status: str, outcome: str | None, endedAt: str, retriedAt: str) -> Ending:  # noqa: N803  # as stored
    return Ending(epoch, status, outcome, _in_utc(endedAt), _in_utc(retriedAt))


def _in_utc(moment: str) -> str:
    return moment_text(datetime.datetime.fromisoformat(moment))
