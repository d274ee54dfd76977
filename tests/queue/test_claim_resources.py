"""How many jobs may use a resource at a time, whatever their tasks, workspaces and queues."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from sqlalchemy import Engine, func, insert, select, text, update
from sqlalchemy.orm import Session

from jobplatform.models import (
    Pause,
    QueueRow,
    RateLimit,
    ResourceLimits,
    TaskLimits,
    WorkspaceLimits,
)
from jobplatform.queue import (
    Claim,
    ClaimedJob,
    Completion,
    Failure,
    NewJob,
    Release,
    Ring,
    claim_jobs,
    complete_jobs,
    deregister_worker,
    enqueue_jobs,
    fail_jobs,
    release_jobs,
    rescue_jobs,
)
from jobplatform.queue.claim.weighing import Weighing
from jobplatform.queue.locks import ROOM_OF_RESOURCE
from tests.queue.actors import Worker
from tests.queue.conftest import Fact
from tests.queue.plans import explain

A, B, C = (uuid.UUID(int=n) for n in (1, 2, 3))


def fill(db: Session, workspace_id: uuid.UUID, count: int, resource: str | None = None, **options: object) -> None:
    asked = {"task": "work", "resource": resource, **options}
    enqueue_jobs(db, [NewJob(workspace_id=workspace_id, **asked) for _ in range(count)])  # type: ignore[arg-type]


def limit(db: Session, resource: str, most: int | None) -> None:
    db.execute(insert(ResourceLimits).values(resource=resource, max_running=most))


def finish(db: Session, jobs: Sequence[ClaimedJob]) -> None:
    complete_jobs(db, [Completion(job.lease, "null") for job in jobs])


def by_resource(jobs: Sequence[ClaimedJob]) -> Counter[str | None]:
    return Counter(job.resource for job in jobs)


def ask(db: Session, worker: Worker, most: int = 10) -> Claim:
    return claim_jobs(db, worker.ring, worker_id=worker.id, tasks=worker.tasks, limit=most)


# -- who shares it ---------------------------------------------------------------------------------


def test_a_resource_has_no_more_jobs_running_than_its_limit_over_tasks_workspaces_and_queues(db: Session) -> None:
    limit(db, "crm:1", 3)
    for workspace_id in (A, B):
        fill(db, workspace_id, 2, "crm:1")
        fill(db, workspace_id, 2, "crm:1", task="other")
        fill(db, workspace_id, 2, "crm:1", queue="letters")
        fill(db, workspace_id, 2)
    worker = Worker(db, tasks=["work", "other"], queues=["default", "letters"])

    assert by_resource(worker.drain()) == {"crm:1": 3, None: 4}


@pytest.mark.parametrize("most", [1, 2, 10])
def test_a_claim_admits_together_only_as_many_as_there_is_room_for(db: Session, most: int) -> None:
    limit(db, "crm:1", 1)
    fill(db, A, 3, "crm:1")
    fill(db, A, 3, "crm:1", task="other")
    fill(db, B, 3, "crm:1")
    worker = Worker(db, tasks=["work", "other"])

    assert by_resource(worker.claim(most)) == {"crm:1": 1}
    assert worker.drain() == []


def test_a_limit_of_a_kind_is_each_ones_own(db: Session, worker: Worker) -> None:
    limit(db, "crm:*", 1)
    for account in range(5):
        fill(db, A, 3, f"crm:{account}")
    fill(db, A, 2, "shop:1")

    assert by_resource(worker.drain()) == {**{f"crm:{account}": 1 for account in range(5)}, "shop:1": 2}


@pytest.mark.parametrize(("own", "running"), [(3, 3), (0, 0), (None, 5)])
def test_what_is_said_of_the_very_resource_beats_what_is_said_of_its_kind(
    db: Session, worker: Worker, own: int | None, running: int
) -> None:
    """Also that it has no limit."""
    limit(db, "crm:*", 1)
    limit(db, "crm:1", own)
    fill(db, A, 5, "crm:1")
    fill(db, A, 5, "crm:2")

    assert by_resource(worker.drain()) == Counter({"crm:1": running, "crm:2": 1})


def test_a_limit_of_another_resource_is_nobody_elses(db: Session, worker: Worker) -> None:
    limit(db, "crm:1", 0)
    limit(db, "shop:*", 0)
    fill(db, A, 5, "crm:2")
    fill(db, A, 5)

    assert len(worker.drain()) == 10


# -- what makes room --------------------------------------------------------------------------------

ENDS: dict[str, Callable[[Session, Worker, ClaimedJob], object]] = {
    "completed": lambda db, _, job: finish(db, [job]),
    "failed for good": lambda db, _, job: fail_jobs(db, [Failure(job.lease, "error", "E", "no", retry=False)]),
    "to be retried": lambda db, _, job: fail_jobs(db, [Failure(job.lease, "error", "E", "no", delay=60)]),
    "snoozed": lambda db, _, job: release_jobs(db, [Release(job.lease, 60)]),
    "rescued": lambda db, worker, _: (deregister_worker(db, worker.id), rescue_jobs(db, crash_limit=3)),
}


@pytest.mark.parametrize("way", ENDS)
def test_however_a_job_stops_running_it_makes_room_for_the_next(db: Session, worker: Worker, way: str) -> None:
    limit(db, "crm:*", 1)
    fill(db, A, 3, "crm:1")
    (first,) = worker.drain()

    ENDS[way](db, worker, first)

    assert by_resource(Worker(db).drain()) == {"crm:1": 1}


@pytest.mark.parametrize(("most", "now_running"), [(5, 5), (1, 2), (0, 2), (None, 6)])
def test_a_changed_limit_counts_at_the_next_claim_and_stops_nothing(
    db: Session, worker: Worker, most: int | None, now_running: int, fact: Fact
) -> None:
    limit(db, "crm:*", 2)
    fill(db, A, 6, "crm:1")
    worker.drain()

    db.execute(update(ResourceLimits).values(max_running=most))
    worker.drain()

    assert fact("select count(*) from jobplatform.job_queue where state = 2") == now_running


# -- what goes on ------------------------------------------------------------------------------------


def test_a_full_resource_holds_up_nobody_elses_jobs_however_many_wait_for_it(db: Session, worker: Worker) -> None:
    limit(db, "crm:1", 0)
    fill(db, A, 300, "crm:1", priority=9)
    fill(db, A, 1)
    fill(db, B, 300, "crm:1", priority=9)
    fill(db, B, 1, "crm:2")

    assert by_resource(worker.claim(5)) == {None: 1, "crm:2": 1}


def test_within_a_workspace_the_best_of_those_that_may_run_is_next(db: Session) -> None:
    limit(db, "crm:*", 1)
    for priority in (1, 5, 9):
        fill(db, A, 1, "crm:1", priority=priority, tags=(f"crm:1 {priority}",))
        fill(db, A, 1, "crm:2", priority=priority - 1, tags=(f"crm:2 {priority - 1}",))
        fill(db, A, 1, priority=priority - 2, tags=(f"none {priority - 2}",))
    worker = Worker(db)

    taken = [job for _ in range(3) for job in worker.claim(1)]

    assert priorities_of(db, taken) == [("crm:1", 9), ("crm:2", 8), (None, 7)]


def priorities_of(db: Session, jobs: Sequence[ClaimedJob]) -> list[tuple[str | None, int]]:
    found = {str(row.id): (row.resource, row.priority) for row in db.scalars(select(QueueRow))}
    return [found[job.lease.job_id] for job in jobs]


def test_a_large_claim_takes_one_of_each_that_has_room(db: Session, worker: Worker) -> None:
    limit(db, "crm:*", 1)
    for account in range(30):
        fill(db, A, 3, f"crm:{account}")

    taken = worker.claim(20)

    assert len(taken) == 20
    assert max(by_resource(taken).values()) == 1


def test_workspaces_get_their_shares_of_what_has_room(db: Session, worker: Worker) -> None:
    limit(db, "crm:*", 1)
    db.execute(insert(WorkspaceLimits).values(workspace_id=A, weight=3))
    for account in range(20):
        fill(db, A, 2, f"crm:a{account}")
        fill(db, B, 2, f"crm:b{account}")

    taken = worker.claim(12)

    assert Counter(uuid.UUID(job.lease.workspace_id) for job in taken) == {A: 9, B: 3}


def test_every_other_limit_holds_at_the_same_time(db: Session) -> None:
    limit(db, "crm:*", 2)
    db.execute(insert(RateLimit).values(resource="crm:1", units=1, period_ms=3_600_000, burst=1))
    db.execute(insert(TaskLimits).values(task="heavy", max_running=3))
    db.execute(insert(WorkspaceLimits).values(workspace_id=A, max_running=4))
    db.execute(insert(Pause).values(kind="resource", key="crm:4", reason="", actor="ann"))
    for workspace_id in (A, B, C):
        for account in range(1, 5):
            fill(db, workspace_id, 4, f"crm:{account}", task="heavy")
            fill(db, workspace_id, 4, f"crm:{account}")

    taken = Worker(db, tasks=["work", "heavy"]).drain(4)

    assert by_resource(taken) == {"crm:1": 1, "crm:2": 2, "crm:3": 2}
    assert Counter(job.task for job in taken)["heavy"] <= 3


# -- what a claim says ---------------------------------------------------------------------------------


def test_a_claim_that_only_an_ending_can_help_says_that_it_is_held_back_and_names_no_time(
    db: Session, worker: Worker
) -> None:
    limit(db, "crm:1", 1)
    fill(db, A, 2, "crm:1")
    worker.claim(1)

    claim = ask(db, worker)

    assert (claim.jobs, claim.more, claim.wait, claim.held_back) == ([], False, None, True)


def test_a_claim_that_is_not_committed_yet_counts(db: Session, engine: Engine, worker: Worker) -> None:
    limit(db, "crm:1", 2)
    fill(db, A, 5, "crm:1")
    fill(db, B, 1)
    with Session(engine) as first:
        held = claim_jobs(first, worker.ring, worker_id=worker.id, tasks=["work"], limit=1)
        meanwhile = claim_jobs(db, Ring(["default"]), worker_id=worker.id, tasks=["work"], limit=5)
        first.commit()

    after = claim_jobs(db, Ring(["default"]), worker_id=worker.id, tasks=["work"], limit=5)

    assert (by_resource(held.jobs), by_resource(after.jobs)) == ({"crm:1": 1}, {"crm:1": 1})
    # Others' jobs go on, and for this one there may be room in a moment without anything having to end.
    assert by_resource(meanwhile.jobs) == {None: 1}
    assert meanwhile.wait == pytest.approx(0.05)


def test_a_claim_takes_what_another_one_is_not_just_claiming(db: Session, engine: Engine, worker: Worker) -> None:
    """Of many accounts each claim locks no more than it takes jobs, and the next one takes others."""
    limit(db, "crm:*", 1)
    for account in range(10):
        fill(db, A, 2, f"crm:{account}")
    with Session(engine) as first:
        held = claim_jobs(first, worker.ring, worker_id=worker.id, tasks=["work"], limit=4).jobs
        locks = first.scalar(text(LOCKS), {"number": ROOM_OF_RESOURCE})
        meanwhile = claim_jobs(db, Ring(["default"]), worker_id=worker.id, tasks=["work"], limit=4).jobs
        first.commit()

    assert (len(held), locks, len(meanwhile)) == (4, 4, 4)
    assert max(by_resource([*held, *meanwhile]).values()) == 1


LOCKS = """
select count(*) from pg_locks where locktype = 'advisory' and classid = :number and pid = pg_backend_pid()
"""


def test_a_full_resource_is_not_locked(db: Session, engine: Engine, worker: Worker) -> None:
    limit(db, "crm:*", 1)
    fill(db, A, 2, "crm:1")
    worker.claim(1)

    with Session(engine) as session:
        claim_jobs(session, worker.ring, worker_id=worker.id, tasks=["work"], limit=4)
        locks = session.scalar(text(LOCKS), {"number": ROOM_OF_RESOURCE})

    assert locks == 0


# -- with many at once -----------------------------------------------------------------------------------


def test_a_limit_of_a_resource_holds_while_many_claim_and_finish(db: Session, worker_engine: Engine) -> None:
    """Four claimers; every snapshot is looked at by a fifth connection."""
    assert storm(db, worker_engine) == []
    assert db.scalar(select(func.count()).select_from(QueueRow)) == 0


@pytest.mark.parametrize("lock", ["true", f"pg_try_advisory_xact_lock({ROOM_OF_RESOURCE}, hashtext(r.resource))"])
def test_the_storm_would_notice_a_count_that_is_no_younger_than_the_lock(
    db: Session, worker_engine: Engine, lock: str
) -> None:
    """The broken variants: without any lock, and under one that is taken after the snapshot."""
    db.execute(text(OLD_COUNT.format(lock=lock)))

    assert storm(db, worker_engine, until_violated=True) != []


OLD_COUNT = """
create or replace function jobplatform.free_on_resources(
    wanted integer, resources text[], workspaces uuid[], weights integer[], late boolean[]
)
returns table (resource text, free integer, wait double precision) language sql stable as $$
    select
        r.resource,
        r.max_running - (
            select count(*)::integer from jobplatform.job_queue q where q.state = 2 and q.resource = r.resource
        ),
        null::float8
    from jobplatform.resource_limits r
    where r.resource = any(resources) and {lock}
$$
"""
OVER_THE_LIMIT = """
select q.resource, count(*)
from jobplatform.job_queue q
join jobplatform.resource_limits l using (resource)
where q.state = 2
group by q.resource, l.max_running
having count(*) > l.max_running
"""
STORM_JOBS = 1_200
MOST_ROUNDS = 4_000


def storm(db: Session, engine: Engine, *, until_violated: bool = False) -> list[object]:
    """Claim and finish with four threads until nothing is left; what a watcher saw that must not be."""
    resources = {f"crm:{most}": most for most in (1, 2, 3)}
    for resource, most in resources.items():
        limit(db, resource, most)
        for workspace_id in (A, B):
            fill(db, workspace_id, STORM_JOBS // 12, resource)
            fill(db, workspace_id, STORM_JOBS // 12, resource, task="other")
    seen: list[object] = []
    over = threading.Event()

    def work(position: float) -> None:
        with Session(engine) as session:
            me = Worker(session, tasks=["work", "other"], position=position)
            for _ in range(MOST_ROUNDS):
                finish(session, me.claim(limit=8))
                left = session.scalar(select(func.count()).select_from(QueueRow))
                if not left or over.is_set():
                    return

    threads = [threading.Thread(target=work, args=(n / 4,)) for n in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen += db.execute(text(OVER_THE_LIMIT)).all()
        if seen and until_violated:
            over.set()
    return seen


# -- what it costs -----------------------------------------------------------------------------------------

WAITING = 10_000
BACKLOG = """
insert into jobplatform.job_queue
    (workspace_id, id, queue, task, state, priority, max_attempts, timeout_ms, run_after, resource)
select :workspace_id, ('018f' || lpad(to_hex(n), 28, '0'))::uuid, 'default', 'work', 1, 0, 3, 600000, now(),
    'crm:' || n % :resources
from generate_series(1, :jobs) n
"""


@pytest.fixture(params=[1, 40], ids=["of one", "of many"])
def crowd(request: pytest.FixtureRequest, db: Session, worker: Worker) -> int:
    """Ten thousand jobs wait for resources that are at their limits, each with one that runs."""
    limit(db, "crm:*", 1)
    for number in range(request.param):
        fill(db, A, 1, f"crm:{number}")
    worker.drain()
    db.execute(text(BACKLOG), {"workspace_id": A, "resources": request.param, "jobs": WAITING})
    db.execute(text("vacuum analyze jobplatform.job_queue"))
    return int(request.param)


def test_a_claim_does_not_walk_the_jobs_that_wait_for_a_full_resource(
    db: Session, engine: Engine, worker: Worker, crowd: int
) -> None:
    fill(db, B, 5)

    plan = explain(
        engine, lambda session: claim_jobs(session, weighing(), worker_id=worker.id, tasks=["work"], limit=5)
    )

    assert plan.sequential_scans == []
    assert plan.rows_visited("job_queue") <= 3 * (crowd + 10)
    # For each lane a descent, and what may limit it is looked up; PostgreSQL 15 reads more than 18 does.
    assert plan.buffers <= 150 + 20 * crowd


def weighing() -> Ring:
    """As a worker's ring is that has met a resource."""
    ring = Ring(["default"], 0.0)
    ring.weighed("default", Weighing.LANES)
    return ring
