"""Schedules are made, changed, paused, resumed, run and previewed."""

from __future__ import annotations

import datetime
import uuid
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from jobplatform.errors import (
    InvalidPayloadError,
    InvalidScheduleError,
    KeyMissingError,
    ScheduleMadeInCodeError,
    ScheduleNameTakenError,
    TaskDefinitionError,
    TooManySchedulesError,
)
from jobplatform.key_ring import generate_key
from jobplatform.models import PLATFORM_WORKSPACE
from jobplatform.queue import (
    Cron,
    Every,
    Once,
    RunningJob,
    Tasks,
    change_schedule,
    create_schedule,
    delete_schedule,
    find_schedule,
    find_schedule_named,
    get_job,
    last_ticks,
    list_schedules,
    list_ticks,
    pause_schedule,
    preview,
    preview_rule,
    resume_schedule,
    reveal,
    run_schedule_now,
    set_encrypting,
    shown_payload,
)
from jobplatform.queue.schedules import conditions
from tests.queue.actors import Elsewhere, Time
from tests.queue.conftest import Fact

HOUR = datetime.timedelta(hours=1)
HOURLY = Cron("0 * * * *")


@dataclass(frozen=True)
class Account:
    account: str
    full: bool = False


@pytest.fixture
def tasks() -> Tasks:
    tasks = Tasks()

    @tasks.task("sync", unique=lambda payload: payload.account, resource="crm:{account}", units=3)
    def sync(job: RunningJob, payload: Account) -> None: ...

    @tasks.task("secret", encrypted=True)
    def secret(job: RunningJob, payload: dict[str, Any]) -> None: ...

    @tasks.task("work")
    def work(job: RunningJob, payload: dict[str, Any]) -> None: ...

    return tasks


def test_a_schedule_waits_for_its_first_tick_and_has_what_its_task_makes_of_the_payload(
    session: Session, tasks: Tasks, workspace_id: uuid.UUID, time: Time
) -> None:
    time.travel_to(datetime.datetime(2030, 5, 5, 5, 2, 3, tzinfo=datetime.UTC))

    made = create_schedule(session, tasks["sync"], HOURLY, workspace_id=workspace_id, payload=Account("a1"))
    session.commit()

    assert (made.name, made.payload) == ("sync", {"account": "a1", "full": False})
    assert (made.unique_key, made.resource, made.units) == ("sync:a1", "crm:a1", 3)
    assert made.next_run_at == made.next_tick_at == datetime.datetime(2030, 5, 5, 6, tzinfo=datetime.UTC)
    assert (made.queue, made.max_attempts) == (None, None)


def test_an_interval_counts_from_when_it_was_made_or_from_its_anchor(
    session: Session, tasks: Tasks, workspace_id: uuid.UUID
) -> None:
    anchor = datetime.datetime(2026, 1, 1, 0, 7, tzinfo=datetime.UTC)

    own = create_schedule(session, tasks["work"], Every(HOUR), workspace_id=workspace_id, name="own")
    anchored = create_schedule(session, tasks["work"], Every(HOUR, anchor), workspace_id=workspace_id, name="anchored")

    assert own.next_tick_at == own.created_at + HOUR
    assert anchored.next_tick_at is not None
    assert anchored.next_tick_at.minute == 7


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"name": ""}, "/name"),
        ({"name": "x" * 101}, "/name"),
        ({"name": "nul\0"}, "/name"),
        ({"catch_up": "some"}, "/catchUp"),
        ({"spread": datetime.timedelta(hours=25)}, "/spreadMs"),
        ({"spread": -HOUR}, "/spreadMs"),
        ({"every_workspace": True}, "/everyWorkspace"),
        ({"if_active": "wait"}, "/ifActive"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(
    session: Session, tasks: Tasks, workspace_id: uuid.UUID, options: dict[str, Any], path: str
) -> None:
    with pytest.raises(InvalidScheduleError) as caught:
        create_schedule(session, tasks["work"], HOURLY, workspace_id=workspace_id, **options)

    assert [problem.path for problem in caught.value.problems] == [path]


@pytest.mark.parametrize("payload", [{"account": 7}, {"nonsense": 1}, {}])
def test_a_payload_is_checked_as_at_an_enqueue(
    session: Session, tasks: Tasks, workspace_id: uuid.UUID, payload: Any
) -> None:
    with pytest.raises(InvalidPayloadError):
        create_schedule(session, tasks["sync"], HOURLY, workspace_id=workspace_id, payload=payload)


def test_a_payload_that_cannot_be_stored_or_is_very_large_is_refused(
    session: Session, tasks: Tasks, workspace_id: uuid.UUID
) -> None:
    for payload in ({"a": "\0"}, {"a": float("nan")}, {"a": "x" * 70_000}):
        with pytest.raises(InvalidPayloadError):
            create_schedule(session, tasks["work"], HOURLY, workspace_id=workspace_id, payload=payload)


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBPLATFORM_ENCRYPTION_KEYS", generate_key("a"))


@pytest.mark.usefixtures("keys")
def test_the_payload_of_an_encrypted_task_is_sealed_in_the_row_for_this_schedule(
    session: Session, tasks: Tasks, workspace_id: uuid.UUID
) -> None:
    mine = {"workspace_id": workspace_id, "payload": {"of": "ada"}}
    made = create_schedule(session, tasks["secret"], HOURLY, **mine, name="one")
    other = create_schedule(session, tasks["secret"], HOURLY, **mine, name="two")

    assert list(made.payload) == ["$sealed"]
    assert shown_payload(session, made) == {"of": "ada"}
    assert shown_payload(session, made, to_reader=False) == {"sealed": True}
    # The name in the form is part of what was sealed.
    made.payload = {"$sealed": other.payload["$sealed"].replace(str(other.id), str(made.id))}
    assert shown_payload(session, made) == {"sealed": True}


@pytest.mark.usefixtures("keys")
def test_a_workspace_that_has_everything_encrypted_has_its_schedules_sealed_when_they_are_made_or_changed(
    session: Session, tasks: Tasks, workspace_id: uuid.UUID
) -> None:
    before = create_schedule(session, tasks["work"], HOURLY, workspace_id=workspace_id, name="before", payload={"n": 1})
    set_encrypting(session, workspace_id, True)

    made = create_schedule(session, tasks["work"], HOURLY, workspace_id=workspace_id, payload={"n": 2})
    change_schedule(session, before, tasks["work"], priority=3)
    change_schedule(session, made, tasks["work"], payload={"n": 3})

    assert (list(before.payload), list(made.payload)) == (["$sealed"], ["$sealed"])
    assert (shown_payload(session, before), shown_payload(session, made)) == ({"n": 1}, {"n": 3})
    tick = run_schedule_now(session, made, tasks["work"])
    assert tick.job_id is not None
    job = get_job(session, workspace_id, tick.job_id)
    assert job is not None
    reveal(session, [job])
    assert job.payload == {"n": 3}


def test_without_a_key_a_schedule_of_an_encrypted_task_is_refused_and_so_is_one_for_every_workspace(
    session: Session, tasks: Tasks, workspace_id: uuid.UUID, fact: Fact
) -> None:
    with pytest.raises(InvalidScheduleError, match=r"/everyWorkspace: cannot be of secret, an encrypted task"):
        create_schedule(session, tasks["secret"], HOURLY, every_workspace=True)
    for where in (workspace_id, PLATFORM_WORKSPACE):
        with pytest.raises(KeyMissingError, match="no key ring"):
            create_schedule(session, tasks["secret"], HOURLY, workspace_id=where)
    with pytest.raises(TaskDefinitionError, match="make the schedule with create_schedule"):
        tasks.every(HOUR)(tasks["secret"])

    assert fact("select count(*) from jobplatform.schedules") == 0


def test_a_name_is_had_once_in_a_workspace(session: Session, tasks: Tasks, workspace_id: uuid.UUID) -> None:
    create_schedule(session, tasks["work"], HOURLY, workspace_id=workspace_id, name="nightly")
    create_schedule(session, tasks["work"], HOURLY, name="nightly")

    with pytest.raises(ScheduleNameTakenError, match="'nightly'"):
        create_schedule(session, tasks["work"], HOURLY, workspace_id=workspace_id, name="nightly")


def test_two_who_want_the_last_place_take_turns(
    session: Session, tasks: Tasks, workspace_id: uuid.UUID, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conditions, "MOST_SCHEDULES", 1)
    create_schedule(session, tasks["work"], HOURLY, workspace_id=workspace_id, name="first")

    other = elsewhere.start_and_wait_for_lock(
        lambda there: create_schedule(there, tasks["work"], HOURLY, workspace_id=workspace_id, name="second")
    )
    session.commit()

    with pytest.raises(TooManySchedulesError):
        other.result(timeout=30)


def test_a_change_leaves_what_it_does_not_name_and_a_new_rule_counts_from_now(
    session: Session, tasks: Tasks, workspace_id: uuid.UUID
) -> None:
    made = create_schedule(session, tasks["sync"], Every(HOUR), workspace_id=workspace_id, payload=Account("a1"))
    first = made.next_tick_at

    change_schedule(session, made, tasks["sync"], payload={"account": "a2"}, catch_up="all", priority=5)
    assert (made.next_tick_at, made.unique_key, made.resource) == (first, "sync:a2", "crm:a2")
    assert (made.every_ms, made.catch_up, made.priority) == (3_600_000, "all", 5)

    change_schedule(session, made, tasks["sync"], rule=Cron("30 2 * * *", "Europe/Berlin"), name="nightly")
    assert (made.cron, made.every_ms, made.timezone, made.name) == ("30 2 * * *", None, "Europe/Berlin", "nightly")
    assert made.next_tick_at != first


def test_a_guard_of_its_own_stays_when_the_payload_changes(
    session: Session, tasks: Tasks, workspace_id: uuid.UUID
) -> None:
    options: dict[str, Any] = {"payload": Account("a1"), "unique_key": "only-one"}
    made = create_schedule(session, tasks["sync"], HOURLY, workspace_id=workspace_id, **options)

    change_schedule(session, made, tasks["sync"], payload={"account": "a2"})

    assert made.unique_key == "only-one"


def test_a_paused_schedule_waits_for_nothing_and_a_resumed_one_goes_on_from_now(
    session: Session, tasks: Tasks, workspace_id: uuid.UUID, time: Time
) -> None:
    made = create_schedule(session, tasks["work"], Every(HOUR), workspace_id=workspace_id)

    assert pause_schedule(session, made, actor="ann")
    assert not pause_schedule(session, made, actor="bob")
    assert (made.next_tick_at, made.next_run_at, made.paused_by) == (None, None, "ann")
    session.commit()
    time.passes(5 * 3600 + 60)

    assert resume_schedule(session, made)
    assert not resume_schedule(session, made)
    assert made.next_tick_at == made.created_at + 6 * HOUR


def test_a_single_moment_that_passed_during_a_pause_is_done_after_it(
    session: Session, tasks: Tasks, workspace_id: uuid.UUID, fact: Fact
) -> None:
    moment = fact("select jobplatform.clock() - interval '1 day'")
    made = create_schedule(session, tasks["work"], Once(moment), workspace_id=workspace_id)
    pause_schedule(session, made, actor="ann")

    resume_schedule(session, made)

    assert made.next_tick_at == moment


def test_run_now_enqueues_at_once_and_leaves_the_rule_alone(
    session: Session, tasks: Tasks, workspace_id: uuid.UUID
) -> None:
    made = create_schedule(session, tasks["sync"], Every(HOUR), workspace_id=workspace_id, payload=Account("a1"))
    before = made.next_run_at

    first = run_schedule_now(session, made, tasks["sync"])
    session.commit()
    second = run_schedule_now(session, made, tasks["sync"])
    session.commit()

    assert (first.outcome, first.manual, second.outcome) == ("enqueued", True, "deduplicated")
    assert second.job_id == first.job_id
    assert first.job_id is not None
    job = get_job(session, workspace_id, first.job_id)
    assert job is not None
    assert (job.request_id or "").startswith(f"schedule:{made.id}:")
    assert made.next_run_at == before


def test_run_now_of_one_for_every_workspace_is_for_the_workers(session: Session, tasks: Tasks) -> None:
    made = create_schedule(session, tasks["work"], Every(HOUR), every_workspace=True)
    pause_schedule(session, made, actor="ann")

    tick = run_schedule_now(session, made, tasks["work"])
    session.commit()

    assert (tick.outcome, made.fan_tick_at) == ("fanned_out", tick.tick_at)
    assert made.next_run_at is not None
    assert run_schedule_now(session, made, tasks["work"]).tick_at == tick.tick_at


@pytest.mark.parametrize("paused", [False, True])
def test_one_that_is_no_more_for_every_workspace_ends_the_tick_that_is_under_way(
    session: Session, tasks: Tasks, paused: bool
) -> None:
    made = create_schedule(session, tasks["work"], Every(HOUR), every_workspace=True)
    first = made.next_tick_at
    if paused:
        pause_schedule(session, made, actor="ann")
    run_schedule_now(session, made, tasks["work"])

    change_schedule(session, made, tasks["work"], every_workspace=False)
    session.commit()

    assert (made.fan_tick_at, made.fan_after) == (None, None)
    assert made.next_tick_at == (None if paused else first)
    assert (made.next_run_at is None) == paused


def test_the_next_runs_can_be_seen(session: Session, tasks: Tasks, workspace_id: uuid.UUID) -> None:
    made = create_schedule(
        session, tasks["work"], Cron("30 2 * * *", "Europe/Berlin"), workspace_id=workspace_id, spread=HOUR
    )
    evening = datetime.datetime(2026, 3, 27, 20, 0, tzinfo=datetime.UTC)

    runs = preview(made, count=3, after=evening)

    assert [tick.isoformat() for tick, _ in runs] == [
        "2026-03-28T01:30:00+00:00",
        "2026-03-29T01:00:00+00:00",
        "2026-03-30T00:30:00+00:00",
    ]
    (offset,) = {run - tick for tick, run in runs}
    assert datetime.timedelta(0) <= offset < HOUR


def test_lists_go_on_after_the_last_one_seen(session: Session, tasks: Tasks, workspace_id: uuid.UUID) -> None:
    made = [
        create_schedule(session, tasks["work"], HOURLY, workspace_id=workspace_id, name=f"n{number}").id
        for number in range(5)
    ]
    create_schedule(session, tasks["work"], HOURLY)

    first = list_schedules(session, workspace_id, limit=3)
    rest = list_schedules(session, workspace_id, limit=3, after=first[-1].id)

    assert [one.id for one in (*first, *rest)] == sorted(made)


def test_ticks_are_listed_newest_first(session: Session, tasks: Tasks, workspace_id: uuid.UUID) -> None:
    made = create_schedule(session, tasks["work"], HOURLY, workspace_id=workspace_id)
    session.commit()
    for _ in range(3):
        run_schedule_now(session, made, tasks["work"])
        session.commit()

    found = list_ticks(session, workspace_id, made.id, limit=2)
    older = list_ticks(session, workspace_id, made.id, before=found[-1].tick_at)

    assert [tick.tick_at for tick in (*found, *older)] == sorted(
        (tick.tick_at for tick in (*found, *older)), reverse=True
    )
    assert len(older) == 1
    assert last_ticks(session, workspace_id, [made.id, uuid.uuid4()])[made.id].tick_at == found[0].tick_at


def test_a_schedule_made_in_code_is_changed_and_deleted_there(
    session: Session, tasks: Tasks, workspace_id: uuid.UUID
) -> None:
    made = create_schedule(session, tasks["work"], HOURLY, workspace_id=workspace_id)
    session.execute(
        text("update jobplatform.schedules set declared_by = 'app:tasks', fingerprint = 'x', declared_at = now()")
    )
    found = find_schedule(session, workspace_id, made.id)
    assert found is not None

    for act in (
        lambda: change_schedule(session, found, tasks["work"], priority=1),
        lambda: delete_schedule(session, found),
    ):
        with pytest.raises(ScheduleMadeInCodeError):
            act()
    assert pause_schedule(session, found, actor="ann")


def test_a_deleted_schedule_is_gone(session: Session, tasks: Tasks, workspace_id: uuid.UUID) -> None:
    made = create_schedule(session, tasks["work"], HOURLY, workspace_id=workspace_id)

    delete_schedule(session, made)

    assert find_schedule(session, workspace_id, made.id) is None
    assert find_schedule_named(session, workspace_id, "work") is None


def test_the_platform_s_workspace_is_a_uuid_of_its_own() -> None:
    assert PLATFORM_WORKSPACE.version == 8


def test_a_rule_is_previewed_before_there_is_a_schedule() -> None:
    now = datetime.datetime(2026, 3, 28, 23, 30, tzinfo=datetime.UTC)
    nightly = Cron("30 2 * * *", "Europe/Berlin")
    once = Once(now - HOUR)

    # The night in which that hour does not exist: as the schedule would do it.
    assert preview_rule(nightly, count=2, after=now) == [nightly.next_after(now), nightly.next_after(now + 12 * HOUR)]
    assert preview_rule(Every(HOUR), count=2, after=now) == [now + HOUR, now + 2 * HOUR]
    assert preview_rule(once, after=now) == [once.at]
