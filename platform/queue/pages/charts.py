"""Charts: what ended over time, from cells of equal endings. See numbers/count.py for how these come to be."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from sqlalchemy.orm import Session

from jobplatform.errors import InvalidLimitError, Problem
from jobplatform.models import UNKNOWN, visit
from jobplatform.queue.numbers.count import CHORE
from jobplatform.queue.statement import run

Span = Literal["1h", "24h", "7d", "30d"]

#: By span: how far apart its points are, and how many there are.
STEPS: Final[Mapping[Span, tuple[datetime.timedelta, int]]] = {
    "1h": (datetime.timedelta(minutes=1), 60),
    "24h": (datetime.timedelta(minutes=15), 96),
    "7d": (datetime.timedelta(hours=1), 168),
    "30d": (datetime.timedelta(days=1), 30),
}

# Every length of cell: which of them there are depends on how far a chore is. A point is told several times over: by
# status, by wait and by run, so that what comes back is as small whatever the number of cells. Cells are put together
# by a moment, which is a number inside the server, and only then counted from the first point on.
_POINTS = """
select
    p.name,
    round(extract(epoch from p.at - %(begin_at)s) / %(step)s)::int as nth,
    p.status,
    p.skipped,
    p.wait,
    p.run,
    p.amount,
    p.retries
from ({cells}) p
"""
_BINNED = "date_bin(make_interval(secs => %(step)s), {}, %(begin_at)s)"
_OF_CELL = _BINNED.format("c.at")

# A platform's cell says one of the three already.
_OF_PLATFORM = """
    select
        {name} as name,
        {at} as at,
        c.status,
        c.outcome = 'skipped' as skipped,
        c.wait,
        c.run,
        sum(c.amount)::bigint as amount,
        sum(c.retries)::bigint as retries
    from jobplatform.platform_cells c
    where {which} and c.minutes = any('{{1,15,60,1440}}'::smallint[]) and c.at >= %(begin_at)s
    group by 1, 2, 3, 4, 5, 6
"""
_QUEUES = "c.queue <> '' and c.task = ''"
_TASKS = "c.task <> '' and c.queue = ''"
OF_PLATFORM: Final = _POINTS.format(
    cells=_OF_PLATFORM.format(name="''", at=_OF_CELL, which="c.queue = %(queue)s and c.task = %(task)s")
)
BY_QUEUE: Final = _POINTS.format(cells=_OF_PLATFORM.format(name="c.queue", at=_OF_CELL, which=_QUEUES))
COUNTS_BY_QUEUE: Final = _POINTS.format(
    cells=_OF_PLATFORM.format(name="c.queue", at=_OF_CELL, which=f"{_QUEUES} and c.status > 0")
)
BY_TASK: Final = _POINTS.format(cells=_OF_PLATFORM.format(name="c.task", at=_OF_CELL, which=_TASKS))
# All of the span as one point: a list of tasks has a line of numbers for each, and no picture.
TOTAL_BY_TASK: Final = _POINTS.format(cells=_OF_PLATFORM.format(name="c.task", at="%(begin_at)s", which=_TASKS))
_OF_WORKSPACE = f"""
    select
        '' as name,
        {_OF_CELL} as at,
        c.status,
        c.outcome = 'skipped' as skipped,
        c.wait,
        c.run,
        sum(c.amount)::bigint as amount,
        sum(c.retries)::bigint as retries
    from jobplatform.workspace_cells c
    where c.workspace_id = %(workspace_id)s
        and %(queue)s in ('', c.queue)
        and %(task)s in ('', c.task)
        and c.minutes = any('{{minutes}}'::smallint[])
        and c.at >= %(begin_at)s
    group by grouping sets ((2, 3, 4), (2, 5), (2, 6))
"""
# What is old of a workspace has been put together already.
_TOTALS_OF_WORKSPACE = f"""
    select
        '',
        {_BINNED.format("t.at")},
        m.status,
        m.skipped,
        m.wait,
        m.run,
        sum(m.amount)::bigint,
        sum(m.retries)::bigint
    from jobplatform.workspace_totals t
    cross join lateral (
        select m.status, m.skipped, null::int as wait, null::int as run, m.amount, m.retries
        from (
            values (3, false, t.completed - t.skipped, t.retries), (3, true, t.skipped, 0), (4, false, t.failed, 0),
                (5, false, t.cancelled, 0)
        ) as m(status, skipped, amount, retries)
        union all
        select null, null, w.nth - 1, null, w.amount, 0 from unnest(t.waits) with ordinality as w(amount, nth)
        union all
        select null, null, null, r.nth - 1, r.amount, 0 from unnest(t.runs) with ordinality as r(amount, nth)
    ) m
    where t.workspace_id = %(workspace_id)s
        and t.minutes = any('{{15,60,1440}}'::smallint[])
        and t.at >= %(begin_at)s
        and (m.amount > 0 or m.retries > 0)
    group by 1, 2, 3, 4, 5, 6
"""
OF_WORKSPACE: Final = _POINTS.format(cells=f"{_OF_WORKSPACE.format(minutes='{1}')} union all {_TOTALS_OF_WORKSPACE}")
OF_PART_OF_WORKSPACE: Final = _POINTS.format(cells=_OF_WORKSPACE.format(minutes="{1,15,60,1440}"))

MOMENTS: Final = """
select
    date_bin(make_interval(secs => %(step)s), jobplatform.clock(), '2000-01-01 00:00+00')
        - make_interval(secs => %(step)s) * (%(points)s - 1),
    (select to_timestamp(position / 1000.0) from jobplatform.chores where name = %(chore)s and position > 0)
"""


@dataclass(frozen=True, slots=True)
class Spread:
    """How many seconds half and 95 % of the jobs needed at most, as well as buckets of powers of two tell."""

    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class Point:
    """What ended from a moment on, until the next point. ``skipped`` are among the completed.

    ``retries``: the attempts before the last ones of these jobs. ``wait`` and ``run`` are of those that completed or
    failed; None where nothing tells of them.
    """

    at: datetime.datetime
    completed: int = 0
    skipped: int = 0
    failed: int = 0
    cancelled: int = 0
    retries: int = 0
    wait: Spread | None = None
    run: Spread | None = None

    @property
    def finished(self) -> int:
        """What was done, well or badly."""
        return self.completed + self.failed

    @property
    def failure_rate(self) -> float | None:
        """How much of it failed; None when there was nothing."""
        return self.failed / self.finished if self.finished else None


@dataclass(frozen=True, slots=True)
class Throughput:
    """Points from the oldest to that of now, without gaps, and all of them in one.

    Everything that had ended until ``as_of`` is counted; None: nobody has counted anything yet.
    """

    span: Span
    step_seconds: float
    points: tuple[Point, ...]
    total: Point
    as_of: datetime.datetime | None

    @property
    def per_minute(self) -> float:
        """What was done, for each minute of the span."""
        return self.total.finished / (self.step_seconds * len(self.points) / 60)


def throughput(
    session: Session,
    span: Span = "1h",
    *,
    workspace_id: uuid.UUID | None = None,
    queue: str | None = None,
    task: str | None = None,
) -> Throughput:
    """What ended over the span up to now, of a workspace or of all, of a queue or a task if that is said.

    ``1h`` has a point for each minute, ``24h`` for each quarter of an hour, ``7d`` for each hour, ``30d`` for each day.
    Without a workspace on a Session that sees all of them; then it is of a queue or of a task, not of both.
    """
    if workspace_id is not None:
        visit(session, workspace_id)
    elif queue is not None and task is not None:
        raise InvalidLimitError(
            [Problem("/task", "say a queue or a task; both together are counted by workspace only")]
        )
    whole = OF_WORKSPACE if not queue and not task else OF_PART_OF_WORKSPACE
    sql = OF_PLATFORM if workspace_id is None else whole
    found = _read(session, sql, span, workspace_id=workspace_id, queue=queue or "", task=task or "")
    return found.get("") or _empty(session, span)


def throughput_by_queue(session: Session, span: Span = "1h", *, times: bool = True) -> dict[str, Throughput]:
    """The same for each queue of which something ended, by name. Without ``times`` it tells how many and not how long,
    for a fifth of the work.
    """
    return _read(session, BY_QUEUE if times else COUNTS_BY_QUEUE, span)


def throughput_by_task(session: Session, span: Span = "1h") -> dict[str, Throughput]:
    """The same for each task."""
    return _read(session, BY_TASK, span)


def totals_by_task(session: Session, span: Span = "1h") -> dict[str, Point]:
    """What ended of each task over the span, all of it in one: for lists that draw no picture."""
    step, points = _step_of(span)
    begin_at, _ = _moments(session, step, points)
    sums = _sums(run(session, TOTAL_BY_TASK, step=step.total_seconds(), begin_at=begin_at), points)
    return {name: _Sum.of_all(of_task.values()).point(begin_at) for name, of_task in sums.items()}


def quantile(buckets: Mapping[int, int], share: float) -> float | None:
    """The seconds that this share of the jobs needed at most: within its bucket, jobs are taken to be evenly spread."""
    total = sum(buckets.values())
    if not total:
        return None
    wanted, seen = share * total, 0
    for bucket in sorted(buckets):
        inside = buckets[bucket]
        if inside and seen + inside >= wanted:
            low = 2.0 ** (bucket - 1) if bucket > 0 else 0.0
            high = 2.0**bucket
            return (low + (high - low) * max(0.0, wanted - seen) / inside) / 1000
        seen += inside
    return None


def _read(session: Session, sql: str, span: Span, **parameters: Any) -> dict[str, Throughput]:
    step, points = _step_of(span)
    begin_at, as_of = _moments(session, step, points)
    rows = run(session, sql, step=step.total_seconds(), begin_at=begin_at, **parameters)
    found = _sums(rows, points)
    return {name: _throughput(span, begin_at, as_of, of_points) for name, of_points in found.items()}


def _sums(rows: Iterable[Any], points: int) -> dict[str, dict[int, _Sum]]:
    """By name and by number of the point."""
    sums: dict[str, dict[int, _Sum]] = {}
    for name, nth, *cell in rows:
        of_name = sums.setdefault(name, {})
        # What ended in the future of this transaction's moment belongs to its last point.
        nth = nth if nth < points else points - 1
        if nth not in of_name:
            of_name[nth] = _Sum()
        of_name[nth].add(*cell)
    return sums


def _empty(session: Session, span: Span) -> Throughput:
    return _throughput(span, *_moments(session, *_step_of(span)), {})


def _moments(session: Session, step: datetime.timedelta, points: int) -> tuple[datetime.datetime, Any]:
    begin_at, as_of = run(session, MOMENTS, step=step.total_seconds(), points=points, chore=CHORE).one()
    return begin_at, as_of


def _throughput(
    span: Span, begin_at: datetime.datetime, as_of: datetime.datetime | None, sums: Mapping[int, _Sum]
) -> Throughput:
    step, points = STEPS[span]
    nothing = _Sum()
    return Throughput(
        span=span,
        step_seconds=step.total_seconds(),
        points=tuple(sums.get(nth, nothing).point(begin_at + nth * step) for nth in range(points)),
        total=_Sum.of_all(sums.values()).point(begin_at),
        as_of=as_of,
    )


def _step_of(span: Span) -> tuple[datetime.timedelta, int]:
    if span not in STEPS:
        raise InvalidLimitError([Problem("/span", f"must be one of {', '.join(STEPS)}")])
    return STEPS[span]


@dataclass(slots=True)
class _Sum:
    """Cells added up."""

    completed: int = 0
    skipped: int = 0
    failed: int = 0
    cancelled: int = 0
    retries: int = 0
    waits: dict[int, int] = field(default_factory=dict)
    runs: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of_all(cls, sums: Iterable[_Sum]) -> _Sum:
        whole = cls()
        for one in sums:
            whole.completed += one.completed
            whole.skipped += one.skipped
            whole.failed += one.failed
            whole.cancelled += one.cancelled
            whole.retries += one.retries
            _merge(whole.waits, one.waits)
            _merge(whole.runs, one.runs)
        return whole

    def add(
        self,
        status: int | None,
        skipped: bool | None,
        wait: int | None,
        run_bucket: int | None,
        amount: int,
        retries: int,
    ) -> None:
        """What is told of one status, of one wait or of one run; the others are nothing or unknown."""
        if status:
            self.completed += amount if status == 3 else 0
            self.skipped += amount if skipped else 0
            self.failed += amount if status == 4 else 0
            self.cancelled += amount if status == 5 else 0
            self.retries += retries
        elif wait is not None and wait != UNKNOWN:
            self.waits[wait] = self.waits.get(wait, 0) + amount
        elif run_bucket is not None and run_bucket != UNKNOWN:
            self.runs[run_bucket] = self.runs.get(run_bucket, 0) + amount

    def point(self, at: datetime.datetime) -> Point:
        return Point(
            at=at,
            completed=self.completed,
            skipped=self.skipped,
            failed=self.failed,
            cancelled=self.cancelled,
            retries=self.retries,
            wait=_spread(self.waits),
            run=_spread(self.runs),
        )


def _merge(buckets: dict[int, int], more: Mapping[int, int]) -> None:
    for bucket, amount in more.items():
        buckets[bucket] = buckets.get(bucket, 0) + amount


def _spread(buckets: Mapping[int, int]) -> Spread | None:
    p50, p95 = quantile(buckets, 0.5), quantile(buckets, 0.95)
    return None if p50 is None or p95 is None else Spread(p50, p95)
