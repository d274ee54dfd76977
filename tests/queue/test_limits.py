"""What an operator sets about workspaces, plans, queues, tasks and resources."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidLimitError
from jobplatform.models import Role, make_engine
from jobplatform.queue import (
    Adaptive,
    Limits,
    LimitsInCode,
    clear_rate_limit,
    clear_resource_limit,
    clear_task_limits,
    clear_workspace_limits,
    declare_resource_limits,
    declare_task_limits,
    delete_plan,
    find_plan,
    find_rate_limit,
    find_resource_limit,
    find_task_limits,
    list_plans,
    list_queue_limits,
    list_rate_limits,
    list_resource_limits,
    list_task_limits,
    read_workspace_limits,
    set_plan,
    set_queue_limit,
    set_rate_limit,
    set_resource_limit,
    set_task_limits,
    set_workspace_limits,
)
from jobplatform.testing import wait_until
from tests.queue.actors import Elsewhere, Worker
from tests.queue.bells import Ear
from tests.queue.conftest import Fact

NOTHING_SAID = Limits(weight=1, shed=False)


def refusal(act: Callable[[], object]) -> list[str]:
    with pytest.raises(InvalidLimitError) as refused:
        act()
    return [problem.path for problem in refused.value.problems]


# Workspaces


def test_a_workspace_that_nobody_limited_has_weight_one_and_no_limits(db: Session, workspace_id: uuid.UUID) -> None:
    limits = read_workspace_limits(db, workspace_id)

    assert (limits.plan, limits.own, limits.effective) == (None, Limits(), NOTHING_SAID)


def test_what_a_workspace_says_itself_counts_before_what_its_plan_says(db: Session, workspace_id: uuid.UUID) -> None:
    set_plan(db, "gold", {"weight": 10, "max_running": 50, "shed": True, "rate_units": 100, "rate_period_ms": 1000})

    limits = set_workspace_limits(db, workspace_id, {"plan": "gold", "max_running": 5, "shed": False})

    assert limits.plan == "gold"
    assert limits.own == Limits(max_running=5, shed=False)
    assert limits.effective == Limits(10, 5, None, False, 100, 1000)


def test_only_the_fields_that_are_named_change(db: Session, workspace_id: uuid.UUID) -> None:
    set_workspace_limits(db, workspace_id, {"weight": 3, "max_pending": 10})

    limits = set_workspace_limits(db, workspace_id, {"max_pending": 0, "max_running": 0})

    assert limits.own == Limits(weight=3, max_running=0, max_pending=0)


def test_null_clears_a_field(db: Session, workspace_id: uuid.UUID) -> None:
    set_plan(db, "gold", {"weight": 10})
    set_workspace_limits(db, workspace_id, {"plan": "gold", "weight": 3})

    assert set_workspace_limits(db, workspace_id, {"weight": None}).effective.weight == 10
    assert set_workspace_limits(db, workspace_id, {"plan": None}).effective.weight == 1


def test_clearing_takes_a_workspace_back_to_the_defaults(db: Session, workspace_id: uuid.UUID) -> None:
    set_workspace_limits(db, workspace_id, {"weight": 3})

    assert clear_workspace_limits(db, workspace_id)
    assert not clear_workspace_limits(db, workspace_id)
    assert read_workspace_limits(db, workspace_id).effective == NOTHING_SAID


def test_a_change_of_a_plan_counts_at_once_for_those_on_it(db: Session, workspace_id: uuid.UUID) -> None:
    set_plan(db, "gold", {"weight": 10})
    set_workspace_limits(db, workspace_id, {"plan": "gold"})

    set_plan(db, "gold", {"weight": 20})

    assert read_workspace_limits(db, workspace_id).effective.weight == 20


def test_a_workspace_is_not_put_on_a_plan_that_is_not_there(session: Session, workspace_id: uuid.UUID) -> None:
    assert refusal(lambda: set_workspace_limits(session, workspace_id, {"plan": "platinum"})) == ["/plan"]


@pytest.mark.parametrize(
    ("changes", "paths"),
    [
        ({"weight": 0}, ["/weight"]),
        ({"weight": 101}, ["/weight"]),
        ({"weight": True}, ["/weight"]),
        ({"weight": "3"}, ["/weight"]),
        ({"max_running": -1}, ["/maxRunning"]),
        ({"max_running": 2**31}, ["/maxRunning"]),
        ({"max_pending": 1.5}, ["/maxPending"]),
        ({"shed": 1}, ["/shed"]),
        ({"rate_units": 0, "rate_period_ms": 0}, ["/rateUnits", "/ratePeriodMs"]),
        ({"rate_units": 5}, ["/ratePeriodMs"]),
        ({"rate_period_ms": 5}, ["/rateUnits"]),
        ({"units": 5}, ["/units"]),
        ({"colour": 5}, ["/colour"]),
    ],
)
def test_a_value_that_a_limit_cannot_have_is_refused_by_its_path(
    session: Session, workspace_id: uuid.UUID, changes: dict[str, Any], paths: list[str]
) -> None:
    assert refusal(lambda: set_workspace_limits(session, workspace_id, changes)) == paths
    session.rollback()
    assert refusal(lambda: set_plan(session, "gold", changes)) == paths


def test_half_of_a_rate_cannot_be_cleared(session: Session, workspace_id: uuid.UUID) -> None:
    set_workspace_limits(session, workspace_id, {"rate_units": 5, "rate_period_ms": 1000})

    assert refusal(lambda: set_workspace_limits(session, workspace_id, {"rate_units": None})) == ["/rateUnits"]


def test_two_first_changes_of_a_workspace_add_up(
    session: Session, elsewhere: Elsewhere, workspace_id: uuid.UUID
) -> None:
    set_workspace_limits(session, workspace_id, {"weight": 3})
    second = elsewhere.start_and_wait_for_lock(
        lambda other: set_workspace_limits(other, workspace_id, {"max_running": 2})
    )

    session.commit()

    assert second.result().own == Limits(weight=3, max_running=2)


# Plans


def test_plans_are_made_changed_and_listed_by_name(db: Session) -> None:
    set_plan(db, "silver", {"weight": 2})
    set_plan(db, "gold", {})
    set_plan(db, "silver", {"max_running": 5})

    assert [(plan.name, plan.weight, plan.max_running) for plan in list_plans(db)] == [
        ("gold", None, None),
        ("silver", 2, 5),
    ]


@pytest.mark.parametrize("name", ["", "x" * 101, "\x00"])
def test_a_plan_needs_a_name(session: Session, name: str) -> None:
    assert refusal(lambda: set_plan(session, name, {})) == ["/name"]


def test_a_plan_that_nobody_is_on_is_deleted(db: Session) -> None:
    set_plan(db, "gold", {})

    assert delete_plan(db, "gold").deleted
    assert find_plan(db, "gold") is None
    assert delete_plan(db, "gold") == (False, (), 0)


def test_a_plan_in_use_stays_and_the_answer_says_who_uses_it(db: Session, workspace_id: uuid.UUID) -> None:
    set_plan(db, "gold", {})
    set_workspace_limits(db, workspace_id, {"plan": "gold"})

    answer = delete_plan(db, "gold")

    assert (answer.existed, answer.deleted, answer.used_by, answer.uses) == (True, False, [workspace_id], 1)
    assert find_plan(db, "gold") is not None


def test_a_plan_is_not_deleted_while_somebody_is_being_put_on_it(
    session: Session, elsewhere: Elsewhere, workspace_id: uuid.UUID
) -> None:
    set_plan(session, "gold", {})
    session.commit()
    set_workspace_limits(session, workspace_id, {"plan": "gold"})
    deletion = elsewhere.start_and_wait_for_lock(lambda other: delete_plan(other, "gold"))

    session.commit()

    assert deletion.result().used_by == [workspace_id]


def test_nobody_is_put_on_a_plan_that_is_being_deleted(
    session: Session, elsewhere: Elsewhere, workspace_id: uuid.UUID
) -> None:
    set_plan(session, "gold", {})
    session.commit()
    delete_plan(session, "gold")
    change = elsewhere.start_and_wait_for_lock(
        lambda other: set_workspace_limits(other, workspace_id, {"plan": "gold"})
    )

    session.commit()

    with pytest.raises(InvalidLimitError, match="no plan 'gold'"):
        change.result()


#: How each is set, and how it is cleared.
SETTINGS: dict[str, tuple[Callable[[Session, uuid.UUID], object], Callable[[Session, uuid.UUID], object]]] = {
    "workspace": (
        lambda session, whose: set_workspace_limits(session, whose, {"weight": 3}),
        clear_workspace_limits,
    ),
    "plan": (
        lambda session, _whose: set_plan(session, "gold", {"weight": 3}),
        lambda session, _whose: delete_plan(session, "gold"),
    ),
    "task": (
        lambda session, _whose: set_task_limits(session, "work", {"max_running": 3}),
        lambda session, _whose: clear_task_limits(session, "work"),
    ),
    "resource": (
        lambda session, _whose: set_resource_limit(session, "crm:*", 3),
        lambda session, _whose: clear_resource_limit(session, "crm:*"),
    ),
}


@pytest.mark.parametrize(("change", "clear"), SETTINGS.values(), ids=SETTINGS)
def test_what_is_cleared_while_it_is_changed_is_changed_first(
    session: Session,
    engine: Engine,
    elsewhere: Elsewhere,
    workspace_id: uuid.UUID,
    change: Callable[[Session, uuid.UUID], object],
    clear: Callable[[Session, uuid.UUID], object],
) -> None:
    change(session, workspace_id)
    session.commit()
    clearing: list[Future[object]] = []

    def clear_between(_connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("INSERT") and not clearing:
            clearing.append(elsewhere.start(lambda other: clear(other, workspace_id)))
            wait_until(elsewhere.is_done_or_blocked, what="the other side to clear it, or to wait")

    event.listen(engine, "after_cursor_execute", clear_between)
    try:
        change(session, workspace_id)
    finally:
        event.remove(engine, "after_cursor_execute", clear_between)
    assert not clearing[0].done()
    session.commit()

    assert clearing[0].result()


# Queues, tasks, rates


def test_a_queue_is_limited_and_set_free(db: Session) -> None:
    set_queue_limit(db, "sync", 5)
    set_queue_limit(db, "sync", 0)
    assert [(row.queue, row.max_running) for row in list_queue_limits(db)] == [("sync", 0)]

    set_queue_limit(db, "sync", None)
    assert list_queue_limits(db) == []


def test_a_task_s_limits_change_one_by_one(db: Session) -> None:
    set_task_limits(db, "export", {"max_running": 5})
    limits = set_task_limits(db, "export", {"max_running_per_workspace": 1})

    assert (limits.max_running, limits.max_running_per_workspace) == (5, 1)
    assert set_task_limits(db, "export", {"max_running": None}).max_running is None
    assert [row.task for row in list_task_limits(db)] == ["export"]
    assert clear_task_limits(db, "export")
    assert not clear_task_limits(db, "export")
    assert find_task_limits(db, "export") is None


def test_a_rate_s_burst_is_its_units_unless_it_says_otherwise(db: Session) -> None:
    first = set_rate_limit(db, "hubspot:*", {"units": 100, "period_ms": 10_000})
    assert (first.units, first.period_ms, first.burst) == (100, 10_000, 100)

    second = set_rate_limit(db, "hubspot:*", {"units": 50})
    assert (second.units, second.period_ms, second.burst) == (50, 10_000, 100)

    third = set_rate_limit(db, "hubspot:*", {"burst": None})
    assert third.burst == 50

    assert [row.resource for row in list_rate_limits(db)] == ["hubspot:*"]
    assert clear_rate_limit(db, "hubspot:*")
    assert not clear_rate_limit(db, "hubspot:*")
    assert find_rate_limit(db, "hubspot:*") is None


def test_a_resource_is_limited_and_set_free(db: Session) -> None:
    set_resource_limit(db, "hubspot:*", 5)
    assert set_resource_limit(db, "hubspot:*", 1).max_running == 1
    assert set_resource_limit(db, "hubspot:4711", None).max_running is None
    assert [(row.resource, row.max_running) for row in list_resource_limits(db)] == [
        ("hubspot:*", 1),
        ("hubspot:4711", None),
    ]

    assert clear_resource_limit(db, "hubspot:*")
    assert not clear_resource_limit(db, "hubspot:*")
    assert find_resource_limit(db, "hubspot:*") is None


def test_a_new_rate_needs_units_and_a_period(session: Session) -> None:
    assert refusal(lambda: set_rate_limit(session, "hubspot:1", {})) == ["/units", "/periodMs"]
    assert refusal(lambda: set_rate_limit(session, "hubspot:1", {"units": 5})) == ["/periodMs"]


@pytest.mark.parametrize(
    ("act", "path"),
    [
        (lambda s: set_queue_limit(s, "Not A Queue", 1), "/queue"),
        (lambda s: set_queue_limit(s, "sync", -1), "/maxRunning"),
        (lambda s: set_task_limits(s, "", {}), "/task"),
        (lambda s: set_task_limits(s, "export", {"weight": 1}), "/weight"),
        (lambda s: set_task_limits(s, "export", {"max_running_per_workspace": -1}), "/maxRunningPerWorkspace"),
        (lambda s: set_rate_limit(s, "", {"units": 1, "period_ms": 1}), "/resource"),
        (lambda s: set_rate_limit(s, "*", {"units": 1, "period_ms": 1}), "/resource"),
        (lambda s: set_rate_limit(s, "hubspot:1\n", {"units": 1, "period_ms": 1}), "/resource"),
        (lambda s: set_resource_limit(s, "hubspot:1\n", 1), "/resource"),
        (lambda s: set_rate_limit(s, "hub*:1", {"units": 1, "period_ms": 1}), "/resource"),
        (lambda s: set_rate_limit(s, "hubspot:4*", {"units": 1, "period_ms": 1}), "/resource"),
        (lambda s: set_rate_limit(s, "hubspot:\x00", {"units": 1, "period_ms": 1}), "/resource"),
        (lambda s: set_rate_limit(s, "x" * 201, {"units": 1, "period_ms": 1}), "/resource"),
        (lambda s: set_resource_limit(s, "hubspot:4*", 1), "/resource"),
        (lambda s: set_resource_limit(s, "hubspot:*", -1), "/maxRunning"),
        (lambda s: set_resource_limit(s, "hubspot:*", Adaptive(0, 5)), "/minRunning"),
        (lambda s: set_resource_limit(s, "hubspot:*", Adaptive(6, 5)), "/minRunning"),
        (lambda s: set_rate_limit(s, "hubspot:1", {"units": 0, "period_ms": 1}), "/units"),
        (lambda s: set_rate_limit(s, "hubspot:1", {"units": 1, "period_ms": 0}), "/periodMs"),
        (lambda s: set_rate_limit(s, "hubspot:1", {"units": 1, "period_ms": 1, "burst": 0}), "/burst"),
    ],
)
def test_a_name_or_number_that_cannot_be_is_refused(
    session: Session, act: Callable[[Session], object], path: str
) -> None:
    assert refusal(lambda: act(session)) == [path]


# The bell


@pytest.fixture
def loud(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def ear(direct_url: str) -> Iterator[Ear]:
    ear = Ear(direct_url)
    yield ear
    ear.close()


@pytest.mark.parametrize(
    "change",
    [
        lambda s, w: set_workspace_limits(s, w, {"max_running": 9}),
        lambda s, w: (set_workspace_limits(s, w, {}), clear_workspace_limits(s, w)),
        lambda s, _: set_plan(s, "gold", {"max_running": 9}),
        lambda s, _: set_queue_limit(s, "letters", 9),
        lambda s, _: set_queue_limit(s, "letters", None),
        lambda s, _: set_task_limits(s, "work", {"max_running": 9}),
        lambda s, _: (set_task_limits(s, "work", {}), clear_task_limits(s, "work")),
        lambda s, _: set_resource_limit(s, "hubspot:*", 9),
        lambda s, _: (set_resource_limit(s, "hubspot:*", 9), clear_resource_limit(s, "hubspot:*")),
        lambda s, _: declare_resource_limits(s, {"hubspot:*": 9}, "app:tasks"),
        lambda s, _: set_rate_limit(s, "hubspot:*", {"units": 1, "period_ms": 1}),
        lambda s, _: (set_rate_limit(s, "hubspot:*", {"units": 1, "period_ms": 1}), clear_rate_limit(s, "hubspot:*")),
    ],
)
def test_a_changed_limit_wakes_idle_workers(
    loud: Engine, ear: Ear, db: Session, workspace_id: uuid.UUID, change: Callable[[Session, uuid.UUID], object]
) -> None:
    Worker(db, queues=("letters",))

    with Session(loud) as session, session.begin():
        change(session, workspace_id)

    assert ear.hear("q:letters") == {"q:letters"}


def test_a_dead_worker_s_queues_are_not_rung_for(loud: Engine, ear: Ear, db: Session, fact: Fact) -> None:
    Worker(db, queues=("letters",))
    fact("update jobplatform.workers set dead_at = jobplatform.clock() returning 1")
    Worker(db, queues=("default",))

    with Session(loud) as session, session.begin():
        set_plan(session, "gold", {})

    assert ear.hear("q:default") == {"q:default"}


# What code declares


def limits_of(db: Session, task: str = "sync") -> tuple[int | None, int | None] | None:
    row = find_task_limits(db, task)
    return (row.max_running, row.max_running_per_workspace) if row else None


def declare(db: Session, most: int | None, most_here: int | None = None, task: str = "sync") -> list[str]:
    return declare_task_limits(db, [LimitsInCode(task, most, most_here)])


def test_a_limit_in_code_counts_and_follows_the_code(db: Session) -> None:
    assert declare(db, 5, 1) == ["sync"]
    assert limits_of(db) == (5, 1)

    assert declare(db, 8, 1) == ["sync"]
    assert limits_of(db) == (8, 1)


def test_a_worker_that_starts_with_the_same_code_changes_nothing(db: Session) -> None:
    declare(db, 5, 1)

    assert declare(db, 5, 1) == []


def test_a_limit_that_is_gone_from_the_code_is_gone(db: Session) -> None:
    declare(db, 5, 1)

    assert declare(db, None) == ["sync"]
    assert limits_of(db) is None


def test_what_an_operator_has_set_outlives_every_start_of_a_worker(db: Session) -> None:
    declare(db, 5, 1)
    set_task_limits(db, "sync", {"max_running": 2})

    declare(db, 8, 3)
    assert limits_of(db) == (2, 3)

    declare(db, None)
    assert limits_of(db) == (2, None)


def test_an_operator_can_lift_a_limit_that_the_code_declares(db: Session) -> None:
    declare(db, 5)
    set_task_limits(db, "sync", {"max_running": None})

    declare(db, 8)

    assert limits_of(db) == (None, None)


def test_a_limit_of_an_operator_is_not_the_codes_because_code_comes_later(db: Session) -> None:
    set_task_limits(db, "sync", {"max_running": 2})

    declare(db, 8)

    assert limits_of(db) == (2, None)


def test_clearing_what_an_operator_has_set_brings_back_what_the_code_declares(db: Session) -> None:
    declare(db, 5, 1)
    set_task_limits(db, "sync", {"max_running": 2})

    assert clear_task_limits(db, "sync")
    assert limits_of(db) == (5, 1)
    assert not clear_task_limits(db, "sync")


def test_code_that_does_not_know_a_task_leaves_its_limits_alone(db: Session) -> None:
    declare(db, 5)

    declare(db, None, task="export")

    assert limits_of(db) == (5, None)


def test_two_workers_that_start_at_once_declare_one_after_the_other(
    session: Session, db: Session, elsewhere: Elsewhere
) -> None:
    declare(session, 5)
    other = elsewhere.start_and_wait_for_lock(lambda there: declare(there, 8))

    session.commit()

    assert other.result() == ["sync"]
    assert limits_of(db) == (8, None)


def test_a_worker_may_declare_limits(login_url: Callable[..., str]) -> None:
    engine = make_engine(login_url(Role.WORKER), autocommit=True)
    with Session(engine) as session:
        assert declare(session, 5) == ["sync"]
    engine.dispose()


# What code declares about resources


def declare_resource(db: Session, most: int | None, resource: str = "hubspot:*", by: str = "app:tasks") -> list[str]:
    return declare_resource_limits(db, {} if most is None else {resource: most}, by)


def limit_of(db: Session, resource: str = "hubspot:*") -> int | str | None:
    row = find_resource_limit(db, resource)
    return row.max_running if row else "nothing said"


def test_a_resource_s_limit_in_code_follows_the_code_and_goes_with_it(db: Session) -> None:
    assert declare_resource(db, 1) == ["hubspot:*"]
    assert declare_resource(db, 1) == []
    assert limit_of(db) == 1

    assert declare_resource(db, 2) == ["hubspot:*"]
    assert limit_of(db) == 2

    assert declare_resource(db, None) == ["hubspot:*"]
    assert limit_of(db) == "nothing said"


def test_what_an_operator_has_set_for_a_resource_outlives_every_start_of_a_worker(db: Session) -> None:
    declare_resource(db, 1)
    set_resource_limit(db, "hubspot:*", 7)

    declare_resource(db, 2)
    assert limit_of(db) == 7

    declare_resource(db, None)
    assert limit_of(db) == 7
    assert clear_resource_limit(db, "hubspot:*")
    assert limit_of(db) == "nothing said"


@pytest.mark.parametrize("most", [7, None])
def test_what_an_operator_had_set_for_a_resource_before_its_code_said_anything_stays(
    db: Session, most: int | None
) -> None:
    set_resource_limit(db, "hubspot:*", most)

    declare_resource(db, 2)

    assert limit_of(db) == most


def between(db: Session) -> tuple[int | None, int | None]:
    row = find_resource_limit(db, "hubspot:*")
    assert row is not None
    return row.min_running, row.max_running


def test_an_adaptive_limit_in_code_follows_the_code_as_a_pair(db: Session) -> None:
    def declare(limit: int | Adaptive) -> list[str]:
        return declare_resource_limits(db, {"hubspot:*": limit}, "app:tasks")

    assert declare(Adaptive(1, 50)) == ["hubspot:*"]
    assert declare(Adaptive(1, 50)) == []
    assert declare(Adaptive(2, 50)) == ["hubspot:*"]
    assert between(db) == (2, 50)
    assert declare(50) == ["hubspot:*"]
    assert between(db) == (None, 50)

    set_resource_limit(db, "hubspot:*", Adaptive(5, 50))
    assert declare(Adaptive(1, 60)) == ["hubspot:*"]
    assert between(db) == (5, 50)

    assert clear_resource_limit(db, "hubspot:*")
    assert between(db) == (1, 60)
    assert declare_resource_limits(db, {}, "app:tasks") == ["hubspot:*"]
    assert find_resource_limit(db, "hubspot:*") is None


def test_an_adaptive_limit_can_be_made_a_plain_one_and_back(db: Session) -> None:
    pairs = []
    for limit in (Adaptive(1, 50), 7, Adaptive(3, 3), None):
        set_resource_limit(db, "hubspot:*", limit)
        pairs.append(between(db))

    assert pairs == [(1, 50), (None, 7), (3, 3), (None, None)]


def test_an_operator_can_lift_a_resource_s_limit_in_code_and_bring_it_back(db: Session) -> None:
    declare_resource(db, 1)
    set_resource_limit(db, "hubspot:*", None)
    declare_resource(db, 2)
    assert limit_of(db) is None

    assert clear_resource_limit(db, "hubspot:*")
    assert limit_of(db) == 2
    assert not clear_resource_limit(db, "hubspot:*")


def test_another_application_takes_back_only_what_it_declared_itself(db: Session) -> None:
    declare_resource(db, 1)

    declare_resource(db, 5, "strava:*", by="other:tasks")
    declare_resource(db, None, by="other:tasks")

    assert (limit_of(db), limit_of(db, "strava:*")) == (1, "nothing said")


def test_of_two_applications_that_use_one_resource_the_last_to_start_is_followed(db: Session) -> None:
    declare_resource(db, 1)

    assert declare_resource(db, 3, by="other:tasks") == ["hubspot:*"]
    assert limit_of(db) == 3

    # It is the other's now.
    declare_resource(db, None)
    assert limit_of(db) == 3


def test_two_workers_that_start_at_once_declare_a_resource_one_after_the_other(
    session: Session, db: Session, elsewhere: Elsewhere
) -> None:
    declare_resource(session, 5)
    other = elsewhere.start_and_wait_for_lock(lambda there: declare_resource(there, 8))

    session.commit()

    assert other.result() == ["hubspot:*"]
    assert limit_of(db) == 8


def test_a_worker_may_declare_limits_of_resources(login_url: Callable[..., str]) -> None:
    engine = make_engine(login_url(Role.WORKER), autocommit=True)
    with Session(engine) as session:
        assert declare_resource(session, 5) == ["hubspot:*"]
        assert declare_resource(session, None) == ["hubspot:*"]
    engine.dispose()
