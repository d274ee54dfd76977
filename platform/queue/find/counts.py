"""How many jobs of each status a search finds, as far as it is worth while to count."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy.orm import Session

from jobplatform.errors import SearchError
from jobplatform.models import FINAL_STATUSES, Status
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.find.asked import LIVE, NUMBERS
from jobplatform.queue.find.rows import ITS_RECORD, end_of_look, page_of, visit_workspace
from jobplatform.queue.find.search import Search
from jobplatform.queue.find.ways import LOOK_UP, Way, way_through_live, way_to
from jobplatform.queue.statement import run

#: Counts go no further; "1,000+" is as good as any larger number.
MOST_COUNTED: Final = 1_000

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
cross join lateral ({ITS_RECORD}) r
"""

# What the planner would expect, who knows how often each value occurs.
_EXPECTED: Final = "explain select from jobplatform.job_records r where r.status = %(status)s"
_ROWS: Final = re.compile(r"rows=(\d+)")


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


@checks_arguments(SearchError)
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
    visit_workspace(session, search)
    wanted = tuple(statuses)
    found = {status: _count_live(session, search.with_status(status)) for status in wanted if status in LIVE}
    if not LIVE.issuperset(wanted):
        found |= _count_ended(session, search.with_status(None))
    return {status: found[status] for status in wanted}


def _count_live(session: Session, search: Search) -> Capped:
    if search.fingerprints:
        return Capped(0)
    way = way_to(session, search, None)
    if not way.is_live:
        return _count_some(session, way, page_of(way, "r.id"))
    # As many as are counted, whichever they are.
    way = way_through_live(search, None, way.parameters, "", order="")
    if not way.asked:
        sql = _COUNT_SOME.format(way=way.relation)
        return _capped(run(session, sql, limit=MOST_COUNTED + 1, **way.parameters).scalar_one(), more=False)
    sql = _COUNT_LIVE_LOOK.format(way=way.relation, asked=way.asked)
    counted, looked_at = run(session, sql, **way.parameters).one()
    return _capped(counted, more=looked_at >= LOOK_UP)


def _count_ended(session: Session, search: Search) -> dict[Status, Capped]:
    way = way_to(session, search, None)
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
    plan = run(session, _EXPECTED, status=NUMBERS[status]).scalars().first()
    expected = _ROWS.search(plan or "")
    about = int(expected[1]) if expected else 0
    # Statistics that know less than was seen are too old to tell.
    return replace(counted, about=about) if about > MOST_COUNTED else counted


def _count_some(session: Session, way: Way, relation: str) -> Capped:
    """Those of a relation, as far as they are counted; and whether there may be more behind the end of the look."""
    sql = _COUNT_SOME.format(way=relation)
    counted = run(session, sql, limit=MOST_COUNTED + 1, **way.parameters).scalar_one()
    return _capped(counted, more=counted <= MOST_COUNTED and end_of_look(session, way) is not None)


def _capped(count: int, *, more: bool) -> Capped:
    return Capped(MOST_COUNTED, more=True) if count > MOST_COUNTED else Capped(count, more)
