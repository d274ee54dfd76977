"""Find: the jobs that a search describes, newest first, a page at a time; nothing is ever looked at without an end.

What leads to them is decided by what the search says:

    id          the key, or the index of ids
    error       the index of fingerprints of attempts that ended a job; a type is looked up among the groups first
    only status pending or running   the narrow table of live jobs, or a workspace's part of it
    workspace   its jobs by key, newest first
    anything else                    all jobs by the index of ids, newest first

All but the first look at the newest 20,000 that the way leads to, or at 3,000 if each has to be looked up; then the
page says that it is not complete and where to go on. The other qualifiers are asked of each job on the way. What a live
job's own row answers is asked of all of them: that table is small by design.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from sqlalchemy.orm import Session

from jobplatform.errors import Problem, SearchError
from jobplatform.models import FINAL_STATUSES, Status, visit
from jobplatform.queue.seal import CLOSED_TEXT, sealed_form
from jobplatform.queue.search import Search
from jobplatform.queue.statement import array, run, text_array

#: Jobs that one page, or one count, looks at.
LOOK: Final = 20_000
#: And those of which each has to be looked up by its key first: live ones with their records, attempts with theirs.
LOOK_UP: Final = 3_000
#: Counts go no further; "1,000+" is as good as any larger number.
MOST_COUNTED: Final = 1_000
ERROR_SHOWN: Final = 300
#: Groups of errors that one search by type follows.
MOST_FINGERPRINTS: Final = 50
#: No failure has this one.
NO_FINGERPRINT: Final = ""

LIVE: Final = frozenset({Status.PENDING, Status.RUNNING})
_NUMBERS: Final = {status: number for number, status in FINAL_STATUSES.items()}


@dataclass(frozen=True, slots=True)
class JobLine:
    """A job in a list. ``error`` is cut, and ``[sealed]`` for an encrypted job."""

    workspace_id: uuid.UUID
    id: uuid.UUID
    task: str
    queue: str
    status: Status
    outcome: str | None
    priority: int
    attempts: int
    max_attempts: int
    tags: tuple[str, ...]
    created_at: datetime.datetime
    run_after: datetime.datetime
    started_at: datetime.datetime | None
    completed_at: datetime.datetime | None
    error_type: str | None
    error: str | None
    progress: Any | None


@dataclass(frozen=True, slots=True)
class JobPage:
    """Jobs, newest first. ``next`` is what the next page is ``before``; None when there is nothing more.

    Not ``complete``: only so many of the newest jobs on the way were looked at, back to ``looked_back_to``; ``next``
    goes on from there, even if this page has no job at all.
    """

    jobs: tuple[JobLine, ...]
    next: str | None
    complete: bool
    looked_back_to: datetime.datetime | None


@dataclass(frozen=True, slots=True)
class Capped:
    """A count that went no further than it had to. ``more``: there are more, or there may be.

    ``about``: how many there are by the database's statistics, where these are as good as a look.

    >>> str(Capped(12)), str(Capped(12, more=True)), str(Capped(0, more=True)), str(Capped(1000, True, 927_312))
    ('12', '12+', '0 recent', '≈930,000')
    """

    count: int
    more: bool = False
    about: int | None = None

    def __str__(self) -> str:
        if self.about:
            return f"≈{round(self.about, 2 - len(str(self.about))):,}"
        if self.more and not self.count:
            return "0 recent"
        return f"{self.count:,}{'+' if self.more else ''}"


@dataclass(frozen=True, slots=True)
class JobCounts:
    """How many jobs of each status a search finds, if the search itself says nothing of the status."""

    pending: Capped
    running: Capped
    completed: Capped
    failed: Capped
    cancelled: Capped

    def of(self, status: Status | str) -> Capped:
        found: Capped = getattr(self, Status(status).value)
        return found


#: Workspace and id.
Key = tuple[uuid.UUID, uuid.UUID]


class Keys(NamedTuple):
    """The (workspace, id) of jobs, newest first; how many were looked at; and where to go on, None at the end."""

    keys: Sequence[Key]
    looked_at: int
    next: str | None


def find_jobs(session: Session, search: Search, *, limit: int = 50, before: str | None = None) -> JobPage:
    """A page of the jobs that a search finds, newest first. ``before`` is the ``next`` of the page before it.

    On a Session that sees all workspaces; who sees one has to say it in the search, or what is not his would be walked
    past. Raises :class:`SearchError` for what no index leads to, with what to say instead.
    """
    _visit(session, search)
    way = _way(session, search, _cursor(before))
    rows, end = _rows(session, way, _LINE, limit + 1)
    lines = tuple(_line(row) for row in rows[:limit])
    if len(rows) > limit:
        return JobPage(lines, _cursor_text(rows[limit - 1]), complete=True, looked_back_to=None)
    if end is None:
        return JobPage(lines, None, complete=True, looked_back_to=None)
    return JobPage(lines, _cursor_text(end), complete=False, looked_back_to=_made_at(end[1]))


def count_jobs(session: Session, search: Search) -> JobCounts:
    """How many of each status, for tabs: what the search says of the status counts for none of them.

    No count goes beyond 1,000, and those of ended jobs not beyond the newest 20,000 on their way. Where that is not the
    end of it, and the search says nothing, the statistics of the database say about how many there are: they know how
    often a status occurs, and not how often it does in a task.
    """
    found = count_statuses(session, search, Status)
    if search.with_status(None).is_empty:
        found |= {status: _estimated(session, status, found[status]) for status in FINAL_STATUSES.values()}
    return JobCounts(**{status.value: count for status, count in found.items()})


def count_statuses(session: Session, search: Search, statuses: Iterable[Status]) -> dict[Status, Capped]:
    """The same of some statuses, at the cost of those."""
    _visit(session, search)
    wanted = tuple(statuses)
    found = {status: _count_live(session, search.with_status(status)) for status in wanted if status in LIVE}
    if not LIVE.issuperset(wanted):
        found |= _count_ended(session, search.with_status(None))
    return {status: found[status] for status in wanted}


def find_keys(
    session: Session, search: Search, *, limit: int, before: str | None, made_until: datetime.datetime
) -> Keys:
    """The next ``limit`` jobs that a search finds, by their keys: for whoever does something to all of them.

    Those that were made after ``made_until`` are left out.
    """
    _visit(session, search)
    way = _way(session, search, _cursor(before), also="and r.created_at <= %(made_until)s")
    way.parameters["made_until"] = made_until
    rows, end = _rows(session, way, "r.workspace_id, r.id", limit)
    keys = [(row[0], row[1]) for row in rows]
    if len(keys) == limit:
        return Keys(keys, limit, _cursor_text(keys[-1]))
    return Keys(keys, len(keys) if end is None else way.look or 0, None if end is None else _cursor_text(end))


# -- ways ---------------------------------------------------------------------------------------------

_LINE: Final = f"""
    r.workspace_id, r.id, r.task, r.queue, r.status, q.state, r.outcome, r.priority,
    coalesce(q.attempts, r.attempts), r.max_attempts, r.tags, r.created_at, coalesce(q.run_after, r.run_after),
    coalesce(q.started_at, r.started_at), r.completed_at, r.error_type, left(r.error, {ERROR_SHOWN * 4}),
    case when q.id is null then r.progress else q.progress end
"""
_REST: Final = """
    r.task, r.queue, r.status, r.outcome, r.priority, r.attempts, r.max_attempts, r.tags, r.created_at, r.run_after,
    r.started_at, r.completed_at, r.error_type, r.error, r.progress
"""
_RECORD: Final = f"r.workspace_id, r.id, {_REST.strip()}"
# Each relation `r` of at most so many jobs, in order; what is asked of each job comes outside. A LIMIT inside keeps the
# planner from anything cleverer, and is why the first page of a common search touches a few dozen rows.
ALL: Final = f"""
    select {_RECORD}
    from jobplatform.job_records r
    where true {{before}}
    order by r.id desc, r.workspace_id desc
    limit {LOOK}
"""
# Several of these, in order already, are merged a row at a time.
OF_WORKSPACE: Final = f"""
    select {_RECORD}
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
    select {_RECORD}
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

_PAGE: Final = """
select {columns}
from ({way}) r
left join lateral (
    select q.id, q.state, q.attempts, q.run_after, q.started_at, q.progress
    from jobplatform.job_queue q
    where r.status is null and q.workspace_id = r.workspace_id and q.id = r.id
    limit 1
) q on true
where true {asked}
order by r.id desc, r.workspace_id desc
limit %(limit)s
"""
_ITS_RECORD: Final = f"""
    select {_RECORD}
    from jobplatform.job_records r
    where r.workspace_id = q.workspace_id and r.id = q.id
    limit 1
"""
_LIVE_PAGE: Final = f"""
select {{columns}}
from ({{way}}) q
cross join lateral ({_ITS_RECORD}) r
where true {{asked}}
order by q.id desc, q.workspace_id desc
limit %(limit)s
"""
# Where the look ended comes as a last row of the same statement: to find the newest live jobs takes all of them, and
# that once.
_LIVE_LOOK: Final = f"""
with looked as materialized ({{way}})
(
    select {{columns}}, false as is_end
    from looked q
    cross join lateral ({_ITS_RECORD}) r
    where true {{asked}}
    order by q.id desc, q.workspace_id desc
    limit %(limit)s
)
union all
(
    select {{columns}}, true
    from (select * from looked order by id desc, workspace_id desc offset {LOOK_UP - 1} limit 1) q
    cross join lateral ({_ITS_RECORD}) r
)
"""
# Where the look ended: the last one of it, if it is full.
_END: Final = """
select r.workspace_id, r.id
from ({looked_at}) r
order by r.id desc, r.workspace_id desc
offset {last}
"""
# By status, and how many were looked at: if that is all that one look may see, there may be more.
_COUNT: Final = """
select r.status, count(*) filter (where true {asked}), count(*)
from ({way}) r
group by r.status
"""
_COUNT_SOME: Final = "select count(*) from (select from ({way}) counted limit %(limit)s) found"
# Of any live jobs, not of the newest: a count that says "at least" is as true of them, and costs no sorting.
_COUNT_LIVE_LOOK: Final = f"""
select count(*) filter (where true {{asked}}), count(*)
from ({{way}}) q
cross join lateral ({_ITS_RECORD}) r
"""

# What the planner would expect, who knows how often each value occurs.
_EXPECTED: Final = "explain select from jobplatform.job_records r where r.status = %(status)s"
_ROWS: Final = re.compile(r"rows=(\d+)")

FINGERPRINTS_OF_TYPES: Final = f"""
select distinct fingerprint
from jobplatform.{{table}}
where error_type = any(%(types)s::text[])
    and (%(tasks)s::text[] is null or task = any(%(tasks)s::text[]))
    {{which}}
limit {MOST_FINGERPRINTS + 1}
"""


@dataclass(frozen=True, slots=True)
class _Way:
    """What leads to the jobs of a search: the relation in order, what is asked of each, and the values of both."""

    relation: str
    asked: str
    parameters: dict[str, Any]
    is_live: bool = False
    #: What is looked at, if that is not the relation; and how much of it at most, None if all of it.
    looked_at: str | None = None
    look: int | None = LOOK


def _way(session: Session, search: Search, before: Key | None, also: str = "") -> _Way:
    """``also`` is asked of each record beside what the search says."""
    parameters: dict[str, Any] = {"workspace_ids": array(search.workspace_ids), "ids": array(search.ids)}
    if before is not None:
        parameters |= {"before_workspace": before[0], "before_id": before[1]}
    if search.ids:
        relation = BY_IDS.format(workspaces=_in_workspaces(search, "r"), before=_behind(before, "r.id", "r"))
        return _Way(relation, " ".join([*_asked(search, parameters, errors=True), also]), parameters)
    if search.errors and (not search.statuses or Status.FAILED in search.statuses):
        return _way_by_errors(session, search, before, parameters, also)
    if search.statuses and LIVE.issuperset(search.statuses):
        return _way_through_live(search, before, parameters, also)
    asked = " ".join([*_asked(search, parameters, errors=True), also])
    if search.workspace_ids:
        return _Way(_merged(_branches_of_workspaces(search, before, parameters), LOOK), asked, parameters)
    return _Way(ALL.format(before=_behind(before, "r.id", "r")), asked, parameters)


def _branches_of_workspaces(search: Search, before: Key | None, parameters: dict[str, Any]) -> Iterator[str]:
    """Each by its key, which does not lead to a pair that begins with the id."""
    behind = _behind(before, "r.id", "r") and f"and r.id <= %(before_id)s {_behind(before, 'r.id', 'r')}"
    for number, workspace_id in enumerate(search.workspace_ids):
        parameters[f"workspace_{number}"] = workspace_id
        yield OF_WORKSPACE.format(name=f"workspace_{number}", before=behind)


def _way_by_errors(session: Session, search: Search, before: Key | None, parameters: dict[str, Any], also: str) -> _Way:
    branches = []
    for number, fingerprint in enumerate(_fingerprints(session, search) or [NO_FINGERPRINT]):
        parameters[f"fingerprint_{number}"] = fingerprint
        branches.append(
            OF_FINGERPRINT.format(
                name=f"fingerprint_{number}",
                workspaces=_in_workspaces(search, "a"),
                before=_behind(before, "a.job_id", "a"),
            )
        )
    attempts = _merged(branches, LOOK_UP)
    asked = " ".join([*_asked(search, parameters), also])
    relation = BY_FINGERPRINT.format(attempts=attempts)
    return _Way(relation, asked, parameters, looked_at=attempts, look=LOOK_UP)


def _merged(branches: Iterable[str], limit: int) -> str:
    found = list(branches)
    if len(found) == 1:
        return found[0]
    return MERGED.format(branches=" union all ".join(f"({branch})" for branch in found), limit=limit)


def _way_through_live(
    search: Search, before: Key | None, parameters: dict[str, Any], also: str, order: str = NEWEST_FIRST
) -> _Way:
    """Without a question about the record the narrow table answers alone, however many rows it looks at."""
    live = " ".join(_asked_of_live(search, parameters))
    asked = " ".join([*_asked_of_records(search, parameters), also]).strip()
    relation = OF_LIVE.format(
        workspaces=_in_workspaces(search, "q"),
        before=_behind(before, "q.id", "q"),
        asked=live,
        order=order,
        limit=LOOK_UP if asked else "%(limit)s",
    )
    return _Way(relation, asked, parameters, is_live=True, look=LOOK_UP if asked else None)


def _behind(before: Key | None, job_id: str, row: str) -> str:
    """Only where there is something before: the planner takes any such condition for a small part of the table."""
    return "" if before is None else f"and ({job_id}, {row}.workspace_id) < (%(before_id)s, %(before_workspace)s)"


def _in_workspaces(search: Search, row: str) -> str:
    """Said only if it is meant: a plan for both would be one for all."""
    return f"and {row}.workspace_id = any(%(workspace_ids)s::uuid[])" if search.workspace_ids else ""


def _asked(search: Search, parameters: dict[str, Any], *, errors: bool = False) -> Iterator[str]:
    """Of a job with its record as ``r`` and its queue row, if it has one, as ``q``."""
    if search.statuses:
        parameters["statuses"] = array(_NUMBERS[status] for status in search.statuses if status in _NUMBERS)
        wanted = ["r.status = any(%(statuses)s::smallint[])"]
        wanted += ["q.state = 2"] if Status.RUNNING in search.statuses else []
        wanted += ["q.state < 2"] if Status.PENDING in search.statuses else []
        yield f"and ({' or '.join(wanted)})"
    yield from _asked_of_both(search, parameters, "r")
    yield from _asked_of_records(search, parameters, errors=errors)


def _asked_of_live(search: Search, parameters: dict[str, Any]) -> Iterator[str]:
    if set(search.statuses) != LIVE:
        yield "and q.state = 2" if Status.RUNNING in search.statuses else "and q.state < 2"
    yield from _asked_of_both(search, parameters, "q")


def _asked_of_both(search: Search, parameters: dict[str, Any], row: str) -> Iterator[str]:
    for column, values in (("task", search.tasks), ("queue", search.queues)):
        if values:
            parameters[column] = text_array(values)
            yield f"and {row}.{column} = any(%({column})s::text[])"
    if search.priorities:
        yield f"and ({' or '.join(_in_range(search, parameters, row))})"


def _in_range(search: Search, parameters: dict[str, Any], row: str) -> Iterator[str]:
    for number, (low, high) in enumerate(search.priorities):
        parameters |= {f"low_{number}": low, f"high_{number}": high}
        bounds = [f"{row}.priority >= %(low_{number})s"] if low is not None else []
        bounds += [f"{row}.priority <= %(high_{number})s"] if high is not None else []
        yield f"({' and '.join(bounds)})"


def _asked_of_records(search: Search, parameters: dict[str, Any], *, errors: bool = True) -> Iterator[str]:
    for number, any_of in enumerate(search.tags):
        parameters[f"tags_{number}"] = text_array(any_of)
        yield f"and r.tags && %(tags_{number})s::text[]"
    if errors and search.errors:
        _refuse_fingerprints(search)
        parameters["error_types"] = text_array(search.error_types)
        yield "and r.error_type = any(%(error_types)s::text[])"


def _refuse_fingerprints(search: Search) -> None:
    if not search.fingerprints:
        return
    named = f"id:{search.ids[0]}" if search.ids else f"status:{','.join(search.statuses)}"
    problem = f"{search.fingerprints[0]} is a group of jobs that failed; leave out {named}"
    raise SearchError([Problem("/q/error", problem)])


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


# -- reading ------------------------------------------------------------------------------------------


def _visit(session: Session, search: Search) -> None:
    if len(search.workspace_ids) == 1:
        visit(session, search.workspace_ids[0])


def _rows(session: Session, way: _Way, columns: str, limit: int) -> tuple[Sequence[Any], Key | None]:
    """The first of them, and, where these are fewer than asked for, where the look ended."""
    if way.is_live and way.look is not None:
        sql = _LIVE_LOOK.format(columns=columns, way=way.relation, asked=way.asked)
        told = run(session, sql, limit=limit, **way.parameters).all()
        found, ends = [row[:-1] for row in told if not row[-1]], [row for row in told if row[-1]]
        return found, (ends[0][0], ends[0][1]) if ends and len(found) < limit else None
    rows = run(session, _page(way, columns), limit=limit, **way.parameters).all()
    return rows, _end_of_look(session, way) if len(rows) < limit else None


def _page(way: _Way, columns: str) -> str:
    template = _LIVE_PAGE if way.is_live else _PAGE
    return template.format(columns=columns, way=way.relation, asked=way.asked)


def _end_of_look(session: Session, way: _Way) -> Key | None:
    if way.look is None:
        return None
    sql = _END.format(looked_at=way.looked_at or way.relation, last=way.look - 1)
    row = run(session, sql, **way.parameters).one_or_none()
    return None if row is None else (row[0], row[1])


def _count_live(session: Session, search: Search) -> Capped:
    if search.fingerprints:
        return Capped(0)
    way = _way(session, search, None)
    if not way.is_live:
        return _count_some(session, way, _page(way, "r.id"))
    # As many as are counted, whichever they are.
    way = _way_through_live(search, None, way.parameters, "", order="")
    if not way.asked:
        sql = _COUNT_SOME.format(way=way.relation)
        return _capped(run(session, sql, limit=MOST_COUNTED + 1, **way.parameters).scalar_one(), more=False)
    sql = _COUNT_LIVE_LOOK.format(way=way.relation, asked=way.asked)
    counted, looked_at = run(session, sql, **way.parameters).one()
    return _capped(counted, more=looked_at >= LOOK_UP)


def _count_ended(session: Session, search: Search) -> dict[Status, Capped]:
    way = _way(session, search, None)
    if way.looked_at is not None:
        # Only failures are found by what they have in common, and no more of them than are counted.
        failed = _count_some(session, way, f"select from ({way.relation}) r where true {way.asked}")
        return {status: failed if status is Status.FAILED else Capped(0) for status in FINAL_STATUSES.values()}
    rows = run(session, _COUNT.format(way=way.relation, asked=way.asked), **way.parameters).all()
    counts = {row[0]: row[1] for row in rows}
    more = way.look is not None and sum(row[2] for row in rows) >= way.look
    return {status: _capped(counts.get(number, 0), more=more) for number, status in FINAL_STATUSES.items()}


def _estimated(session: Session, status: Status, counted: Capped) -> Capped:
    if not counted.more:
        return counted
    plan = run(session, _EXPECTED, status=_NUMBERS[status]).scalars().first()
    expected = _ROWS.search(plan or "")
    about = int(expected[1]) if expected else 0
    # Statistics that know less than was seen are too old to tell.
    return replace(counted, about=about) if about > MOST_COUNTED else counted


def _count_some(session: Session, way: _Way, relation: str) -> Capped:
    """Those of a relation, as far as they are counted; and whether there may be more behind the end of the look."""
    sql = _COUNT_SOME.format(way=relation)
    counted = run(session, sql, limit=MOST_COUNTED + 1, **way.parameters).scalar_one()
    return _capped(counted, more=counted <= MOST_COUNTED and _end_of_look(session, way) is not None)


def _capped(count: int, *, more: bool) -> Capped:
    return Capped(MOST_COUNTED, more=True) if count > MOST_COUNTED else Capped(count, more)


def _line(row: Sequence[Any]) -> JobLine:
    (
        workspace_id, job_id, task, queue, status, state, outcome, priority, attempts, max_attempts, tags, created_at,
        run_after, started_at, completed_at, error_type, error, progress,
    ) = row  # fmt: skip
    return JobLine(
        workspace_id=workspace_id,
        id=job_id,
        task=task,
        queue=queue,
        status=status_of(status, state) or Status.PENDING,
        outcome=outcome,
        priority=priority,
        attempts=attempts,
        max_attempts=max_attempts,
        tags=tuple(tags),
        created_at=created_at,
        run_after=run_after,
        started_at=started_at,
        completed_at=completed_at,
        error_type=error_type,
        error=short_error(error),
        progress=progress,
    )


def status_of(final: int | None, state: int | None) -> Status | None:
    """A job's status, from what its record and its queue row say; None when there is neither."""
    if final is not None:
        return FINAL_STATUSES[final]
    if state is None:
        return None
    return Status.RUNNING if state == 2 else Status.PENDING


def short_error(error: str | None) -> str | None:
    """As much of an error as a list has room for."""
    if error is None:
        return None
    if error.startswith('{"$sealed"') or sealed_form(error):
        return CLOSED_TEXT
    return error if len(error) <= ERROR_SHOWN else error[: ERROR_SHOWN - 1] + "…"


def _made_at(job_id: uuid.UUID) -> datetime.datetime | None:
    """When a job was made, as its id says; None for an id that was not made by us."""
    if job_id.version != 7:
        return None
    return datetime.datetime.fromtimestamp((job_id.int >> 80) / 1000, tz=datetime.UTC)


def _cursor_text(key: Sequence[Any]) -> str:
    return base64.urlsafe_b64encode(key[0].bytes + key[1].bytes).decode().rstrip("=")


def _cursor(text: str | None) -> Key | None:
    if text is None:
        return None
    try:
        value = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return uuid.UUID(bytes=value[:16]), uuid.UUID(bytes=value[16:])
    except (binascii.Error, ValueError):
        raise SearchError([Problem("/before", "is no cursor of ours; begin with the first page")]) from None
