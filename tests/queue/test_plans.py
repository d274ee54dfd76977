"""What each hot statement costs, in pages and rows and not in time, at a small and at a large backlog.

The statistics are those of a table where every row is ready, and 2,000 rows run that they do not know of: what a
worker finds right after a bulk load, and what has turned finishing quadratic before.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import pkgutil
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

import jobplatform.queue
from jobplatform.models import Status, make_engine
from jobplatform.queue import (
    Completion,
    Failure,
    JobChange,
    Lease,
    LogLine,
    NewJob,
    ProgressReport,
    Release,
    Ring,
    Rung,
    append_log_lines,
    cancel_job,
    claim_jobs,
    complete_jobs,
    enqueue_jobs,
    fail_jobs,
    get_job,
    heartbeat,
    list_jobs,
    look_around,
    promote_jobs,
    release_jobs,
    release_unknown_jobs,
    report_progress,
    rescue_jobs,
    retry_job,
    silence,
)
from jobplatform.queue.by_hand.change_waiting import change_jobs
from jobplatform.queue.claim.weighing import Weighing
from jobplatform.queue.limits.quota import GIVE_UP, LEAST_IMPORTANT, Wanted, make_room
from jobplatform.queue.pages.tenant import GUARDS
from jobplatform.queue.statement import array, run, text_array
from jobplatform.testing import DatabaseServer
from jobplatform.testing.databases import Databases, database_of
from tests.queue.plans import Plan, explain

RUNNING = 2_000
SCHEDULED = 2_000
DUE = 1_000
LIVING, DEAD = 1, 2

READY = """
insert into jobplatform.job_queue
    (workspace_id, id, queue, task, state, priority, max_attempts, timeout_ms, run_after)
select
    md5(case when n % 2 = 0 and :noisy then 'noisy' else (n % :workspaces)::text end)::uuid,
    ('018f' || lpad(to_hex(n), 28, '0'))::uuid,
    'default', 'work', 1, n % 3, 3, 600000, now() - interval '1 hour' + n * interval '1 ms'
from generate_series(1, :jobs) n
"""
RECORDS = """
insert into jobplatform.job_records (workspace_id, id, task, queue, payload)
select workspace_id, id, task, queue, '{"some": "payload"}' from jobplatform.job_queue
"""
QUIET = """
alter table jobplatform.job_queue set (autovacuum_enabled = off);
alter table jobplatform.job_records set (autovacuum_enabled = off);
"""
WORKERS = """
insert into jobplatform.workers (name, host, pid, version, queues, tasks, slots, dead_at)
values ('living', 'h', 1, 'v', '{default}', '{work}', 8, null), ('dead', 'h', 2, 'v', '{default}', '{work}', 8, now())
"""
# What happened since the statistics were taken.
RUN = """
insert into jobplatform.job_queue
    (workspace_id, id, queue, task, state, priority, max_attempts, timeout_ms, run_after, epoch, attempts, worker_id,
     started_at)
select md5((n % :workspaces)::text)::uuid, ('0190' || lpad(to_hex(n), 28, '0'))::uuid,
    'default', 'work', 2, 0, 3, 600000, now(), 1, 1, case when n % 2 = 0 then 1 else 2 end, now()
from generate_series(1, :jobs) n
"""
SCHEDULE = """
insert into jobplatform.job_queue
    (workspace_id, id, queue, task, state, priority, max_attempts, timeout_ms, run_after)
select md5((n % :workspaces)::text)::uuid, ('0191' || lpad(to_hex(n), 28, '0'))::uuid,
    'default', 'work', 0, 0, 3, 600000, now() + (n - :due) * interval '1 minute' - interval '1 second'
from generate_series(1, :jobs) n
"""
RECORDS_OF_THOSE = RECORDS + " where state <> 1"
LEASES = """
select workspace_id::text, id::text, epoch from jobplatform.job_queue where state = 2 order by id limit :count
"""

WAITING = "select workspace_id, id from jobplatform.job_queue where state = 1 order by id desc limit :count"


@dataclass(frozen=True)
class Backlog:
    """A database with jobs, and how to ask what a verb costs in it."""

    engine: Engine

    def explain(self, act: Callable[[Session], object]) -> Plan:
        return explain(self.engine, act)

    def leases(self, count: int) -> list[Lease]:
        with self.engine.connect() as connection:
            return [Lease(*row) for row in connection.execute(text(LEASES), {"count": count})]


@pytest.fixture(scope="module", params=[(1_000, 100), (200_000, 5_000)], ids=["1k", "200k"])
def backlog(
    request: pytest.FixtureRequest, jobplatform_server: DatabaseServer, jobplatform_databases: Databases
) -> Iterator[Backlog]:
    """One for all tests of a module: each of them rolls back what it does."""
    loaded = _loaded(jobplatform_server, jobplatform_databases, *request.param)
    url = jobplatform_server.create(f"{loaded}_{os.getpid()}", loaded)
    engine = make_engine(url)
    silence(engine)
    yield Backlog(engine)
    engine.dispose()
    jobplatform_databases.drop(url)


def _loaded(server: DatabaseServer, databases: Databases, jobs: int, workspaces: int) -> str:
    """The name of a database that the first who asks for it in this run has loaded. A copy costs a tenth of that."""
    name = server.name(f"backlog_{jobs}")
    with server.alone():
        if not server.exists(name):
            url = databases.fresh()
            engine = make_engine(url)
            _load(engine, jobs, workspaces)
            engine.dispose()
            server.rename(database_of(url), name)
    return name


def _load(engine: Engine, jobs: int, workspaces: int) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(QUIET)
        connection.execute(text(WORKERS))
        connection.execute(text(READY), {"jobs": jobs, "workspaces": workspaces, "noisy": jobs > 10_000})
        connection.execute(text(RECORDS))
        connection.execute(text("vacuum analyze"))
        connection.execute(text(RUN), {"jobs": RUNNING, "workspaces": workspaces})
        connection.execute(text(SCHEDULE), {"jobs": SCHEDULED, "workspaces": workspaces, "due": DUE})
        connection.execute(text(RECORDS_OF_THOSE))


def completions(leases: Sequence[Lease]) -> Callable[[Session], object]:
    return lambda session: complete_jobs(session, [Completion(lease, '{"n": 1}') for lease in leases])


def failures(leases: Sequence[Lease]) -> Callable[[Session], object]:
    return lambda session: fail_jobs(
        session,
        # Half of them for good.
        [Failure(lease, "error", "E", "no", delay=5, retry=n % 2 == 0) for n, lease in enumerate(leases)],
    )


def releases(leases: Sequence[Lease]) -> Callable[[Session], object]:
    return lambda session: release_jobs(session, [Release(lease) for lease in leases])


def releases_unstarted(leases: Sequence[Lease]) -> Callable[[Session], object]:
    return lambda session: release_jobs(session, [Release(lease, unstarted=True) for lease in leases])


def reports(leases: Sequence[Lease]) -> Callable[[Session], object]:
    return lambda session: report_progress(session, [ProgressReport(lease, '{"current": 1}') for lease in leases])


def beats(leases: Sequence[Lease]) -> Callable[[Session], object]:
    return lambda session: heartbeat(session, LIVING, leases)


def lines(leases: Sequence[Lease]) -> Callable[[Session], object]:
    return lambda session: append_log_lines(session, [LogLine(lease, 1, "info", "hello") for lease in leases])


#: Pages a statement reads once, however many rows it is about.
ONCE = 20

#: The statements that name leases, with the most pages each may touch for one of them.
BY_LEASE: dict[str, tuple[Callable[[Sequence[Lease]], Callable[[Session], object]], int]] = {
    "complete": (completions, 25),
    "fail": (failures, 45),
    "release": (releases, 30),
    "release unstarted": (releases_unstarted, 30),
    "report_progress": (reports, 20),
    "heartbeat": (beats, 10),
    "append_log_lines": (lines, 15),
}


def a_claim(limit: int, position: float) -> Callable[[Session], object]:
    ring = Ring(["default"], position)
    return lambda session: claim_jobs(session, ring, worker_id=LIVING, tasks=["work", "other"], limit=limit)


@pytest.mark.parametrize("position", [0.0, 0.5, 0.999_999])
@pytest.mark.parametrize(("limit", "most_buffers"), [(1, 100), (50, 1_600)])
def test_a_claim_touches_a_bounded_number_of_pages_whatever_the_backlog(
    backlog: Backlog, limit: int, most_buffers: int, position: float
) -> None:
    plan = backlog.explain(a_claim(limit, position))

    assert plan.sequential_scans == []
    assert plan.buffers <= most_buffers


@pytest.mark.parametrize("whose", ["1", "nobody"])
def test_a_claim_of_the_job_that_the_bell_was_rung_for_touches_fewer_pages(backlog: Backlog, whose: str) -> None:
    workspace_id = str(uuid.UUID(hashlib.md5(whose.encode(), usedforsecurity=False).hexdigest()))
    rung = Rung("default", workspace_id)

    plan = backlog.explain(
        lambda s: claim_jobs(s, Ring(["default"]), worker_id=LIVING, tasks=["work", "other"], limit=8, rung=rung)
    )

    assert plan.sequential_scans == []
    assert plan.buffers <= 50


def test_the_syncs_that_are_about_a_workspace_s_connections_are_looked_up_by_their_keys(backlog: Backlog) -> None:
    workspace_id = uuid.UUID(hashlib.md5(b"1", usedforsecurity=False).hexdigest())
    keys = text_array(f"sync:{uuid.UUID(int=number)}" for number in range(800))

    plan = backlog.explain(lambda s: run(s, GUARDS, workspace_id=workspace_id, keys=keys))

    assert plan.sequential_scans == []
    assert plan.rows_visited("job_queue") == plan.rows_visited("job_records") == 0


@pytest.mark.parametrize("verb", BY_LEASE)
@pytest.mark.parametrize("count", [1, 200])
def test_a_statement_that_names_leases_touches_a_few_pages_for_each(backlog: Backlog, verb: str, count: int) -> None:
    make, most_buffers = BY_LEASE[verb]

    plan = backlog.explain(make(backlog.leases(count)))

    assert plan.sequential_scans == []
    assert plan.buffers <= most_buffers * count + ONCE


@pytest.mark.parametrize("verb", BY_LEASE)
def test_a_statement_that_names_leases_looks_at_no_other_rows(backlog: Backlog, verb: str) -> None:
    """Two thousand rows run; a plan that walks all of them for each lease would look at 400,000."""
    make, _ = BY_LEASE[verb]

    plan = backlog.explain(make(backlog.leases(200)))

    assert plan.rows_visited("job_queue") <= 3 * 200


@pytest.mark.parametrize(
    ("act", "most_buffers"),
    [
        (promote_jobs, 20 * DUE),
        (rescue_jobs, 50 * 500),
        (lambda session: release_unknown_jobs(session, LIVING, []), 25 * RUNNING),
        (lambda session: look_around(session, ["work"], lease=30, dead=False, queues=["default", "second"]), 40),
        (lambda session: look_around(session, ["work"], lease=30), RUNNING),
    ],
    ids=["promote", "rescue", "reconcile", "look", "look for the dead"],
)
def test_what_a_worker_does_every_few_seconds_never_reads_a_whole_table(
    backlog: Backlog, act: Callable[[Session], object], most_buffers: int
) -> None:
    plan = backlog.explain(act)

    assert plan.sequential_scans == []
    assert plan.buffers <= most_buffers


@pytest.mark.parametrize("count", [1, 2, 1_000])
def test_an_enqueue_never_reads_a_whole_table(backlog: Backlog, count: int) -> None:
    jobs = [
        NewJob(workspace_id=uuid.uuid4(), task="work", payload={"n": n}, unique_key=f"key-{n}") for n in range(count)
    ]

    plan = backlog.explain(lambda session: enqueue_jobs(session, jobs))

    assert plan.sequential_scans == []
    assert plan.buffers <= 40 * count + ONCE


def test_looking_at_a_quota_reads_nothing_but_what_waits_there(backlog: Backlog) -> None:
    (lease,) = backlog.leases(1)
    wanted = [Wanted(uuid.UUID(lease.workspace_id), uuid.uuid4(), f"key-{n}", 0) for n in range(1_000)]

    plan = backlog.explain(lambda session: make_room(session, wanted))

    assert plan.sequential_scans == []


def test_giving_up_jobs_never_reads_a_whole_table(backlog: Backlog) -> None:
    leases = backlog.leases(50)
    ids, workspace_ids = array(lease.job_id for lease in leases), array(lease.workspace_id for lease in leases)
    least = {"workspace_id": leases[0].workspace_id, "below": 1, "sparing": "{}", "count": 50}
    given_up = {"ids": ids, "workspace_ids": workspace_ids, "errors": text_array("why" for _ in leases)}

    finding = backlog.explain(lambda session: run(session, LEAST_IMPORTANT, **least))
    ending = backlog.explain(lambda session: run(session, GIVE_UP, **given_up))

    assert finding.sequential_scans == []
    assert finding.rows_visited("job_queue") <= 300
    assert ending.sequential_scans == []
    assert ending.buffers <= 30 * len(leases) + ONCE


@pytest.mark.parametrize("count", [1, 200])
def test_changing_jobs_that_wait_touches_a_few_pages_for_each(backlog: Backlog, count: int) -> None:
    with backlog.engine.connect() as connection:
        keys = [(row[0], row[1]) for row in connection.execute(text(WAITING), {"count": count})]

    plan = backlog.explain(lambda session: change_jobs(session, keys, JobChange(priority=5, queue="slow")))

    assert plan.sequential_scans == []
    assert plan.buffers <= 50 * count + ONCE


def by_id(act: Callable[[Session, uuid.UUID, uuid.UUID], object]) -> Callable[[Lease], Callable[[Session], object]]:
    return lambda lease: lambda session: act(session, uuid.UUID(lease.workspace_id), uuid.UUID(lease.job_id))


@pytest.mark.parametrize(
    ("make", "most_buffers"),
    [
        (by_id(cancel_job), 30),
        (by_id(retry_job), 30),
        (by_id(get_job), 10),
        (lambda lease: lambda session: list_jobs(session, uuid.UUID(lease.workspace_id)), 150),
        (
            lambda lease: (
                lambda session: list_jobs(
                    session, uuid.UUID(lease.workspace_id), before=uuid.UUID(lease.job_id), status=Status.PENDING
                )
            ),
            200,
        ),
    ],
    ids=["cancel", "retry", "get", "list", "next-page"],
)
def test_what_a_user_asks_for_never_reads_a_whole_table(
    backlog: Backlog, make: Callable[[Lease], Callable[[Session], Any]], most_buffers: int
) -> None:
    (lease,) = backlog.leases(1)

    plan = backlog.explain(make(lease))

    assert plan.sequential_scans == []
    assert plan.buffers <= most_buffers + ONCE
    assert plan.rows_visited("job_queue") <= 60


def test_claiming_from_one_workspace_with_everything_costs_no_more(backlog: Backlog) -> None:
    """One noisy workspace has half of the large backlog: its own jobs are found as quickly as anybody's."""
    just_before = hashlib.md5(b"noisy", usedforsecurity=False).hexdigest()

    plan = backlog.explain(a_claim(200, int(just_before, 16) / 2**128))

    assert plan.sequential_scans == []
    assert plan.rows_visited("job_queue") <= 200 * 6


LIMITED = """
insert into jobplatform.workspace_limits (workspace_id, max_running, rate_units, rate_period_ms)
select distinct workspace_id, 100000, 1000000, 1000 from jobplatform.job_queue
"""
MANY_BUCKETS = """
insert into jobplatform.buckets (kind, key, tokens, filled_at)
select 'resource', 'crm:' || n, 1, now() from generate_series(1, 2000) n
"""
TASK_LIMITED = "insert into jobplatform.task_limits (task, max_running) values ('work', 0)"


@pytest.fixture(params=["nothing", "every workspace", "the task"])
def limited(request: pytest.FixtureRequest, backlog: Backlog) -> Iterator[str]:
    """What has limits, for claims that weigh everything."""
    with backlog.engine.begin() as connection:
        if request.param == "every workspace":
            connection.execute(text(LIMITED))
        elif request.param == "the task":
            connection.execute(text(TASK_LIMITED))
    yield request.param
    with backlog.engine.begin() as connection:
        connection.execute(text("truncate jobplatform.workspace_limits, jobplatform.task_limits, jobplatform.buckets"))


def a_weighing_claim(limit: int, weighing: Weighing) -> Callable[[Session], object]:
    ring = Ring(["default"], 0.5)
    ring.weighed("default", weighing)
    return lambda session: claim_jobs(session, ring, worker_id=LIVING, tasks=["work", "other"], limit=limit)


@pytest.mark.parametrize("weighing", [Weighing.WORKSPACES, Weighing.LANES])
@pytest.mark.parametrize("limit", [1, 50])
def test_a_claim_that_weighs_limits_touches_a_bounded_number_of_pages_too(
    backlog: Backlog, limited: str, limit: int, weighing: Weighing
) -> None:
    plan = backlog.explain(a_weighing_claim(limit, weighing))

    assert plan.sequential_scans == []
    # What runs is counted, of each workspace twice; what waits never is.
    assert plan.buffers <= 100 + 60 * max(limit, 8) + (0 if limited == "nothing" else 2 * RUNNING)


def test_a_claim_asks_only_whether_the_resources_that_it_met_are_closed(backlog: Backlog) -> None:
    with backlog.engine.begin() as connection:
        connection.execute(text(MANY_BUCKETS))
    with backlog.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("analyze jobplatform.buckets"))
    try:
        plan = backlog.explain(a_weighing_claim(50, Weighing.LANES))
    finally:
        with backlog.engine.begin() as connection:
            connection.execute(text("truncate jobplatform.buckets"))

    assert plan.rows_visited("buckets") == 0


def test_a_claim_can_be_told_from_a_walk_through_the_table(backlog: Backlog) -> None:
    """The measure itself: a statement that does read the whole table is seen to."""
    everything = text("select count(*) from jobplatform.job_queue where task <> :task")

    plan = backlog.explain(lambda session: session.execute(everything, {"task": ""}))

    assert plan.sequential_scans == ["job_queue"]
    assert plan.rows_visited("job_queue") >= RUNNING + SCHEDULED + 1_000


def test_no_update_of_the_queue_table_makes_the_server_read_the_lanes_definition_for_each_row() -> None:
    """It does for one that sets nothing the lane is made of; see LANE in the models."""
    updates = list(_updates_of_the_queue_table())

    assert len(updates) >= 5
    assert [update for update in updates if "resource = " not in update] == []


def _updates_of_the_queue_table() -> Iterator[str]:
    """What each of them sets, in all statements of the verbs."""
    for found in pkgutil.walk_packages(jobplatform.queue.__path__, "jobplatform.queue."):
        for value in vars(importlib.import_module(found.name)).values():
            if isinstance(value, str):
                for statement in re.split(r"update jobplatform\.job_queue\b", value)[1:]:
                    yield re.split(r"\n\s*(?:from|where)\b", statement)[0]
