"""Hooks and what they receive: a delivery is one job, however often it comes and whoever is killed in between."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidHookError, KeyMissingError, QuotaExceededError, SealBrokenError
from jobplatform.key_ring import KeyRing, generate_key
from jobplatform.models import HookDelivery, Job
from jobplatform.queue import (
    HookEvent,
    NewHook,
    RunningJob,
    Tasks,
    change_hook,
    create_hook,
    delete_hook,
    delete_hooks_of,
    find_hook_by_key,
    forget_deliveries,
    get_hook,
    list_deliveries,
    list_hooks,
    open_hook_secrets,
    prune_jobs,
    read_hook_key,
    receive,
    rotate_hook_key,
    rotate_hook_secret,
    run_inline,
    set_workspace_limits,
    turn_away,
    use_key_ring,
)
from jobplatform.queue.hooks.key import new_hook_key
from jobplatform.queue.hooks.receive import FoundHook
from jobplatform.webhooks import Event
from tests.queue.actors import Elsewhere, Time
from tests.queue.conftest import Fact

DAY = datetime.timedelta(days=1)
tasks = Tasks()
seen: list[HookEvent] = []


@tasks.task("activity.changed")
def activity_changed(job: RunningJob, payload: HookEvent) -> None:
    seen.append(payload)


@pytest.fixture(autouse=True)
def key_ring() -> Any:
    use_key_ring(KeyRing.parse(generate_key("a")))
    yield
    use_key_ring(None)


@pytest.fixture
def make(session: Session, workspace_id: uuid.UUID) -> Callable[..., NewHook]:
    def make(**options: Any) -> NewHook:
        given = {"name": "a hook", "scheme": "github", "secret": "s3cret", **options}
        made = create_hook(session, activity_changed, workspace_id=workspace_id, **given)
        session.commit()
        return made

    return make


def found(session: Session, made: NewHook) -> FoundHook:
    key = read_hook_key(made.key)
    assert key is not None
    hook = find_hook_by_key(session, key)
    assert hook is not None
    return hook


def deliver(session: Session, made: NewHook, *ids: str) -> tuple[int, int]:
    """The caller commits."""
    return receive(session, tasks, found(session, made), [Event(name, {"n": name}) for name in ids], {"a": "b"})


# -- hooks -------------------------------------------------------------------------------------------


def test_the_key_finds_its_hook_and_nothing_else_does(session: Session, make: Callable[..., NewHook]) -> None:
    made, other = make(), make(name="another")

    assert found(session, made).id == made.hook.id
    for wrong in (
        made.key[:-1] + ("A" if made.key[-1] != "A" else "B"),
        new_hook_key(made.hook.workspace_id, made.hook.id),
        new_hook_key(uuid.uuid4(), made.hook.id),
        new_hook_key(made.hook.workspace_id, uuid.uuid4()),
    ):
        key = read_hook_key(wrong)
        assert key is not None
        assert find_hook_by_key(session, key) is None
    assert other.key not in (made.key, "")


@pytest.mark.parametrize("text", ["", "jph_", "jph_" + "a" * 74, "jph_" + "a" * 76, "jpx_" + "a" * 75, "a" * 10_000])
def test_what_has_not_the_form_of_a_key_is_none(text: str) -> None:
    assert read_hook_key(text) is None


def test_neither_key_nor_secret_can_be_read_in_the_database(
    session: Session, make: Callable[..., NewHook], fact: Fact
) -> None:
    made = make(secret="s3cret-canary")
    rotate_hook_secret(session, made.hook, "another-canary")
    session.commit()

    stored = fact("select (select json_agg(h)::text from jobplatform.hooks h)")

    assert made.key not in stored
    assert "canary" not in stored
    assert open_hook_secrets(session, found(session, made)) == ["another-canary", "s3cret-canary"]


def test_the_old_secret_is_good_for_a_while(session: Session, make: Callable[..., NewHook], time: Time) -> None:
    made = make(secret="old")
    rotate_hook_secret(session, made.hook, "new", keep_old=DAY)
    session.commit()
    assert open_hook_secrets(session, found(session, made)) == ["new", "old"]

    time.passes(DAY.total_seconds() + 1)

    assert open_hook_secrets(session, found(session, made)) == ["new"]


def test_a_secret_of_standard_webhooks_is_made_here(session: Session, make: Callable[..., NewHook]) -> None:
    made = make(scheme="standard", secret=None)

    assert made.secret is not None
    assert open_hook_secrets(session, found(session, made)) == [made.secret]
    assert rotate_hook_secret(session, made.hook) not in (None, made.secret)


def test_without_a_master_key_no_secret_is_taken(session: Session, workspace_id: uuid.UUID) -> None:
    use_key_ring(None)

    with pytest.raises(KeyMissingError):
        create_hook(session, activity_changed, workspace_id=workspace_id, name="a", scheme="github", secret="s")
    create_hook(session, activity_changed, workspace_id=workspace_id, name="a", scheme="none")


def test_a_secret_moved_to_another_hook_does_not_open(session: Session, make: Callable[..., NewHook]) -> None:
    made, other = make(), make(name="another")
    session.execute(
        text("update jobplatform.hooks set secret = :secret where id = :id"),
        {"secret": made.hook.secret, "id": other.hook.id},
    )

    with pytest.raises(SealBrokenError):
        open_hook_secrets(session, found(session, other))


def test_a_new_key_takes_the_place_of_the_old_one(session: Session, make: Callable[..., NewHook]) -> None:
    made = make()

    again = rotate_hook_key(session, made.hook)

    old = read_hook_key(made.key)
    assert old is not None
    assert find_hook_by_key(session, old) is None
    assert found(session, again).id == made.hook.id


def test_the_url_is_where_the_caller_said_we_are_reached(make: Callable[..., NewHook]) -> None:
    made = make(base_url="https://jobs.example.com/api/")

    assert made.url == f"https://jobs.example.com/api/hooks/{made.key}"


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"scheme": "githob"}, "/scheme"),
        ({"secret": None}, "/secret"),
        ({"secret": ""}, "/secret"),
        ({"secret": "x" * 1001}, "/secret"),
        ({"scheme": "none"}, "/secret"),
        ({"scheme": "standard", "secret": "whsec_short"}, "/secret"),
        ({"name": ""}, "/name"),
        ({"name": "x\x00"}, "/name"),
        ({"split": "none"}, "/split"),
        ({"replay_seconds": 0}, "/replaySeconds"),
        ({"subscription_id": ""}, "/subscriptionId"),
        ({"base_url": "ftp://x"}, "/publicUrl"),
        ({"base_url": "https://x/?a=b"}, "/publicUrl"),
    ],
)
def test_what_cannot_be_is_refused_by_its_place(
    make: Callable[..., NewHook], options: dict[str, Any], path: str
) -> None:
    with pytest.raises(InvalidHookError) as caught:
        make(**options)

    assert [problem.path for problem in caught.value.problems] == [path]
    assert "whsec_short" not in str(caught.value)


def test_hooks_are_listed_changed_and_deleted_with_their_connection(
    session: Session, make: Callable[..., NewHook], workspace_id: uuid.UUID
) -> None:
    connection_id = uuid.uuid4()
    first, second = make(connection_id=connection_id), make()
    change_hook(session, first.hook, name="renamed", subscription_id="7")

    assert [hook.name for hook in list_hooks(session, workspace_id)] == ["renamed", "a hook"]
    assert [hook.id for hook in list_hooks(session, workspace_id, after=first.hook.id)] == [second.hook.id]
    assert delete_hooks_of(session, workspace_id, connection_id) == 1
    delete_hook(session, second.hook)
    assert get_hook(session, workspace_id, first.hook.id) is None
    assert list_hooks(session, workspace_id) == []


def test_a_workspace_has_a_bounded_number_of_hooks(
    make: Callable[..., NewHook], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobplatform.queue.hooks.hooks.MOST_HOOKS", 1)
    make()

    with pytest.raises(InvalidHookError, match="may have 1 hooks"):
        make()


# -- deliveries --------------------------------------------------------------------------------------


def jobs_of(session: Session, workspace_id: uuid.UUID) -> list[Job]:
    found = list(session.scalars(select(Job).where(Job.workspace_id == workspace_id).order_by(Job.id)))
    for job in found:
        session.expunge(job)
    return found


def test_a_delivery_becomes_a_job_that_is_told_all_of_it(
    session: Session, engine: Engine, make: Callable[..., NewHook], workspace_id: uuid.UUID
) -> None:
    connection_id = uuid.uuid4()
    made = make(connection_id=connection_id)
    assert deliver(session, made, "d-1") == (1, 0)
    session.commit()
    (job,) = jobs_of(session, workspace_id)
    session.commit()
    seen.clear()

    run_inline(engine, tasks, workspace_id, job.id)

    (event,) = seen
    assert event.event == {"n": "d-1"}
    assert (event.delivery_id, event.headers, event.connection_id) == ("d-1", {"a": "b"}, connection_id)
    assert event.received_at.tzinfo is not None
    assert set(job.payload) == {"event", "deliveryId", "receivedAt", "headers", "connectionId"}
    assert job.unique_key == f"hook:{made.hook.id}:d-1"


def test_a_delivery_that_comes_again_long_after_its_job_has_ended_is_not_done_again(
    session: Session, engine: Engine, make: Callable[..., NewHook], workspace_id: uuid.UUID, time: Time
) -> None:
    made = make()
    deliver(session, made, "d-1")
    session.commit()
    (job,) = jobs_of(session, workspace_id)
    session.commit()
    run_inline(engine, tasks, workspace_id, job.id)
    time.passes(20 * DAY.total_seconds())
    prune_jobs(session, completed_after=DAY, failed_after=DAY)
    session.commit()
    assert jobs_of(session, workspace_id) == []

    assert deliver(session, made, "d-1", "d-2") == (1, 1)
    session.commit()

    assert [job.payload["deliveryId"] for job in jobs_of(session, workspace_id)] == ["d-2"]
    newest, first = list_deliveries(session, workspace_id, made.hook.id)
    assert (newest.delivery_id, newest.repeats, newest.answer) == ("d-2", 0, 200)
    assert (first.delivery_id, first.repeats, first.job_id) == ("d-1", 1, job.id)


def test_two_hooks_do_not_know_of_each_other_s_deliveries(session: Session, make: Callable[..., NewHook]) -> None:
    assert deliver(session, make(), "d-1") == (1, 0)
    assert deliver(session, make(), "d-1") == (1, 0)


def test_a_rolled_back_delivery_is_as_good_as_new(session: Session, make: Callable[..., NewHook]) -> None:
    made = make()
    deliver(session, made, "d-1")
    session.rollback()

    assert deliver(session, made, "d-1") == (1, 0)


@pytest.mark.parametrize("first_commits", [True, False])
def test_of_two_that_come_at_once_one_is_the_job(
    session: Session, elsewhere: Elsewhere, make: Callable[..., NewHook], workspace_id: uuid.UUID, first_commits: bool
) -> None:
    made = make()
    deliver(session, made, "d-1", "d-2")

    second = elsewhere.start_and_wait_for_lock(lambda other: deliver(other, made, "d-2", "d-1"))
    session.commit() if first_commits else session.rollback()

    assert second.result() == ((0, 2) if first_commits else (2, 0))
    assert len(jobs_of(session, workspace_id)) == 2


def test_a_full_quota_takes_nothing_and_the_next_try_finds_it_so(
    session: Session, make: Callable[..., NewHook], workspace_id: uuid.UUID
) -> None:
    made = make()
    set_workspace_limits(session, workspace_id, {"max_pending": 1})
    session.commit()
    with pytest.raises(QuotaExceededError):
        deliver(session, made, "d-1", "d-2")
    session.rollback()
    turn_away(session, found(session, made), ["d-1", "d-2"], 429)
    turn_away(session, found(session, made), ["d-1"], 429)
    session.commit()
    assert [(one.answer, one.job_id) for one in list_deliveries(session, workspace_id, made.hook.id)] == [
        (429, None)
    ] * 2
    session.rollback()

    set_workspace_limits(session, workspace_id, {"max_pending": 2})
    assert deliver(session, made, "d-1", "d-2") == (2, 0)
    session.commit()
    turn_away(session, found(session, made), ["d-1"], 429)

    assert {one.answer for one in list_deliveries(session, workspace_id, made.hook.id)} == {200}


def test_a_delivery_that_was_forgotten_before_its_job_ran_finds_that_job(
    session: Session, make: Callable[..., NewHook], workspace_id: uuid.UUID
) -> None:
    made = make()
    deliver(session, made, "d-1")
    session.execute(text("delete from jobplatform.hook_deliveries"))

    assert deliver(session, made, "d-1") == (1, 0)

    (job,) = jobs_of(session, workspace_id)
    (delivery,) = list_deliveries(session, workspace_id, made.hook.id)
    assert delivery.job_id == job.id


def test_deliveries_are_forgotten_after_thirty_days_and_not_before(
    session: Session, make: Callable[..., NewHook], time: Time
) -> None:
    made = make()
    deliver(session, made, "d-1")
    session.commit()
    time.passes(29 * DAY.total_seconds())
    deliver(session, made, "d-2")
    session.commit()

    assert forget_deliveries(session) == 0
    time.passes(2 * DAY.total_seconds())
    session.rollback()
    assert forget_deliveries(session) == 1

    assert session.scalars(select(HookDelivery.delivery_id)).all() == ["d-2"]
