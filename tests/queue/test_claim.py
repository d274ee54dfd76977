"""The next jobs for a worker: in order inside a workspace, fair between them, never the same one twice."""

from __future__ import annotations

import datetime
import random
import uuid
from collections import Counter
from collections.abc import Sequence

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from jobplatform.models import QueueRow, State, Status
from jobplatform.queue import NewJob, Release, claim_job, claim_jobs, enqueue_jobs, release_jobs
from jobplatform.queue.claim.jobs import LARGEST_CLAIM
from jobplatform.queue.claim.ring import MOST_EMPTY_LOOKS
from tests.queue.actors import Worker
from tests.queue.conftest import Fact, Look, Put

LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
LAST_WORKSPACE = uuid.UUID(int=2**128 - 1)
FIRST_WORKSPACE = uuid.UUID(int=0)


def jain(shares: Sequence[int]) -> float:
    """1 when all shares are equal, 1/n when one has everything."""
    return sum(shares) ** 2 / (len(shares) * sum(share * share for share in shares))


def fill(db: Session, counts: dict[uuid.UUID, int], **options: object) -> None:
    enqueue_jobs(
        db,
        [
            NewJob(workspace_id=workspace_id, task="work", **options)  # type: ignore[arg-type]
            for workspace_id, count in counts.items()
            for _ in range(count)
        ],
    )


def test_a_claimed_job_is_running_under_a_lease(put: Put, worker: Worker, look: Look, workspace_id: uuid.UUID) -> None:
    job_id = put(payload={"a": 1}, payload_version=2, request_id="r", trace_parent="t", max_attempts=5)

    (claimed,) = worker.claim()

    assert claimed.lease == (str(workspace_id), str(job_id), 1)
    assert (claimed.queue, claimed.task, claimed.payload, claimed.payload_version) == ("default", "work", '{"a": 1}', 2)
    assert (claimed.attempt, claimed.max_attempts, claimed.crash_count, claimed.timeout_ms) == (1, 5, 0, 600_000)
    assert (claimed.request_id, claimed.trace_parent) == ("r", "t")
    job = look(job_id)
    assert (job.status, job.worker_id, job.attempts, job.epoch) == (Status.RUNNING, worker.id, 1, 1)
    assert job.started_at is not None


def test_an_empty_queue_gives_nothing(worker: Worker) -> None:
    claim = claim_jobs(worker.db, worker.ring, worker_id=worker.id, tasks=["work"], limit=10)

    assert (claim.jobs, claim.more, claim.wait, claim.held_back) == ([], False, None, False)


def test_a_claim_takes_no_more_than_its_limit(db: Session, worker: Worker) -> None:
    fill(db, {uuid.uuid4(): 5, uuid.uuid4(): 5})

    assert len(worker.claim(limit=3)) == 3


def test_a_claim_takes_no_more_than_the_most_a_claim_takes(db: Session, worker: Worker) -> None:
    fill(db, {uuid.uuid4(): LARGEST_CLAIM + 1})

    assert len(worker.claim(limit=10_000)) == LARGEST_CLAIM


def test_a_full_claim_says_that_there_may_be_more(db: Session, worker: Worker) -> None:
    fill(db, {uuid.uuid4(): 5})

    claim = claim_jobs(worker.db, worker.ring, worker_id=worker.id, tasks=["work"], limit=3)

    assert claim.more


def test_inside_a_workspace_jobs_are_taken_by_priority_then_time_then_age(put: Put, worker: Worker) -> None:
    draw = random.Random(7)
    wanted = []
    for _ in range(60):
        priority, seconds = draw.choice([-5, 0, 5]), draw.choice([0, 1, 2])
        job_id = put(priority=priority, run_after=LONG_AGO + datetime.timedelta(seconds=seconds))
        wanted.append((-priority, seconds, job_id))

    taken = [uuid.UUID(job.lease.job_id) for job in worker.drain(limit=7)]

    assert taken == [job_id for _, _, job_id in sorted(wanted)]


def test_one_claimer_gives_every_workspace_the_same_share_of_every_round(db: Session, worker: Worker) -> None:
    workspaces = [uuid.uuid4() for _ in range(30)]
    fill(db, dict.fromkeys(workspaces, 20))

    for rounds in range(1, 6):
        for _ in range(3):
            worker.claim(limit=10)
        shares = Counter(_workspaces_running(db))
        assert jain([shares[workspace_id] for workspace_id in workspaces]) == 1, f"after {rounds} round(s)"


def test_several_claimers_are_fair_over_ten_rounds(db: Session) -> None:
    workspaces = [uuid.uuid4() for _ in range(40)]
    fill(db, dict.fromkeys(workspaces, 30))
    workers = [Worker(db, position=place / 4) for place in range(4)]

    for _ in range(10):
        for worker in workers:
            worker.claim(limit=10)

    shares = Counter(_workspaces_running(db))
    assert jain([shares[workspace_id] for workspace_id in workspaces]) >= 0.95


def test_a_noisy_workspace_does_not_delay_the_quiet_ones(db: Session, worker: Worker) -> None:
    noisy = uuid.uuid4()
    fill(db, {noisy: 2000})
    quiet = [uuid.uuid4() for _ in range(20)]
    fill(db, dict.fromkeys(quiet, 1))

    first = [uuid.UUID(job.lease.workspace_id) for _ in range(3) for job in worker.claim(limit=10)]

    assert set(quiet) < set(first)


def test_slots_that_the_quiet_do_not_need_go_to_the_noisy(db: Session, worker: Worker) -> None:
    fill(db, {uuid.uuid4(): 100, uuid.uuid4(): 1})

    taken = sum(len(worker.claim(limit=20)) for _ in range(2))

    assert taken >= 30


def test_the_ring_goes_on_where_it_stopped(db: Session, worker: Worker) -> None:
    workspaces = sorted(uuid.uuid4() for _ in range(9))
    fill(db, dict.fromkeys(workspaces, 3))

    taken = [uuid.UUID(job.lease.workspace_id) for _ in range(9) for job in worker.claim(limit=1)]

    assert taken == workspaces


def test_the_ring_wraps_from_the_last_workspace_to_the_first(db: Session) -> None:
    fill(db, {LAST_WORKSPACE: 2, FIRST_WORKSPACE: 2})
    worker = Worker(db, position=0.5)

    taken = [uuid.UUID(job.lease.workspace_id) for _ in range(4) for job in worker.claim(limit=1)]

    assert taken == [LAST_WORKSPACE, FIRST_WORKSPACE, LAST_WORKSPACE, FIRST_WORKSPACE]


@pytest.mark.parametrize("position", [0.0, 0.3, 0.999, 1.0])
def test_wherever_it_starts_one_claim_sees_the_whole_of_a_small_ring(db: Session, position: float) -> None:
    workspaces = {uuid.uuid4() for _ in range(5)} | {FIRST_WORKSPACE, LAST_WORKSPACE}
    fill(db, dict.fromkeys(workspaces, 1))

    taken = Worker(db, position=position).claim(limit=10)

    assert {uuid.UUID(job.lease.workspace_id) for job in taken} == workspaces


def test_a_job_of_an_unknown_task_is_left_for_a_worker_that_knows_it(put: Put, db: Session) -> None:
    unknown, known = put(task="new-task", priority=9), put(task="work")
    old, new = Worker(db, tasks=["work"]), Worker(db, tasks=["new-task"])

    assert [job.lease.job_id for job in old.drain()] == [str(known)]
    assert [job.lease.job_id for job in new.drain()] == [str(unknown)]


def test_workspaces_full_of_unknown_tasks_do_not_hide_the_rest_of_the_ring(db: Session) -> None:
    fill(db, {uuid.UUID(int=n): 1 for n in range(1, 200)})
    enqueue_jobs(db, [NewJob(workspace_id=LAST_WORKSPACE, task="other")])
    worker = Worker(db, tasks=["other"])

    looks, found = 0, []
    more = True
    while more and not found:
        found, more, *_ = claim_jobs(db, worker.ring, worker_id=worker.id, tasks=["other"], limit=1)
        looks += 1

    assert len(found) == 1
    assert looks <= MOST_EMPTY_LOOKS


def test_a_worker_takes_only_from_its_queues(put: Put, db: Session) -> None:
    put(queue="letters")
    mine = put(queue="default")

    assert [job.lease.job_id for job in Worker(db, queues=["default"]).drain()] == [str(mine)]


def test_a_worker_of_several_queues_serves_them_in_turn(put: Put, db: Session) -> None:
    for _ in range(3):
        put(queue="a")
        put(queue="b")
    worker = Worker(db, queues=["a", "b"])

    taken = [job.queue for _ in range(6) for job in worker.claim(limit=1)]

    assert sorted(taken[:2]) == sorted(taken[2:4]) == sorted(taken[4:]) == ["a", "b"]


def test_what_one_queue_does_not_fill_the_next_one_may(put: Put, db: Session) -> None:
    put(queue="a")
    for _ in range(5):
        put(queue="b")

    assert len(Worker(db, queues=["a", "b"]).claim(limit=6)) == 6


def test_two_claimers_never_get_the_same_job(db: Session, engine: Engine, worker: Worker) -> None:
    fill(db, {uuid.uuid4(): 20})
    with Session(engine) as first:
        held = claim_jobs(first, worker.ring, worker_id=worker.id, tasks=["work"], limit=10).jobs

        rest = Worker(db).drain()
        first.commit()

    assert len(held) == len(rest) == 10
    assert not {job.lease for job in held} & {job.lease for job in rest}


def test_a_claim_that_is_rolled_back_leaves_the_job_to_others(
    put: Put, session: Session, worker: Worker, look: Look
) -> None:
    job_id = put()
    claim_jobs(session, worker.ring, worker_id=worker.id, tasks=["work"], limit=1)

    session.rollback()

    assert look(job_id).status == Status.PENDING
    assert worker.lease().epoch == 1


def test_every_claim_has_a_new_epoch_and_counts_an_attempt_at_once(put: Put, db: Session, worker: Worker) -> None:
    put()
    first = worker.claim()[0]
    release_jobs(db, [Release(first.lease)])

    second = worker.claim()[0]

    assert (first.lease.epoch, second.lease.epoch) == (1, 2)
    assert (first.attempt, second.attempt) == (1, 1)  # a released attempt was given back


def test_one_named_job_can_be_claimed(put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID) -> None:
    put(priority=9)
    wanted = put()

    claimed = claim_job(db, worker_id=worker.id, workspace_id=workspace_id, job_id=wanted)

    assert claimed is not None
    assert claimed.lease == (str(workspace_id), str(wanted), 1)


def test_a_named_job_that_is_not_ready_is_not_claimed(
    put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID
) -> None:
    running = put()
    worker.lease()
    later = put(delay=datetime.timedelta(hours=1))

    for job_id in (running, later, uuid.uuid4()):
        assert claim_job(db, worker_id=worker.id, workspace_id=workspace_id, job_id=job_id) is None


def test_a_named_job_of_another_workspace_is_not_claimed(put: Put, db: Session, worker: Worker) -> None:
    job_id = put()

    assert claim_job(db, worker_id=worker.id, workspace_id=uuid.uuid4(), job_id=job_id) is None


def test_a_claim_forgets_the_progress_of_the_attempt_before(
    put: Put, db: Session, worker: Worker, look: Look, fact: Fact
) -> None:
    job_id = put()
    lease = worker.lease()
    fact("update jobplatform.job_queue set progress = '{}' returning 1")
    release_jobs(db, [Release(lease)])

    worker.lease()

    assert look(job_id).progress is None


def _workspaces_running(db: Session) -> list[uuid.UUID]:
    return list(db.scalars(select(QueueRow.workspace_id).where(QueueRow.state == State.RUNNING)))


def test_with_longer_turns_fewer_workspaces_have_theirs_and_all_in_the_end(db: Session, worker: Worker) -> None:
    workspaces = sorted(uuid.uuid4() for _ in range(40))
    fill(db, dict.fromkeys(workspaces, 8))

    claims = [claim_jobs(db, worker.ring, worker_id=worker.id, tasks=["work"], limit=80, turn=4).jobs for _ in range(2)]

    shares = [Counter(uuid.UUID(job.lease.workspace_id) for job in jobs) for jobs in claims]
    assert shares == [dict.fromkeys(workspaces[:20], 4), dict.fromkeys(workspaces[20:], 4)]
