"""Doctor: what is wrong with an installation that no count of jobs would show, and the command that answers it.

Each check is one look at the catalogue, at the server's own statistics or at rows, and finds something or nothing.
Those of the server need a login that may see other sessions; where it may not, that is a finding too, and not silence.
"""

from __future__ import annotations

import datetime
import enum
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy.orm import Session

from jobplatform import migrations
from jobplatform.models import SCHEMA, Base, QueueRow
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.health.health import unserved_tasks
from jobplatform.queue.silent import lease_seconds
from jobplatform.queue.statement import run
from jobplatform.wording import plural

#: A transaction that is open for longer holds back vacuum.
PATIENCE = datetime.timedelta(minutes=5)
#: A lease that nobody has taken back for so long will not be: no worker sweeps.
STUCK_AFTER = datetime.timedelta(minutes=2)
LATE_AFTER = datetime.timedelta(hours=1)
CLOCK_OFF = datetime.timedelta(seconds=2)
#: Fewer dead rows than this do not make claims slow.
FEWEST_DEAD = 20_000
#: Of what is missing or in the way so many are named.
MOST_NAMED = 5

STUCK_LEASES = """
select q.id::text, q.task, q.worker_id, coalesce(w.name, 'unknown'),
    extract(epoch from jobplatform.clock() - coalesce(w.dead_at, w.heartbeat_at, q.started_at))::float8
from jobplatform.job_queue q
left join jobplatform.workers w on w.id = q.worker_id
where q.state = 2
    and coalesce(w.dead_at, w.heartbeat_at, q.started_at) < jobplatform.clock() - make_interval(secs => %(after)s)
order by 5 desc
"""

# Of a snapshot only those of this database count, and what replicas and slots hold. A session that is about to begin
# has no database yet either.
SNAPSHOTS = """
select 'pid ' || a.pid, a.pid, coalesce(nullif(a.application_name, ''), a.usename::text, a.backend_type),
    coalesce(a.state, a.backend_type), extract(epoch from clock_timestamp() - a.xact_start)::float8
from pg_stat_activity a
where (a.backend_xmin is not null or a.backend_xid is not null)
    and a.pid <> pg_backend_pid()
    and (a.datname = current_database() or a.datname is null and a.backend_type = 'walsender')
    and a.xact_start < clock_timestamp() - make_interval(secs => %(after)s)
    and a.backend_type <> 'autovacuum worker'
union all
select 'prepared transaction ' || p.gid, null, p.owner::text, 'prepared',
    extract(epoch from clock_timestamp() - p.prepared)::float8
from pg_prepared_xacts p
where p.database = current_database() and p.prepared < clock_timestamp() - make_interval(secs => %(after)s)
union all
select 'replication slot ' || s.slot_name, null, coalesce(s.plugin::text, 'physical'), 'not in use', null
from pg_replication_slots s
where not s.active and s.xmin is not null
order by 5 desc nulls last
"""
SEES_SESSIONS = """
select rolsuper or pg_has_role(current_user, 'pg_read_all_stats', 'usage'), quote_ident(current_user)
from pg_roles
where rolname = current_user
"""

VACUUM = """
select current_setting('autovacuum') = 'on' and current_setting('track_counts') = 'on',
    array(
        select c.relname::text
        from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = 'jobplatform' and c.relkind = 'r' and 'autovacuum_enabled=false' = any(c.reloptions)
        order by 1
    )
"""
# Of the catalogue, which everybody may read: there may be no such table, or the schema may be closed to us.
VACUUM_OPTIONS = """
select c.reloptions
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'jobplatform' and c.relname = 'job_queue'
"""
IS_MIGRATED = """
select exists (
    select from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'jobplatform' and c.relname = 'alembic_version'
)
"""

COLUMNS = """
select c.relname::text, a.attname::text
from pg_class c
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relnamespace = 'jobplatform'::regnamespace and c.relkind in ('r', 'v', 'p')
"""
INDEXES = """
select i.relname::text, x.indisvalid and x.indisready, t.relname::text
from pg_index x
join pg_class i on i.oid = x.indexrelid
join pg_class t on t.oid = x.indrelid
where t.relnamespace = 'jobplatform'::regnamespace
"""

BLOAT = """
select n_dead_tup, n_live_tup, pg_relation_size(relid)
from pg_stat_user_tables
where schemaname = 'jobplatform' and relname = 'job_queue'
"""

LATE = """
select name, extract(epoch from jobplatform.clock() - due_at)::float8
from jobplatform.chores
where due_at < jobplatform.clock() - make_interval(secs => %(after)s)
    and exists (
        select from jobplatform.workers
        where dead_at is null and heartbeat_at >= jobplatform.clock() - make_interval(secs => %(lease)s)
    )
order by 1
"""

NOW = "select clock_timestamp()"


class Severity(enum.StrEnum):
    """``error`` keeps jobs from being done, ``warning`` will; ``info`` is only to be known."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Finding(NamedTuple):
    """Something that is wrong: a stable code, what was seen, what that means, and the command that answers it."""

    severity: Severity
    code: str
    seen: str
    means: str
    command: str


@checks_arguments()
def examine_server(session: Session, *, patience: datetime.timedelta = PATIENCE) -> Iterator[Finding]:
    """What is wrong with the server and this host. On a Session with the rights of the login, not confined."""
    yield from _snapshots(session, patience)
    yield from _clock(session)
    yield from _vacuum(session)
    yield from _bloat(session)


def examine_schema(session: Session) -> Iterator[Finding]:
    """What differs between the database's schema and the one this version expects."""
    revision = list(_revision(session))
    yield from revision
    # Of another revision nobody needs to be told what it lacks.
    if not revision:
        yield from _columns(session)
        yield from _indexes(session)


@checks_arguments()
def examine_queue(session: Session, *, unserved: Sequence[str] | None = None) -> Iterator[Finding]:
    """What is wrong with jobs and workers. On a Session that sees all workspaces, and a schema that is right.

    ``unserved``: the tasks of ready jobs that nobody serves, for whoever has looked already.
    """
    yield from _stuck_leases(session)
    yield from _unserved(unserved_tasks(session) if unserved is None else unserved)
    yield from _late(session)


def _snapshots(session: Session, patience: datetime.timedelta) -> Iterator[Finding]:
    sees, role = run(session, SEES_SESSIONS).one()
    if not sees:
        yield Finding(
            Severity.INFO,
            "blind",
            f"{role} cannot see what other sessions do",
            "whether one of them holds back vacuum was not looked at",
            f"grant pg_read_all_stats to {role}",
        )
    for who, pid, name, state, seconds in run(session, SNAPSHOTS, after=patience.total_seconds()):
        age = "since nobody knows when" if seconds is None else f"for {_words(seconds)}"
        yield Finding(
            Severity.WARNING,
            "old_snapshot",
            f"{who} ({name}, {state}) holds a snapshot {age}",
            "vacuum may remove nothing that died since, and every claim has more to step over",
            f"select pg_terminate_backend({pid})" if pid else "end it, or drop it when nobody needs it",
        )


def _clock(session: Session) -> Iterator[Finding]:
    before = datetime.datetime.now(datetime.UTC)
    there = run(session, NOW).scalar_one()
    after = datetime.datetime.now(datetime.UTC)
    off = clock_difference(before, there, after)
    if abs(off) > CLOCK_OFF:
        yield Finding(
            Severity.WARNING,
            "clock",
            f"the database's clock is {abs(off.total_seconds()):.1f} s {_side(off)} this host's",
            "jobs go by the database's clock alone; what this host logs and asks for as moments is off by this",
            "timedatectl status",
        )


ZERO = datetime.timedelta(0)


def clock_difference(
    before: datetime.datetime, there: datetime.datetime, after: datetime.datetime
) -> datetime.timedelta:
    """How far a clock that was read between two moments of ours is ahead; nothing while it may be right."""
    if before <= there <= after:
        return ZERO
    return there - after if there > after else there - before


def _side(off: datetime.timedelta) -> str:
    return "ahead of" if off > ZERO else "behind"


def _vacuum(session: Session) -> Iterator[Finding]:
    on, switched_off = run(session, VACUUM).one()
    if not on:
        yield Finding(
            Severity.ERROR,
            "autovacuum_off",
            "autovacuum or track_counts is off on this server",
            "dead rows stay for ever, and every claim steps over all of them",
            "alter system set autovacuum = on; alter system set track_counts = on; select pg_reload_conf()",
        )
    for table in switched_off:
        yield Finding(
            Severity.ERROR,
            "autovacuum_off",
            f"autovacuum is off for jobplatform.{table}",
            "its dead rows stay for ever",
            f"alter table jobplatform.{table} reset (autovacuum_enabled)",
        )
    options = run(session, VACUUM_OPTIONS).all()
    if not options:
        return
    table = Base.metadata.tables[f"{SCHEMA}.{QueueRow.__tablename__}"]
    wanted = {name: str(value) for name, value in table.dialect_options["postgresql"]["with"].items()}
    found = dict(option.split("=", 1) for option in options[0][0] or ())
    missing = {name: value for name, value in wanted.items() if found.get(name) != value}
    if missing:
        settings = ", ".join(f"{name} = {value}" for name, value in missing.items())
        yield Finding(
            Severity.WARNING,
            "vacuum_settings",
            f"jobplatform.job_queue lacks {settings}",
            "with the server's defaults its dead rows pile up to a fifth of a table that is nothing but change",
            f"alter table jobplatform.job_queue set ({settings})",
        )


def _bloat(session: Session) -> Iterator[Finding]:
    row = run(session, BLOAT).one_or_none()
    if row is None or row[0] < FEWEST_DEAD or row[0] < row[1]:
        return
    yield Finding(
        Severity.WARNING,
        "bloat",
        f"jobplatform.job_queue has {row[0]} dead rows beside {row[1]} live ones, in {row[2] // 2**20} MB",
        "claims step over the dead ones; something holds back vacuum, or it does not keep up",
        "vacuum (verbose) jobplatform.job_queue",
    )


def _revision(session: Session) -> Iterator[Finding]:
    there = run(session, IS_MIGRATED).scalar()
    found = run(session, "select version_num from jobplatform.alembic_version").scalar() if there else None
    if (finding := schema_finding(found)) is not None:
        yield finding


def schema_finding(found: str | None) -> Finding | None:
    """That this version cannot work with a database at ``found``, which is None where it has no schema of ours; None
    when it can."""
    seen = migrations.what_is_wrong_with(found)
    if seen is None:
        return None
    means = "nothing works before that" if found is None else "processes of this version may fail on what is not there"
    return Finding(Severity.ERROR, "schema_revision", seen.partition(";")[0], means, "jobplatform migrate")


def _columns(session: Session) -> Iterator[Finding]:
    found = {(table, column) for table, column in run(session, COLUMNS)}
    tables = {table for table, _ in found}
    expected = {(table.name, column.name) for table in Base.metadata.tables.values() for column in table.columns}
    gone = sorted({table for table, _ in expected} - tables)
    missing = gone + sorted(f"{table}.{column}" for table, column in expected - found if table in tables)
    if missing:
        yield _drift(f"missing: {', '.join(missing[:MOST_NAMED])}", "whatever needs them fails")


def _indexes(session: Session) -> Iterator[Finding]:
    found = {name: (valid, table) for name, valid, table in run(session, INDEXES)}
    expected = {
        str(index.name) for table in Base.metadata.tables.values() if not table.info.get("is_view")
        for index in table.indexes
    }  # fmt: skip
    if missing := sorted(expected - set(found)):
        yield _drift(f"missing indexes: {', '.join(missing[:MOST_NAMED])}", "what they are for reads whole tables")
    for name, (valid, table) in sorted(found.items()):
        if not valid:
            yield Finding(
                Severity.ERROR,
                "invalid_index",
                f"the index {name} on jobplatform.{table} is not valid",
                "it costs every write and serves no read; a CREATE or REINDEX CONCURRENTLY was interrupted",
                f"reindex index concurrently jobplatform.{name}"
                if name in expected
                else f"drop index concurrently jobplatform.{name}",
            )


def _drift(seen: str, means: str) -> Finding:
    command = "jobplatform migrate --sql (and compare; somebody has changed the schema by hand)"
    return Finding(Severity.ERROR, "schema_drift", seen, means, command)


def _stuck_leases(session: Session) -> Iterator[Finding]:
    rows = run(session, STUCK_LEASES, after=STUCK_AFTER.total_seconds()).all()
    if rows:
        named = ", ".join(f"{row[0]} ({row[1]}, worker {row[2]} {row[3]})" for row in rows[:MOST_NAMED])
        told = plural(len(rows), "job belongs", "jobs belong")
        yield Finding(
            Severity.ERROR,
            "stuck_lease",
            f"{told} to a worker that was last heard of {_words(rows[0][4])} ago: {named}",
            "any living worker would have taken them back: none is running, or none reaches the database",
            "jobplatform worker",
        )


def _unserved(unserved: Sequence[str]) -> Iterator[Finding]:
    if unserved:
        yield Finding(
            Severity.ERROR,
            "unserved",
            f"jobs are ready and no living worker serves their task and queue: {', '.join(unserved)}",
            "they wait, and lose nothing, until a worker that knows the task serves their queue",
            "jobplatform worker (where JOBPLATFORM_TASKS names the task; -Q for the queue)",
        )


def _late(session: Session) -> Iterator[Finding]:
    for name, seconds in run(session, LATE, after=LATE_AFTER.total_seconds(), lease=lease_seconds()):
        yield Finding(
            Severity.WARNING,
            "chore_late",
            f"the chore {name!r} has been due for {_words(seconds)} although workers are alive",
            "old jobs stay, nobody hears of alerts, or charts stand still; the workers' logs say why (`chore failed`)",
            "jobplatform prune" if name == "prune" else "jobplatform alerts ls",
        )


def _words(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7_200 else f"{seconds / 3_600:.0f} hours"
