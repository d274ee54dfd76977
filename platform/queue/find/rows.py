"""Rows: what stands at the end of a way, and where a look ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy.orm import Session

from jobplatform.models import visit
from jobplatform.queue.find.asked import Key
from jobplatform.queue.find.search import Search
from jobplatform.queue.find.ways import LOOK_UP, RECORD, Way
from jobplatform.queue.statement import run

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
ITS_RECORD: Final = f"""
    select {RECORD}
    from jobplatform.job_records r
    where r.workspace_id = q.workspace_id and r.id = q.id
    limit 1
"""
_LIVE_PAGE: Final = f"""
select {{columns}}
from ({{way}}) q
cross join lateral ({ITS_RECORD}) r
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
    cross join lateral ({ITS_RECORD}) r
    where true {{asked}}
    order by q.id desc, q.workspace_id desc
    limit %(limit)s
)
union all
(
    select {{columns}}, true
    from (select * from looked order by id desc, workspace_id desc offset {LOOK_UP - 1} limit 1) q
    cross join lateral ({ITS_RECORD}) r
)
"""
# Where the look ended: the last one of it, if it is full.
_END: Final = """
select r.workspace_id, r.id
from ({looked_at}) r
order by r.id desc, r.workspace_id desc
offset {last}
"""


def visit_workspace(session: Session, search: Search) -> None:
    """Tell the database whose jobs are read, where it is one workspace."""
    if len(search.workspace_ids) == 1:
        visit(session, search.workspace_ids[0])


def read_rows(session: Session, way: Way, columns: str, limit: int) -> tuple[Sequence[Any], Key | None]:
    """The first of them, and, where these are fewer than asked for, where the look ended."""
    if way.is_live and way.look is not None:
        sql = _LIVE_LOOK.format(columns=columns, way=way.relation, asked=way.asked)
        told = run(session, sql, limit=limit, **way.parameters).all()
        found, ends = [row[:-1] for row in told if not row[-1]], [row for row in told if row[-1]]
        return found, (ends[0][0], ends[0][1]) if ends and len(found) < limit else None
    rows = run(session, page_of(way, columns), limit=limit, **way.parameters).all()
    return rows, end_of_look(session, way) if len(rows) < limit else None


def page_of(way: Way, columns: str) -> str:
    """The statement that reads a page of ``columns`` along this way."""
    template = _LIVE_PAGE if way.is_live else _PAGE
    return template.format(columns=columns, way=way.relation, asked=way.asked)


def end_of_look(session: Session, way: Way) -> Key | None:
    """The key of the last job that this way looks at; None where it ends by itself."""
    if way.look is None:
        return None
    sql = _END.format(looked_at=way.looked_at or way.relation, last=way.look - 1)
    row = run(session, sql, **way.parameters).one_or_none()
    return None if row is None else (row[0], row[1])
