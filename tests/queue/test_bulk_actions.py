"""What an operator asks to be done to many jobs is done to each of them once, by whichever workers live."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidJobError, SearchError
from jobplatform.models import Role, confine
from jobplatform.queue import (
    BulkAction,
    BulkDeed,
    Completion,
    Edge,
    Failure,
    JobChange,
    begin_bulk,
    complete_jobs,
    continue_bulk,
    count_endings,
    delete_jobs,
    fail_jobs,
    find_bulk,
    forget_bulk,
    list_bulk,
    out_of_patience,
    parse_search,
    preview_bulk,
    retry_job,
    set_workspace_limits,
    stop_bulk,
)
from jobplatform.queue.by_hand import bulk_actions
from tests.queue.actors import Elsewhere, Time, Worker
from tests.queue.conftest import Fact, Look, Put


@pytest.fixture
def small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_actions, "PORTION", 2)


def fail(db: Session, worker: Worker) -> None:
    fail_jobs(db, [Failure(job.lease, "error", "E", "no", retry=False) for job in worker.claim(limit=50)])


def ask(db: Session, deed: BulkDeed, search: str, change: JobChange | None = None) -> uuid.UUID:
    return begin_bulk(db, deed, parse_search(search), actor="ada", change=change).id


def do(db: Session, deed: BulkDeed, search: str, change: JobChange | None = None) -> BulkAction:
    """Ask for it, and be the workers until it has ended."""
    action_id = ask(db, deed, search, change)
    while continue_bulk(db):
        pass
    found = find_bulk(db, action_id)
    assert found is not None
    return found


@pytest.mark.usefixtures("small_portions")
def test_every_job_that_is_found_is_retried_once_portion_by_portion(
    put: Put, db: Session, worker: Worker, look: Look
) -> None:
    jobs = [put() for _ in range(5)]
    other = put(task="other")
    fail(db, worker)
    action_id = ask(db, "retry", "task:work")

    seen = []
    while continue_bulk(db):
        found = find_bulk(db, action_id)
        assert found is not None
        seen.append((found.state, found.done))

    assert seen == [("running", 2), ("running", 4), ("done", 5)]
    assert {look(job).status for job in jobs} == {"pending"}
    assert look(other).attempts == 0


def test_waiting_and_running_jobs_are_cancelled(put: Put, db: Session, worker: Worker, look: Look) -> None:
    running = put()
    worker.claim()
    waiting = put()

    found = do(db, "cancel", "task:work")

    assert (found.done, found.left_alone) == (2, {})
    assert look(waiting).status == "cancelled"
    assert look(running).cancel_requested_at is not None


def test_ended_jobs_are_deleted_with_what_was_kept_of_them(
    put: Put, db: Session, worker: Worker, fact: Fact, look: Look
) -> None:
    put(), put()
    first, second = (job.lease for job in worker.claim(limit=2))
    complete_jobs(db, [Completion(first)])
    fail_jobs(db, [Failure(second, "error", "E", "no", retry=False)])
    waiting = put()

    found = do(db, "delete", "")

    assert (found.search, found.done) == ("status:completed,failed,cancelled", 2)
    assert fact("select count(*) from jobplatform.job_records") == 1
    assert fact("select count(*) from jobplatform.job_attempts") == 0
    assert look(waiting).status == "pending"


def test_all_failures_of_a_group_are_retried(put: Put, db: Session, worker: Worker, look: Look, fact: Fact) -> None:
    alike, other = put(), put()
    for job, error in zip(worker.claim(limit=2), ("no user 1", "no such table"), strict=True):
        fail_jobs(db, [Failure(job.lease, "error", "E", error, retry=False)])
    count_endings(db)
    fingerprint = fact("select fingerprint from jobplatform.platform_error_groups where message = 'no user <n>'")

    found = do(db, "retry", f"error:{fingerprint}")

    assert found.done == 1
    assert {look(alike).status, look(other).status} == {"pending", "failed"}


def test_jobs_that_are_made_after_it_was_asked_for_are_left_alone(
    put: Put, db: Session, look: Look, time: Time
) -> None:
    action_id = ask(db, "cancel", "status:pending")
    time.passes(1)
    later = put()

    while continue_bulk(db):
        pass

    found = find_bulk(db, action_id)
    assert found is not None
    assert (found.state, found.done) == ("done", 0)
    assert look(later).status == "pending"


def test_what_cannot_be_done_to_a_job_is_counted_by_reason(
    put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID, look: Look
) -> None:
    held = put(unique_key="sync")
    fail(db, worker)
    put(unique_key="sync")
    put(task="other")
    fail(db, Worker(db, tasks=("other",)))
    set_workspace_limits(db, workspace_id, {"max_pending": 1})

    found = do(db, "retry", "status:failed")

    assert (found.done, found.left_alone) == (0, {"duplicate": 1, "quota": 1})
    assert look(held).status == "failed"


@pytest.mark.usefixtures("small_portions")
def test_who_dies_in_a_round_has_done_nothing_and_the_next_one_goes_on(
    put: Put, db: Session, elsewhere: Elsewhere, fact: Fact
) -> None:
    for _ in range(4):
        put()
    action_id = ask(db, "cancel", "task:work")
    continue_bulk(db)
    continue_bulk(elsewhere.session)

    # The other one is in its round: it is not waited for.
    assert not continue_bulk(db)
    elsewhere.session.rollback()
    while continue_bulk(db):
        pass

    found = find_bulk(db, action_id)
    assert found is not None
    assert (found.done, found.looked_at) == (4, 4)
    assert fact("select count(*) from jobplatform.audit_log where action = 'job.cancel'") == 4


@pytest.mark.usefixtures("small_portions")
def test_it_can_be_stopped_and_what_is_done_stays_done(put: Put, db: Session) -> None:
    for _ in range(4):
        put()
    action_id = ask(db, "cancel", "task:work")
    continue_bulk(db)

    assert stop_bulk(db, action_id)
    assert not stop_bulk(db, action_id)
    assert not continue_bulk(db)

    found = find_bulk(db, action_id)
    assert found is not None
    assert (found.state, found.done, found.has_ended) == ("stopped", 2, True)
    assert not stop_bulk(db, uuid.uuid4())


def test_one_whose_search_leads_nowhere_any_more_fails_with_the_reason(db: Session, fact: Fact) -> None:
    action_id = ask(db, "retry", "error:0123456789abcdef")
    db.execute(text("update jobplatform.bulk_actions set search = 'error:0123456789abcdef status:pending'"))

    continue_bulk(db)

    found = find_bulk(db, action_id)
    assert found is not None
    assert found.state == "failed"
    assert "leave out status:pending" in (found.error or "")


def test_each_job_has_a_line_in_the_audit_log_by_who_asked(
    put: Put, db: Session, workspace_id: uuid.UUID, fact: Fact
) -> None:
    job = put()

    found = do(db, "cancel", "task:work")

    line: Any = fact("select to_jsonb(a) from jobplatform.audit_log a")
    assert (line["actor"], line["action"], line["target"]) == ("ada", "job.cancel", f"job:{job}")
    assert (line["workspace_id"], line["details"]) == (str(workspace_id), {"bulk": str(found.id)})


def test_an_operator_asks_and_a_worker_does_it_with_their_own_rights(
    put: Put, session: Session, engine: Engine, worker: Worker, look: Look, db: Session
) -> None:
    jobs = [put(), put()]
    fail(db, worker)
    completed, waits = put(), put(task="other")
    complete_jobs(db, [Completion(worker.lease())])
    confine(session, Role.OPERATOR)
    preview = preview_bulk(session, "retry", parse_search("task:work"))
    begin_bulk(session, "retry", parse_search("task:work"), actor="ada", expected=preview.matching.count)
    begin_bulk(session, "delete", parse_search("status:completed"), actor="ada")
    change = JobChange(priority=5, queue="slow", at_once=True)
    begin_bulk(session, "change", parse_search("task:other"), actor="ada", change=change)
    session.commit()

    with Session(engine) as works:
        confine(works, Role.WORKER)
        while continue_bulk(works):
            works.commit()
        works.commit()

    assert (str(preview.matching), len(preview.sample)) == ("2", 2)
    assert [look(job).status for job in jobs] == ["pending", "pending"]
    assert find_job(db, completed) == 0
    assert (look(waits).priority, look(waits).queue) == (5, "slow")
    assert [action.state for action in list_bulk(session)] == ["done", "done", "done"]


def find_job(db: Session, job_id: uuid.UUID) -> int:
    return db.scalar(text("select count(*) from jobplatform.job_records where id = :id"), {"id": job_id}) or 0


@pytest.mark.parametrize(
    ("deed", "status", "change"),
    [
        ("retry", "completed", None),
        ("cancel", "failed", None),
        ("delete", "pending", None),
        ("change", "running", JobChange(priority=5)),
    ],
)
def test_a_deed_that_no_job_of_the_search_allows_is_refused(
    db: Session, deed: BulkDeed, status: str, change: JobChange | None
) -> None:
    with pytest.raises(SearchError, match=f"no job that is {status} can be"):
        begin_bulk(db, deed, parse_search(f"status:{status}"), actor="ada", change=change)


@pytest.mark.parametrize(("deed", "change"), [("change", None), ("cancel", JobChange(priority=5))])
def test_a_change_says_what_and_no_other_deed_does(db: Session, deed: BulkDeed, change: JobChange | None) -> None:
    with pytest.raises(InvalidJobError, match="/change: is n"):
        begin_bulk(db, deed, parse_search(""), actor="ada", change=change)


@pytest.mark.usefixtures("small_portions")
def test_all_that_wait_are_moved_to_where_the_search_finds_them_no_more(
    put: Put, db: Session, worker: Worker, look: Look, fact: Fact
) -> None:
    moved = [put(queue="slow", priority=number) for number in range(5)]
    other, running = put(), put(queue="slow", priority=99)
    Worker(db, queues=("slow",)).claim()
    in_between = JobChange(priority=5, queue="default", run_after=look(other).run_after)

    found = do(db, "change", "queue:slow", in_between)

    assert (found.state, found.done, found.left_alone) == ("done", 5, {})
    assert found.arguments == in_between.as_json()
    assert [(look(job).queue, look(job).priority) for job in moved] == [("default", 5)] * 5
    assert (look(other).priority, look(running).queue) == (0, "slow")
    lines: Any = fact("select jsonb_agg(a.details) from jobplatform.audit_log a where action = 'job.change'")
    assert lines == [{"bulk": str(found.id), **in_between.as_json()}] * 5
    assert {job.lease.job_id for job in worker.claim(limit=5)} == {str(job) for job in moved}


def test_a_job_that_is_claimed_meanwhile_is_left_alone(
    put: Put, db: Session, session: Session, elsewhere: Elsewhere, look: Look
) -> None:
    claimed, waits = put(priority=9), put()
    action_id = ask(db, "change", "task:work", JobChange(priority=5))
    Worker(session).claim()

    round_done = elsewhere.start_and_wait_for_lock(continue_bulk)
    session.commit()

    assert round_done.result()
    found = find_bulk(db, action_id)
    assert found is not None
    assert (found.state, found.done, found.left_alone) == ("done", 1, {"running": 1})
    assert [look(job).priority for job in (claimed, waits)] == [9, 5]


def test_a_job_that_somebody_keeps_locked_is_left_alone_and_the_others_are_changed(
    put: Put, db: Session, session: Session, look: Look
) -> None:
    jobs = [put(), put(), put()]
    action_id = ask(db, "change", "task:work", JobChange(priority=5))
    session.execute(text("select from jobplatform.job_queue where id = :id for update"), {"id": jobs[1]})

    continue_bulk(db)
    session.rollback()

    found = find_bulk(db, action_id)
    assert found is not None
    assert (found.state, found.done, found.left_alone) == ("done", 2, {"busy": 1})
    assert [look(job).priority for job in jobs] == [5, 0, 5]


def test_those_that_ended_long_ago_are_forgotten(db: Session, time: Time) -> None:
    do(db, "cancel", "task:work")
    time.travel(days=31)
    ask(db, "cancel", "task:work")
    forget_bulk(db)

    assert [action.state for action in list_bulk(db)] == ["waiting"]


def test_a_job_that_somebody_needs_is_not_deleted(
    put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID, elsewhere: Elsewhere
) -> None:
    needed = put()
    put(after=[Edge(needed)])
    complete_jobs(db, [Completion(worker.lease())])
    live, ended = put(task="other"), put()
    complete_jobs(db, [Completion(worker.lease())])
    failed = put()
    fail(db, worker)
    retry_job(elsewhere.session, workspace_id, failed)

    keys = [(workspace_id, job) for job in (needed, live, ended, failed, uuid.UUID(int=1))]
    answers = delete_jobs(db, keys)

    assert [answers[key] for key in keys] == ["needed", "live", "deleted", "busy", "unknown"]


def test_a_job_in_somebody_s_hands_is_waited_for_only_a_moment(
    put: Put, db: Session, session: Session, worker: Worker, look: Look
) -> None:
    job = put()
    fail(db, worker)
    action_id = ask(db, "retry", "task:work")
    session.execute(text("select from jobplatform.job_records where id = :id for update"), {"id": job})

    with pytest.raises(DBAPIError) as raised:
        continue_bulk(db)
    session.rollback()

    assert out_of_patience(raised.value)
    assert continue_bulk(db)
    found = find_bulk(db, action_id)
    assert (found and found.state, look(job).status) == ("done", "pending")
