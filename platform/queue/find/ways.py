"""Ways: the relation that leads to the jobs of a search, newest first, and no further than a look goes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.orm import Session

from jobplatform.errors import Problem, SearchError
from jobplatform.models import Status
from jobplatform.queue.find.asked import (
    LIVE,
    Key,
    asked_of,
    asked_of_live,
    asked_of_records,
    behind,
    in_workspaces,
)
from jobplatform.queue.find.search import Search
from jobplatform.queue.statement import array, run, text_array

#: Jobs that one page, or one count, looks at.
LOOK: Final = 20_000
#: And those of which each has to be looked up by its key first: live ones with their records, attempts with theirs.
LOOK_UP: Final = 3_000
#: Groups of errors that one search by type follows.
MOST_FINGERPRINTS: Final = 50
#: No failure has this one.
NO_FINGERPRINT: Final = ""

_REST: Final = """
    r.task, r.queue, r.status, r.outcome, r.priority, r.attempts, r.max_attempts, r.tags, r.created_at, r.run_after,
    r.started_at, r.completed_at, r.error_type, r.error, r.progress
"""
RECORD: Final = f"r.workspace_id, r.id, {_REST.strip()}"
# Each relation `r` of at most so many jobs, in order; what is asked of each job comes outside. A LIMIT inside keeps the
# planner from anything cleverer, and is why the first page of a common search touches a few dozen rows.
ALL: Final = f"""
    select {RECORD}
    from jobplatform.job_records r
    where true {{before}}
    order by r.id desc, r.workspace_id desc
    limit {LOOK}
"""
# Several of these, in order already, are merged a row at a time.
OF_WORKSPACE: Final = f"""
    select {RECORD}
    from jobplatform.job_records r
    where r.workspace_id = %({{name}})s {{before}}
    order by r.id desc, r.workspace_id desc
    limit {LOOK}
"""
MERGED: Final = """
    select *
    from ({branches}) r
    order by r.id desc, r.workspace_id desc
    limit {limit}
"""
BY_IDS: Final = f"""
    select {RECORD}
    from jobplatform.job_records r
    where r.id = any(%(ids)s::uuid[])
        {{workspaces}}
        {{before}}
    order by r.id desc, r.workspace_id desc
    limit {LOOK}
"""
# An attempt that ended its job and was not retried since.
OF_FINGERPRINT: Final = f"""
    select a.workspace_id, a.job_id as id, a.epoch
    from jobplatform.job_attempts a
    where a.fingerprint = %({{name}})s {{workspaces}} {{before}}
    order by a.job_id desc, a.workspace_id desc
    limit {LOOK_UP}
"""
BY_FINGERPRINT: Final = f"""
    select a.workspace_id, a.id, r.*
    from ({{attempts}}) a
    cross join lateral (
        select {_REST}
        from jobplatform.job_records r
        where r.workspace_id = a.workspace_id and r.id = a.id and r.status = 4 and r.epoch = a.epoch
        limit 1
    ) r
    order by a.id desc, a.workspace_id desc
"""
# Live jobs know most of themselves; the rest is read for those that are shown.
OF_LIVE: Final = """
    select q.workspace_id, q.id, q.state, q.attempts, q.run_after, q.started_at, q.progress
    from jobplatform.job_queue q
    where true
        {workspaces}
        {before}
        {asked}
    {order}
    limit {limit}
"""
NEWEST_FIRST: Final = "order by q.id desc, q.workspace_id desc"

FINGERPRINTS_OF_TYPES: Final = f"""
select distinct fingerprint
from jobplatform.{{table}}
where error_type = any(%(types)s::text[])
    and (%(tasks)s::text[] is null or task = any(%(tasks)s::text[]))
    {{which}}
limit {MOST_FINGERPRINTS + 1}
"""


@dataclass(frozen=True, slots=True)
class Way:
    """What leads to the jobs of a search: the relation in order, what is asked of each, and the values of both."""

    relation: str
    asked: str
    parameters: dict[str, Any]
    is_live: bool = False
    #: What is looked at, if that is not the relation; and how much of it at most, None if all of it.
    looked_at: str | None = None
    look: int | None = LOOK


def way_to(session: Session, search: Search, before: Key | None, also: str = "") -> Way:
    """``also`` is asked of each record beside what the search says."""
    parameters: dict[str, Any] = {"workspace_ids": array(search.workspace_ids), "ids": array(search.ids)}
    if before is not None:
        parameters |= {"before_workspace": before[0], "before_id": before[1]}
    if search.ids:
        relation = BY_IDS.format(workspaces=in_workspaces(search, "r"), before=behind(before, "r.id", "r"))
        return Way(relation, " ".join([*asked_of(search, parameters, errors=True), also]), parameters)
    if search.errors and (not search.statuses or Status.FAILED in search.statuses):
        return _way_by_errors(session, search, before, parameters, also)
    if search.statuses and LIVE.issuperset(search.statuses):
        return way_through_live(search, before, parameters, also)
    asked = " ".join([*asked_of(search, parameters, errors=True), also])
    if search.workspace_ids:
        return Way(_merged(_branches_of_workspaces(search, before, parameters), LOOK), asked, parameters)
    return Way(ALL.format(before=behind(before, "r.id", "r")), asked, parameters)


def _branches_of_workspaces(search: Search, before: Key | None, parameters: dict[str, Any]) -> Iterator[str]:
    """Each by its key, which does not lead to a pair that begins with the id."""
    older = behind(before, "r.id", "r") and f"and r.id <= %(before_id)s {behind(before, 'r.id', 'r')}"
    for number, workspace_id in enumerate(search.workspace_ids):
        parameters[f"workspace_{number}"] = workspace_id
        yield OF_WORKSPACE.format(name=f"workspace_{number}", before=older)


def _way_by_errors(session: Session, search: Search, before: Key | None, parameters: dict[str, Any], also: str) -> Way:
    branches = []
    for number, fingerprint in enumerate(_fingerprints(session, search) or [NO_FINGERPRINT]):
        parameters[f"fingerprint_{number}"] = fingerprint
        branches.append(
            OF_FINGERPRINT.format(
                name=f"fingerprint_{number}",
                workspaces=in_workspaces(search, "a"),
                before=behind(before, "a.job_id", "a"),
            )
        )
    attempts = _merged(branches, LOOK_UP)
    asked = " ".join([*asked_of(search, parameters), also])
    relation = BY_FINGERPRINT.format(attempts=attempts)
    return Way(relation, asked, parameters, looked_at=attempts, look=LOOK_UP)


def _merged(branches: Iterable[str], limit: int) -> str:
    found = list(branches)
    if len(found) == 1:
        return found[0]
    return MERGED.format(branches=" union all ".join(f"({branch})" for branch in found), limit=limit)


def way_through_live(
    search: Search, before: Key | None, parameters: dict[str, Any], also: str, order: str = NEWEST_FIRST
) -> Way:
    """Without a question about the record the narrow table answers alone, however many rows it looks at."""
    live = " ".join(asked_of_live(search, parameters))
    asked = " ".join([*asked_of_records(search, parameters), also]).strip()
    relation = OF_LIVE.format(
        workspaces=in_workspaces(search, "q"),
        before=behind(before, "q.id", "q"),
        asked=live,
        order=order,
        limit=LOOK_UP if asked else "%(limit)s",
    )
    return Way(relation, asked, parameters, is_live=True, look=LOOK_UP if asked else None)


def _fingerprints(session: Session, search: Search) -> list[str]:
    """Of the groups that the search names, or whose type it names."""
    if not search.error_types:
        return list(search.fingerprints)
    table, which = ("platform_error_groups", "")
    if search.workspace_ids:
        table, which = ("error_groups", "and workspace_id = any(%(workspace_ids)s::uuid[])")
    found = run(
        session,
        FINGERPRINTS_OF_TYPES.format(table=table, which=which),
        types=text_array(search.error_types),
        tasks=text_array(search.tasks) if search.tasks else None,
        workspace_ids=array(search.workspace_ids),
    ).scalars()
    fingerprints = [*search.fingerprints, *found]
    if len(fingerprints) > MOST_FINGERPRINTS:
        said = ", ".join(search.error_types)
        problem = f"{said} is what more than {MOST_FINGERPRINTS} groups of errors are; say a task:, or one of them"
        raise SearchError([Problem("/q/error", problem)])
    return fingerprints
