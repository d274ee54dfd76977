"""Count: what has ended becomes numbers, exactly once, whoever counts and whatever dies meanwhile.

    1. Take the turn: one process at a time, every few seconds for the whole platform.
    2. Take endings away, up to 20,000 jobs, and add them to the cells of their minutes: one statement.
    3. Group what failed (see group_errors.py).
    4. Make old cells coarser: what is taken from the fine ones is added to the coarse ones. So a job is in one cell.
       What leaves the cells of minutes is added to the totals of its workspace too, and these become coarser as well.
    5. Forget cells, totals and groups that are older than anybody looks.

All of it is one transaction: after a crash in between nothing has happened. No moment decides what is counted, so a
transaction that commits late is counted late, and in the minute in which its job ended.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Final, NamedTuple

from sqlalchemy.orm import Session

from jobplatform.models import BUCKETS, UNKNOWN
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.numbers.fingerprint import LOOKED_AT
from jobplatform.queue.numbers.group_errors import Failed, group_errors
from jobplatform.queue.numbers.waited import WAITED
from jobplatform.queue.statement import one_transaction, run
from jobplatform.queue.turns import leave_turn, take_turn

CHORE: Final = "count"
EVERY: Final = datetime.timedelta(seconds=15)
#: After a round that left something.
AGAIN: Final = datetime.timedelta(0)
#: Jobs that a round counts.
MOST: Final = 20_000
#: Cells that a round makes coarser, or forgets, of each length.
MOST_CELLS: Final = 5_000

#: From which age on cells of so many minutes become cells of so many. Each age is more than the span whose chart has
#: points of the finer length.
COARSER: Final = (
    (1, 15, datetime.timedelta(minutes=75)),
    (15, 60, datetime.timedelta(hours=26)),
    (60, 1440, datetime.timedelta(days=9)),
)
KEEP_CELLS: Final = datetime.timedelta(days=400)
#: As long as failed jobs are kept, unless somebody says otherwise.
KEEP_GROUPS: Final = datetime.timedelta(days=30)

#: Where something belongs that ended just now, or long ago if it is counted late.
_MINUTES = "case {} else 1 end".format(
    " ".join(
        f"when f.ended_at < jobplatform.clock() - interval '{age.total_seconds():.0f} s' then {coarse}"
        for _, coarse, age in reversed(COARSER)
    )
)

_THRESHOLDS = "array[" + ", ".join(f"{2**n}::float8" for n in range(BUCKETS - 1)) + "]"


def _bucket(column: str) -> str:
    return f"coalesce(width_bucket({column}::float8, {_THRESHOLDS}), {UNKNOWN})::smallint"


def _add_to(table: str, key: str, sums: str = "sums") -> str:
    """Add ``sums`` to the cells of a table."""
    columns = f"{key}minutes, at, queue, task, status, outcome, wait, run"
    return f"""
    insert into jobplatform.{table} as c ({columns}, amount, retries, wait_ms, run_ms)
    select {columns}, sum(amount), sum(retries), sum(wait_ms), sum(run_ms)
    from {sums}
    group by {columns}
    on conflict ({columns}) do update
    set amount = c.amount + excluded.amount,
        retries = c.retries + excluded.retries,
        wait_ms = c.wait_ms + excluded.wait_ms,
        run_ms = c.run_ms + excluded.run_ms
"""


_TOTALS = ("completed", "skipped", "failed", "cancelled", "retries", "waits", "runs")


def _add_to_totals(values: Sequence[str], sums: str) -> str:
    """Add ``values``, which aggregate rows of ``sums``, to the totals of workspaces."""
    added = ", ".join(
        f"{name} = t.{name} + excluded.{name}"
        if name not in ("waits", "runs")
        else f"""{name} = array(
            select coalesce(a, 0) + coalesce(b, 0)
            from unnest(t.{name}, excluded.{name}) with ordinality as u(a, b, nth)
            order by nth
        )"""
        for name in _TOTALS
    )
    return f"""
    insert into jobplatform.workspace_totals as t (workspace_id, minutes, at, {", ".join(_TOTALS)})
    select workspace_id, minutes, at, {", ".join(values)}
    from {sums}
    group by workspace_id, minutes, at
    on conflict (workspace_id, minutes, at) do update
    set {added}
"""


def _by_bucket(bucket: str) -> str:
    """Of cells, how many jobs are in each bucket, up to the last one that has any. Nobody needs those not known."""
    amounts = (f"coalesce(sum(amount) filter (where {bucket} = {n}), 0)" for n in range(BUCKETS))
    return f"(array[{', '.join(amounts)}]::integer[])[1:max({bucket}) + 1]"


def _sum_of(buckets: str) -> str:
    """Of totals, the same."""
    amounts = (f"coalesce(sum({buckets}[{n}]), 0)" for n in range(1, BUCKETS + 1))
    return f"(array[{', '.join(amounts)}]::integer[])[1:max(cardinality({buckets}))]"


def _amount(which: str) -> str:
    return f"coalesce(sum(amount) filter (where {which}), 0)"


_OF_CELLS = (
    _amount("status = 3"),
    _amount("status = 3 and outcome = 'skipped'"),
    _amount("status = 4"),
    _amount("status = 5"),
    "sum(retries)",
    _by_bucket("wait"),
    _by_bucket("run"),
)
_OF_TOTALS = (*(f"sum({name})" for name in _TOTALS[:-2]), _sum_of("waits"), _sum_of("runs"))

# What a record says belongs to this ending unless the job was retried since. One that retention or an erasure has
# deleted is not counted any more. Lateral, so that no plan reads all records to find those of a few.
COUNT = f"""
with picked as materialized (
    select e.tid
    from (
        select
            tid,
            sum(cardinality(ids)) over (rows between unbounded preceding and current row) - cardinality(ids) as before
        from (select ctid as tid, ids from jobplatform.endings limit {MOST}) these
    ) e
    where e.before < {MOST}
),
gone as (
    delete from jobplatform.endings
    where ctid = any(array(select tid from picked))
    returning workspace_id, status, ended_at, ids
),
taken as materialized (
    select g.workspace_id, g.status, g.ended_at, u.id
    from gone g
    cross join unnest(g.ids) as u(id)
),
facts as materialized (
    select
        t.workspace_id, t.id, t.status, t.ended_at, r.queue, r.task, r.epoch, r.stands, r.error_type, r.error,
        case
            when r.stands then r.outcome
            when t.status = 3 then 'ok'
            when t.status = 4 then 'error'
            else 'cancelled'
        end as outcome,
        case when r.stands then greatest(r.attempts + r.crash_count - 1, 0) else 0 end as retries,
        case when r.timed then 1000 * {WAITED} end as wait_ms,
        case
            when r.timed
            then greatest(0, 1000 * extract(epoch from r.completed_at - r.started_at))
        end as run_ms
    from taken t
    cross join lateral (
        select
            r.queue, r.task, r.epoch, r.outcome, r.attempts, r.crash_count, r.run_after, r.created_at, r.started_at,
            r.completed_at,
            coalesce(r.status = t.status and r.completed_at = t.ended_at, false) as stands,
            r.status = t.status and r.completed_at = t.ended_at and r.status in (3, 4) and r.started_at is not null
                as timed,
            case when r.status = 4 then r.error_type end as error_type,
            case when r.status = 4 then left(r.error, {LOOKED_AT}) end as error
        from jobplatform.job_records r
        where r.workspace_id = t.workspace_id and r.id = t.id
        limit 1
    ) r
),
sums as materialized (
    select
        workspace_id,
        minutes::smallint as minutes,
        date_bin(make_interval(mins => minutes), ended_at, '2000-01-01 00:00+00') as at,
        queue,
        task,
        status,
        outcome,
        {_bucket("wait_ms")} as wait,
        {_bucket("run_ms")} as run,
        count(*) as amount,
        sum(retries) as retries,
        coalesce(sum(wait_ms), 0) as wait_ms,
        coalesce(sum(run_ms), 0) as run_ms
    from (select f.*, {_MINUTES} as minutes from facts f) f
    group by 1, 2, 3, 4, 5, 6, 7, 8, 9
),
of_workspaces as ({_add_to("workspace_cells", "workspace_id, ")}),
late as ({_add_to_totals(_OF_CELLS, "(select * from sums where minutes > 1) old")}),
together as materialized (
    select
        minutes, at, queue, task, status, outcome, wait, run,
        sum(amount) as amount, sum(retries) as retries, sum(wait_ms) as wait_ms, sum(run_ms) as run_ms
    from sums
    group by 1, 2, 3, 4, 5, 6, 7, 8
),
apart as materialized (
    select t.minutes, t.at, l.queue, l.task, m.*
    from together t
    cross join lateral (
        values (t.status, t.outcome, -1, -1, t.amount, t.retries, t.wait_ms, t.run_ms),
            (0, '', t.wait, -1, t.amount, 0, 0, 0),
            (0, '', -1, t.run, t.amount, 0, 0, 0)
    ) as m(status, outcome, wait, run, amount, retries, wait_ms, run_ms)
    cross join lateral (values ('', ''), (t.queue, ''), ('', t.task), (t.queue, t.task)) as l(queue, task)
    where m.status > 0 or (m.wait <> m.run and (l.queue = '' or l.task = ''))
),
of_platform as ({_add_to("platform_cells", "", "apart")})
select
    f.workspace_id::text, f.id::text, f.epoch, f.ended_at, f.task, f.error_type, f.error,
    (select count(*) from taken)
from (select) one
left join facts f on f.status = 4 and f.stands
"""

# Whatever is late comes after what it belongs to, and is added to it.
COARSEN = """
with old as materialized (
    select ctid as tid
    from jobplatform.{table}
    where minutes = %(fine)s and at < jobplatform.clock() - make_interval(secs => %(age)s)
    limit {most}
),
gone as (
    delete from jobplatform.{table}
    where ctid = any(array(select tid from old))
    returning {key}at, queue, task, status, outcome, wait, run, amount, retries, wait_ms, run_ms
),
sums as materialized (
    select
        {key}%(coarse)s::smallint as minutes,
        date_bin(make_interval(mins => %(coarse)s), at, '2000-01-01 00:00+00') as at,
        queue, task, status, outcome, wait, run, amount, retries, wait_ms, run_ms
    from gone
    where {which}
),
{also}
added as ({add})
select count(*) from gone
"""
_ALSO = f"totals as ({_add_to_totals(_OF_CELLS, '(select * from sums where %(fine)s = 1) young')}),"
CELLS: Final = {
    table: COARSEN.format(table=table, key=key, which=which, most=MOST_CELLS, also=also, add=_add_to(table, key))
    for table, key, which, also in (
        ("workspace_cells", "workspace_id, ", "true", _ALSO),
        # Nobody asks for a queue and a task together about more than an hour.
        ("platform_cells", "", "queue = '' or task = ''", ""),
    )
}
TOTALS = f"""
with old as materialized (
    select ctid as tid
    from jobplatform.workspace_totals
    where minutes = %(fine)s and at < jobplatform.clock() - make_interval(secs => %(age)s)
    limit {MOST_CELLS}
),
gone as (
    delete from jobplatform.workspace_totals
    where ctid = any(array(select tid from old))
    returning workspace_id, at, {", ".join(_TOTALS)}
),
sums as materialized (
    select
        workspace_id,
        %(coarse)s::smallint as minutes,
        date_bin(make_interval(mins => %(coarse)s), at, '2000-01-01 00:00+00') as at,
        {", ".join(_TOTALS)}
    from gone
),
added as ({_add_to_totals(_OF_TOTALS, "sums")})
select count(*) from gone
"""
#: What becomes coarser: the table, the statement that does it, and from which lengths to which.
BECOME_COARSER: Final = (
    *((table, sql, COARSER) for table, sql in CELLS.items()),
    ("workspace_totals", TOTALS, COARSER[1:]),
)

FORGET = """
delete from jobplatform.{table}
where ctid = any(array(
    select ctid
    from jobplatform.{table}
    where {which} < jobplatform.clock() - make_interval(secs => %(age)s)
    limit {most}
))
"""
FORGOTTEN: Final = (
    *((table, "minutes = 1440 and at", KEEP_CELLS) for table, _, _ in BECOME_COARSER),
    *((table, "last_at", KEEP_GROUPS) for table in ("error_groups", "platform_error_groups")),
)
# Nearly always nothing is, and that is one statement instead of ten.
OLD = "select " + " or ".join(
    f"exists (select from jobplatform.{table} where {which} < jobplatform.clock() - interval '{age.total_seconds()} s')"
    for table, which, age in (
        *((table, f"minutes = {fine} and at", age) for table, _, steps in BECOME_COARSER for fine, _, age in steps),
        *FORGOTTEN,
    )
)
NOW = "select (extract(epoch from jobplatform.clock()) * 1000)::bigint"


class Counted(NamedTuple):
    """How many jobs a round counted, and whether it left something for the next one."""

    jobs: int
    more: bool


@checks_arguments()
def count_endings(session: Session, *, now: bool = True) -> Counted:
    """Count up to 20,000 jobs that have ended, group those that failed, and make what is old coarser.

    With ``now=False`` it does nothing until 15 seconds after the last round of any process.
    """
    with one_transaction(session):
        turn = take_turn(session, CHORE, now=now)
        if turn is None:
            return Counted(0, more=False)
        moment = run(session, NOW).scalar_one()
        jobs = _count(session)
        cells = _tidy(session) if run(session, OLD).scalar_one() else 0
        behind = jobs >= MOST
        more = behind or cells >= MOST_CELLS
        # The turn's position is the moment until which the numbers tell all.
        leave_turn(session, turn, turn.position if behind else moment, AGAIN if more else EVERY)
    return Counted(jobs, more)


def _count(session: Session) -> int:
    rows = run(session, COUNT).all()
    group_errors(session, [Failed(*row[:7]) for row in rows if row[0] is not None])
    return int(rows[0][7])


def _tidy(session: Session) -> int:
    """Make cells coarser and forget what is too old. Says how many cells at most were taken at once."""
    cells = _make_coarser(session)
    _forget(session)
    return cells


def _make_coarser(session: Session) -> int:
    """From the coarsest on, so that what is taken has been there before. Says how many at most were taken at once."""
    return max(
        int(run(session, sql, fine=fine, coarse=coarse, age=age.total_seconds()).scalar_one())
        for _, sql, steps in BECOME_COARSER
        for fine, coarse, age in reversed(steps)
    )


def _forget(session: Session) -> None:
    for table, which, age in FORGOTTEN:
        run(session, FORGET.format(table=table, which=which, most=MOST_CELLS), age=age.total_seconds())
