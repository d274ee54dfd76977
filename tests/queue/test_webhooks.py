"""Endings are told to webhooks: each one once, to each that asked for it, and to nobody else."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidHookError, KeyMissingError, QuotaExceededError
from jobplatform.key_ring import KeyRing, generate_key
from jobplatform.models import Job, Role, WebhookSubscription, confine, make_engine
from jobplatform.queue import (
    WEBHOOK_QUEUE,
    WEBHOOK_TASK,
    Completion,
    Failure,
    NewJob,
    NewWebhook,
    cancel_batch,
    cancel_job,
    change_webhook,
    close_batch,
    complete_jobs,
    create_webhook,
    delay_after,
    delete_webhook,
    disable_webhook,
    enable_webhook,
    enqueue_job,
    enqueue_jobs,
    fail_jobs,
    get_webhook,
    list_audit,
    list_webhook_jobs,
    list_webhooks,
    note_went_well,
    note_went_wrong,
    open_batch,
    prepare_sending,
    queue_health,
    retry_job,
    rotate_webhook_secret,
    send_test,
    set_workspace_limits,
    set_workspace_rule,
    settle_alerts,
    settle_endings,
    settle_workspace_alerts,
    use_key_ring,
)
from tests.queue.actors import Elsewhere, Time, Worker
from tests.queue.conftest import Fact, Put

DAY = 86_400.0
URL = "https://crm.example.com/hooks"


@pytest.fixture(autouse=True)
def key_ring() -> Any:
    use_key_ring(KeyRing.parse(generate_key("a")))
    yield
    use_key_ring(None)


@pytest.fixture
def make(db: Session, workspace_id: uuid.UUID) -> Callable[..., NewWebhook]:
    def make(**options: Any) -> NewWebhook:
        given = {"workspace_id": workspace_id, "name": "the CRM", "url": URL, **options}
        return create_webhook(db, **given)

    return make


class Ends:
    """Has jobs end as somebody wants."""

    def __init__(self, db: Session, worker: Worker, put: Put, workspace_id: uuid.UUID) -> None:
        self.db, self.worker, self.put, self.workspace_id = db, worker, put, workspace_id

    def completed(self, **options: Any) -> uuid.UUID:
        job_id = self.put(**options)
        assert complete_jobs(self.db, [Completion(self.worker.lease())])
        return job_id

    def failed(self, **options: Any) -> uuid.UUID:
        job_id = self.put(**options)
        failure = Failure(self.worker.lease(), "error", "RuntimeError", "it said no", "…", delay=0, retry=False)
        assert fail_jobs(self.db, [failure])
        return job_id

    def cancelled(self, **options: Any) -> uuid.UUID:
        job_id = self.put(**options)
        assert cancel_job(self.db, self.workspace_id, job_id)
        return job_id


@pytest.fixture
def ends(db: Session, put: Put, workspace_id: uuid.UUID) -> Ends:
    return Ends(db, Worker(db, tasks=("work", "sync")), put, workspace_id)


def deliveries(session: Session, *, settle: bool = True) -> list[Job]:
    while settle and settle_endings(session).more:
        pass
    found = session.scalars(select(Job).where(Job.job_type == WEBHOOK_TASK).order_by(Job.id)).all()
    for job in found:
        session.expunge(job)
    return list(found)


def told(session: Session) -> list[tuple[str, str]]:
    return [(job.payload["event"]["type"], job.payload["event"]["data"]["jobId"]) for job in deliveries(session)]


def test_each_ending_becomes_one_delivery_that_says_what_happened(
    db: Session, make: Callable[..., NewWebhook], ends: Ends, workspace_id: uuid.UUID
) -> None:
    made = make()
    jobs = [ends.completed(tags=("secret",)), ends.failed(payload={"secret": 1}), ends.cancelled()]

    found = deliveries(db)

    assert told(db) == [
        ("job.completed", str(jobs[0])),
        ("job.failed", str(jobs[1])),
        ("job.cancelled", str(jobs[2])),
    ]
    for job in found:
        assert (job.workspace_id, job.queue, job.status, job.max_attempts) == (
            workspace_id, WEBHOOK_QUEUE, "pending", 10,
        )  # fmt: skip
        assert job.payload["webhookId"] == str(made.webhook.id)
        assert job.parent_id is not None
        assert str(job.parent_id) == job.payload["event"]["data"]["jobId"]
    event = found[1].payload["event"]
    assert event["timestamp"] == event["data"]["completedAt"]
    assert {name: event["data"][name] for name in ("jobType", "queue", "status", "outcome", "attempts", "error")} == {
        "jobType": "work", "queue": "default", "status": "failed", "outcome": "error", "attempts": 1,
        "error": {"type": "RuntimeError"},
    }  # fmt: skip
    assert "secret" not in str([job.payload for job in found])
    assert "it said no" not in str([job.payload for job in found])


def test_one_is_told_of_what_it_asked_for(db: Session, make: Callable[..., NewWebhook], ends: Ends) -> None:
    failures, of_sync, all_of_it = make(events=("job.failed",)), make(tasks=("sync",)), make()
    work, sync = ends.failed(), ends.completed(task="sync")

    found = [(job.payload["webhookId"], job.payload["event"]["data"]["jobId"]) for job in deliveries(db)]

    assert sorted(found) == sorted(
        [
            (str(failures.webhook.id), str(work)),
            (str(all_of_it.webhook.id), str(work)),
            (str(of_sync.webhook.id), str(sync)),
            (str(all_of_it.webhook.id), str(sync)),
        ]
    )


def test_where_nobody_asked_an_ending_leaves_no_notice(
    db: Session, make: Callable[..., NewWebhook], ends: Ends, fact: Fact
) -> None:
    """Another workspace, another task, one that is disabled, and deliveries themselves."""
    make(tasks=("sync",))
    make(workspace_id=uuid.uuid4())
    disable_webhook(db, make().webhook, actor="ann")
    ends.completed()
    assert fact("select count(*) from jobplatform.notices") == 0

    make()
    ends.completed()
    assert len(deliveries(db)) == 1
    lease = Worker(db, queues=(WEBHOOK_QUEUE,), tasks=(WEBHOOK_TASK,)).lease()
    assert complete_jobs(db, [Completion(lease)])
    assert fact("select count(*) from jobplatform.notices") == 0
    assert len(deliveries(db)) == 1


def test_jobs_of_a_bulk_and_of_a_retry_are_told_too(
    db: Session, make: Callable[..., NewWebhook], ends: Ends, worker: Worker, workspace_id: uuid.UUID
) -> None:
    before = ends.failed()
    make()
    enqueue_jobs(db, [NewJob(workspace_id=workspace_id, task="work") for _ in range(3)])
    complete_jobs(db, [Completion(job.lease) for job in worker.drain()])
    assert len(told(db)) == 3

    retry_job(db, workspace_id, before)
    complete_jobs(db, [Completion(worker.lease())])

    assert told(db)[3:] == [("job.completed", str(before))]


def test_a_job_that_ends_twice_is_told_twice_each_time_as_it_was(
    db: Session, make: Callable[..., NewWebhook], ends: Ends, worker: Worker, workspace_id: uuid.UUID
) -> None:
    """Even when it runs again before anybody has told."""
    make()
    job_id = ends.failed()
    retry_job(db, workspace_id, job_id)
    complete_jobs(db, [Completion(worker.lease())])

    assert told(db) == [("job.failed", str(job_id)), ("job.completed", str(job_id))]


def test_what_was_enqueued_before_it_is_not_told(
    db: Session, make: Callable[..., NewWebhook], put: Put, worker: Worker
) -> None:
    put()
    make()
    complete_jobs(db, [Completion(worker.lease())])

    assert deliveries(db) == []


def test_a_settling_that_is_undone_is_done_again_and_tells_once(
    db: Session, session: Session, make: Callable[..., NewWebhook], ends: Ends, fact: Fact
) -> None:
    make()
    ends.completed()
    settle_endings(session)
    assert len(deliveries(session, settle=False)) == 1
    session.rollback()
    assert fact("select count(*) from jobplatform.notices") == 1

    assert len(deliveries(db)) == 1
    assert len(deliveries(db)) == 1


def test_two_who_settle_at_once_tell_once(
    db: Session, session: Session, make: Callable[..., NewWebhook], ends: Ends, elsewhere: Elsewhere
) -> None:
    make()
    ends.completed()
    settle_endings(session)

    other = elsewhere.start(settle_endings).result()
    session.commit()

    assert other.notices == 0
    assert len(deliveries(db)) == 1


def test_a_worker_s_login_tells_and_sees_neither_url_nor_secret(
    make: Callable[..., NewWebhook], ends: Ends, db: Session, login_url: Callable[..., str]
) -> None:
    make()
    ends.completed()
    engine = make_engine(login_url(Role.WORKER), pool_size=1)
    with confine(Session(engine), Role.WORKER) as session:
        settle_endings(session)
        session.commit()
    engine.dispose()

    assert len(deliveries(db, settle=False)) == 1


def test_a_receiver_that_is_down_takes_no_place_of_the_workspace_s_own_jobs(
    db: Session, make: Callable[..., NewWebhook], ends: Ends, put: Put, workspace_id: uuid.UUID
) -> None:
    """Neither in its quota, nor is a delivery given up for a more important job."""
    make()
    for _ in range(3):
        ends.completed()
    assert len(deliveries(db)) == 3
    set_workspace_limits(db, workspace_id, {"max_pending": 1, "shed": True})

    put(priority=5)
    with pytest.raises(QuotaExceededError):
        put(priority=5)

    assert [job.status for job in deliveries(db)] == ["pending"] * 3


def test_of_an_encrypted_workspace_is_told_what_stands_in_the_open(
    db: Session, make: Callable[..., NewWebhook], ends: Ends, workspace_id: uuid.UUID
) -> None:
    """Whoever settles has no keys, and needs none."""
    from jobplatform.queue import set_encrypting

    set_encrypting(db, workspace_id, True)
    make()
    ends.completed(payload={"secret": 1})
    use_key_ring(None)

    (delivery,) = deliveries(db)

    assert delivery.payload["event"]["type"] == "job.completed"


def test_a_test_is_a_delivery_like_others(
    db: Session, make: Callable[..., NewWebhook], workspace_id: uuid.UUID
) -> None:
    made = make()
    job_id = send_test(db, made.webhook)

    (listed,) = list_webhook_jobs(db, workspace_id, made.webhook.id)

    assert listed.id == job_id
    assert listed.payload["event"]["type"] == "webhook.test"
    assert list_webhook_jobs(db, workspace_id, uuid.uuid4()) == []


# -- webhooks ----------------------------------------------------------------------------------------


def test_its_secret_is_sealed_and_replaced_with_both_signing_for_a_while(
    db: Session, make: Callable[..., NewWebhook], workspace_id: uuid.UUID, time: Time, fact: Fact
) -> None:
    made = make()
    new = rotate_webhook_secret(db, made.webhook, keep_old=datetime.timedelta(hours=1))

    sending = prepare_sending(db, workspace_id, made.webhook.id)
    assert sending is not None
    assert (sending.url, sending.secrets) == (URL, [new, made.secret])
    assert "whsec" not in fact("select json_agg(s)::text from jobplatform.webhook_subscriptions s")
    time.passes(3601)
    sending = prepare_sending(db, workspace_id, made.webhook.id)
    assert sending is not None
    assert sending.secrets == [new]
    use_key_ring(None)
    with pytest.raises(KeyMissingError):
        make()


def test_they_are_listed_changed_enabled_and_deleted(
    db: Session, make: Callable[..., NewWebhook], workspace_id: uuid.UUID
) -> None:
    first, second = make(), make(name="another")
    change_webhook(db, first.webhook, name="renamed", tasks=("sync",))

    assert [(one.name, one.tasks) for one in list_webhooks(db, workspace_id)] == [
        ("renamed", ["sync"]),
        ("another", None),
    ]
    assert [one.id for one in list_webhooks(db, workspace_id, after=first.webhook.id)] == [second.webhook.id]
    assert disable_webhook(db, first.webhook, actor="ann")
    assert not disable_webhook(db, first.webhook, actor="bob")
    assert enable_webhook(db, first.webhook)
    assert not enable_webhook(db, first.webhook)
    delete_webhook(db, first.webhook)
    assert get_webhook(db, workspace_id, first.webhook.id) is None
    assert prepare_sending(db, workspace_id, first.webhook.id) is None


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"name": ""}, "/name"),
        ({"url": "ftp://x"}, "/url"),
        ({"url": "https://x/\x01"}, "/url"),
        ({"url": "https:///hooks"}, "/url"),
        ({"url": "https://a[b]/"}, "/url"),
        ({"url": "https://ex\N{ACCOUNT OF}mple.com/"}, "/url"),
        ({"url": "https://user:password@crm.example.com/"}, "/url"),
        ({"events": ()}, "/events"),
        ({"events": ("job.failed", "job.lost")}, "/events/1"),
        ({"tasks": ()}, "/jobTypes"),
        ({"tasks": ("Sync!",)}, "/jobTypes/0"),
        ({"secret": "whsec_short"}, "/secret"),
    ],
)
def test_what_cannot_be_is_refused_by_its_place(
    make: Callable[..., NewWebhook], options: dict[str, Any], path: str
) -> None:
    with pytest.raises(InvalidHookError) as caught:
        make(**options)

    assert [problem.path for problem in caught.value.problems] == [path]


def test_a_password_in_a_url_is_refused_without_being_repeated(make: Callable[..., NewWebhook], db: Session) -> None:
    webhook = make().webhook

    with pytest.raises(InvalidHookError, match="must have no user or password in it") as caught:
        change_webhook(db, webhook, url="https://ann:hunter2@crm.example.com/")

    assert "hunter2" not in str(caught.value)
    assert webhook.url == URL


def test_a_workspace_has_a_bounded_number_of_them(make: Callable[..., NewWebhook]) -> None:
    for _ in range(10):
        make()

    with pytest.raises(InvalidHookError, match="may have 10 webhooks"):
        make()


# -- receivers that do not answer --------------------------------------------------------------------


def test_one_that_fails_for_five_days_is_disabled_written_down_once_and_said(
    db: Session, make: Callable[..., NewWebhook], workspace_id: uuid.UUID, time: Time, login_url: Callable[..., str]
) -> None:
    webhook_id = make().webhook.id

    assert note_went_wrong(db, workspace_id, webhook_id) is None
    time.passes(4 * DAY)
    assert note_went_wrong(db, workspace_id, webhook_id) is None
    note_went_well(db, workspace_id, webhook_id)
    time.passes(4 * DAY)
    assert note_went_wrong(db, workspace_id, webhook_id) is None
    time.passes(5 * DAY + 1)
    assert note_went_wrong(db, workspace_id, webhook_id) == "failing"
    assert note_went_wrong(db, workspace_id, webhook_id) is None

    engine = make_engine(login_url(Role.WORKER), pool_size=1)
    for _ in range(2):
        with confine(Session(engine), Role.WORKER) as session:
            events = settle_alerts(session, now=True)
            session.commit()
    engine.dispose()
    found = get_webhook(db, workspace_id, webhook_id)
    assert found is not None
    assert (found.disabled_by, found.disabled_why) == ("jobplatform", "failing")
    (line,) = list_audit(db, action="webhook.disable")
    assert (line.actor, line.target, line.workspace_id) == ("jobplatform", f"webhook:{webhook_id}", workspace_id)
    assert line.details == {"name": "the CRM", "why": "failing"}
    assert events == []
    told = "1 webhook was disabled within a day: its receiver is gone, or has failed for days"
    assert ("webhooks_disabled", told) in {(alert.code, alert.message) for alert in queue_health(db).alerts}
    assert "webhooks_disabled" in {alert.code for alert in queue_health(db, workspace_id).alerts}
    assert "webhooks_disabled" not in {alert.code for alert in queue_health(db, uuid.uuid4()).alerts}
    enable_webhook(db, found)
    assert "webhooks_disabled" not in {alert.code for alert in queue_health(db).alerts}


def test_another_receiver_is_not_blamed_for_the_one_before(
    db: Session, make: Callable[..., NewWebhook], workspace_id: uuid.UUID, time: Time
) -> None:
    webhook = make().webhook
    note_went_wrong(db, workspace_id, webhook.id)
    time.passes(5 * DAY + 1)

    db.refresh(webhook)
    change_webhook(db, webhook, url="https://new.example.com/hooks")

    assert note_went_wrong(db, workspace_id, webhook.id) is None
    time.passes(DAY)
    change_webhook(db, webhook, name="renamed", url="https://new.example.com/hooks")
    time.passes(4 * DAY + 1)
    assert note_went_wrong(db, workspace_id, webhook.id) == "failing", "it is the same receiver still"


def test_one_that_is_gone_is_disabled_at_once(
    db: Session, make: Callable[..., NewWebhook], workspace_id: uuid.UUID
) -> None:
    webhook_id = make().webhook.id

    assert note_went_wrong(db, workspace_id, webhook_id, gone=True) == "gone"

    sending = prepare_sending(db, workspace_id, webhook_id)
    assert sending is not None
    assert (sending.is_disabled, sending.secrets) == (True, [])


def test_a_receiver_that_answers_well_is_not_written_to(
    db: Session, make: Callable[..., NewWebhook], workspace_id: uuid.UUID, fact: Fact
) -> None:
    webhook_id = make().webhook.id
    where = "select xmin::text from jobplatform.webhook_subscriptions"
    before = fact(where)

    note_went_well(db, workspace_id, webhook_id)

    assert fact(where) == before


def test_the_tries_are_those_of_standard_webhooks_or_what_the_receiver_asks_for() -> None:
    delays = [delay_after(attempt, RuntimeError()) for attempt in range(1, 11)]

    planned = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400, 86_400)
    assert all(low <= delay <= low * 1.1 for low, delay in zip(planned, delays, strict=True))
    error = RuntimeError()
    error.retry_after = 1000.0  # type: ignore[attr-defined]
    assert 1000 <= delay_after(1, error) <= 1100
    assert 1_800 <= delay_after(3, error) <= 1_980


def test_a_handler_s_login_notes_how_it_went_and_changes_nothing_else(
    db: Session, make: Callable[..., NewWebhook], workspace_id: uuid.UUID, login_url: Callable[..., str], engine: Engine
) -> None:
    webhook_id = make().webhook.id
    handlers = make_engine(login_url(Role.HANDLER), pool_size=1)
    with confine(Session(handlers), Role.HANDLER, workspace_id) as session:
        assert prepare_sending(session, workspace_id, webhook_id) is not None
        note_went_wrong(session, workspace_id, webhook_id)
        session.commit()
        with pytest.raises(Exception, match="permission denied"):
            session.execute(text("update jobplatform.webhook_subscriptions set url = 'https://elsewhere.example'"))
    handlers.dispose()

    db.expire_all()
    found = db.get_one(WebhookSubscription, (workspace_id, webhook_id))
    assert found.failing_since is not None
    enqueue_job(db, NewJob(workspace_id=workspace_id, task="work"))


# Batches and alerts


BATCH_EVENTS = ("batch.completed", "batch.failed", "batch.cancelled")


def batch_events(session: Session) -> list[tuple[str, str]]:
    found = [job.payload["event"] for job in deliveries(session)]
    return [(event["type"], event["data"]["batchId"]) for event in found]


@pytest.fixture
def batch(db: Session, put: Put, workspace_id: uuid.UUID) -> Callable[..., uuid.UUID]:
    """A closed batch of so many jobs."""

    def batch(jobs: int = 2, name: str | None = "letters") -> uuid.UUID:
        batch_id = open_batch(db, workspace_id, name)
        for _ in range(jobs):
            put(batch_id=batch_id)
        close_batch(db, workspace_id, batch_id)
        return batch_id

    return batch


def end(db: Session, worker: Worker, *how: str) -> None:
    for one in how:
        (job,) = worker.claim(limit=1)
        lease = job.lease
        if one == "completed":
            complete_jobs(db, [Completion(lease)])
        else:
            fail_jobs(db, [Failure(lease, "error", "RuntimeError", "it said no", delay=0, retry=False)])


def test_the_end_of_a_batch_is_told_once_with_its_numbers(
    db: Session, make: Callable[..., NewWebhook], batch: Callable[..., uuid.UUID], worker: Worker,
    workspace_id: uuid.UUID,
) -> None:  # fmt: skip
    make(events=BATCH_EVENTS)
    make(events=("batch.failed",))
    make(events=BATCH_EVENTS, workspace_id=uuid.uuid4())
    batch_id = batch()
    end(db, worker, "completed")
    assert batch_events(db) == []

    end(db, worker, "completed")

    assert batch_events(db) == [("batch.completed", str(batch_id))]
    assert batch_events(db) == [("batch.completed", str(batch_id))]
    (delivery,) = deliveries(db)
    data = delivery.payload["event"]["data"]
    assert delivery.payload["event"]["timestamp"] == data["endedAt"]
    assert {name: data[name] for name in ("workspaceId", "name", "status", "total", "completed", "failed")} == {
        "workspaceId": str(workspace_id), "name": "letters", "status": "completed", "total": 2, "completed": 2,
        "failed": 0,
    }  # fmt: skip


def test_a_batch_that_went_badly_was_cancelled_or_is_empty_is_told_as_that(
    db: Session, make: Callable[..., NewWebhook], batch: Callable[..., uuid.UUID], worker: Worker,
    workspace_id: uuid.UUID,
) -> None:  # fmt: skip
    make(events=BATCH_EVENTS)
    failed = batch()
    end(db, worker, "completed", "failed")
    assert batch_events(db) == [("batch.failed", str(failed))]

    cancelled = batch()
    cancel_batch(db, workspace_id, cancelled)
    empty = batch(jobs=0)

    assert sorted(batch_events(db)[1:]) == sorted(
        [("batch.cancelled", str(cancelled)), ("batch.completed", str(empty))]
    )


def test_a_batch_whose_failed_job_is_retried_is_told_again_as_it_ended_then(
    db: Session, make: Callable[..., NewWebhook], batch: Callable[..., uuid.UUID], worker: Worker,
    workspace_id: uuid.UUID,
) -> None:  # fmt: skip
    """Also when nobody has counted between the retry and its end."""
    make(events=BATCH_EVENTS)
    batch_id = batch(jobs=1)
    end(db, worker, "failed")
    assert batch_events(db) == [("batch.failed", str(batch_id))]
    (job,) = db.scalars(select(Job).where(Job.job_type == "work")).all()

    retry_job(db, workspace_id, job.id)
    end(db, worker, "completed")

    assert batch_events(db) == [("batch.failed", str(batch_id)), ("batch.completed", str(batch_id))]
    retry_job(db, workspace_id, job.id)
    assert len(batch_events(db)) == 2


def test_a_batch_counted_by_one_that_dies_or_by_two_at_once_is_told_once(
    db: Session, session: Session, make: Callable[..., NewWebhook], batch: Callable[..., uuid.UUID], worker: Worker,
    elsewhere: Elsewhere,
) -> None:  # fmt: skip
    make(events=BATCH_EVENTS)
    batch_id = batch(jobs=1)
    end(db, worker, "completed")
    settle_endings(session)
    assert len(deliveries(session, settle=False)) == 1
    session.rollback()
    assert deliveries(db, settle=False) == []

    settle_endings(session)
    elsewhere.start(settle_endings).result()
    session.commit()

    assert batch_events(db) == [("batch.completed", str(batch_id))]


def test_a_subscription_to_batches_alone_has_jobs_leave_no_notices(
    db: Session, make: Callable[..., NewWebhook], ends: Ends, fact: Fact
) -> None:
    make(events=(*BATCH_EVENTS, "alert.raised"))

    ends.completed()

    assert fact("select count(*) from jobplatform.notices") == 0
    assert deliveries(db) == []


def test_an_alert_about_a_workspace_is_told_to_its_webhooks_and_to_no_other_s(
    db: Session, make: Callable[..., NewWebhook], put: Put, workspace_id: uuid.UUID
) -> None:
    make(events=("alert.raised", "alert.resolved"))
    make(events=("job.failed",))
    make(events=("alert.raised",), workspace_id=uuid.uuid4())
    set_workspace_rule(db, workspace_id, "backlog", above=0)
    put()
    for _ in range(2):
        settle_workspace_alerts(db, now=True)
    set_workspace_rule(db, workspace_id, "backlog", enabled=False)
    settle_workspace_alerts(db, now=True)

    events = [job.payload["event"] for job in deliveries(db)]

    assert [(event["type"], event["data"]["code"]) for event in events] == [
        ("alert.raised", "backlog"), ("alert.resolved", "backlog"),
    ]  # fmt: skip
    assert events[0]["data"]["message"] == "1 job is ready and waits for a slot"
    assert events[0]["timestamp"] == events[0]["data"]["at"]
