"""Who calls a verb with an id that is none, or in nobody's name, is told so, and goes on in the same transaction.

That each argument of each verb is looked at is tried in ``test_every_argument``.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import uuid_utils
from sqlalchemy import text
from sqlalchemy.orm import Session

from jobplatform import queue
from jobplatform.errors import (
    InvalidHookError,
    InvalidJobError,
    InvalidLimitError,
    InvalidScheduleError,
    JobPlatformError,
)
from jobplatform.models import Hook, PauseKind, Schedule, WebhookSubscription
from jobplatform.queue import CancelAnswer, Every, FailedCursor, JobChange, Matching, NewJob, Tasks, parse_search

ID = uuid.UUID(int=7)
NO_ZONE = datetime.datetime(2026, 1, 5, 9)  # noqa: DTZ001  # that is what is tried
tasks = Tasks()


@tasks.task("work")
def work(_job: object, _payload: dict[str, str]) -> None: ...


def every_hour(session: Session, **options: Any) -> Schedule:
    rule = options.pop("rule", Every(datetime.timedelta(hours=1)))
    return queue.create_schedule(session, work, rule, workspace_id=ID, **options)


OF_JOBS: dict[str, Callable[..., Any]] = {
    "batch_of_job": queue.batch_of_job,
    "cancel_job": queue.cancel_job,
    "cancel_tree": queue.cancel_tree,
    "change_job": lambda *ids: queue.change_job(*ids, JobChange(priority=1)),
    "fork_job": lambda session, *ids: queue.fork_job(session, tasks, *ids),
    "get_job": queue.get_job,
    "hold_job": queue.hold_job,
    "list_attempts": queue.list_attempts,
    "list_steps": queue.list_steps,
    "retry_job": queue.retry_job,
    "run_job_now": queue.run_job_now,
    "why_waiting": queue.why_waiting,
}
OTHERS: list[tuple[Callable[..., Any], type[Exception], str]] = [
    (queue.get_batch, InvalidJobError, "/batchId"),
    (queue.close_batch, InvalidJobError, "/batchId"),
    (queue.cancel_batch, InvalidJobError, "/batchId"),
    (queue.list_callbacks, InvalidJobError, "/batchId"),
    (queue.get_sync_log, InvalidJobError, "/logId"),
    (queue.get_schedule, InvalidScheduleError, "/scheduleId"),
    (queue.find_schedule, InvalidScheduleError, "/scheduleId"),
    (queue.list_ticks, InvalidScheduleError, "/scheduleId"),
    (queue.get_hook, InvalidHookError, "/hookId"),
    (queue.list_deliveries, InvalidHookError, "/hookId"),
    (queue.get_webhook, InvalidHookError, "/webhookId"),
    (queue.list_webhook_jobs, InvalidHookError, "/webhookId"),
]
OF_WORKSPACES: list[tuple[Callable[..., Any], type[Exception]]] = [
    (queue.list_jobs, InvalidJobError),
    (lambda *given: queue.page_jobs(*given, limit=5), InvalidJobError),
    (queue.list_batches, InvalidJobError),
    (queue.list_schedules, InvalidScheduleError),
    (queue.list_webhooks, InvalidHookError),
    (queue.queue_stats, InvalidJobError),
    (queue.queue_health, InvalidJobError),
    (queue.read_workspace_limits, InvalidLimitError),
    (lambda *given: queue.set_workspace_limits(*given, {"quota": 5}), InvalidLimitError),
    (lambda session, it: queue.set_retention(session, {}, workspace_id=it), InvalidLimitError),
    (
        lambda session, it: queue.create_schedule(session, work, Every(datetime.timedelta(hours=1)), workspace_id=it),
        InvalidScheduleError,
    ),
]


def paths(error: Any) -> list[str]:
    return [problem.path for problem in error.problems]


def goes_on(session: Session) -> bool:
    return session.scalar(text("select 1")) == 1


@pytest.mark.parametrize("said", ["abc", "", 4711, None, b"abc", "\0", uuid_utils.UUID(int=7)], ids=repr)
@pytest.mark.parametrize("verb", OF_JOBS)
def test_an_id_of_a_job_that_is_none_is_refused_before_anything_is_done(session: Session, verb: str, said: Any) -> None:
    with pytest.raises(InvalidJobError) as refused:
        OF_JOBS[verb](session, ID, said)

    assert paths(refused.value) == ["/jobId"]
    assert goes_on(session)


@pytest.mark.parametrize(("verb", "kind", "path"), OTHERS)
def test_an_id_of_something_else_is_refused_alike(
    session: Session, verb: Callable[..., Any], kind: type[Exception], path: str
) -> None:
    with pytest.raises(kind) as refused:
        verb(session, "nowhere", "abc")

    assert paths(refused.value) == ["/workspaceId", path]
    assert goes_on(session)


@pytest.mark.parametrize(("verb", "kind"), OF_WORKSPACES)
def test_a_workspace_that_is_none_is_refused_alike(
    session: Session, verb: Callable[..., Any], kind: type[Exception]
) -> None:
    with pytest.raises(kind) as refused:
        verb(session, "nowhere")

    assert paths(refused.value) == ["/workspaceId"]
    assert goes_on(session)


@pytest.mark.parametrize("filter_by", ["before", "parent_id", "batch_id"])
def test_a_list_is_not_narrowed_by_what_is_no_id(session: Session, filter_by: str) -> None:
    with pytest.raises(InvalidJobError, match="is not the text of a UUID: 'abc'"):
        queue.list_jobs(session, ID, **{filter_by: "abc"})  # type: ignore[arg-type]

    assert goes_on(session)


def test_the_text_of_an_id_is_read(session: Session, workspace_id: uuid.UUID) -> None:
    job_id = queue.enqueue_job(session, NewJob(workspace_id=workspace_id, task="work")).job_id
    where: Any = str(workspace_id)
    which: Any = str(job_id)

    found = queue.get_job(session, where, which)
    listed = queue.list_jobs(session, where)
    answer = queue.cancel_job(session, where, which)

    assert found is not None
    assert [job.id for job in listed] == [job_id]
    assert answer is CancelAnswer.CANCELLED


@pytest.mark.parametrize("said", ["", "a\0b", "\ud800", 5, None], ids=repr)
@pytest.mark.parametrize(
    ("verb", "kind", "path"),
    [
        (
            lambda session, who: queue.pause(session, PauseKind.QUEUE, "q", reason="r", actor=who),
            InvalidLimitError,
            "/actor",
        ),
        (
            lambda session, who: queue.begin_bulk(session, "cancel", parse_search("task:work"), actor=who),
            InvalidJobError,
            "/actor",
        ),
        (lambda session, who: queue.pause_schedule(session, Schedule(), actor=who), InvalidScheduleError, "/actor"),
        (lambda session, who: queue.disable_hook(session, Hook(), actor=who), InvalidHookError, "/actor"),
        (
            lambda session, who: queue.disable_webhook(session, WebhookSubscription(), actor=who),
            InvalidHookError,
            "/actor",
        ),
        (lambda session, who: queue.begin_erasing(session, ID, actor=who), InvalidJobError, "/actor"),
        (
            lambda session, who: queue.create_schedule(
                session, work, Every(datetime.timedelta(hours=1)), workspace_id=ID, made_by=who
            ),
            InvalidScheduleError,
            "/madeBy",
        ),
    ],
)
def test_nobody_does_anything_without_a_name(
    session: Session, verb: Callable[..., Any], kind: type[Exception], path: str, said: Any
) -> None:
    with pytest.raises(kind) as refused:
        verb(session, said)

    assert paths(refused.value) == [path]
    assert goes_on(session)


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        (lambda session: queue.list_jobs(session, ID, limit=-1), "/limit"),
        (lambda session: queue.list_jobs(session, ID, limit=2.5), "/limit"),
        (lambda session: queue.page_jobs(session, ID, limit="5"), "/limit"),
        (lambda session: queue.list_jobs(session, ID, task="a\0b"), "/task"),
        (lambda session: queue.list_jobs(session, ID, queue=5), "/queue"),
        (lambda session: queue.list_jobs(session, ID, created_after="yesterday"), "/createdAfter"),
        (lambda session: queue.failed_jobs(session, ID, task="a\ud800b"), "/task"),
        (lambda session: queue.find_schedule_named(session, ID, "a\0b"), "/name"),
        (lambda session: queue.pause(session, PauseKind.QUEUE, None, reason="r", actor="a"), "/key"),
        (lambda session: queue.pause(session, PauseKind.QUEUE, "q", reason=5, actor="a"), "/reason"),
        (lambda session: queue.create_webhook(session, workspace_id=ID, name=5, url="https://a.example"), "/name"),
        (lambda session: queue.create_webhook(session, workspace_id=ID, name="n", url=None), "/url"),
        (lambda session: queue.statuses_of(session, ID, [ID, "abc"]), "/jobIds/1"),
        (lambda session: queue.list_waits(session, ID, ["abc"]), "/jobIds/0"),
        (lambda session: queue.list_jobs(session, ID, created_before=NO_ZONE), "/createdBefore"),
        (lambda session: queue.list_ticks(session, ID, ID, before=NO_ZONE), "/before"),
        (lambda session: queue.failed_jobs(session, before=FailedCursor(NO_ZONE, ID)), "/before"),
        (
            lambda session: queue.failed_jobs(session, before=FailedCursor(datetime.datetime.now(datetime.UTC), 5)),
            "/before",
        ),
        (lambda session: queue.queue_stats(session, within=datetime.timedelta(0)), "/within"),
        (lambda session: queue.set_workspace_limits(session, ID, {"plan": "a\0b"}), "/plan"),
        (lambda session: queue.set_workspace_limits(session, ID, {"plan": []}), "/plan"),
        (lambda session: queue.count_matching(session, "retry", Matching(workspace_id="abc")), "/workspaceId"),
        (lambda session: queue.count_matching(session, "retry", Matching(since=datetime.timedelta.max)), "/since"),
        (lambda session: queue.begin_bulk(session, "change", parse_search("task:work"), actor="a"), "/change"),
        (lambda session: queue.record(session, actor="a", action="b", target="c", details={"d": {1}}), "/details"),
        (lambda session: every_hour(session, name=5), "/name"),
        (lambda session: every_hour(session, spread=5), "/spread"),
        (lambda session: every_hour(session, tags="nightly"), "/tags"),
        (lambda session: every_hour(session, every_workspace="no"), "/everyWorkspace"),
        (lambda session: every_hour(session, rule="* * * * *"), "/rule"),
    ],
)
def test_what_the_database_could_not_take_is_refused_before_it_is_asked(
    session: Session, verb: Callable[..., Any], path: str
) -> None:
    with pytest.raises(JobPlatformError) as refused:
        verb(session)

    assert paths(refused.value) == [path]
    assert goes_on(session)
