"""An adaptive limit: how many jobs may use a resource at a time follows from what it answers."""

from __future__ import annotations

import datetime
import threading
import uuid
from collections.abc import Callable, Sequence

import pytest
from sqlalchemy import Engine, func, insert, select, text, update
from sqlalchemy.orm import Session

from jobplatform.models import QueueRow, ResourceLevel, ResourceLimits, clock
from jobplatform.queue import (
    Adaptive,
    ClaimedJob,
    Completion,
    LevelOfResource,
    NewJob,
    Release,
    ResourceNote,
    clear_resource_limit,
    complete_jobs,
    enqueue_jobs,
    extreme_levels,
    list_resource_levels,
    note_resources,
    prune_jobs,
    release_jobs,
    set_resource_limit,
)
from jobplatform.queue.locks import ROOM_OF_RESOURCE
from tests.queue.actors import Elsewhere, Time, Worker
from tests.queue.plans import explain

A = uuid.UUID(int=1)
CRM = "crm:1"
WIDE = Adaptive(1, 50)


def fill(db: Session, count: int, resource: str = CRM) -> None:
    enqueue_jobs(db, [NewJob(workspace_id=A, task="work", resource=resource) for _ in range(count)])


def worked(*jobs: ClaimedJob) -> list[ResourceNote]:
    return [ResourceNote(job.resource or "", worked=True) for job in jobs]


def refused(*jobs: ClaimedJob) -> list[ResourceNote]:
    return [ResourceNote(job.resource or "", worked=True, too_often=True, lease=job.lease) for job in jobs]


def finish(db: Session, jobs: Sequence[ClaimedJob]) -> None:
    """As a worker does: what was found out first, then the endings."""
    note_resources(db, worked(*jobs))
    complete_jobs(db, [Completion(job.lease, "null") for job in jobs])


def levels(db: Session) -> dict[str, float]:
    """As they are stored."""
    rows = db.execute(select(ResourceLevel.resource, ResourceLevel.level)).all()
    return {row.resource: round(row.level, 3) for row in rows}


@pytest.fixture
def level_is(db: Session, time: Time) -> Callable[..., None]:
    """The limit is from 1 to 50 and the level this one, lowered a while ago; more wait than may run."""

    def level_is(level: float, limit: Adaptive = WIDE) -> None:
        set_resource_limit(db, "crm:*", limit)
        values = {"resource": CRM, "level": level, "lowered_at": clock(), "lowered_for": "too often"}
        db.execute(insert(ResourceLevel).values(**values))
        time.passes(1)
        fill(db, 100)

    return level_is


LevelIs = Callable[..., None]


# -- how it begins, and how it rises ------------------------------------------------------------------


@pytest.mark.parametrize("least", [1, 3])
def test_a_resource_of_which_nothing_is_known_begins_at_the_least(db: Session, worker: Worker, least: int) -> None:
    set_resource_limit(db, CRM, Adaptive(least, 50))
    fill(db, 10)

    assert len(worker.drain()) == least


def test_until_it_is_lowered_for_the_first_time_each_success_lets_one_more_run(db: Session, worker: Worker) -> None:
    set_resource_limit(db, CRM, Adaptive(1, 12))
    fill(db, 60)
    rounds = []
    for _ in range(6):
        jobs = worker.drain()
        rounds.append(len(jobs))
        finish(db, jobs)

    assert rounds == [1, 2, 4, 8, 12, 12]


def test_once_it_was_lowered_it_rises_by_one_in_two_rounds_of_the_jobs_that_run(
    db: Session, worker: Worker, level_is: LevelIs
) -> None:
    level_is(4.0)
    rounds = []
    for _ in range(6):
        jobs = worker.drain()
        rounds.append(len(jobs))
        finish(db, jobs)

    assert rounds == [4, 4, 4, 5, 5, 6]


@pytest.mark.parametrize(("running", "raised"), [(7, 10.0), (8, 10.4), (10, 10.5)])
def test_it_rises_only_while_about_as_many_run_as_it_allows(
    db: Session, worker: Worker, level_is: LevelIs, running: int, raised: float
) -> None:
    """How much more it would take nobody has found out otherwise."""
    level_is(10.0)
    jobs = worker.claim(running)

    note_resources(db, worked(*jobs))

    assert levels(db) == {CRM: raised}


def test_it_does_not_rise_while_more_run_than_it_allows(db: Session, worker: Worker, level_is: LevelIs) -> None:
    """They were started at a higher one."""
    level_is(10.0)
    jobs = worker.drain()
    note_resources(db, refused(jobs[0]))

    note_resources(db, worked(*jobs[1:]))

    assert levels(db) == {CRM: 9.2}


def test_it_never_rises_over_the_most(db: Session, worker: Worker, level_is: LevelIs) -> None:
    level_is(3.9, Adaptive(1, 4))
    for _ in range(3):
        finish(db, worker.drain())

    assert (levels(db), len(worker.drain())) == ({CRM: 4.0}, 4)


# -- what lowers it ----------------------------------------------------------------------------------------

REFUSALS: dict[str, tuple[Callable[[ClaimedJob], ResourceNote], str]] = {
    "too often": (lambda job: refused(job)[0], "too often"),
    "too often, with a time": (lambda job: ResourceNote(CRM, closed_for=5, lease=job.lease), "too often"),
    "an infrastructure error": (
        lambda job: ResourceNote(CRM, failed=True, error="ConnectionError", lease=job.lease),
        "ConnectionError",
    ),
}


@pytest.mark.parametrize("way", REFUSALS)
def test_what_a_resource_refuses_lowers_its_level_by_a_twelfth(
    db: Session, worker: Worker, level_is: LevelIs, way: str
) -> None:
    note, reason = REFUSALS[way]
    level_is(10.0)
    jobs = worker.drain()

    note_resources(db, [note(jobs[0]), *worked(*jobs[1:5])])

    assert levels(db) == {CRM: 9.2}
    (found,) = list_resource_levels(db)
    assert (found.level, found.running, found.lowered_for) == (9, 10, reason)


def test_too_often_without_a_time_closes_nothing(db: Session, worker: Worker, level_is: LevelIs) -> None:
    level_is(10.0)
    first, *_ = jobs = worker.drain()

    note_resources(db, refused(first))
    release_jobs(db, [Release(job.lease, 60) for job in jobs[:3]])

    assert len(worker.drain()) == 2


def test_too_often_with_a_time_is_obeyed_as_ever(db: Session, worker: Worker, level_is: LevelIs, time: Time) -> None:
    level_is(10.0)
    jobs = worker.drain()
    note_resources(db, [ResourceNote(CRM, closed_for=20, lease=jobs[0].lease)])
    complete_jobs(db, [Completion(job.lease, "null") for job in jobs])

    meanwhile = worker.drain()
    time.passes(21)

    assert (meanwhile, len(worker.drain())) == ([], 9)


def test_it_is_lowered_once_for_all_that_was_started_before(
    db: Session, worker: Worker, level_is: LevelIs, time: Time
) -> None:
    level_is(20.0)
    jobs = worker.drain()
    time.passes(1)

    note_resources(db, refused(*jobs[:3]))
    time.passes(1)
    note_resources(db, refused(*jobs[3:6]))

    assert levels(db) == {CRM: 18.4}


def test_what_was_started_since_lowers_it_again(db: Session, worker: Worker, level_is: LevelIs, time: Time) -> None:
    level_is(20.0)
    jobs = worker.drain()
    time.passes(1)
    note_resources(db, refused(jobs[0]))
    release_jobs(db, [Release(job.lease, 60) for job in jobs])
    time.passes(1)

    note_resources(db, refused(*worker.claim(2)))

    assert levels(db) == {CRM: 16.928}


def test_it_never_falls_under_the_least(db: Session, worker: Worker, level_is: LevelIs, time: Time) -> None:
    level_is(3.0, Adaptive(2, 50))
    counts = []
    for _ in range(6):
        jobs = worker.drain()
        counts.append(len(jobs))
        note_resources(db, refused(jobs[0]))
        release_jobs(db, [Release(job.lease, 600) for job in jobs])
        time.passes(1)

    assert counts == [3, 2, 2, 2, 2, 2]
    assert levels(db) == {CRM: 2.0}


def test_an_attempt_that_is_not_its_workers_any_more_lowers_nothing(
    db: Session, worker: Worker, level_is: LevelIs
) -> None:
    """When it was started nobody can say; whoever has it now will be told the same."""
    level_is(10.0)
    jobs = worker.drain()
    lost = jobs[0].lease._replace(epoch=jobs[0].lease.epoch + 1)

    note_resources(db, [ResourceNote(CRM, worked=True, too_often=True, lease=lost), ResourceNote(CRM, failed=True)])

    assert levels(db) == {CRM: 10.0}


def test_a_lowered_level_stops_nothing_and_counts_at_the_next_claim(
    db: Session, worker: Worker, level_is: LevelIs
) -> None:
    level_is(10.0)
    jobs = worker.drain()

    note_resources(db, refused(jobs[0]))
    after = worker.drain()
    complete_jobs(db, [Completion(job.lease, "null") for job in jobs[:2]])

    assert (after, len(worker.drain())) == ([], 1)


# -- whose it is ---------------------------------------------------------------------------------------------


def test_each_resource_of_a_kind_has_a_level_of_its_own(db: Session, worker: Worker, time: Time) -> None:
    set_resource_limit(db, "crm:*", WIDE)
    fill(db, 20, "crm:1")
    fill(db, 20, "crm:2")
    for _ in range(2):
        finish(db, worker.drain())
    jobs = worker.drain()
    time.passes(1)

    note_resources(db, refused(*[job for job in jobs if job.resource == "crm:2"]))

    assert levels(db) == {"crm:1": 3.0 + 1.0, "crm:2": 3.68}
    assert [(one.resource, one.level) for one in list_resource_levels(db)] == [("crm:2", 3), ("crm:1", 4)]
    assert extreme_levels(db) == {"crm:*": (3, 4)}


@pytest.mark.parametrize(("own", "running"), [(5, 5), (0, 0), (None, 20), (Adaptive(3, 9), 3)])
def test_what_is_said_of_the_very_resource_beats_the_level_under_its_kind(
    db: Session, worker: Worker, own: int | Adaptive | None, running: int
) -> None:
    set_resource_limit(db, "crm:*", Adaptive(1, 50))
    set_resource_limit(db, CRM, own)
    fill(db, 20)

    jobs = worker.drain()
    note_resources(db, worked(*jobs))

    assert len(jobs) == running
    assert levels(db) == ({CRM: 6.0} if isinstance(own, Adaptive) else {})


@pytest.mark.parametrize(("limit", "running"), [(Adaptive(20, 30), 20), (Adaptive(1, 4), 4), (2, 2), (None, 100)])
def test_a_limit_that_is_changed_counts_at_once_whatever_the_level_was(
    db: Session, worker: Worker, level_is: LevelIs, limit: int | Adaptive | None, running: int
) -> None:
    level_is(10.0)

    set_resource_limit(db, "crm:*", limit)

    assert len(worker.drain()) == running


def test_a_most_below_the_least_is_what_counts(db: Session, worker: Worker, level_is: LevelIs) -> None:
    """Code that does not know adaptive limits may set it, while a deploy is under way."""
    level_is(10.0, Adaptive(5, 50))
    db.execute(update(ResourceLimits).values(max_running=2))

    finish(db, worker.drain())

    assert len(worker.drain()) == 2
    assert extreme_levels(db) == {"crm:*": (2, 2)}


def test_what_is_answered_under_a_most_of_none_is_taken_and_moves_nothing(
    db: Session, worker: Worker, level_is: LevelIs
) -> None:
    """Such code, or somebody who writes SQL, may set that too, and what runs goes on."""
    level_is(10.0, Adaptive(5, 50))
    jobs = worker.drain()
    db.execute(update(ResourceLimits).values(max_running=0))

    note_resources(db, [*refused(jobs[0]), *worked(*jobs[1:])])

    assert levels(db) == {CRM: 10.0}


def test_where_no_limit_is_adaptive_nothing_is_written_about_levels(db: Session, worker: Worker) -> None:
    set_resource_limit(db, "crm:*", 5)
    fill(db, 10)
    jobs = worker.drain()

    note_resources(db, [*worked(*jobs[:3]), *refused(*jobs[3:])])

    assert levels(db) == {}
    assert (list_resource_levels(db), extreme_levels(db)) == ([], {})


def test_what_an_operator_sees_of_one(db: Session, worker: Worker, level_is: LevelIs) -> None:
    level_is(7.9)
    worker.drain()

    (found,) = list_resource_levels(db, CRM)

    assert found == LevelOfResource(CRM, 7, 1, 50, 7, found.lowered_at, "too often")
    assert list_resource_levels(db, "crm:2") == []


def test_the_level_of_a_resource_that_nobody_uses_any_more_is_forgotten(
    db: Session, worker: Worker, level_is: LevelIs, time: Time
) -> None:
    def prune() -> None:
        prune_jobs(db, completed_after=datetime.timedelta(days=7), failed_after=datetime.timedelta(days=30))

    level_is(50.0)
    time.passes(20 * 86_400)
    finish(db, worker.drain())
    time.passes(20 * 86_400)
    prune()
    assert levels(db) == {CRM: 50.0}

    time.passes(11 * 86_400)
    prune()

    assert levels(db) == {}
    assert clear_resource_limit(db, "crm:*")


def test_the_highest_level_that_can_be_written_is_one_that_a_claim_can_read(
    db: Session, worker: Worker, level_is: LevelIs
) -> None:
    level_is(2147483647.0)

    assert len(worker.drain()) == 50
    assert [found.level for found in list_resource_levels(db)] == [50]
    assert extreme_levels(db) == {"crm:*": (50, 50)}


# -- with many at once ------------------------------------------------------------------------------------------


def test_of_two_that_are_refused_at_once_only_one_lowers_it(
    db: Session, worker: Worker, level_is: LevelIs, elsewhere: Elsewhere, engine: Engine
) -> None:
    level_is(20.0)
    first, second, *_ = worker.drain()
    db.commit()
    with Session(engine) as session:
        note_resources(session, refused(first))
        answer = elsewhere.start_and_wait_for_lock(lambda other: note_resources(other, refused(second)))
        session.commit()

    answer.result()
    assert levels(db) == {CRM: 18.4}


def test_a_success_at_the_same_moment_does_not_undo_the_lowering(
    db: Session, worker: Worker, level_is: LevelIs, elsewhere: Elsewhere, engine: Engine
) -> None:
    level_is(20.0)
    first, *others = worker.drain()
    db.commit()
    with Session(engine) as session:
        note_resources(session, refused(first))
        answer = elsewhere.start_and_wait_for_lock(lambda other: note_resources(other, worked(*others)))
        session.commit()

    answer.result()
    assert levels(db) == {CRM: 18.4}


MOST_ROUNDS = 2_000
WHAT_RUNS_AND_MAY = f"""
select (select count(*) from jobplatform.job_queue where state = 2), jobplatform.level_of_resource('{CRM}', 1, 6)
"""
#: That of a claim, which holds it until it commits.
LOCK = f"select pg_advisory_xact_lock({ROOM_OF_RESOURCE}, hashtext('{CRM}'))"


def storm(db: Session, engine: Engine) -> list[object]:
    """Claim, tell and finish with four threads until nothing is left. The level moves only under the lock of claims, so
    each sees, right after its claim, what runs and how much may. Answers with what was over that."""
    set_resource_limit(db, CRM, Adaptive(1, 6))
    fill(db, 600)
    db.commit()
    over: list[object] = []

    def work(position: float) -> None:
        with Session(engine) as session:
            me = Worker(session, position=position)
            for number in range(MOST_ROUNDS):
                jobs = me.claim(limit=3)
                running, level = session.execute(text(WHAT_RUNS_AND_MAY)).one()
                if jobs and running > level:
                    over.append((running, level))
                session.commit()
                session.execute(text(LOCK))
                note_resources(session, refused(*jobs[:1]) if number % 5 == 4 else worked(*jobs))
                session.commit()
                complete_jobs(session, [Completion(job.lease, "null") for job in jobs])
                session.commit()
                if over or not session.scalar(select(func.count()).select_from(QueueRow)):
                    return

    threads = [threading.Thread(target=work, args=(n / 4,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return over


def test_no_more_run_than_the_level_says_while_many_claim_and_it_moves(db: Session, engine: Engine) -> None:
    assert storm(db, engine) == []
    assert db.scalar(select(func.count()).select_from(QueueRow)) == 0
    assert 1 <= levels(db)[CRM] <= 6


def test_the_storm_would_notice_a_level_that_only_the_first_look_asks_for(db: Session, engine: Engine) -> None:
    free = db.scalar(text("select pg_get_functiondef('jobplatform.free_on_resources'::regproc)")) or ""
    again = "jobplatform.level_of_resource(n.resource, n.least, n.most)"
    assert again in free
    db.execute(text(free.replace(again, "n.most")))

    assert storm(db, engine) != []


# -- what it costs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [None, 5])
def test_notes_of_resources_without_an_adaptive_limit_look_at_no_job(
    db: Session, engine: Engine, worker: Worker, limit: int | None
) -> None:
    set_resource_limit(db, "crm:*", limit)
    fill(db, 50)
    jobs = worker.drain()
    db.commit()

    plan = explain(engine, lambda session: note_resources(session, [*worked(*jobs[:2]), *refused(*jobs[2:])]))

    assert plan.rows_visited("job_queue") == 0
    assert plan.rows_visited("resource_levels") == 0
    assert plan.rows_visited("resource_limits") <= 1
