"""What pages show is what there is."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, insert, text, update
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from jobplatform.errors import InvalidLimitError
from jobplatform.models import (
    PLATFORM_WORKSPACE,
    Connection,
    Hook,
    HookDelivery,
    JobRecord,
    Role,
    Status,
    SyncLog,
    WebhookSubscription,
    Workspace,
    confine,
)
from jobplatform.queue import (
    Completion,
    Every,
    Failure,
    LogLine,
    NewJob,
    Tasks,
    append_log_lines,
    cancel_job,
    complete_jobs,
    count_endings,
    create_schedule,
    describe_tasks,
    enqueue_job,
    fail_jobs,
    pages,
    pause,
    record,
    retry_job,
    run_schedule_now,
    set_queue_limit,
    set_resource_limit,
    set_rule,
    set_workspace_limits,
    settle_alerts,
)
from jobplatform.queue.pages.charts import STEPS, quantile
from jobplatform.queue.pages.syncs import sync_state
from tests.queue.actors import Time, Worker
from tests.queue.conftest import Put
from tests.queue.plans import explain_all

NOON = datetime.datetime(2030, 5, 5, 12, 0, 30, tzinfo=datetime.UTC)
OTHER = uuid.UUID("22222222-2222-4222-8222-222222222222")


def finish(db: Session, worker: Worker, *, failed: int = 0) -> None:
    """Everything that is ready: the first ``failed`` fail, the others complete."""
    leases = [job.lease for job in worker.drain()]
    fail_jobs(db, [Failure(lease, "error", "KeyError", "no user 7", retry=False) for lease in leases[:failed]])
    complete_jobs(db, [Completion(lease) for lease in leases[failed:]])


# -- charts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("span", "points", "step"), [("1h", 60, 60), ("24h", 96, 900), ("7d", 168, 3600), ("30d", 30, 86_400)]
)
def test_a_chart_has_a_point_for_each_step_and_the_last_is_now_s(
    put: Put, db: Session, worker: Worker, time: Time, span: Any, points: int, step: int
) -> None:
    time.travel_to(NOON)
    time.freeze()
    put(), put(), put()
    finish(db, worker, failed=1)
    time.passes(step)
    put()
    finish(db, worker)
    count_endings(db)

    found = pages.throughput(db, span)

    assert (len(found.points), found.step_seconds) == (points, step)
    assert [(point.completed, point.failed) for point in found.points[-2:]] == [(2, 1), (1, 0)]
    assert found.points[-1].at <= time.now() < found.points[-1].at + datetime.timedelta(seconds=step)
    assert {(b.at - a.at).total_seconds() for a, b in zip(found.points, found.points[1:], strict=False)} == {step}
    assert (found.total.completed, found.total.failed, found.total.finished) == (3, 1, 4)
    assert (found.total.failure_rate, found.total.at) == (0.25, found.points[0].at)
    assert found.as_of is not None
    assert time.now() - found.as_of < datetime.timedelta(milliseconds=1)


def test_a_chart_is_of_a_workspace_a_queue_or_a_task_if_that_is_said(
    put: Put, db: Session, workspace_id: uuid.UUID
) -> None:
    worker = Worker(db, tasks=("work", "mail"), queues=("default", "letters"))
    put(), put(task="mail", queue="letters"), put(workspace_id=OTHER)
    finish(db, worker)
    count_endings(db)

    def completed(**options: Any) -> int:
        return pages.throughput(db, **options).total.completed

    assert completed() == 3
    assert completed(workspace_id=workspace_id) == 2
    assert completed(workspace_id=workspace_id, task="mail") == completed(queue="letters") == 1
    assert completed(workspace_id=workspace_id, queue="letters", task="work") == 0
    assert completed(workspace_id=uuid.uuid4()) == 0
    with pytest.raises(InvalidLimitError, match="say a queue or a task"):
        completed(queue="letters", task="mail")
    assert {name: one.total.completed for name, one in pages.throughput_by_queue(db).items()} == {
        "default": 2,
        "letters": 1,
    }
    assert {name: one.total.completed for name, one in pages.throughput_by_task(db).items()} == {"work": 2, "mail": 1}
    assert pages.totals_by_task(db) == {name: one.total for name, one in pages.throughput_by_task(db).items()}


def test_a_chart_stays_the_same_while_its_cells_become_coarser(
    put: Put, db: Session, worker: Worker, time: Time
) -> None:
    time.travel_to(NOON)
    time.freeze()
    for _ in range(4):
        put()
        finish(db, worker)
        time.passes(1000)
    count_endings(db)
    time.travel_to(NOON + datetime.timedelta(hours=5))
    before = [pages.throughput(db, span).points for span in ("24h", "7d")]

    count_endings(db)

    coarse = (
        "select count(*) from jobplatform.platform_cells where minutes = 15 and queue = '' and task = '' and status = 3"
    )
    assert db.scalar(text(coarse)) == 4
    assert [pages.throughput(db, span).points for span in ("24h", "7d")] == before


def test_a_workspace_s_chart_tells_the_same_of_all_and_of_its_parts_however_old_it_is(
    put: Put, db: Session, worker: Worker, time: Time, workspace_id: uuid.UUID
) -> None:
    time.travel_to(NOON)
    time.freeze()
    for minutes in (0, 7, 90, 24 * 60, 8 * 24 * 60):
        time.travel_to(NOON + datetime.timedelta(minutes=minutes))
        put(), put(), put()
        (lease, *rest) = [job.lease for job in worker.claim(limit=3)]
        time.passes(0.3 + minutes)
        complete_jobs(db, [Completion(lease, outcome="skipped")])
        fail_jobs(db, [Failure(other, "error", "E", "no", retry=False) for other in rest])
        for _ in range(4):
            count_endings(db)

    for days in (0, 2, 12):
        time.travel_to(NOON + datetime.timedelta(days=8 + days))
        for _ in range(4):
            count_endings(db)
        for span in STEPS:
            whole = pages.throughput(db, span, workspace_id=workspace_id)
            part = pages.throughput(db, span, workspace_id=workspace_id, task="work")
            assert (whole.points, whole.total) == (part.points, part.total)
    assert (whole.total.completed, whole.total.skipped, whole.total.failed) == (5, 5, 10)
    assert whole.total.run is not None
    assert db.scalar(text("select count(*) from jobplatform.workspace_totals where minutes = 1440")) == 3


def test_before_anybody_has_counted_a_chart_says_so(db: Session, put: Put, worker: Worker) -> None:
    put()
    finish(db, worker)

    found = pages.throughput(db)

    assert (found.as_of, found.total.finished, found.per_minute) == (None, 0, 0)
    assert (found.total.wait, found.total.failure_rate) == (None, None)


def test_a_span_that_there_is_not_is_refused(db: Session) -> None:
    with pytest.raises(InvalidLimitError, match="1h, 24h, 7d, 30d"):
        pages.throughput(db, "2h")  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=50), st.sampled_from([0.5, 0.95]))
def test_a_percentile_of_buckets_is_within_a_factor_of_two(milliseconds: list[int], share: float) -> None:
    buckets: dict[int, int] = {}
    for one in milliseconds:
        buckets[one.bit_length()] = buckets.get(one.bit_length(), 0) + 1
    exact = sorted(milliseconds)[max(0, -int(-share * len(milliseconds) // 1) - 1)]

    found = quantile(buckets, share)

    assert found is not None
    low, high = (2 ** (exact.bit_length() - 1), 2 ** exact.bit_length()) if exact else (0, 1)
    assert low <= found * 1000 <= high


# -- overview ---------------------------------------------------------------------------------------------


def test_the_overview_tells_what_waits_runs_and_is_wrong(
    put: Put, db: Session, worker: Worker, time: Time, workspace_id: uuid.UUID
) -> None:
    for _ in range(6):
        put()
    finish(db, worker, failed=3)
    put()
    worker.claim()
    put(), put(delay=datetime.timedelta(hours=5))
    pause(db, "queue", "letters", reason="a reason", actor="ada")
    set_rule(db, "stuck", above=30)
    time.passes(40)
    db.execute(text("update jobplatform.workers set heartbeat_at = jobplatform.clock()"))
    count_endings(db)
    settle_alerts(db, now=True)
    set_rule(db, "backlog", above=0)

    found = pages.overview(db)

    assert (found.ready, found.scheduled, found.running, found.stuck, found.pending) == (1, 1, 1, 1, 2)
    assert found.stuck_after_seconds == 30
    assert 40 <= (found.oldest_ready_seconds or 0) < 60
    assert 40 <= (found.longest_running_seconds or 0) < 60
    assert (found.workers, found.workers_draining, found.slots, found.paused) == (1, 0, 8, 1)
    assert (found.throughput.total.completed, found.throughput.total.failed) == (3, 3)
    # The last one has come up since anybody looked.
    assert {alert.code: alert.raised_at is not None for alert in found.alerts} == {
        "stuck": True,
        "failing": True,
        "backlog": False,
    }


def test_the_overview_reads_the_live_jobs_once(put: Put, db: Session, engine: Engine) -> None:
    put()

    plans = explain_all(engine, pages.overview)

    assert sum(plan.rows_visited("job_queue") for plan in plans) == 1


def test_without_a_worker_the_overview_says_that_nobody_is_there(put: Put, db: Session) -> None:
    put()

    assert [alert.code for alert in pages.overview(db).alerts] == ["no_worker"]


# -- a job ------------------------------------------------------------------------------------------------


def test_a_job_that_needed_three_attempts_has_a_timeline(
    put: Put, db: Session, worker: Worker, time: Time, workspace_id: uuid.UUID
) -> None:
    time.freeze()
    job = put(delay=datetime.timedelta(seconds=10), max_attempts=3)
    time.passes(10)
    db.execute(text("update jobplatform.job_queue set state = 1"))
    time.passes(5)
    lease = worker.lease()
    append_log_lines(db, [LogLine(lease, number, "info", f"line {number}") for number in (1, 2, 3)])
    time.passes(2)
    fail_jobs(db, [Failure(lease, "error", "KeyError", "no user 7", "Traceback …")])
    time.passes(1)
    complete_jobs(db, [Completion(worker.lease())])

    found = pages.job_detail(db, workspace_id, job, lines=2)

    assert found is not None
    first, second = found.tries
    assert (first.attempt, first.outcome, first.wait_seconds, first.run_seconds) == (1, "error", 5, 2)
    assert (first.error_type, first.error, first.traceback, first.final) == (
        "KeyError",
        "no user 7",
        "Traceback …",
        False,
    )
    assert first.worker == f"host:{worker_pid(db)}"
    assert (second.attempt, second.outcome, second.final, second.run_seconds) == (2, "ok", True, 0)
    assert ([line.message for line in found.logs], found.more_logs) == (["line 2", "line 3"], True)
    assert (found.why, found.earlier_endings, found.steps, str(found.children)) == (None, (), 0, "0")


def worker_pid(db: Session) -> int:
    return db.scalar(text("select pid from jobplatform.workers")) or 0


def test_a_job_that_runs_or_waits_says_why(put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID) -> None:
    running = put()
    worker.claim()
    waiting = put()

    of_running = pages.job_detail(db, workspace_id, running)
    of_waiting = pages.job_detail(db, workspace_id, waiting)

    assert of_running is not None
    assert of_waiting is not None
    assert [attempt.outcome for attempt in of_running.tries] == ["running"]
    assert of_running.why is not None
    assert of_waiting.why is not None
    assert (of_waiting.tries, of_waiting.why.status) == ((), "pending")
    assert pages.job_detail(db, OTHER, running) is None


def test_a_retry_by_hand_is_seen_with_the_ending_it_took_back(
    put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID
) -> None:
    job = put()
    finish(db, worker, failed=1)
    retry_job(db, workspace_id, job)
    finish(db, worker)

    found = pages.job_detail(db, workspace_id, job)

    assert found is not None
    assert [(ending.epoch, ending.status) for ending in found.earlier_endings] == [(1, "failed")]
    assert [(attempt.epoch, attempt.outcome) for attempt in found.tries] == [(1, "error"), (2, "ok")]
    # When it might have begun is not known any more.
    assert [attempt.wait_seconds for attempt in found.tries] == [None, None]


def test_the_jobs_that_a_job_made_are_counted(put: Put, db: Session, workspace_id: uuid.UUID) -> None:
    parent = put()
    put(parent_id=parent), put(parent_id=parent), put()

    found = pages.job_detail(db, workspace_id, parent)

    assert found is not None
    assert str(found.children) == "2"


# -- errors -----------------------------------------------------------------------------------------------


def test_errors_are_groups_with_the_workspaces_that_they_hit(
    put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID, time: Time
) -> None:
    put(), put(workspace_id=OTHER)
    finish(db, worker, failed=2)
    count_endings(db)
    time.passes(60)
    last = put(task="mail")
    fail_jobs(db, [Failure(Worker(db, tasks=("mail",)).lease(), "error", "E", "x", retry=False)])
    count_endings(db)

    found = pages.error_groups(db)

    assert [(group.task, group.message, group.count, str(group.workspaces)) for group in found.groups] == [
        ("mail", "x", 1, "1"),
        ("work", "no user <n>", 2, "2"),
    ]
    assert (found.groups[0].last_job_id, found.groups[0].last_workspace_id) == (last, workspace_id)
    assert pages.error_group(db, found.groups[1].fingerprint) == found.groups[1]
    assert pages.error_group(db, "0123456789abcdef") is None
    assert [group.count for group in pages.error_groups(db, workspace_id=OTHER).groups] == [1]
    assert [group.task for group in pages.error_groups(db, task="mail").groups] == ["mail"]
    assert pages.error_groups(db, within=datetime.timedelta(seconds=30)).groups == found.groups[:1]
    first = pages.error_groups(db, limit=1)
    assert first.groups == found.groups[:1]
    assert pages.error_groups(db, limit=1, before=first.next).groups == found.groups[1:]
    assert [job.id for job in pages.find_jobs(db, pages.parse_search(found.groups[0].search)).jobs] == [last]


# -- lists ------------------------------------------------------------------------------------------------


def test_workspaces_are_listed_by_what_is_asked_for(
    put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID, time: Time
) -> None:
    time.freeze()
    db.execute(insert(Workspace).values(id=workspace_id, name="Acme Ltd"))
    put()
    (lease,) = (job.lease for job in worker.claim())
    time.passes(3)
    complete_jobs(db, [Completion(lease)])
    put(workspace_id=OTHER)
    (lease,) = (job.lease for job in worker.claim())
    time.passes(1)
    fail_jobs(db, [Failure(lease, "error", "E", "no", retry=False)])
    put(workspace_id=OTHER), put(workspace_id=OTHER), put()
    count_endings(db)
    set_workspace_limits(db, OTHER, {"weight": 3})
    pause(db, "workspace", str(OTHER), reason="unpaid", actor="ada")

    by_id = {line.id: line for line in pages.workspace_lines(db).lines}
    mine, other = by_id[workspace_id], by_id[OTHER]

    assert (mine.name, mine.pending, mine.completed, mine.failed, mine.share) == ("Acme Ltd", 1, 1, 0, 0.75)
    assert (other.name, other.pending, other.completed, other.failed, other.share) == (None, 2, 0, 1, 0.25)
    assert (other.limits.effective.weight, mine.paused) == (3, None)
    assert other.paused is not None
    assert other.paused.reason == "unpaid"

    def first(order: Any) -> uuid.UUID:
        return pages.workspace_lines(db, order=order, limit=1).lines[0].id

    assert (first("backlog"), first("share"), first("failed")) == (OTHER, workspace_id, OTHER)
    assert [line.id for line in pages.workspace_lines(db, text="acme").lines] == [workspace_id]
    assert [line.id for line in pages.workspace_lines(db, text=str(OTHER)).lines] == [OTHER]
    page = pages.workspace_lines(db, limit=1)
    assert page.next == page.lines[0].id == min(by_id)
    assert [line.id for line in pages.workspace_lines(db, limit=1, after=page.next).lines] == [max(by_id)]
    assert pages.workspace_line(db, OTHER) == other


def test_queues_tasks_and_workers_are_listed_with_what_they_do(put: Put, db: Session, worker: Worker) -> None:
    tasks = Tasks()

    @tasks.task("work", queue="default", description="Works.")
    def work(job: Any, payload: dict[str, Any]) -> None: ...

    describe_tasks(db, tasks.catalogue())
    put(), put()
    finish(db, worker)
    count_endings(db)
    put()
    (running,) = worker.claim()
    put(queue="letters", task="mail")
    set_queue_limit(db, "letters", 4)
    pause(db, "task", "mail", reason="a reason", actor="ada")

    queues = {line.queue: line for line in pages.queue_lines(db)}
    tasks_seen = {line.name: line for line in pages.task_lines(db)}
    (seen,) = pages.worker_lines(db)

    default, letters = queues["default"], queues["letters"]
    assert (default.running, default.pending, default.workers, default.max_running) == (1, 0, 1, None)
    assert default.throughput is not None
    assert default.throughput.total.completed == 2
    assert (letters.ready, letters.workers, letters.max_running, letters.throughput) == (1, 0, 4, None)
    described = tasks_seen["work"].details
    assert described is not None
    assert (described["description"], described["payload_schema"]) == ("Works.", {"type": "object"})
    assert (tasks_seen["work"].running, tasks_seen["work"].workers) == (1, 1)
    assert (tasks_seen["mail"].details, tasks_seen["mail"].ready) == (None, 1)
    assert tasks_seen["mail"].paused is not None
    assert (seen.id, seen.slots, seen.running, seen.tasks) == (worker.id, 8, 1, ("work",))
    assert [(str(job.id), job.attempt) for job in seen.jobs] == [(running.lease.job_id, 1)]


def do_nothing(job: Any, payload: dict[str, Any]) -> None: ...


def test_a_task_that_was_described_anew_is_what_the_newest_code_says(db: Session) -> None:
    for description in ("Old.", "New."):
        tasks = Tasks()
        tasks.task("work", description=description)(do_nothing)
        describe_tasks(db, tasks.catalogue())

    (line,) = pages.task_lines(db)

    assert line.details is not None
    assert line.details["description"] == "New."


def test_schedules_are_listed_in_words_with_what_came_of_them(
    put: Put, db: Session, session: Session, worker: Worker, workspace_id: uuid.UUID
) -> None:
    tasks = Tasks()

    @tasks.task("work")
    def work(job: Any, payload: dict[str, Any]) -> None: ...

    mine = create_schedule(session, work, Every(datetime.timedelta(minutes=15)), workspace_id=workspace_id, name="mine")
    create_schedule(session, work, Every(datetime.timedelta(hours=1)), name="everybody's")
    session.commit()
    run_schedule_now(session, mine, work)
    session.commit()
    finish(db, worker)

    page = pages.schedule_lines(db)

    platforms, line = page.lines
    assert platforms.schedule.workspace_id == PLATFORM_WORKSPACE
    assert (line.schedule.name, line.words, len(line.next_runs)) == ("mine", "Every 15 minutes", 5)
    assert line.last is not None
    assert (line.last.manual, line.last_status) == (True, "completed")
    assert (line.served, line.overdue, line.schedule.paused_at) == (True, False, None)
    assert (platforms.last, platforms.last_status) == (None, None)
    first = pages.schedule_lines(db, limit=1)
    assert [one.schedule.name for one in pages.schedule_lines(db, limit=1, after=first.next).lines] == ["mine"]
    assert [one.schedule.name for one in pages.schedule_lines(db, workspace_id=workspace_id).lines] == ["mine"]


def test_the_audit_log_is_read_in_pages(db: Session, workspace_id: uuid.UUID) -> None:
    for number in range(3):
        record(db, actor="ada", action="job.cancel", target=f"job:{number}", workspace_id=workspace_id)
    record(db, actor="bob", action="job.retry", target="job:0")

    page = pages.audit_lines(db, actor="ada", limit=2)

    assert [line.target for line in page.lines] == ["job:2", "job:1"]
    assert [line.target for line in pages.audit_lines(db, actor="ada", before=page.next).lines] == ["job:0"]
    assert [line.actor for line in pages.audit_lines(db, target="job:0").lines] == ["bob", "ada"]
    assert len(pages.audit_lines(db, workspace_id=workspace_id).lines) == 3


# -- connections, and the tenant's portal ------------------------------------------------------------------

CONNECTION = uuid.UUID(int=7)
ADD_RECORD = """
insert into jobplatform.records (workspace_id, connection_id, stream, external_id, data)
values (:workspace_id, :id, 's', '1', '{}')
"""


@pytest.fixture
def synced(db: Session, workspace_id: uuid.UUID) -> Callable[..., uuid.UUID]:
    """A connection, and a sync of it for each call."""
    db.execute(
        insert(Connection).values(
            workspace_id=workspace_id, id=CONNECTION, connector_type="http_json", name="CRM", config={"secret": 1}
        )
    )

    def sync(status: str, records: int, *errors: str) -> uuid.UUID:
        job = enqueue_job(db, NewJob(workspace_id=workspace_id, task="sync", unique_key="sync")).job_id
        complete_jobs(db, [Completion(Worker(db, tasks=("sync",)).lease())])
        result = {"connectionId": str(CONNECTION), "name": "CRM", "records": records, "status": status}
        db.execute(
            insert(SyncLog).values(
                workspace_id=workspace_id,
                id=job,
                job_id=job,
                mode="incremental",
                status="completed",
                total_records=records,
                results=[result],
                errors=list(errors),
                ended_at=text("jobplatform.clock()"),
            )
        )
        return job

    return sync


def test_connections_are_listed_with_their_last_sync(
    synced: Callable[..., uuid.UUID], db: Session, workspace_id: uuid.UUID
) -> None:
    synced("completed", 3)
    last = synced("failed", 0, "CRM: no answer", "Shop: closed")
    db.execute(text(ADD_RECORD), {"workspace_id": workspace_id, "id": CONNECTION})

    (line,) = pages.connection_lines(db).lines
    syncs = pages.sync_lines(db, limit=1)

    assert (line.name, line.connector_type, str(line.records)) == ("CRM", "http_json", "1")
    assert line.last_sync is not None
    assert (line.last_sync.job_id, line.last_sync.errors) == (last, ("CRM: no answer", "Shop: closed"))
    assert line.last_sync.errors_of(CONNECTION) == ("no answer",)
    assert line.last_sync.errors_of(OTHER) == line.last_sync.errors
    assert [one.job_id for one in syncs.lines] == [last]
    assert syncs.lines[0].job_status == "completed"
    assert [one.total_records for one in pages.sync_lines(db, before=syncs.next).lines] == [3]
    assert [one.job_id for one in pages.sync_lines(db, workspace_id=workspace_id, limit=1).lines] == [last]
    assert pages.connection_lines(db, workspace_id=OTHER).lines == pages.sync_lines(db, workspace_id=OTHER).lines == ()


def test_hooks_are_listed_with_their_last_delivery(db: Session, workspace_id: uuid.UUID) -> None:
    job_id = uuid7()
    for number in range(3):
        hook = {"workspace_id": workspace_id, "id": uuid.UUID(int=number + 1), "name": f"hook {number}"}
        db.execute(insert(Hook).values(scheme="none", task="echo", key_hash=bytes([number]) * 32, made_by="x", **hook))
    for delivery, answer, job, ago in (("new", 200, job_id, 1), ("old", 422, None, 2)):
        received_at = text(f"jobplatform.clock() - interval '{ago} minutes'")
        about = {"delivery_id": delivery, "answer": answer, "job_id": job, "received_at": received_at}
        db.execute(insert(HookDelivery).values(workspace_id=workspace_id, hook_id=uuid.UUID(int=1), **about))

    first = pages.hook_lines(db, limit=2)
    (last,) = pages.hook_lines(db, limit=2, after=first.next).lines

    assert [(line.name, line.answer, line.job_id) for line in first.lines] == [
        ("hook 0", 200, job_id),
        ("hook 1", None, None),
    ]
    assert (last.name, last.served) == ("hook 2", False)
    assert pages.hook_lines(db, workspace_id=OTHER).lines == ()


def test_webhooks_are_listed_with_what_is_wrong_and_without_the_path_of_their_url(
    db: Session, worker: Worker, workspace_id: uuid.UUID
) -> None:
    about = {"name": "CRM", "events": ["job.failed"], "secret": '{"$sealed": "v1"}', "made_by": "x"}
    for number, tasks in enumerate((None, ["snyc"])):
        key = {"workspace_id": workspace_id, "id": uuid.UUID(int=number + 1)}
        db.execute(
            insert(WebhookSubscription).values(url="https://a.example:8443/T0/B1?x=y", tasks=tasks, **key, **about)
        )
    nobodys = pages.webhook_lines(db)
    assert (nobodys.are_delivered, [line.problem for line in nobodys.lines]) == (False, [None, None])

    db.execute(text("update jobplatform.workers set tasks = array['jobplatform.webhook']"))

    first, second = pages.webhook_lines(db).lines

    assert (first.origin, first.problem, first.tasks) == ("https://a.example:8443", None, None)
    assert second.problem == "no live worker knows the task snyc: nothing is told of that"
    assert pages.webhook_lines(db, limit=1).next == (workspace_id, first.id)


def test_syncs_of_two_workspaces_that_have_one_id_are_two(db: Session, workspace_id: uuid.UUID) -> None:
    log = uuid7()
    for owner, total in ((workspace_id, 3), (OTHER, 4)):
        connection_id = uuid.uuid4()
        about = {"workspace_id": owner, "connector_type": "http_json", "name": "CRM", "config": {}}
        db.execute(insert(Connection).values(id=connection_id, **about))
        result = {"connectionId": str(connection_id), "name": "CRM", "records": total, "status": "completed"}
        about = {"workspace_id": owner, "mode": "initial", "status": "completed", "total_records": total}
        db.execute(insert(SyncLog).values(id=log, job_id=uuid7(), results=[result], **about))

    found = {line.workspace_id: line.last_sync for line in pages.connection_lines(db).lines}

    assert {owner: last and last.total_records for owner, last in found.items()} == {workspace_id: 3, OTHER: 4}


def test_a_card_tells_how_the_last_syncs_of_its_connection_went(
    synced: Callable[..., uuid.UUID], db: Session, workspace_id: uuid.UUID
) -> None:
    (card,) = pages.tenant_syncs(db, workspace_id).cards
    assert (card.state, card.job_id, card.records, card.error) == ("never", None, None, None)

    synced("completed", 3)
    (card,) = pages.tenant_syncs(db, workspace_id).cards
    assert (card.state, card.records, card.error) == ("ok", 3, None)

    last = synced("failed", 0, "CRM: no answer")
    (card,) = pages.tenant_syncs(db, workspace_id).cards
    assert (card.state, card.records, card.error, card.job_id) == ("failed", 3, "no answer", last)
    assert card.last_success_at is not None
    assert card.last_ended_at is not None


def test_of_two_connections_of_one_name_each_is_told_its_own_error(
    synced: Callable[..., uuid.UUID], db: Session, workspace_id: uuid.UUID
) -> None:
    synced("failed", 0, f"CRM ({OTHER}): closed", f"CRM ({CONNECTION}): no answer")

    (card,) = pages.tenant_syncs(db, workspace_id).cards
    (line,) = pages.connection_lines(db).lines

    assert card.error == "no answer"
    assert line.last_sync is not None
    assert line.last_sync.errors_of(CONNECTION) == ("no answer",)


def test_a_card_says_that_the_last_sync_was_called_off_or_never_came_to_its_source(
    synced: Callable[..., uuid.UUID], put: Put, db: Session, workspace_id: uuid.UUID, worker: Worker
) -> None:
    synced("completed", 3)
    # Killed before it had written anything: its entry still says that it runs.
    job = put(task="sync", payload={"connectionId": str(CONNECTION)})
    db.add(SyncLog(workspace_id=workspace_id, id=uuid7(), job_id=job, mode="incremental"))
    db.flush()
    (line, _) = pages.sync_lines(db).lines
    assert (line.status, line.state) == ("running", "waiting")

    cancel_job(db, workspace_id, job)
    (card,) = pages.tenant_syncs(db, workspace_id).cards
    (line, _) = pages.sync_lines(db).lines
    assert (card.state, card.job_id, card.records, card.error) == ("cancelled", job, 3, None)
    assert (line.status, line.state) == ("running", "cancelled")

    retry_job(db, workspace_id, job)
    (lease,) = Worker(db, tasks=("sync",)).claim()
    fail_jobs(db, [Failure(lease.lease, "timeout", "TimeoutError", "too long", retry=False)])
    (card,) = pages.tenant_syncs(db, workspace_id).cards
    assert (card.state, card.error) == ("failed", "The last sync ended before this source was read.")

    other = put(task="sync", payload={"connectionId": str(uuid.uuid4())})
    db.add(SyncLog(workspace_id=workspace_id, id=uuid7(), job_id=other, mode="incremental"))
    db.flush()
    cancel_job(db, workspace_id, other)
    assert pages.tenant_syncs(db, workspace_id).cards == (card,)


@pytest.mark.parametrize(
    ("status", "job_status", "state"),
    [
        ("running", Status.RUNNING, "running"),
        ("running", Status.PENDING, "waiting"),
        ("running", Status.FAILED, "failed"),
        ("running", Status.CANCELLED, "cancelled"),
        ("running", Status.COMPLETED, "completed"),
        ("running", None, "failed"),
        ("interrupted", Status.PENDING, "waiting"),
        ("interrupted", Status.RUNNING, "running"),
        ("interrupted", Status.FAILED, "failed"),
        ("cancelled", None, "cancelled"),
        ("completed", Status.RUNNING, "completed"),
    ],
)
def test_how_a_sync_is_its_job_says_until_it_has_said_so_itself(
    status: str, job_status: Status | None, state: str
) -> None:
    assert sync_state(status, job_status) == state


def test_while_a_sync_is_not_over_no_other_can_begin_and_the_card_says_so(
    synced: Callable[..., uuid.UUID], db: Session, workspace_id: uuid.UUID
) -> None:
    assert pages.tenant_syncs(db, workspace_id).can_sync
    job = enqueue_job(db, NewJob(workspace_id=workspace_id, task="sync", unique_key="sync")).job_id

    waiting = pages.tenant_syncs(db, workspace_id)
    Worker(db, tasks=("sync",)).claim()
    running = pages.tenant_syncs(db, workspace_id)

    assert (waiting.can_sync, waiting.why_not) == (False, "a sync is waiting for its turn")
    assert (running.can_sync, running.why_not) == (False, "a sync is running")
    assert [found.cards[0].state for found in (waiting, running)] == ["waiting", "running"]
    assert [guard.job_id for guard in running.guards] == [job]
    assert (running.cards[0].job_id, running.cards[0].guard) == (job, running.guards[0])
    assert pages.tenant_syncs(db, OTHER).why_not == "nothing is connected yet"


def test_a_sync_of_another_connection_is_not_this_card_s(
    synced: Callable[..., uuid.UUID], db: Session, workspace_id: uuid.UUID
) -> None:
    payload = {"connectionId": str(uuid.uuid4())}
    enqueue_job(db, NewJob(workspace_id=workspace_id, task="sync", unique_key="sync", payload=payload))

    found = pages.tenant_syncs(db, workspace_id)

    assert (found.cards[0].state, found.can_sync) == ("never", False)


def about(connection_id: uuid.UUID = CONNECTION, **options: Any) -> NewJob:
    """A sync of one connection, as the task that comes with the platform makes it."""
    payload = {"connectionId": str(connection_id)}
    return NewJob(task="sync", unique_key=f"sync:{connection_id}", payload=payload, **options)


def test_a_sync_of_a_connection_is_in_the_way_of_that_one_s_next_alone(
    synced: Callable[..., uuid.UUID], db: Session, workspace_id: uuid.UUID
) -> None:
    second = uuid.uuid4()
    told = {"workspace_id": workspace_id, "connector_type": "rss", "name": "News", "config": {}}
    db.execute(insert(Connection).values(id=second, **told))
    job = enqueue_job(db, about(workspace_id=workspace_id)).job_id

    found = pages.tenant_syncs(db, workspace_id)

    cards = {card.connection_id: card for card in found.cards}
    assert (found.can_sync, [guard.job_id for guard in found.guards]) == (True, [job])
    assert (cards[CONNECTION].can_sync, cards[CONNECTION].state, cards[CONNECTION].job_id) == (False, "waiting", job)
    assert (cards[second].can_sync, cards[second].state, cards[second].guard) == (True, "never", None)


def test_a_card_shows_the_sync_that_runs_before_one_that_waits(
    synced: Callable[..., uuid.UUID], db: Session, workspace_id: uuid.UUID
) -> None:
    own = enqueue_job(db, about(workspace_id=workspace_id)).job_id
    of_type = NewJob(
        workspace_id=workspace_id, task="sync", unique_key="sync:http_json", payload={"connectorType": "http_json"},
        priority=1,
    )  # fmt: skip
    runs = enqueue_job(db, of_type).job_id
    Worker(db, tasks=("sync",)).claim()

    found = pages.tenant_syncs(db, workspace_id)

    (card,) = found.cards
    assert (card.state, card.job_id, card.can_sync) == ("running", runs, False)
    assert [guard.job_id for guard in found.guards] == [runs, own]
    assert found.can_sync


def test_one_that_waits_for_the_sync_that_runs_is_under_way_too(
    synced: Callable[..., uuid.UUID], db: Session, workspace_id: uuid.UUID
) -> None:
    runs = enqueue_job(db, about(workspace_id=workspace_id)).job_id
    (claimed,) = Worker(db, tasks=("sync",)).claim()
    newer = enqueue_job(db, about(workspace_id=workspace_id, if_active="replace")).job_id
    found = pages.tenant_syncs(db, workspace_id)
    assert [guard.job_id for guard in found.guards] == [runs, newer]

    complete_jobs(db, [Completion(claimed.lease, "{}")])

    (card,) = pages.tenant_syncs(db, workspace_id).cards
    assert (card.state, card.job_id, card.can_sync) == ("waiting", newer, False)


def test_what_a_sealed_sync_is_about_its_key_says(
    synced: Callable[..., uuid.UUID], db: Session, workspace_id: uuid.UUID
) -> None:
    second = uuid.uuid4()
    told = {"workspace_id": workspace_id, "connector_type": "http_json", "name": "News", "config": {}}
    db.execute(insert(Connection).values(id=second, **told))
    job = enqueue_job(db, about(second, workspace_id=workspace_id)).job_id
    db.execute(update(JobRecord).where(JobRecord.id == job).values(payload="sealed"))

    states = {card.connection_id: card.state for card in pages.tenant_syncs(db, workspace_id).cards}

    assert states == {CONNECTION: "never", second: "waiting"}


def test_a_card_knows_when_its_connection_is_synced_next(
    synced: Callable[..., uuid.UUID], db: Session, session: Session, workspace_id: uuid.UUID
) -> None:
    tasks = Tasks()

    @tasks.task("sync")
    def sync(job: Any, payload: dict[str, Any]) -> None: ...

    for minutes, connection_id in ((15, uuid.uuid4()), (30, CONNECTION), (45, None)):
        payload = {"connectionId": str(connection_id)} if connection_id else {}
        rule = Every(datetime.timedelta(minutes=minutes))
        create_schedule(session, sync, rule, workspace_id=workspace_id, name=f"{minutes}", payload=payload)
    session.commit()

    (card,) = pages.tenant_syncs(db, workspace_id).cards

    half_hourly = text("select next_run_at from jobplatform.schedules where name = '30'")
    assert card.next_run_at == db.scalar(half_hourly)


def test_activity_has_no_word_of_code_in_it(put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID) -> None:
    put(request_id="req-1"), put(), put()
    leases = [job.lease for job in worker.claim(limit=3)]
    failures = [("error", "KeyError", "no user 7"), ("timeout", "TimedOut", "x"), ("error", "SourceError", "no answer")]
    for lease, (outcome, kind, message) in zip(leases, failures, strict=True):
        fail_jobs(db, [Failure(lease, outcome, kind, message, "Traceback …", retry=False)])
    cancel_job(db, workspace_id, put())
    put(workspace_id=OTHER)

    page = pages.tenant_activity(db, workspace_id, limit=3)
    rest = pages.tenant_activity(db, workspace_id, limit=3, before=page.next)

    assert [line.error for line in (*page.lines, *rest.lines)] == [
        "It was called off.",
        "no answer",
        "It took too long.",
        "Something went wrong.",
    ]
    assert (rest.lines[0].request_id, rest.lines[0].can_retry, rest.lines[0].can_cancel) == ("req-1", True, False)
    assert rest.next is None


def test_every_page_can_be_read_in_a_read_only_transaction_by_who_may(
    put: Put, db: Session, engine: Engine, worker: Worker, workspace_id: uuid.UUID
) -> None:
    put(), put()
    finish(db, worker, failed=1)
    count_endings(db)
    job = put()

    for role, readers in (
        (Role.OPERATOR, OPERATORS),
        (Role.API, TENANTS),
    ):
        with Session(engine) as session:
            confine(session, role, None if role is Role.OPERATOR else workspace_id)
            session.execute(text("set transaction read only"))
            for read in readers:
                read(session, workspace_id, job)


Reader = Callable[[Session, uuid.UUID, uuid.UUID], object]
#: Pages of one workspace, which its own people may see too.
TENANTS: list[Reader] = [
    lambda session, workspace_id, _: pages.throughput(session, "7d", workspace_id=workspace_id),
    lambda session, workspace_id, _: pages.find_jobs(session, pages.parse_search(f"workspace:{workspace_id} tag:x")),
    lambda session, workspace_id, _: pages.count_jobs(session, pages.parse_search(f"workspace:{workspace_id}")),
    pages.job_detail,
    lambda session, workspace_id, _: pages.error_groups(session, workspace_id=workspace_id),
    lambda session, workspace_id, _: pages.schedule_lines(session, workspace_id=workspace_id),
    lambda session, workspace_id, _: pages.connection_lines(session, workspace_id=workspace_id),
    lambda session, workspace_id, _: pages.sync_lines(session, workspace_id=workspace_id),
    lambda session, workspace_id, _: pages.hook_lines(session, workspace_id=workspace_id),
    lambda session, workspace_id, _: pages.webhook_lines(session, workspace_id=workspace_id),
    lambda session, workspace_id, _: pages.tenant_syncs(session, workspace_id),
    lambda session, workspace_id, _: pages.tenant_activity(session, workspace_id),
]
OPERATORS: list[Reader] = [
    *TENANTS,
    lambda session, *_: pages.throughput(session),
    lambda session, *_: pages.overview(session, "24h"),
    lambda session, *_: pages.health_now(session),
    lambda session, *_: pages.find_jobs(session, pages.parse_search("error:KeyError")),
    lambda session, *_: pages.count_jobs(session, pages.parse_search("")),
    lambda session, *_: pages.preview_bulk(session, "retry", pages.parse_search("error:KeyError")),
    lambda session, *_: pages.list_bulk(session),
    lambda session, *_: pages.error_groups(session),
    lambda session, *_: pages.workspace_lines(session, order="share"),
    lambda session, *_: pages.workspace_lines(session),
    lambda session, *_: pages.queue_lines(session),
    lambda session, *_: pages.task_lines(session),
    lambda session, *_: pages.worker_lines(session),
    lambda session, *_: pages.schedule_lines(session),
    lambda session, *_: pages.connection_lines(session),
    lambda session, *_: pages.sync_lines(session),
    lambda session, *_: pages.hook_lines(session),
    lambda session, *_: pages.webhook_lines(session),
    lambda session, *_: pages.audit_lines(session),
]


def test_a_resource_says_how_many_jobs_use_it_and_a_kind_how_many_use_any_of_it(
    db: Session, put: Put, worker: Worker
) -> None:
    for name in ("account:*", "account:1", "shop:*"):
        set_resource_limit(db, name, 5)
    for resource in ("account:1", "account:1", "account:2", "mail"):
        put(resource=resource)
    worker.drain()

    lines = pages.resource_lines(db)

    assert {line.resource: line.running for line in lines} == {"account:*": 3, "account:1": 2, "shop:*": 0}
    assert [line.limit and line.limit.max_running for line in lines] == [5, 5, 5]
