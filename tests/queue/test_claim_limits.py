"""What may not be claimed: limits, rates, pauses, and how much of a claim is whose."""

from __future__ import annotations

import datetime
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from sqlalchemy import Engine, func, insert, select, text, update
from sqlalchemy.orm import Session

from jobplatform.models import (
    Bucket,
    Pause,
    Plan,
    QueueLimits,
    QueueRow,
    RateLimit,
    TaskLimits,
    WorkspaceLimits,
    clock,
)
from jobplatform.queue import (
    Ahead,
    Claim,
    ClaimedJob,
    Completion,
    NewJob,
    Ring,
    claim_jobs,
    complete_jobs,
    enqueue_jobs,
)
from jobplatform.queue.claim.walk import STRETCH
from jobplatform.queue.claim.weighed import SPARE_LANES
from jobplatform.testing import wait_until
from tests.queue.actors import Time, Worker
from tests.queue.conftest import Fact, Put

A, B, C = (uuid.UUID(int=n) for n in (1, 2, 3))


def fill(db: Session, workspace_id: uuid.UUID, count: int, **options: object) -> None:
    asked = {"task": "work", **options}
    enqueue_jobs(db, [NewJob(workspace_id=workspace_id, **asked) for _ in range(count)])  # type: ignore[arg-type]


def finish(db: Session, jobs: Sequence[ClaimedJob]) -> None:
    complete_jobs(db, [Completion(job.lease, "null") for job in jobs])


def by_workspace(jobs: Sequence[ClaimedJob]) -> Counter[uuid.UUID]:
    return Counter(uuid.UUID(job.lease.workspace_id) for job in jobs)


def by_task(jobs: Sequence[ClaimedJob]) -> Counter[str]:
    return Counter(job.task for job in jobs)


# -- running at a time ---------------------------------------------------------------------------


def test_a_workspace_has_no_more_jobs_running_than_its_limit(db: Session, worker: Worker) -> None:
    db.execute(insert(WorkspaceLimits).values(workspace_id=A, max_running=3))
    fill(db, A, 10)
    fill(db, B, 10)

    jobs = worker.drain()

    assert by_workspace(jobs) == {A: 3, B: 10}


def test_a_job_that_ends_makes_room_for_the_next(db: Session, worker: Worker) -> None:
    db.execute(insert(WorkspaceLimits).values(workspace_id=A, max_running=2))
    fill(db, A, 5)
    first = worker.drain()

    finish(db, first[:1])

    assert (len(first), len(worker.drain())) == (2, 1)


@pytest.mark.parametrize(("limit", "now_running"), [(5, 5), (1, 2), (0, 2), (None, 6)])
def test_a_changed_limit_counts_at_the_next_claim(
    db: Session, worker: Worker, limit: int | None, now_running: int, fact: Fact
) -> None:
    """Lowering it stops nothing that runs."""
    db.execute(insert(WorkspaceLimits).values(workspace_id=A, max_running=2))
    fill(db, A, 6)
    worker.drain()

    db.execute(update(WorkspaceLimits).values(max_running=limit))
    worker.drain()

    assert fact("select count(*) from jobplatform.job_queue where state = 2") == now_running


def test_a_workspace_has_the_limits_of_its_plan_unless_it_has_its_own(db: Session, worker: Worker) -> None:
    db.execute(insert(Plan).values(name="free", max_running=1))
    db.execute(insert(WorkspaceLimits), [{"workspace_id": A, "plan": "free"}])
    db.execute(insert(WorkspaceLimits), [{"workspace_id": B, "plan": "free", "max_running": 4}])
    fill(db, A, 5)
    fill(db, B, 5)

    assert by_workspace(worker.drain()) == {A: 1, B: 4}


def test_a_queue_has_no_more_jobs_running_than_its_limit(db: Session) -> None:
    db.execute(insert(QueueLimits).values(queue="letters", max_running=3))
    fill(db, A, 5, queue="letters")
    fill(db, B, 5, queue="letters")
    fill(db, B, 5)

    jobs = Worker(db, queues=["letters", "default"]).drain()

    assert Counter(job.queue for job in jobs) == {"letters": 3, "default": 5}


def test_a_task_has_no_more_jobs_running_than_its_limit_over_all_workspaces_and_queues(db: Session) -> None:
    db.execute(insert(TaskLimits).values(task="heavy", max_running=3))
    for workspace_id in (A, B, C):
        fill(db, workspace_id, 3, task="heavy")
        fill(db, workspace_id, 2, task="heavy", queue="other")
        fill(db, workspace_id, 3)

    jobs = Worker(db, tasks=["work", "heavy"], queues=["default", "other"]).drain()

    assert by_task(jobs) == {"heavy": 3, "work": 9}


def test_a_task_has_no_more_jobs_running_in_a_workspace_than_its_limit_there(db: Session) -> None:
    db.execute(insert(TaskLimits).values(task="heavy", max_running_per_workspace=2, max_running=5))
    for workspace_id in (A, B, C):
        fill(db, workspace_id, 4, task="heavy")

    jobs = Worker(db, tasks=["heavy"]).drain()

    assert sorted(by_workspace(jobs).values()) in ([1, 2, 2], [2, 2, 1])


def test_a_full_task_does_not_hold_up_the_workspaces_other_jobs_however_many_of_it_wait(db: Session) -> None:
    db.execute(insert(TaskLimits).values(task="heavy", max_running=0))
    fill(db, A, 300, task="heavy", priority=9)
    fill(db, A, 1)

    (job,) = Worker(db, tasks=["work", "heavy"]).claim(limit=5)

    assert job.task == "work"


def test_every_limit_holds_at_the_same_time(db: Session) -> None:
    db.execute(insert(WorkspaceLimits), [{"workspace_id": A, "max_running": 4}])
    db.execute(insert(TaskLimits).values(task="heavy", max_running=5, max_running_per_workspace=3))
    db.execute(insert(QueueLimits).values(queue="default", max_running=11))
    for workspace_id in (A, B, C):
        fill(db, workspace_id, 8, task="heavy", priority=1)
        fill(db, workspace_id, 8)

    jobs = Worker(db, tasks=["work", "heavy"]).drain(limit=4)

    heavy = [job for job in jobs if job.task == "heavy"]
    assert (len(jobs), len(heavy)) == (11, 5)
    assert by_workspace(jobs)[A] <= 4
    assert max(by_workspace(heavy).values()) <= 3


def test_a_claim_that_is_not_committed_yet_counts(db: Session, engine: Engine, worker: Worker) -> None:
    db.execute(insert(WorkspaceLimits).values(workspace_id=A, max_running=2))
    fill(db, A, 5)
    with Session(engine) as first:
        held = claim_jobs(first, worker.ring, worker_id=worker.id, tasks=["work"], limit=1)
        meanwhile = claim_jobs(db, Ring(["default"]), worker_id=worker.id, tasks=["work"], limit=5)
        first.commit()

    after = claim_jobs(db, Ring(["default"]), worker_id=worker.id, tasks=["work"], limit=5)

    assert (len(held.jobs), meanwhile.jobs, len(after.jobs)) == (1, [], 1)
    # Somebody else is just claiming: there may be more in a moment, without anything having to end.
    assert meanwhile.wait is not None
    assert meanwhile.wait < 1


def test_a_claim_that_nothing_but_an_ending_can_help_names_no_time(db: Session, worker: Worker) -> None:
    db.execute(insert(WorkspaceLimits).values(workspace_id=A, max_running=0))
    fill(db, A, 1)

    claim = claim_jobs(db, worker.ring, worker_id=worker.id, tasks=["work"], limit=5)

    assert (claim.jobs, claim.more, claim.wait, claim.held_back) == ([], False, None, True)


def test_limits_hold_while_many_claim_finish_and_change_them(db: Session, worker_engine: Engine) -> None:
    """Four claimers; every snapshot is looked at by a fifth connection."""
    assert storm(db, worker_engine) == []


def test_the_storm_would_notice_a_count_that_is_taken_before_the_lock(db: Session, worker_engine: Engine) -> None:
    """The broken variant: the look before the lock is believed."""
    db.execute(text(COUNT_BEFORE_THE_LOCK))

    assert storm(db, worker_engine, until_violated=True) != []


COUNT_BEFORE_THE_LOCK = """
create or replace function jobplatform.free_in_workspaces(workspaces uuid[], limits integer[], most integer)
returns table (workspace_id uuid, free integer) language sql stable as $$
    select w.id, w.allowed - (
        select count(*)::integer from jobplatform.job_queue q where q.state = 2 and q.workspace_id = w.id
    )
    from unnest(workspaces, limits) as w(id, allowed)
$$
"""
OVER_THE_LIMIT = """
select q.workspace_id::text, count(*)
from jobplatform.job_queue q
join jobplatform.workspace_limits l using (workspace_id)
where q.state = 2
group by q.workspace_id, l.max_running
having count(*) > l.max_running
"""
STORM_JOBS = 1_500
MOST_ROUNDS = 2_000


def storm(db: Session, engine: Engine, *, until_violated: bool = False) -> list[object]:
    """Claim and finish with four threads until nothing is left; what a watcher saw that must not be."""
    workspaces = [uuid.uuid4() for _ in range(3)]
    db.execute(insert(WorkspaceLimits), [{"workspace_id": w, "max_running": n} for n, w in enumerate(workspaces, 1)])
    for workspace_id in workspaces:
        fill(db, workspace_id, STORM_JOBS // 3)
    seen: list[object] = []
    over = threading.Event()

    def work(position: float) -> None:
        with Session(engine) as session:
            me = Worker(session, position=position)
            for _ in range(MOST_ROUNDS):
                jobs = me.claim(limit=8)
                finish(session, jobs)
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


# -- rates ---------------------------------------------------------------------------------------


def test_a_workspaces_rate_bounds_what_starts_in_a_period(db: Session, worker: Worker, time: Time) -> None:
    time.freeze()
    db.execute(insert(WorkspaceLimits).values(workspace_id=A, rate_units=3, rate_period_ms=60_000))
    fill(db, A, 10)
    fill(db, B, 2)

    first = worker.drain()
    finish(db, first)
    time.passes(40)
    second = worker.drain()

    assert by_workspace(first) == {A: 3, B: 2}
    assert by_workspace(second) == {A: 2}


def test_an_exhausted_rate_says_when_there_is_more(db: Session, worker: Worker, time: Time) -> None:
    time.freeze()
    db.execute(insert(WorkspaceLimits).values(workspace_id=A, rate_units=1, rate_period_ms=60_000))
    fill(db, A, 2)
    worker.drain()

    claim = claim_jobs(db, worker.ring, worker_id=worker.id, tasks=["work"], limit=5)

    assert (claim.jobs, claim.wait) == ([], 60)


def test_a_rate_is_found_without_reading_the_others_also_when_there_were_none_once(
    db: Session, engine: Engine, worker: Worker
) -> None:
    db.execute(insert(WorkspaceLimits).values(workspace_id=A, rate_units=9, rate_period_ms=1000))
    fill(db, A, 2)
    # From now on the planner takes the table for empty, and reading all of it for cheap.
    db.execute(text("vacuum analyze jobplatform.buckets"))

    with Session(engine) as session:
        taken = claim_jobs(session, worker.ring, worker_id=worker.id, tasks=["work"], limit=2).jobs
        found, read = session.execute(text(SCANS_OF_BUCKETS)).one()

    assert len(taken) == 2
    assert found > 0
    assert read == 0


SCANS_OF_BUCKETS = "select idx_scan, seq_scan from pg_stat_xact_user_tables where relname = 'buckets'"


@pytest.mark.parametrize(("rule", "taken"), [("crm:*", {"crm:1": 2, "crm:2": 2}), ("crm:1", {"crm:1": 2, "crm:2": 5})])
def test_a_resources_rate_is_shared_by_everybody_who_uses_it(
    db: Session, worker: Worker, rule: str, taken: dict[str, int]
) -> None:
    db.execute(insert(RateLimit).values(resource=rule, units=2, period_ms=60_000, burst=2))
    for workspace_id in (A, B, C):
        fill(db, workspace_id, 2, resource="crm:1")
    fill(db, A, 5, resource="crm:2")
    fill(db, B, 1)

    jobs = worker.drain()

    assert Counter(job.resource for job in jobs) == {**taken, None: 1}


def test_a_rule_for_one_resource_beats_the_rule_for_its_kind(db: Session, worker: Worker) -> None:
    db.execute(insert(RateLimit).values(resource="crm:*", units=1, period_ms=60_000, burst=1))
    db.execute(insert(RateLimit).values(resource="crm:1", units=4, period_ms=60_000, burst=4))
    fill(db, A, 9, resource="crm:1")

    assert len(worker.drain()) == 4


def test_a_job_takes_as_many_units_as_it_says(db: Session, worker: Worker) -> None:
    db.execute(insert(RateLimit).values(resource="crm:1", units=10, period_ms=60_000, burst=10))
    fill(db, A, 9, resource="crm:1", units=4)

    assert len(worker.drain()) == 2


def test_a_job_of_more_units_than_the_bucket_holds_runs_when_the_bucket_is_full(db: Session, worker: Worker) -> None:
    db.execute(insert(RateLimit).values(resource="crm:1", units=10, period_ms=60_000, burst=10))
    fill(db, A, 2, resource="crm:1", units=50)

    assert len(worker.drain()) == 1


def test_a_resource_without_a_rate_is_not_limited(db: Session, worker: Worker) -> None:
    fill(db, A, 5, resource="crm:1")

    assert len(worker.drain()) == 5


def test_an_exhausted_resource_does_not_hold_up_the_workspaces_other_jobs(db: Session, worker: Worker) -> None:
    db.execute(insert(RateLimit).values(resource="crm:1", units=1, period_ms=60_000, burst=1))
    fill(db, A, 50, resource="crm:1", priority=9)
    fill(db, A, 1)

    assert [job.resource for job in worker.drain()] == ["crm:1", None]


def test_a_closed_bucket_starts_nothing_until_it_opens(db: Session, worker: Worker, time: Time) -> None:
    time.freeze()
    fill(db, A, 1, resource="crm:1")
    until = clock() + datetime.timedelta(seconds=30)
    db.execute(insert(Bucket).values(kind="resource", key="crm:1", tokens=0, filled_at=clock(), closed_until=until))

    closed = claim_jobs(db, worker.ring, worker_id=worker.id, tasks=["work"], limit=5)
    time.passes(31)

    assert (closed.jobs, closed.wait) == ([], 30)
    assert len(worker.drain()) == 1


# -- pauses --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "key", "left"),
    [
        ("queue", "default", {"other"}),
        ("queue", "other", {"a", "b", "crm", "heavy"}),
        ("task", "heavy", {"a", "b", "crm", "other"}),
        ("workspace", str(A), {"b", "other"}),
        ("resource", "crm:1", {"a", "b", "heavy", "other"}),
    ],
)
def test_what_is_paused_is_not_started_and_everything_else_is(db: Session, kind: str, key: str, left: set[str]) -> None:
    fill(db, A, 1, tags=("a",))
    fill(db, A, 1, tags=("heavy",), task="heavy")
    fill(db, A, 1, tags=("crm",), resource="crm:1")
    fill(db, B, 1, tags=("b",))
    fill(db, B, 1, tags=("other",), queue="other")
    db.execute(insert(Pause).values(kind=kind, key=key, reason="", actor="ann"))

    Worker(db, tasks=["work", "heavy"], queues=["default", "other"]).drain()

    running = "select unnest(tags) from jobplatform.jobs where status = 'running'"
    assert set(db.scalars(text(running))) == left


def test_a_pause_ends_by_itself(db: Session, worker: Worker, time: Time) -> None:
    time.freeze()
    fill(db, A, 1)
    until = clock() + datetime.timedelta(seconds=30)
    db.execute(insert(Pause).values(kind="task", key="work", reason="", actor="ann", until=until))

    paused = claim_jobs(db, worker.ring, worker_id=worker.id, tasks=["work"], limit=5)
    time.passes(31)

    assert (paused.jobs, paused.wait) == ([], 30)
    assert len(worker.drain()) == 1


# -- shares --------------------------------------------------------------------------------------


def test_a_claim_is_shared_out_by_weight(db: Session, worker: Worker) -> None:
    db.execute(insert(WorkspaceLimits).values(workspace_id=A, weight=4))
    fill(db, A, 100)
    fill(db, B, 100)

    assert by_workspace(worker.claim(limit=50)) == {A: 40, B: 10}


def test_what_a_large_claim_got_is_started_by_turns_and_weights(db: Session, worker: Worker) -> None:
    db.execute(insert(WorkspaceLimits).values(workspace_id=A, weight=2))
    fill(db, A, 100)
    fill(db, B, 100)

    started = [uuid.UUID(job.lease.workspace_id) for job in worker.claim(limit=30)]

    assert started == [A, A, B] * 10


def test_a_weight_may_come_from_the_plan(db: Session, worker: Worker) -> None:
    db.execute(insert(Plan).values(name="pro", weight=9))
    db.execute(insert(WorkspaceLimits).values(workspace_id=A, plan="pro"))
    fill(db, A, 100)
    fill(db, B, 100)

    jobs = worker.claim(limit=50)

    assert by_workspace(jobs) == {A: 45, B: 5}
    assert {job.lease.workspace_id: job.weight for job in jobs} == {str(A): 9, str(B): 1}


def test_a_weight_buys_nothing_that_nobody_else_wants(db: Session, worker: Worker) -> None:
    db.execute(insert(WorkspaceLimits).values(workspace_id=A, weight=100))
    fill(db, A, 1)
    fill(db, B, 30)

    assert len(worker.drain(limit=20)) == 31


Shares = Callable[..., Claim]


@pytest.fixture(params=["plain", "weighed"])
def claim(request: pytest.FixtureRequest, db: Session, worker: Worker) -> Shares:
    """A claim by either statement: with something paused elsewhere, everything is weighed."""
    if request.param == "weighed":
        db.execute(insert(Pause).values(kind="task", key="elsewhere", reason="", actor="ann"))

    def claim(limit: int, **options: object) -> Claim:
        return claim_jobs(db, worker.ring, worker_id=worker.id, tasks=["work"], limit=limit, **options)  # type: ignore[arg-type]

    return claim


def test_those_ahead_of_their_share_get_what_the_others_leave(db: Session, claim: Shares) -> None:
    for workspace_id, count in ((A, 20), (B, 2), (C, 20)):
        fill(db, workspace_id, count)

    first = claim(6, ahead=Ahead([str(A)]))
    rest = claim(30, ahead=Ahead([str(A), str(B), str(C)]))

    assert by_workspace(first.jobs)[B] == 2
    assert by_workspace(first.jobs)[C] == 3
    assert len(rest.jobs) > 20


def test_those_a_little_ahead_come_later_and_have_their_share(db: Session, claim: Shares) -> None:
    for workspace_id in (A, B, C):
        fill(db, workspace_id, 20)

    one = claim(1, ahead=Ahead([str(B), str(A)], fair=2))
    many = claim(30, ahead=Ahead([str(C), str(B), str(A)], fair=3))

    assert by_workspace(one.jobs) == {C: 1}
    assert by_workspace(many.jobs) == {A: 10, B: 10, C: 10}


def test_a_claim_says_who_of_those_ahead_had_something_ready(db: Session, claim: Shares) -> None:
    for workspace_id in (A, B):
        fill(db, workspace_id, 2)

    met = claim(1, ahead=Ahead([str(C), str(B)]))

    assert by_workspace(met.jobs) == {A: 1}
    assert set(met.waiting) == {str(B)}


def test_who_is_ahead_and_may_not_run_more_does_not_wait_for_a_slot(db: Session, worker: Worker) -> None:
    db.execute(insert(WorkspaceLimits), [{"workspace_id": A, "max_running": 0}, {"workspace_id": B, "max_running": 1}])
    for workspace_id in (A, B, C):
        fill(db, workspace_id, 2)

    met = claim_jobs(db, worker.ring, worker_id=worker.id, tasks=["work"], limit=1, ahead=Ahead([str(A), str(B)]))

    assert by_workspace(met.jobs) == {C: 1}
    assert set(met.waiting) == {str(B)}


def test_a_round_is_over_when_the_ring_has_been_gone_round_and_when_it_is_empty(db: Session, claim: Shares) -> None:
    for workspace_id in (A, B, C):
        fill(db, workspace_id, 2)

    claims = [claim(1) for _ in range(7)]

    assert [next(iter(by_workspace(each.jobs)), None) for each in claims] == [A, B, C, A, B, C, None]
    assert [each.came_round for each in claims] == [False, False, False, True, False, False, True]


def test_a_round_takes_as_long_as_the_longest_of_several_queues(db: Session) -> None:
    worker = Worker(db, queues=("default", "other"))
    for workspace_id in (A, B, C):
        fill(db, workspace_id, 10)
    fill(db, A, 10, queue="other")

    came_round = [
        claim_jobs(db, worker.ring, worker_id=worker.id, tasks=["work"], limit=1).came_round for _ in range(14)
    ]

    # Each queue has every second claim; that of three workspaces comes round with every third of its own.
    assert [number for number, over in enumerate(came_round) if over] in ([6, 12], [7, 13])


def test_newcomers_are_looked_at_first(db: Session, claim: Shares, worker: Worker) -> None:
    backlogged = sorted(uuid.uuid4() for _ in range(40))
    for workspace_id in backlogged:
        fill(db, workspace_id, 2)
    newcomer = backlogged[30]

    first = claim(3, newcomers=[str(newcomer), str(uuid.uuid4())])

    assert uuid.UUID(first.jobs[0].lease.workspace_id) == newcomer
    assert len({job.lease.workspace_id for job in first.jobs}) == 3
    # The ring goes on where it was, and does not begin behind the newcomer.
    assert worker.ring.cursor("default") == backlogged[1]


def test_a_newcomer_that_has_nothing_ready_is_passed_over(db: Session, claim: Shares) -> None:
    fill(db, A, 3)

    assert len(claim(2, newcomers=[str(B)]).jobs) == 2


def test_no_job_is_taken_twice_by_a_newcomer_that_is_on_the_ring_too(db: Session, claim: Shares) -> None:
    fill(db, A, 3)

    jobs = claim(10, newcomers=[str(A)]).jobs

    assert len(jobs) == len({job.lease for job in jobs}) == 3


def test_priority_is_strict_over_all_tasks_and_resources_of_a_workspace(put: Put, db: Session) -> None:
    wanted = []
    for n in range(30):
        priority = n % 10
        wanted.append((-priority, put(task=f"task-{n % 3}", resource=f"crm:{n % 4}", priority=priority)))

    taken = [uuid.UUID(job.lease.job_id) for job in Worker(db, tasks=["task-0", "task-1", "task-2"]).drain(limit=7)]

    assert taken == [job_id for _, job_id in sorted(wanted)]


def test_a_workspace_that_spreads_its_jobs_over_many_resources_gets_no_more_than_others(
    db: Session, worker: Worker
) -> None:
    enqueue_jobs(db, [NewJob(workspace_id=A, task="work", resource=f"crm:{n}") for n in range(100)])
    fill(db, B, 100)

    jobs = [job for _ in range(10) for job in worker.claim(limit=2)]

    assert by_workspace(jobs) == {A: 10, B: 10}


LOCKED = "select count(*) from jobplatform.job_queue where state = 1 and xmax <> '0'"


def test_a_claim_locks_few_of_the_jobs_that_are_spread_over_many_resources(
    db: Session, engine: Engine, worker: Worker
) -> None:
    enqueue_jobs(db, [NewJob(workspace_id=A, task="work", resource=f"crm:{n % 50}") for n in range(500)])

    with Session(engine) as session:
        taken = claim_jobs(session, worker.ring, worker_id=worker.id, tasks=["work"], limit=2).jobs
        locked = session.scalar(text(LOCKED))

    assert len(taken) == 2
    assert locked is not None
    assert locked <= SPARE_LANES + 2


def test_a_claim_that_finds_all_it_looked_at_locked_asks_again_soon(
    db: Session, engine: Engine, worker: Worker
) -> None:
    # No more lanes than the first stretch of a look: both claims see all of them, wherever the second one starts.
    enqueue_jobs(db, [NewJob(workspace_id=A, task="work", resource=f"crm:{n}") for n in range(STRETCH)])
    with Session(engine) as first:
        held = claim_jobs(first, worker.ring, worker_id=worker.id, tasks=["work"], limit=20).jobs
        meanwhile = claim_jobs(db, Ring(["default"]), worker_id=worker.id, tasks=["work"], limit=1)
        first.commit()

    assert (len(held), meanwhile.jobs) == (20, [])
    assert meanwhile.wait == pytest.approx(0.05)


def test_of_very_many_resources_of_a_workspace_none_is_overlooked_for_ever(db: Session, worker: Worker) -> None:
    db.execute(insert(Pause), [{"kind": "resource", "key": f"crm:{n}", "reason": "", "actor": "a"} for n in range(200)])
    enqueue_jobs(db, [NewJob(workspace_id=A, task="work", resource=f"crm:{n}") for n in range(200)])
    open_one = enqueue_jobs(db, [NewJob(workspace_id=A, task="work", resource="open")])[0]

    found: list[ClaimedJob] = []
    wait_until(lambda: found.extend(worker.claim(limit=1)) or found, what="the one that may run")

    assert [job.lease.job_id for job in found] == [str(open_one.job_id)]
