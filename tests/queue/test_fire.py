"""What is due of schedules is enqueued: each tick once, whoever looks, whatever happens in between."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidPayloadError
from jobplatform.key_ring import generate_key
from jobplatform.models import PLATFORM_WORKSPACE, Job, JobRecord, Role, Schedule, ScheduleTick, Workspace, make_engine
from jobplatform.queue import (
    Completion,
    Every,
    Fired,
    Once,
    RunningJob,
    TaskDefaults,
    Tasks,
    complete_jobs,
    create_schedule,
    end_late_jobs,
    fire_schedules,
    get_job,
    pause,
    reveal,
    run_inline,
    run_schedule_now,
    set_workspace_limits,
)
from jobplatform.queue.schedules import fire as fire_module
from jobplatform.queue.schedules.plan import plan_of
from jobplatform.queue.schedules.recurrence import offset_in
from jobplatform.queue.schedules.row import offset_of
from jobplatform.queue.statement import run
from tests.queue.actors import Elsewhere, Time, Worker
from tests.queue.conftest import Fact
from tests.queue.plans import explain

MINUTE = datetime.timedelta(minutes=1)
KNOWN = {"work": TaskDefaults(), "report": TaskDefaults(queue="reports", priority=7, max_attempts=2)}
EVERY_MINUTE = Every(MINUTE)

Make = Callable[..., Schedule]


@pytest.fixture
def tasks() -> Tasks:
    tasks = Tasks()

    @tasks.task("work")
    def work(job: RunningJob, payload: dict[str, Any]) -> None: ...

    @tasks.task("report", queue="reports")
    def report(job: RunningJob, payload: dict[str, Any]) -> None: ...

    @tasks.task("newest", unique="workspace", if_active="replace")
    def newest(job: RunningJob, payload: dict[str, Any]) -> None: ...

    @tasks.task("seldom", unique="workspace", unique_for=datetime.timedelta(seconds=100))
    def seldom(job: RunningJob, payload: dict[str, Any]) -> None: ...

    @tasks.task("secret", encrypted=True)
    def secret(job: RunningJob, payload: dict[str, Any]) -> dict[str, Any]:
        return {"told": payload["of"]}

    @tasks.task("alone", unique="workspace")
    def alone(job: RunningJob, payload: dict[str, Any]) -> None: ...

    return tasks


@pytest.fixture
def make(session: Session, tasks: Tasks, workspace_id: uuid.UUID) -> Make:
    """Make a schedule, every minute of the task ``work`` unless told otherwise; committed."""

    def make(rule: Any = EVERY_MINUTE, *, task: str = "work", **options: Any) -> Schedule:
        options = {"workspace_id": workspace_id, **options}
        made = create_schedule(session, tasks[task], rule, name=f"schedule {uuid.uuid4()}", **options)
        session.commit()
        return made

    return make


@pytest.fixture
def jobs(session: Session) -> Callable[..., list[JobRecord]]:
    """The jobs there are, in the order of their ticks."""

    def jobs(**where: Any) -> list[JobRecord]:
        session.rollback()
        return list(session.scalars(select(JobRecord).filter_by(**where).order_by(JobRecord.request_id)))

    return jobs


@pytest.fixture
def ticks(session: Session) -> Callable[[], list[tuple[str, str | None]]]:
    """What came of each tick."""

    def ticks() -> list[tuple[str, str | None]]:
        session.rollback()
        statement = select(ScheduleTick.outcome, ScheduleTick.reason)
        return [tuple(row) for row in session.execute(statement.order_by(ScheduleTick.tick_at))]

    return ticks


def fire_all(session: Session, known: dict[str, TaskDefaults] = KNOWN) -> int:
    """Until nothing more is due."""
    done = 0
    while (fired := fire_schedules(session, known)).next_due == 0:
        done += fired.ticks
        session.commit()
    return done


def test_a_due_schedule_enqueues_a_job_that_says_of_which_tick_it_is(
    make: Make, db: Session, time: Time, jobs: Callable[..., list[JobRecord]]
) -> None:
    schedule = make(task="report", payload={"of": "sales"}, tags=("nightly",))
    time.passes(61)

    fired = fire_schedules(db, KNOWN)

    assert (fired.ticks, fired.workspaces, fired.next_due) == (1, [str(schedule.workspace_id)], 0)
    (job,) = jobs()
    assert (job.task, job.payload, job.tags) == ("report", {"of": "sales"}, ["nightly"])
    tick = schedule.created_at + MINUTE
    assert job.request_id == f"schedule:{schedule.id}:{tick.astimezone(datetime.UTC).isoformat()[:-6]}Z"
    # What a schedule does not say is the task's default when it ticks.
    assert (job.queue, job.priority, job.max_attempts) == ("reports", 7, 2)


def test_what_a_schedule_says_wins_over_its_task(
    make: Make, db: Session, time: Time, jobs: Callable[..., list[JobRecord]]
) -> None:
    make(task="report", queue="slow", priority=0, max_attempts=9, timeout=3 * MINUTE)
    time.passes(61)

    fire_schedules(db, KNOWN)

    (job,) = jobs()
    assert (job.queue, job.priority, job.max_attempts, job.timeout_ms) == ("slow", 0, 9, 180_000)


def test_the_answer_says_when_the_next_is_due_and_looking_is_one_statement(
    make: Make, db: Session, engine: Engine, time: Time
) -> None:
    time.freeze()
    make(Every(10 * MINUTE))
    make(Every(2 * MINUTE))

    fired = fire_schedules(db, KNOWN)

    assert fired.ticks == 0
    assert fired.next_due == 120


def test_ticks_never_drift(make: Make, db: Session, session: Session, time: Time) -> None:
    schedule = make()
    begun = schedule.created_at
    for _ in range(5):
        time.passes(67)
        fire_all(db)

    found = session.scalars(select(ScheduleTick.tick_at).order_by(ScheduleTick.tick_at)).all()
    assert all((tick - begun) % MINUTE == datetime.timedelta(0) for tick in found)
    assert len(found) == 5


@pytest.mark.parametrize(("policy", "jobs_expected"), [("none", 0), ("one", 1), ("all", 10)])
def test_after_an_outage_each_policy_enqueues_what_it_says(
    make: Make,
    db: Session,
    time: Time,
    jobs: Callable[..., list[JobRecord]],
    ticks: Callable[[], list[tuple[str, str | None]]],
    policy: str,
    jobs_expected: int,
) -> None:
    # Ten ticks, and the newest is long past.
    make(Every(10 * MINUTE), catch_up=policy)
    time.passes(10 * 600 + 300)

    fire_all(db)

    assert len(jobs()) == jobs_expected
    skipped = [reason for outcome, reason in ticks() if outcome == "skipped"]
    assert [reason.split(":")[0] for reason in skipped if reason] == ([] if policy == "all" else ["missed"])


def test_two_workers_at_once_do_each_tick_once(
    make: Make, session: Session, elsewhere: Elsewhere, time: Time, jobs: Callable[..., list[JobRecord]]
) -> None:
    for _ in range(3):
        make()
    time.passes(61)

    first = fire_schedules(session, KNOWN)
    # What the first has taken and not committed, the second does not wait for.
    second = elsewhere.start(lambda other: fire_schedules(other, KNOWN)).result(timeout=30)
    session.commit()

    assert (first.ticks, second.ticks) == (3, 0)
    assert fire_all(session) == 0
    assert len(jobs()) == 3


def test_a_worker_that_dies_in_between_leaves_the_tick_to_the_next(
    make: Make, session: Session, elsewhere: Elsewhere, time: Time, jobs: Callable[..., list[JobRecord]]
) -> None:
    make()
    time.passes(61)
    fire_schedules(session, KNOWN)
    session.rollback()

    fired = elsewhere.start(lambda other: fire_schedules(other, KNOWN)).result(timeout=30)

    assert fired.ticks == 1
    assert len(jobs()) == 1


def test_a_tick_that_was_done_is_not_done_again_wherever_the_schedule_was_put_back_to(
    make: Make, db: Session, time: Time, fact: Fact, jobs: Callable[..., list[JobRecord]]
) -> None:
    """As after a restored backup, or an update by hand. The record of the tick is what counts."""
    schedule = make(catch_up="all")
    time.passes(200)
    fire_all(db)
    assert len(jobs()) == 3
    first = schedule.created_at + MINUTE

    db.execute(text("update jobplatform.schedules set next_tick_at = :at, next_run_at = :at"), {"at": first})
    fired = fire_all(db)

    assert fired == 0
    assert len(jobs()) == 3
    assert fact("select next_run_at > jobplatform.clock() from jobplatform.schedules")


def test_a_tick_outlives_its_job(make: Make, db: Session, time: Time, jobs: Callable[..., list[JobRecord]]) -> None:
    schedule = make()
    time.passes(61)
    fire_all(db)
    db.execute(text("delete from jobplatform.job_queue"))
    db.execute(text("delete from jobplatform.job_records"))

    db.execute(
        text("update jobplatform.schedules set next_tick_at = :at, next_run_at = :at"),
        {"at": schedule.created_at + MINUTE},
    )
    fire_all(db)

    assert jobs() == []


def test_a_tick_that_meets_an_unfinished_job_with_its_guard_says_which(
    make: Make, session: Session, tasks: Tasks, db: Session, time: Time, workspace_id: uuid.UUID
) -> None:
    make(task="alone")
    running = tasks["alone"].enqueue(session, workspace_id=workspace_id).job_id
    session.commit()
    time.passes(61)

    fire_schedules(db, {"alone": TaskDefaults()})

    (tick,) = session.scalars(select(ScheduleTick)).all()
    assert (tick.outcome, tick.job_id) == ("deduplicated", running)


def test_a_tick_that_is_to_replace_takes_the_place_of_what_waits_and_follows_what_runs(
    make: Make, session: Session, tasks: Tasks, db: Session, time: Time, workspace_id: uuid.UUID
) -> None:
    make(task="alone", payload={"of": "the tick"}, if_active="replace")
    waiting = tasks["alone"].enqueue(session, {"of": "somebody"}, workspace_id=workspace_id).job_id
    session.commit()
    known = {"alone": TaskDefaults()}
    outcomes = []

    for claims in (False, True, False):
        if claims:
            assert Worker(db, tasks=("alone",)).claim()
        time.passes(61)
        fire_schedules(db, known)
        session.rollback()
        ticks = session.scalars(select(ScheduleTick).order_by(ScheduleTick.tick_at.desc())).all()
        outcomes.append((ticks[0].outcome, ticks[0].job_id == waiting))

    assert outcomes == [("replaced", True), ("enqueued", False), ("replaced", False)]
    job = session.get_one(JobRecord, (workspace_id, waiting))
    assert job.payload == {"of": "the tick"}


@pytest.mark.parametrize(("said", "outcome"), [(None, "replaced"), ("skip", "deduplicated")])
def test_what_a_schedule_does_not_say_about_an_overlap_its_task_says(
    make: Make,
    session: Session,
    tasks: Tasks,
    db: Session,
    time: Time,
    workspace_id: uuid.UUID,
    ticks: Callable[[], list[tuple[str, str | None]]],
    said: str | None,
    outcome: str,
) -> None:
    make(task="newest", if_active=said)
    tasks["newest"].enqueue(session, workspace_id=workspace_id)
    session.commit()
    time.passes(61)

    fire_schedules(db, {task["name"]: TaskDefaults.of(task) for task in tasks.catalogue()})

    assert [tick[0] for tick in ticks()] == [outcome]


def test_a_tick_that_comes_too_soon_after_the_last_job_of_its_task_is_done_by_that(
    make: Make,
    session: Session,
    tasks: Tasks,
    db: Session,
    time: Time,
    workspace_id: uuid.UUID,
    ticks: Callable[[], list[tuple[str, str | None]]],
    fact: Fact,
) -> None:
    make(task="seldom")
    seldom = tasks["seldom"].enqueue(session, workspace_id=workspace_id)
    session.commit()
    complete_jobs(db, [Completion(Worker(db, tasks=["seldom"]).lease())])
    known = {task["name"]: TaskDefaults.of(task) for task in tasks.catalogue()}
    time.passes(61)

    fire_schedules(db, known)
    assert [tick[0] for tick in ticks()] == ["deduplicated"]
    assert fact("select job_id from jobplatform.schedule_ticks") == seldom.job_id

    time.passes(61)
    fire_schedules(db, known)
    assert sorted(tick[0] for tick in ticks()) == ["deduplicated", "enqueued"]


@pytest.mark.parametrize("everywhere", [False, True])
def test_the_term_of_a_tick_s_job_is_its_task_s_and_begins_when_it_is_enqueued_however_late_that_is(
    make: Make, session: Session, db: Session, time: Time, workspace_id: uuid.UUID, everywhere: bool
) -> None:
    session.add(Workspace(id=workspace_id, name="acme"))
    options = {"workspace_id": PLATFORM_WORKSPACE, "every_workspace": True} if everywhere else {}
    make(Every(60 * MINUTE), spread=MINUTE, **options)
    time.passes(110 * 60)

    fire_schedules(db, {"work": TaskDefaults(start_within=10 * MINUTE)})

    job = session.scalars(select(Job).where(Job.workspace_id == workspace_id)).one()
    assert (job.start_within_ms, job.start_by) == (600_000, job.created_at + 10 * MINUTE)
    assert end_late_jobs(db).jobs == 0


@pytest.mark.parametrize("everywhere", [False, True])
def test_a_schedule_s_own_term_goes_before_its_task_s_and_begins_at_the_tick_s_place_in_the_spread(
    make: Make, session: Session, db: Session, time: Time, workspace_id: uuid.UUID, everywhere: bool
) -> None:
    session.add(Workspace(id=workspace_id, name="acme"))
    options = {"workspace_id": PLATFORM_WORKSPACE, "every_workspace": True} if everywhere else {}
    schedule = make(Every(60 * MINUTE), spread=30 * MINUTE, start_within=45 * MINUTE, **options)
    assert schedule.next_tick_at is not None
    place = schedule.next_tick_at + offset_in(30 * MINUTE, workspace_id, schedule.id)
    time.travel_to(place + 20 * MINUTE)

    fire_schedules(db, {"work": TaskDefaults(start_within=10 * MINUTE)})

    job = session.scalars(select(Job).where(Job.workspace_id == workspace_id)).one()
    assert (job.start_within_ms, job.start_by) == (45 * 60_000, place + 45 * MINUTE)
    assert end_late_jobs(db).jobs == 0
    time.travel_to(place + 45 * MINUTE)
    assert end_late_jobs(db).jobs == 1


@pytest.mark.parametrize("everywhere", [False, True])
def test_a_tick_that_is_looked_at_when_its_term_is_over_is_skipped_and_says_why(
    make: Make, session: Session, db: Session, time: Time, workspace_id: uuid.UUID, everywhere: bool
) -> None:
    session.add(Workspace(id=workspace_id, name="acme"))
    options = {"workspace_id": PLATFORM_WORKSPACE, "every_workspace": True} if everywhere else {}
    begin = datetime.datetime(2030, 5, 5, 2, tzinfo=datetime.UTC)
    make(Once(begin), spread=0 * MINUTE, start_within=120 * MINUTE, **options)
    time.travel_to(begin + 120 * MINUTE)

    fire_all(db)

    found = session.scalars(select(ScheduleTick).where(ScheduleTick.workspace_id == workspace_id)).one()
    assert (found.outcome, found.job_id) == ("skipped", None)
    assert found.reason == "its job was to begin by 2030-05-05T04:00:00Z, which was over when a worker looked"
    assert session.scalars(select(JobRecord)).all() == []


def test_of_what_is_caught_up_with_only_that_whose_term_is_not_over_is_enqueued(
    make: Make, db: Session, time: Time, ticks: Callable[[], list[tuple[str, str | None]]]
) -> None:
    make(Every(60 * MINUTE), catch_up="all", start_within=90 * MINUTE)
    time.passes(4 * 3600 + 60)

    fire_all(db)

    assert [outcome for outcome, _ in ticks()] == ["skipped", "skipped", "enqueued", "enqueued"]


def test_what_is_run_now_has_the_schedule_s_whole_term_from_now(
    make: Make, session: Session, tasks: Tasks, time: Time, workspace_id: uuid.UUID
) -> None:
    schedule = make(Every(60 * MINUTE), start_within=MINUTE)
    time.passes(30 * 60)

    tick = run_schedule_now(session, schedule, tasks["work"])

    job = get_job(session, workspace_id, tick.job_id)
    assert job is not None
    assert job.start_by == job.created_at + MINUTE


def test_a_worker_s_rights_are_enough_for_a_tick_that_replaces_what_waits_and_its_term_with_it(
    make: Make,
    session: Session,
    tasks: Tasks,
    time: Time,
    login_url: Callable[..., str],
    workspace_id: uuid.UUID,
    ticks: Callable[[], list[tuple[str, str | None]]],
    jobs: Callable[..., list[JobRecord]],
) -> None:
    make(task="newest")
    make()
    tasks["newest"].enqueue(session, workspace_id=workspace_id, start_within=MINUTE * 90)
    session.commit()
    time.passes(61)
    engine = make_engine(login_url(Role.WORKER), pool_size=1, autocommit=True, role=Role.WORKER)
    known = {"newest": TaskDefaults(if_active="replace", start_within=MINUTE), "work": TaskDefaults()}

    with Session(engine) as worker:
        fire_schedules(worker, known)
    engine.dispose()

    assert sorted(outcome for outcome, _ in ticks()) == ["enqueued", "replaced"]
    assert {job.task: job.start_within_ms for job in jobs()} == {"newest": 60_000, "work": None}


def test_a_tick_of_an_encrypted_task_carries_on_what_was_sealed_and_its_job_opens_it(
    make: Make,
    session: Session,
    tasks: Tasks,
    engine: Engine,
    time: Time,
    login_url: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    jobs: Callable[..., list[JobRecord]],
    workspace_id: uuid.UUID,
) -> None:
    """The worker's own process has neither a key nor the right to read one."""
    ring = generate_key("a")
    monkeypatch.setenv("JOBPLATFORM_ENCRYPTION_KEYS", ring)
    schedule = make(task="secret", payload={"of": "ada"})
    time.passes(61)
    monkeypatch.delenv("JOBPLATFORM_ENCRYPTION_KEYS")
    worker_engine = make_engine(login_url(Role.WORKER), pool_size=1, autocommit=True, role=Role.WORKER)
    with Session(worker_engine) as worker:
        fire_all(worker, {"secret": TaskDefaults(encrypted=True)})
    worker_engine.dispose()
    (record,) = jobs()
    assert record.payload == schedule.payload

    monkeypatch.setenv("JOBPLATFORM_ENCRYPTION_KEYS", ring)
    run_inline(engine, tasks, workspace_id, record.id)

    job = get_job(session, workspace_id, record.id)
    assert job is not None
    assert (job.status, job.payload["$sealed"][:3], job.result["$sealed"][:3]) == ("completed", "v2:", "v1:")
    reveal(session, [job])
    assert (job.payload, job.result) == ({"of": "ada"}, {"told": "ada"})


def test_a_full_quota_costs_its_own_ticks_and_nobody_else_s(
    make: Make,
    session: Session,
    db: Session,
    time: Time,
    workspace_id: uuid.UUID,
    jobs: Callable[..., list[JobRecord]],
) -> None:
    set_workspace_limits(session, workspace_id, {"max_pending": 1})
    session.commit()
    others = [uuid.uuid4() for _ in range(3)]
    for _ in range(3):
        make()
    for other in others:
        make(workspace_id=other)
    time.passes(61)

    fired = fire_schedules(db, KNOWN)

    assert fired.ticks == 6
    assert len(jobs(workspace_id=workspace_id)) == 1
    assert all(len(jobs(workspace_id=other)) == 1 for other in others)
    skipped = session.scalars(select(ScheduleTick).where(ScheduleTick.outcome == "skipped")).all()
    assert [(tick.workspace_id, tick.reason) for tick in skipped] == [
        (workspace_id, "the workspace's quota of 1 waiting job is full")
    ] * 2
    assert fire_schedules(db, KNOWN).next_due != 0


def test_a_schedule_of_a_task_that_nobody_knows_stays_due_and_costs_the_others_nothing(
    make: Make, db: Session, time: Time, fact: Fact, jobs: Callable[..., list[JobRecord]]
) -> None:
    make(task="alone", catch_up="none")
    time.passes(61)

    assert fire_schedules(db, KNOWN) == Fired(0, (), None)
    assert fact("select next_run_at <= jobplatform.clock() from jobplatform.schedules")
    assert fire_schedules(db, KNOWN | {"alone": TaskDefaults()}).ticks == 1
    assert len(jobs()) == 1


def test_a_single_moment_is_done_once_and_is_over(
    make: Make, db: Session, fact: Fact, time: Time, jobs: Callable[..., list[JobRecord]]
) -> None:
    moment = fact("select jobplatform.clock()") + MINUTE
    make(Once(moment))
    assert fire_all(db) == 0
    time.passes(3600)

    assert fire_all(db) == 1
    time.passes(3600)
    assert fire_all(db) == 0
    assert len(jobs()) == 1


def test_a_single_moment_of_the_past_is_done_at_once(
    make: Make, db: Session, jobs: Callable[..., list[JobRecord]]
) -> None:
    make(Once(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)), catch_up="none")

    assert fire_all(db) == 1
    assert len(jobs()) == 1


def test_what_repeats_is_not_piled_up_for_a_paused_workspace_and_a_single_moment_is(
    make: Make,
    session: Session,
    db: Session,
    fact: Fact,
    time: Time,
    workspace_id: uuid.UUID,
    ticks: Callable[[], list[tuple[str, str | None]]],
) -> None:
    make()
    make(Once(fact("select jobplatform.clock()")))
    pause(session, "workspace", str(workspace_id), reason="unpaid", actor="ann")
    session.commit()
    time.passes(61)

    fire_all(db)

    assert sorted(ticks(), key=str) == [
        ("enqueued", None),
        ("skipped", "the workspace is paused, and what repeats is not piled up"),
    ]


def test_a_schedule_of_a_task_of_the_platform_s_own_comes_to_nothing_with_the_reason(
    make: Make,
    session: Session,
    db: Session,
    time: Time,
    jobs: Callable[..., list[JobRecord]],
    ticks: Callable[[], list[tuple[str, str | None]]],
) -> None:
    schedule = make()
    schedule.task = "jobplatform.webhook"
    session.commit()
    time.passes(61)

    fire_schedules(db, {"jobplatform.webhook": TaskDefaults()})

    assert jobs() == []
    assert ticks() == [("skipped", "the task is the platform's own, and nobody else's to enqueue; delete the schedule")]


def test_a_schedule_that_would_make_no_job_any_more_is_skipped_with_the_reason(
    make: Make, db: Session, time: Time, ticks: Callable[[], list[tuple[str, str | None]]]
) -> None:
    own, _ = make(), make(workspace_id=uuid.uuid4())
    db.execute(
        text("update jobplatform.schedules set queue = 'NOT A QUEUE' where workspace_id = :id"),
        {"id": own.workspace_id},
    )
    time.passes(61)

    fire_all(db)

    assert sorted(outcome for outcome, _ in ticks()) == ["enqueued", "skipped"]
    assert any(reason and "/queue: is not a queue name" in reason for _, reason in ticks())


def test_a_rule_that_cannot_be_read_here_waits_and_keeps_nobody_else_from_theirs(
    make: Make, db: Session, time: Time, fact: Fact, jobs: Callable[..., list[JobRecord]]
) -> None:
    broken, _ = make(), make(workspace_id=uuid.uuid4())
    db.execute(
        text(
            "update jobplatform.schedules set cron = '0 * * * *', every_ms = null, anchor = null, "
            "timezone = 'Mars/Olympus' where id = :id"
        ),
        {"id": broken.id},
    )
    time.passes(61)

    fire_all(db)

    assert len(jobs()) == 1
    assert fact("select next_tick_at < jobplatform.clock() from jobplatform.schedules where id = :id", id=broken.id)


def test_ten_thousand_hourly_schedules_are_spread_evenly_and_each_keeps_its_place(make: Make) -> None:
    schedule = make(Every(60 * MINUTE), spread=30 * MINUTE)
    assert schedule.next_tick_at is not None
    assert schedule.next_run_at == schedule.next_tick_at + offset_of(schedule)

    places = [
        offset_of(Schedule(workspace_id=uuid.uuid4(), id=uuid.uuid4(), spread_ms=1_800_000, every_workspace=False))
        for _ in range(10_000)
    ]

    minutes = [0] * 30
    for place in places:
        minutes[place // MINUTE] += 1
    # 333 on average.
    assert 230 < min(minutes) <= max(minutes) < 440
    assert plan_of(schedule).spread == 30 * MINUTE


def test_a_spread_schedule_is_done_at_its_place_and_its_tick_is_the_rule_s(
    make: Make, db: Session, session: Session, time: Time
) -> None:
    time.freeze()
    schedule = make(Every(60 * MINUTE), spread=30 * MINUTE)
    tick, due_at = schedule.next_tick_at, schedule.next_run_at
    assert tick is not None
    assert due_at is not None
    time.passes((due_at - schedule.created_at).total_seconds() - 5)
    assert fire_all(db) == 0
    time.passes(10)

    assert fire_all(db) == 1
    assert session.scalars(select(ScheduleTick.tick_at)).all() == [tick]
    session.refresh(schedule)
    assert schedule.next_run_at == due_at + 60 * MINUTE


# For every workspace


@pytest.fixture
def customers(session: Session) -> list[uuid.UUID]:
    found = sorted(uuid.uuid4() for _ in range(7))
    session.add_all(Workspace(id=one, name=str(one)) for one in found)
    session.commit()
    return found


def test_a_schedule_for_every_workspace_enqueues_a_job_in_each_spread_over_a_window(
    make: Make, db: Session, time: Time, customers: list[uuid.UUID], jobs: Callable[..., list[JobRecord]]
) -> None:
    schedule = make(workspace_id=PLATFORM_WORKSPACE, every_workspace=True, spread=10 * MINUTE)
    time.passes(61)

    assert fire_all(db) == 1 + len(customers)

    found = jobs()
    assert sorted(job.workspace_id for job in found) == customers
    tick = schedule.created_at + MINUTE
    waits = {job.run_after - tick for job in found}
    assert len(waits) == len(customers)
    assert all(datetime.timedelta(0) <= wait < 10 * MINUTE for wait in waits)


def test_a_fan_out_goes_on_where_it_was_when_its_worker_died(
    make: Make,
    db: Session,
    session: Session,
    time: Time,
    customers: list[uuid.UUID],
    jobs: Callable[..., list[JobRecord]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fire_module, "LARGEST_BATCH", 3)
    make(workspace_id=PLATFORM_WORKSPACE, every_workspace=True)
    time.passes(61)
    assert fire_schedules(db, KNOWN).ticks == 1 + 3
    fire_schedules(session, KNOWN)
    session.rollback()

    fire_all(db)

    assert [job.workspace_id for job in sorted(jobs(), key=lambda job: job.workspace_id)] == customers


def test_a_fan_out_leaves_out_who_is_paused(
    make: Make,
    db: Session,
    session: Session,
    time: Time,
    customers: list[uuid.UUID],
    jobs: Callable[..., list[JobRecord]],
) -> None:
    pause(session, "workspace", str(customers[2]), reason="is being erased", actor="ann")
    session.commit()
    make(workspace_id=PLATFORM_WORKSPACE, every_workspace=True)
    time.passes(61)

    fire_all(db)

    assert {job.workspace_id for job in jobs()} == set(customers) - {customers[2]}


# Rights


def test_a_worker_s_login_may_do_all_of_it(
    make: Make,
    time: Time,
    login_url: Callable[..., str],
    customers: list[uuid.UUID],
    jobs: Callable[..., list[JobRecord]],
) -> None:
    make()
    make(workspace_id=PLATFORM_WORKSPACE)
    make(workspace_id=PLATFORM_WORKSPACE, every_workspace=True)
    time.passes(61)
    engine = make_engine(login_url(Role.WORKER), pool_size=1, autocommit=True, role=Role.WORKER)

    with Session(engine) as worker:
        done = fire_all(worker)
    engine.dispose()

    assert done == 3 + len(customers)
    assert len(jobs()) == 2 + len(customers)


def test_a_workspace_that_has_everything_sealed_since_gets_no_open_payload(
    make: Make,
    session: Session,
    time: Time,
    login_url: Callable[..., str],
    workspace_id: uuid.UUID,
    ticks: Callable[[], list[tuple[str, str | None]]],
    jobs: Callable[..., list[JobRecord]],
) -> None:
    make()
    make(workspace_id=uuid.uuid4())
    session.execute(
        text(
            "insert into jobplatform.workspace_keys (workspace_id, key_id, wrapped_key, wrapped_by, encrypts) "
            "values (:id, 1, decode(repeat('00', 60), 'hex'), 'a', true)"
        ),
        {"id": workspace_id},
    )
    session.commit()
    time.passes(61)
    engine = make_engine(login_url(Role.WORKER), pool_size=1, autocommit=True, role=Role.WORKER)

    with Session(engine) as worker:
        fire_all(worker)
    engine.dispose()

    assert sorted(outcome for outcome, _ in ticks()) == ["enqueued", "skipped"]
    assert jobs(workspace_id=workspace_id) == []


# Plans


def test_looking_costs_the_same_however_many_schedules_are_not_due(
    session: Session, engine: Engine, make: Make, time: Time
) -> None:
    make()
    session.execute(
        text(
            """
            insert into jobplatform.schedules (
                workspace_id, id, name, task, payload, cron, made_by, next_tick_at, next_run_at
            )
            select gen_random_uuid(), gen_random_uuid(), 'n' || n,
                case when n % 2 = 0 then 'work' else 'unknown' end, '{}', '0 * * * *', 'x', at, at
            from generate_series(1, 20000) n,
                lateral (
                    select now() + case when n % 2 = 0 then interval '1 day' else interval '-1 day' end as at
                ) moment
            """
        )
    )
    session.commit()
    session.execute(text("analyze jobplatform.schedules"))
    session.commit()
    time.passes(61)

    asked: list[tuple[str, dict[str, Any]]] = [(fire_module.NEXT_DUE, {}), (fire_module.DUE, {"alone": None})]
    for statement, more in asked:
        plan = explain(
            engine,
            lambda session, sql=statement, more=more: run(session, sql, tasks="{work,report}", **more),  # type: ignore[misc]
        )
        assert any(node.get("Index Name") == "schedules_due" for node in plan.nodes), statement
        assert plan.rows_visited("schedules") <= 2, statement
        assert plan.buffers < 60, (statement, plan.buffers)


def test_a_key_in_somebody_s_hands_keeps_its_own_schedule_waiting_and_nobody_else_s(
    make: Make,
    tasks: Tasks,
    session: Session,
    db: Session,
    time: Time,
    workspace_id: uuid.UUID,
    jobs: Callable[..., list[JobRecord]],
) -> None:
    known = KNOWN | {"alone": TaskDefaults()}
    make(task="alone")
    make()
    make(workspace_id=uuid.uuid4())
    time.passes(61)
    # A transaction that is open, and may be so for long.
    tasks["alone"].enqueue(session, {}, workspace_id=workspace_id)

    fired = fire_schedules(db, known)

    assert (fired.ticks, len(fired.workspaces), fired.next_due) == (2, 2, None)
    assert (fire_schedules(db, known).ticks, jobs(task="alone")) == (0, [])
    assert fire_schedules(db, known).ticks == 1
    assert [job.request_id[:9] for job in jobs(task="alone") if job.request_id] == ["schedule:"]


def test_a_payload_that_cannot_be_enqueued_costs_its_own_tick_and_nobody_else_s(
    make: Make,
    session: Session,
    db: Session,
    time: Time,
    jobs: Callable[..., list[JobRecord]],
    ticks: Callable[[], list[tuple[str, str | None]]],
) -> None:
    """Written by older code, which did not refuse it."""
    bad = make()
    make(workspace_id=uuid.uuid4())
    run(session, """update jobplatform.schedules set payload = '{"$sealed": 1}' where id = %(id)s""", id=bad.id)
    session.commit()
    time.passes(61)

    assert fire_schedules(db, KNOWN).ticks == 2

    assert len(jobs()) == 1
    reasons = [reason for outcome, reason in ticks() if outcome == "skipped"]
    assert len(reasons) == 1
    assert str(reasons[0]).startswith("no such job can be enqueued: ")
    assert "$sealed is a reserved name" in str(reasons[0]).replace(":", "")


@pytest.mark.parametrize("payload", [{"$sealed": 1}, {"a longer name": 1, "$sealed": "v1"}])
def test_a_payload_that_could_not_be_enqueued_is_refused_when_the_schedule_is_made(
    make: Make, payload: dict[str, Any]
) -> None:
    with pytest.raises(InvalidPayloadError, match="is a reserved name"):
        make(payload=payload)
