"""A transaction with a snapshot of its own cannot change what somebody else has changed since, and is told so."""

from __future__ import annotations

import datetime
import functools
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from jobplatform.connectors import create_connection, get_connection
from jobplatform.errors import UnseenChangeError
from jobplatform.key_ring import generate_key
from jobplatform.queue import (
    Every,
    JobChange,
    NewJob,
    RunningJob,
    Tasks,
    cancel_batch,
    cancel_job,
    cancel_tree,
    change_job,
    change_schedule,
    clear_rate_limit,
    clear_resource_limit,
    clear_retention,
    clear_rule,
    clear_task_limits,
    clear_workspace_limits,
    clear_workspace_rule,
    close_batch,
    create_hook,
    create_schedule,
    create_webhook,
    delete_plan,
    enqueue_job,
    find_hook,
    find_schedule,
    find_webhook,
    hold_job,
    open_batch,
    pause,
    resume,
    retry_job,
    run_job_now,
    set_encrypting,
    set_plan,
    set_queue_limit,
    set_rate_limit,
    set_resource_limit,
    set_retention,
    set_rule,
    set_task_limits,
    set_workspace_limits,
    set_workspace_rule,
)

Verb = Callable[[Session, uuid.UUID, uuid.UUID], Any]


def change(session: Session, workspace_id: uuid.UUID, job_id: uuid.UUID) -> Any:
    return change_job(session, workspace_id, job_id, JobChange(priority=5))


@pytest.fixture
def job_id(session: Session, workspace_id: uuid.UUID) -> uuid.UUID:
    job = NewJob(workspace_id=workspace_id, task="work", delay=datetime.timedelta(hours=1))
    enqueue_job(session, job)
    session.commit()
    return job.id


def days(number: int) -> dict[str, datetime.timedelta]:
    return {"failed": datetime.timedelta(days=number)}


def begin(engine: Engine, level: str) -> Session:
    """A transaction that has looked, and goes on seeing what it saw."""
    session = Session(engine.execution_options(isolation_level=level))
    session.execute(text("select count(*) from jobplatform.jobs"))
    return session


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize(
    ("verb", "before", "meanwhile"),
    [
        (cancel_job, None, change),
        (cancel_tree, None, change),
        (change, None, run_job_now),
        (run_job_now, None, change),
        (hold_job, None, change),
        (retry_job, cancel_job, retry_job),
    ],
    ids=["cancel_job", "cancel_tree", "change_job", "run_job_now", "hold_job", "retry_job"],
)
def test_what_was_done_to_a_job_behind_a_snapshot_is_said_with_what_to_do(
    engine: Engine,
    session: Session,
    workspace_id: uuid.UUID,
    job_id: uuid.UUID,
    level: str,
    verb: Verb,
    before: Verb | None,
    meanwhile: Verb,
) -> None:
    if before:
        before(session, workspace_id, job_id)
        session.commit()
    with begin(engine, level) as late:
        meanwhile(session, workspace_id, job_id)
        session.commit()

        with pytest.raises(UnseenChangeError, match="try again in a new transaction") as refused:
            verb(late, workspace_id, job_id)

    assert (refused.value.workspace_id, refused.value.id) == (workspace_id, job_id)
    assert isinstance(refused.value.__cause__, OperationalError)
    with begin(engine, level) as again:
        verb(again, workspace_id, job_id)
        again.commit()


@pytest.mark.parametrize("verb", [cancel_batch, close_batch])
def test_the_same_is_said_of_a_batch(engine: Engine, session: Session, workspace_id: uuid.UUID, verb: Verb) -> None:
    batch_id = open_batch(session, workspace_id, name="b")
    session.commit()
    with begin(engine, "REPEATABLE READ") as late:
        close_batch(session, workspace_id, batch_id)
        session.commit()

        with pytest.raises(UnseenChangeError):
            verb(late, workspace_id, batch_id)


def test_the_same_is_said_of_a_schedule(engine: Engine, session: Session, workspace_id: uuid.UUID) -> None:
    tasks = Tasks()

    @tasks.task("work")
    def work(_job: RunningJob, _payload: dict[str, Any]) -> None: ...

    made = create_schedule(session, work, Every(datetime.timedelta(hours=1)), workspace_id=workspace_id)
    schedule_id = made.id
    session.commit()
    with begin(engine, "REPEATABLE READ") as late:
        change_schedule(session, made, work, priority=5)
        session.commit()

        with pytest.raises(UnseenChangeError) as refused:
            find_schedule(late, schedule_id=schedule_id, workspace_id=workspace_id)

    assert (refused.value.workspace_id, refused.value.id) == (workspace_id, schedule_id)


SETTINGS: dict[str, tuple[Callable[[Session, uuid.UUID, int], Any], Callable[[Session, uuid.UUID], Any], str]] = {
    "set_plan": (
        lambda session, _workspace_id, number: set_plan(session, "gold", {"weight": number}),
        lambda session, _workspace_id: delete_plan(session, "gold"),
        "the plan 'gold'",
    ),
    "set_workspace_limits": (
        lambda session, workspace_id, number: set_workspace_limits(session, workspace_id, {"weight": number}),
        clear_workspace_limits,
        "the limits of workspace {workspace_id}",
    ),
    "set_queue_limit": (
        lambda session, _workspace_id, number: set_queue_limit(session, "sync", number),
        lambda session, _workspace_id: set_queue_limit(session, queue="sync", max_running=None),
        "the limit of queue 'sync'",
    ),
    "set_task_limits": (
        lambda session, _workspace_id, number: set_task_limits(session, "work", {"max_running": number}),
        lambda session, _workspace_id: clear_task_limits(session, "work"),
        "the limits of task 'work'",
    ),
    "set_resource_limit": (
        lambda session, _workspace_id, number: set_resource_limit(session, "crm:*", number),
        lambda session, _workspace_id: clear_resource_limit(session, "crm:*"),
        "the limit of resource 'crm:*'",
    ),
    "set_rate_limit": (
        lambda session, _workspace_id, number: set_rate_limit(session, "crm:*", {"units": number, "period_ms": 1000}),
        lambda session, _workspace_id: clear_rate_limit(session, "crm:*"),
        "the rate of resource 'crm:*'",
    ),
    "set_rule": (
        lambda session, _workspace_id, number: set_rule(session, "backlog", above=number),
        lambda session, _workspace_id: clear_rule(session, "backlog"),
        "the rule 'backlog'",
    ),
    "set_workspace_rule": (
        lambda session, workspace_id, number: set_workspace_rule(session, workspace_id, "backlog", above=number),
        lambda session, workspace_id: clear_workspace_rule(session, workspace_id, "backlog"),
        "the rule 'backlog' of workspace {workspace_id}",
    ),
    "set_retention": (
        lambda session, workspace_id, number: set_retention(session, days(number), workspace_id=workspace_id),
        lambda session, workspace_id: clear_retention(session, workspace_id=workspace_id),
        "the retention of workspace {workspace_id}",
    ),
    "pause": (
        lambda session, _workspace_id, _number: pause(session, "queue", "sync", reason="a test", actor="a test"),
        lambda session, _workspace_id: resume(session, "queue", "sync"),
        "the pause 'sync'",
    ),
    "set_encrypting": (
        lambda session, workspace_id, _number: set_encrypting(session, workspace_id, True),
        lambda session, workspace_id: set_encrypting(session, workspace_id, False),
        "the encryption of workspace {workspace_id}",
    ),
}


@pytest.mark.parametrize("there", ["made", "changed", "cleared"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_what_was_set_behind_a_snapshot_is_said_with_what_it_is_and_what_to_do(
    engine: Engine,
    session: Session,
    workspace_id: uuid.UUID,
    monkeypatch: pytest.MonkeyPatch,
    there: str,
    setting: str,
) -> None:
    """Whether somebody else has made it, changed it, or taken it back."""
    monkeypatch.setenv("JOBPLATFORM_ENCRYPTION_KEYS", generate_key("a"))
    change, clear, what = SETTINGS[setting]
    if there != "made":
        change(session, workspace_id, 2)
        session.commit()
    with begin(engine, "REPEATABLE READ") as late:
        if there == "cleared":
            clear(session, workspace_id)
        else:
            change(session, workspace_id, 3)
        session.commit()

        again = functools.partial(clear, late, workspace_id)
        if there != "cleared":
            again = functools.partial(change, late, workspace_id, 4)
        with pytest.raises(UnseenChangeError, match="try again in a new transaction") as refused:
            again()

    assert str(refused.value).startswith(f"somebody has changed {what.format(workspace_id=workspace_id)} since")
    assert isinstance(refused.value.__cause__, OperationalError)
    assert refused.value.workspace_id == (workspace_id if "workspace_id" in what else None)
    with begin(engine, "REPEATABLE READ") as anew:
        change(anew, workspace_id, 4)
        anew.commit()


@pytest.mark.parametrize("setting", SETTINGS)
def test_who_takes_back_what_was_changed_behind_a_snapshot_is_told_the_same(
    engine: Engine, session: Session, workspace_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    monkeypatch.setenv("JOBPLATFORM_ENCRYPTION_KEYS", generate_key("a"))
    change, clear, _ = SETTINGS[setting]
    change(session, workspace_id, 2)
    session.commit()
    with begin(engine, "SERIALIZABLE") as late:
        change(session, workspace_id, 3)
        session.commit()

        with pytest.raises(UnseenChangeError, match="try again in a new transaction"):
            clear(late, workspace_id)


@pytest.mark.parametrize("name", ["hook", "webhook", "connection"])
def test_the_same_is_said_of_a_hook_a_webhook_and_a_connection(
    engine: Engine, session: Session, workspace_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("JOBPLATFORM_ENCRYPTION_KEYS", generate_key("a"))
    tasks = Tasks()

    @tasks.task("work")
    def work(_job: RunningJob, _payload: dict[str, Any]) -> None: ...

    made: Any
    find: Callable[[Session, uuid.UUID, uuid.UUID], Any]
    if name == "hook":
        made = create_hook(session, work, workspace_id=workspace_id, name="h", scheme="none", made_by="a test").hook
        find = find_hook
    elif name == "webhook":
        url = "https://crm.example.com/hooks"
        made = create_webhook(session, workspace_id=workspace_id, name="w", url=url, made_by="a test").webhook
        find = find_webhook
    else:
        config = {"url": "https://news.example.com/feed"}
        made = create_connection(session, workspace_id, connector_type="rss", name="c", config=config)
        find = functools.partial(get_connection, lock=True)
    one = made.id
    session.commit()
    with begin(engine, "REPEATABLE READ") as late:
        find(session, workspace_id, one).name = "another"
        session.commit()

        with pytest.raises(UnseenChangeError) as refused:
            find(late, workspace_id, one)

    assert (refused.value.workspace_id, refused.value.id) == (workspace_id, one)


def test_what_else_the_database_says_is_told_as_it_is(session: Session, workspace_id: uuid.UUID) -> None:
    session.execute(text("set transaction read only"))

    with pytest.raises(Exception, match="read-only") as refused:
        cancel_job(session, workspace_id, uuid.uuid4())

    assert not isinstance(refused.value, UnseenChangeError)
