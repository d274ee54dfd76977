"""What code declares becomes rows, goes with the code, and does not go back and forth while versions mix."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from jobplatform.errors import TaskDefinitionError
from jobplatform.models import PLATFORM_WORKSPACE, Role, Schedule, make_engine
from jobplatform.queue import (
    Declared,
    Every,
    RunningJob,
    Settled,
    TaskDefaults,
    Tasks,
    create_schedule,
    fire_schedules,
    pause_schedule,
    settle_schedules,
)
from tests.queue.actors import Time

SOURCE = "app:tasks"
HOUR = datetime.timedelta(hours=1)

Look = Callable[[], dict[str, Schedule]]


def version(**lines: str) -> Tasks:
    """An application that declares cron lines by name."""
    tasks = Tasks()

    @tasks.task("work")
    def work(job: RunningJob, payload: dict[str, Any]) -> None: ...

    for name, line in lines.items():
        tasks.cron(line, name=name)(work)
    return tasks


class Deployment:
    """Workers of some version: they start, and while they run they settle every half minute."""

    def __init__(self, db: Session, source: str = SOURCE) -> None:
        self.db = db
        self.source = source

    def start(self, tasks: Tasks) -> Settled:
        return settle_schedules(self.db, self.source, through_json(tasks), starting=True)

    def run_on(self, tasks: Tasks) -> Settled:
        return settle_schedules(self.db, self.source, through_json(tasks))


def through_json(tasks: Tasks) -> list[Declared]:
    """As declarations reach a worker's own process."""
    return [Declared.from_dict(declared.as_dict()) for declared in tasks.schedules]


@pytest.fixture
def workers(db: Session) -> Deployment:
    return Deployment(db)


@pytest.fixture
def look(session: Session) -> Look:
    def look() -> dict[str, Schedule]:
        session.rollback()
        session.expire_all()
        return {row.name: row for row in session.scalars(select(Schedule))}

    return look


def test_what_is_declared_is_there_after_the_start_and_is_said_once(workers: Deployment, look: Look) -> None:
    tasks = Tasks()

    @tasks.every(HOUR, every_workspace=True, spread=HOUR / 2, payload={"full": True}, name="hourly sync")
    @tasks.cron("30 2 * * mon-fri", timezone="Europe/Berlin", catch_up="all", queue="slow", start_within=HOUR)
    @tasks.once(datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC), name="new decade")
    @tasks.task("work", unique="workspace")
    def work(job: RunningJob, payload: dict[str, Any]) -> None: ...

    assert sorted(workers.start(tasks).made) == ["hourly sync", "new decade", "work"]
    assert not workers.start(tasks)
    assert not workers.run_on(tasks)

    rows = look()
    assert all(row.workspace_id == PLATFORM_WORKSPACE and row.declared_by == SOURCE for row in rows.values())
    hourly, nightly, once = rows["hourly sync"], rows["work"], rows["new decade"]
    assert (hourly.every_ms, hourly.every_workspace, hourly.spread_ms) == (3_600_000, True, 1_800_000)
    assert (hourly.payload, hourly.unique_key, hourly.anchor) == ({"full": True}, "work", hourly.created_at)
    assert (nightly.cron, nightly.timezone, nightly.catch_up, nightly.queue) == (
        "30 2 * * mon-fri", "Europe/Berlin", "all", "slow",
    )  # fmt: skip
    assert nightly.next_run_at is not None
    assert (nightly.start_within_ms, hourly.start_within_ms) == (3_600_000, None)
    assert once.next_tick_at == once.run_at == datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


def test_a_line_without_a_zone_has_the_one_of_the_environment(
    workers: Deployment, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers.start(version(a="0 3 * * *"))
    monkeypatch.setenv("JOBS_CRON_TZ", "Europe/Berlin")
    workers.start(version(b="0 3 * * *"))

    assert {name: row.timezone for name, row in look().items()} == {"a": "UTC", "b": "Europe/Berlin"}


def test_a_new_version_changes_what_it_declares_and_keeps_what_it_does_not(workers: Deployment, look: Look) -> None:
    workers.start(version(a="0 3 * * *", b="0 4 * * *"))
    before = look()

    settled = workers.start(version(a="30 3 * * *", b="0 4 * * *"))

    assert settled == Settled(changed=("a",))
    after = look()
    assert (after["a"].cron, after["a"].id) == ("30 3 * * *", before["a"].id)
    assert after["b"].next_run_at == before["b"].next_run_at


def test_another_payload_does_not_lose_the_tick_that_is_due(
    workers: Deployment, db: Session, look: Look, time: Time
) -> None:
    def declared(payload: dict[str, Any]) -> Tasks:
        tasks = version()
        tasks.every(HOUR, payload=payload)(tasks["work"])
        return tasks

    workers.start(declared({"version": 1}))
    time.passes(3601)

    workers.start(declared({"version": 2}))

    assert fire_schedules(db, {"work": TaskDefaults()}).ticks == 1
    assert look()["work"].payload == {"version": 2}


def test_a_schedule_stays_while_a_version_that_declares_it_runs_and_goes_after_it(
    workers: Deployment, look: Look, time: Time
) -> None:
    old, new = version(a="0 3 * * *", b="0 4 * * *"), version(b="0 4 * * *")
    workers.start(old)

    workers.start(new)
    for _ in range(6):
        time.passes(30)
        workers.run_on(old)
        assert not workers.run_on(new)
    assert "a" in look()

    time.passes(125)
    assert workers.run_on(new).removed == ("a",)
    assert set(look()) == {"b"}


def test_versions_that_mix_do_not_change_a_schedule_back_and_forth(workers: Deployment, look: Look, time: Time) -> None:
    old, new = version(a="0 3 * * *"), version(a="30 3 * * *")
    workers.start(old)
    assert workers.start(new).changed == ("a",)

    changes = []
    for _ in range(10):
        time.passes(30)
        # An old worker crashes and starts again in the middle of it, and goes on.
        for settled in (workers.run_on(new), workers.start(old), workers.run_on(old)):
            changes += settled.changed

    assert changes == []
    assert look()["a"].cron == "30 3 * * *"


def test_what_is_left_of_a_mixture_is_what_the_last_version_declares(
    workers: Deployment, look: Look, time: Time
) -> None:
    """A rollback: the new version goes, and the old one, which runs on, takes over."""
    old, new = version(a="0 3 * * *"), version(a="30 3 * * *")
    workers.start(old)
    workers.start(new)
    time.passes(60)
    assert not workers.run_on(old)

    time.passes(61)

    assert workers.run_on(old).changed == ("a",)
    assert not workers.run_on(old)
    assert look()["a"].cron == "0 3 * * *"


def test_schedules_of_people_and_of_other_applications_are_not_touched(
    workers: Deployment, db: Session, session: Session, look: Look, time: Time
) -> None:
    other = Deployment(db, "other:tasks")
    other.start(version(theirs="0 5 * * *"))
    create_schedule(session, version()["work"], Every(HOUR), name="by hand", made_by="ann")
    create_schedule(session, version()["work"], Every(HOUR), name="a", made_by="ann")
    session.commit()
    time.passes(3600)

    settled = workers.start(version(a="0 3 * * *", theirs="0 1 * * *"))

    assert settled == Settled(taken=("a", "theirs"))
    assert set(look()) == {"theirs", "by hand", "a"}
    assert look()["theirs"].cron == "0 5 * * *"
    assert look()["a"].declared_by is None


def test_a_pause_survives_every_start(workers: Deployment, session: Session, look: Look) -> None:
    workers.start(version(a="0 3 * * *"))
    found = session.scalars(select(Schedule)).one()
    pause_schedule(session, found, actor="ann")
    session.commit()

    workers.start(version(a="30 3 * * *"))

    assert (look()["a"].paused_by, look()["a"].next_run_at, look()["a"].cron) == ("ann", None, "30 3 * * *")


def test_a_worker_s_login_may_settle(login_url: Callable[..., str], look: Look) -> None:
    engine = make_engine(login_url(Role.WORKER), pool_size=1, autocommit=True, role=Role.WORKER)

    with Session(engine) as db:
        workers = Deployment(db)
        workers.start(version(a="0 3 * * *"))
        workers.start(version(a="30 3 * * *"))
        db.execute(text("update jobplatform.schedules set declared_at = now() - interval '1 hour'"))
        removed = workers.run_on(version()).removed
    engine.dispose()

    assert removed == ("a",)
    assert look() == {}


@pytest.mark.parametrize(
    ("declare", "problem"),
    [
        (lambda tasks, task: tasks.cron("61 * * * *")(task), r"task 'work': /cron: cannot be read: Bad minute"),
        (lambda tasks, task: tasks.cron("0 * * * *", timezone="Mars")(task), "/timezone"),
        (lambda tasks, task: tasks.every(HOUR / 3600 / 2)(task), "/everyMs"),
        (lambda tasks, task: tasks.every(HOUR, payload=[1])(task), "the task takes a mapping"),
        (lambda tasks, task: tasks.every(HOUR, queue="No Queue")(task), "/queue"),
        (lambda tasks, task: tasks.every(HOUR, colour="red")(task), "colour"),
        (lambda tasks, task: tasks.every(HOUR)(tasks.every(HOUR)(task)), "two schedules are named 'work'"),
        (lambda tasks, task: tasks.every(HOUR, every_workspace=True, workspace_id=uuid.uuid4())(task), "/everyWork"),
        (lambda tasks, task: tasks.every(HOUR)(task.handler), "above @tasks.task"),
    ],
)
def test_a_declaration_that_cannot_be_stops_the_import(declare: Callable[..., Any], problem: str) -> None:
    tasks = version()

    with pytest.raises(TaskDefinitionError, match=problem):
        declare(tasks, tasks["work"])


def test_a_fingerprint_is_the_same_in_every_process_and_different_for_another_declaration() -> None:
    one, same, other = (version(a=line).schedules[0] for line in ("0 3 * * *", "0 3 * * *", "0 4 * * *"))

    assert one.fingerprint == same.fingerprint != other.fingerprint
