"""Old jobs go, with everything that belongs to them, and nothing else goes."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidLimitError
from jobplatform.models import Connection, ConnectionAuthorization, Role, clock, make_engine
from jobplatform.queue import (
    Completion,
    Edge,
    Failure,
    Keep,
    LogLine,
    append_log_lines,
    bury_workers,
    cancel_job,
    clear_retention,
    close_batch,
    complete_jobs,
    count_due,
    count_pages,
    declare_retention,
    fail_jobs,
    list_retention,
    open_batch,
    prune_jobs,
    record,
    set_retention,
    settle_endings,
)
from jobplatform.queue.attempts.save_step import save_checkpoint, save_step
from jobplatform.queue.keep import retention
from jobplatform.queue.statement import run
from tests.queue.actors import Time, Worker
from tests.queue.conftest import Fact, Put
from tests.queue.plans import explain

#: What a new connection reads of the catalogue in its first statement.
FIRST_STATEMENT = 150
DAY = datetime.timedelta(days=1)
Prune = Callable[[], int]


@pytest.fixture
def prune(db: Session) -> Prune:
    return lambda: prune_jobs(db, completed_after=7 * DAY, failed_after=30 * DAY)


def test_a_completed_job_goes_after_its_time(
    put: Put, db: Session, worker: Worker, time: Time, prune: Prune, fact: Fact
) -> None:
    put()
    complete_jobs(db, [Completion(worker.lease())])

    time.passes(6.9 * DAY.total_seconds())
    assert prune() == 0

    time.passes(0.2 * DAY.total_seconds())
    assert prune() == 1
    assert fact("select count(*) from jobplatform.jobs") == 0


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_a_job_that_did_not_go_well_is_kept_longer(
    put: Put, db: Session, worker: Worker, time: Time, prune: Prune, workspace_id: uuid.UUID, end: str
) -> None:
    job_id = put()
    if end == "failed":
        fail_jobs(db, [Failure(worker.lease(), "error", "ValueError", "no", retry=False)])
    else:
        cancel_job(db, workspace_id, job_id)

    time.passes(29 * DAY.total_seconds())
    assert prune() == 0

    time.passes(2 * DAY.total_seconds())
    assert prune() == 1


def test_a_job_takes_its_attempts_its_lines_and_its_steps_along(
    put: Put, db: Session, worker: Worker, time: Time, prune: Prune, fact: Fact
) -> None:
    put()
    lease = worker.lease()
    append_log_lines(db, [LogLine(lease, 1, "info", "hello")])
    save_step(db, lease, "page-1", "null")
    save_checkpoint(db, lease, "1")
    fail_jobs(db, [Failure(lease, "error", "ValueError", "no", retry=False)])
    time.passes(31 * DAY.total_seconds())

    prune()

    assert fact("select count(*) from jobplatform.job_attempts") == 0
    assert fact("select count(*) from jobplatform.job_logs") == 0
    assert fact("select count(*) from jobplatform.job_steps") == 0


def test_a_live_job_is_kept_however_old_it_is(put: Put, worker: Worker, time: Time, prune: Prune, fact: Fact) -> None:
    put()
    put()
    worker.claim()
    time.passes(1000 * DAY.total_seconds())

    assert prune() == 0
    assert fact("select count(*) from jobplatform.jobs") == 2


def test_an_old_job_that_ended_today_is_kept(put: Put, db: Session, worker: Worker, time: Time, prune: Prune) -> None:
    put()
    time.passes(1000 * DAY.total_seconds())
    complete_jobs(db, [Completion(worker.lease())])

    assert prune() == 0


def test_many_go_in_portions(db: Session, prune: Prune) -> None:
    db.execute(
        text(
            "insert into jobplatform.job_records "
            "(workspace_id, id, task, queue, payload, status, outcome, created_at, completed_at) "
            "select gen_random_uuid(), gen_random_uuid(), 't', 'q', '{}', 3, 'ok', now() - interval '9 days', "
            "now() - interval '8 days' from generate_series(1, 1500)"
        )
    )

    rounds = [prune() for _ in range(4)]

    # The first thousand need not be those of the first pages: then the next tour finds what the last one has left.
    assert (rounds[0], sum(rounds), rounds[3]) == (1000, 1500, 0)


def test_one_pruner_at_a_time_is_enough(put: Put, db: Session, worker: Worker, time: Time, engine: Engine) -> None:
    put()
    complete_jobs(db, [Completion(worker.lease())])
    time.passes(8 * DAY.total_seconds())

    with Session(engine) as first:
        assert prune_jobs(first, completed_after=7 * DAY, failed_after=30 * DAY) == 1
        assert prune_jobs(db, completed_after=7 * DAY, failed_after=30 * DAY) == 0


def test_a_dead_worker_is_kept_a_day(db: Session, worker: Worker, time: Time, prune: Prune, fact: Fact) -> None:
    time.passes(60)
    bury_workers(db, datetime.timedelta(seconds=30))

    time.passes(0.9 * DAY.total_seconds())
    prune()
    assert fact("select count(*) from jobplatform.workers") == 1

    time.passes(0.2 * DAY.total_seconds())
    prune()
    assert fact("select count(*) from jobplatform.workers") == 0


def test_a_worker_s_role_has_every_right_that_retention_needs(login_url: Callable[..., str]) -> None:
    engine = make_engine(login_url(Role.WORKER), role=Role.WORKER, autocommit=True)

    with Session(engine) as session:
        pruned = prune_jobs(session, completed_after=7 * DAY, failed_after=30 * DAY)
    engine.dispose()

    assert pruned == 0


def test_consent_that_nobody_came_back_with_goes_when_it_is_over_and_a_worker_s_rights_are_enough(
    login_url: Callable[..., str], db: Session, workspace_id: uuid.UUID, fact: Fact
) -> None:
    db.add(Connection(workspace_id=workspace_id, id=workspace_id, connector_type="hubspot", name="CRM", config={}))
    db.flush()
    for minutes in (-1, 1):
        db.add(
            ConnectionAuthorization(
                workspace_id=workspace_id,
                state_hash=uuid.uuid4().bytes * 2,
                connection_id=workspace_id,
                actor="ada",
                binding_hash=bytes(32),
                sealed='{"$sealed":"v1:1:AA"}',
                redirect_url="https://jobs.example.com",
                scopes=[],
                expires_at=clock() + datetime.timedelta(minutes=minutes),
            )
        )
    db.commit()
    engine = make_engine(login_url(Role.WORKER), role=Role.WORKER, autocommit=True)

    with Session(engine) as session:
        prune_jobs(session, completed_after=7 * DAY, failed_after=30 * DAY)
    engine.dispose()

    assert fact("select count(*) from jobplatform.connection_authorizations") == 1
    assert fact("select min(expires_at) > jobplatform.clock() from jobplatform.connection_authorizations") is True


# Longer or shorter than the rest


def ended(db: Session, count: int, *, workspace_id: uuid.UUID, task: str = "work", days_ago: float = 8) -> None:
    """Completed jobs, without the detour of running them."""
    statement = (
        "insert into jobplatform.job_records "
        "(workspace_id, id, task, queue, payload, status, outcome, created_at, completed_at) "
        "select :workspace_id, gen_random_uuid(), :task, 'default', '{}', 3, 'ok', now() - interval '1 day' * :days, "
        "now() - interval '1 day' * :days from generate_series(1, :count)"
    )
    db.execute(text(statement), {"workspace_id": workspace_id, "task": task, "days": days_ago, "count": count})


def tasks_left(db: Session) -> list[str]:
    return sorted(db.scalars(text("select task from jobplatform.job_records")))


def test_the_more_specific_rule_wins(db: Session, prune: Prune, workspace_id: uuid.UUID) -> None:
    """Eight days old all of them, and seven days is the default."""
    other = uuid.uuid4()
    for task in ("plain", "mine", "both", "declared", "overruled"):
        ended(db, 1, workspace_id=workspace_id, task=task)
        ended(db, 1, workspace_id=other, task=f"{task}-elsewhere")
    declare_retention(
        db,
        {
            "declared-elsewhere": {"completed": 9 * 86_400},
            "overruled-elsewhere": {"completed": 9 * 86_400},
            "both": {"completed": 9 * 86_400},
        },
    )
    set_retention(db, {"completed": 1 * DAY}, task="overruled-elsewhere")
    set_retention(db, {"completed": 1 * DAY}, task="mine")
    set_retention(db, {"completed": 9 * DAY}, workspace_id=workspace_id)
    set_retention(db, {"completed": 1 * DAY}, workspace_id=workspace_id, task="both")

    prune()

    assert tasks_left(db) == ["declared", "declared-elsewhere", "mine", "overruled", "plain"]


def test_a_rule_about_one_status_says_nothing_of_the_others(db: Session, prune: Prune, workspace_id: uuid.UUID) -> None:
    ended(db, 1, workspace_id=workspace_id)
    set_retention(db, {"failed": 90 * DAY}, workspace_id=workspace_id)

    assert prune() == 1


def test_a_cancelled_job_is_kept_like_a_failed_one_unless_that_is_said(
    put: Put, db: Session, time: Time, prune: Prune, workspace_id: uuid.UUID
) -> None:
    cancel_job(db, workspace_id, put())
    time.passes(40 * DAY.total_seconds())
    set_retention(db, {"failed": 90 * DAY}, workspace_id=workspace_id)
    assert prune() == 0

    set_retention(db, {"cancelled": 30 * DAY}, workspace_id=workspace_id)
    assert prune() == 1


def test_what_the_code_asks_for_no_more_is_taken_back(db: Session, prune: Prune, workspace_id: uuid.UUID) -> None:
    ended(db, 1, workspace_id=workspace_id)
    declare_retention(db, {"work": {"completed": 86_400 * 30.0}})
    assert prune() == 0

    declare_retention(db, {"work": {"completed": None}})
    assert prune() == 1


def test_an_operator_s_word_is_taken_back_and_the_code_s_counts_again(db: Session) -> None:
    declare_retention(db, {"work": {"completed": 3600.0}})
    set_retention(db, {"completed": DAY, "failed": 2 * DAY}, task="work")

    assert [(kept.declared, kept.keep) for kept in list_retention(db)] == [
        (True, Keep(completed=datetime.timedelta(hours=1))),
        (False, Keep(completed=DAY, failed=2 * DAY)),
    ]
    assert clear_retention(db, task="work")
    assert [kept.declared for kept in list_retention(db)] == [True]
    assert not clear_retention(db, task="work")


@pytest.mark.parametrize(
    ("changes", "where", "path"),
    [
        ({"completed": -DAY}, {"task": "work"}, "/completed"),
        ({"completed": 40_000 * DAY}, {"task": "work"}, "/completed"),
        ({"forever": DAY}, {"task": "work"}, "/forever"),
        ({"completed": DAY}, {}, "/task"),
        ({"completed": DAY}, {"task": "no such name"}, "/task"),
        ({}, {"task": "work"}, ""),
    ],
)
def test_a_rule_that_cannot_be_is_refused(
    db: Session, changes: dict[str, datetime.timedelta], where: dict[str, str], path: str
) -> None:
    with pytest.raises(InvalidLimitError) as refused:
        set_retention(db, changes, **where)  # type: ignore[arg-type]

    assert [problem.path for problem in refused.value.problems] == [path]


# The tour


@pytest.fixture
def short_rounds(db: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten pages a round, so that a table of a few hundred rows takes several; of a table without a past."""
    db.execute(text("truncate jobplatform.job_records"))
    db.execute(text("update jobplatform.chores set position = 0, due_at = now()"))
    monkeypatch.setattr(retention, "PAGES", 10)


@pytest.mark.usefixtures("short_rounds")
def test_jobs_that_are_kept_do_not_stand_in_the_way_of_those_behind_them(
    db: Session, prune: Prune, workspace_id: uuid.UUID
) -> None:
    """The oldest pages are full of jobs that are kept for years."""
    ended(db, 3_000, workspace_id=workspace_id, task="kept", days_ago=20)
    ended(db, 300, workspace_id=workspace_id)
    set_retention(db, {"completed": 1000 * DAY}, task="kept")
    pages = count_pages(db)
    assert pages > 30

    deleted = [prune() for _ in range(-(-pages // 10))]

    assert sum(deleted) == 300
    assert deleted[0] == 0
    assert set(tasks_left(db)) == {"kept"}


@pytest.mark.usefixtures("short_rounds")
def test_a_round_reads_as_many_pages_whatever_is_kept(db: Session, engine: Engine, workspace_id: uuid.UUID) -> None:
    ended(db, 3_000, workspace_id=workspace_id, task="kept", days_ago=20)
    set_retention(db, {"completed": 1000 * DAY}, task="kept")
    db.execute(text("analyze jobplatform.job_records"))
    keeps = retention.Keeps(7 * DAY, 30 * DAY)

    bounds = {"first": "(10,0)", "last": "(20,0)"}
    plan = explain(engine, lambda session: run(session, retention.PRUNE, **bounds, **keeps.as_seconds()))

    assert "Tid Range Scan" in {node["Node Type"] for node in plan.nodes}
    assert plan.buffers <= 10 + FIRST_STATEMENT
    assert plan.rows_visited("job_records") < 3_000 / 3


@pytest.mark.usefixtures("short_rounds")
def test_a_round_of_a_process_that_dies_is_done_again(db: Session, engine: Engine, workspace_id: uuid.UUID) -> None:
    ended(db, 500, workspace_id=workspace_id)
    with Session(engine) as dying:
        deleted = prune_jobs(dying, completed_after=7 * DAY, failed_after=30 * DAY)
        dying.rollback()

    again = prune_jobs(db, completed_after=7 * DAY, failed_after=30 * DAY)

    assert deleted == again > 0


def test_the_workers_take_turns_and_the_platform_prunes_once_a_minute(
    db: Session, time: Time, workspace_id: uuid.UUID
) -> None:
    def a_worker_s_chore() -> int:
        return prune_jobs(db, completed_after=7 * DAY, failed_after=30 * DAY, now=False)

    ended(db, 1, workspace_id=workspace_id)
    assert a_worker_s_chore() == 1
    ended(db, 1, workspace_id=workspace_id)
    assert a_worker_s_chore() == 0

    time.passes(61)
    assert a_worker_s_chore() == 1


def test_counting_what_is_due_deletes_nothing(put: Put, db: Session, time: Time, workspace_id: uuid.UUID) -> None:
    ended(db, 3, workspace_id=workspace_id)
    cancel_job(db, workspace_id, put())
    time.passes(31 * DAY.total_seconds())
    keeps = retention.Keeps(7 * DAY, 30 * DAY)

    counted = [count_due(db, keeps), count_due(db, keeps)]

    assert [list(counts) for counts in counted] == [[{"completed": 3, "cancelled": 1}]] * 2


# The audit log


def test_old_lines_of_the_audit_log_go_and_a_worker_s_rights_are_enough(
    login_url: Callable[..., str], db: Session, time: Time, fact: Fact
) -> None:
    record(db, actor="ada", action="job.cancel", target="job:1")
    engine = make_engine(login_url(Role.WORKER), role=Role.WORKER)

    def prune() -> None:
        with Session(engine) as session:
            prune_jobs(session, completed_after=7 * DAY, failed_after=30 * DAY, audit_after=400 * DAY)
            session.commit()

    time.passes(399 * DAY.total_seconds())
    prune()
    assert fact("select count(*) from jobplatform.audit_log") == 1
    time.passes(2 * DAY.total_seconds())
    prune()
    assert fact("select count(*) from jobplatform.audit_log") == 0
    engine.dispose()


def test_nobody_s_setting_deletes_lines_of_the_last_month(
    login_url: Callable[..., str], db: Session, time: Time, fact: Fact
) -> None:
    """The database itself refuses, whatever the worker's code says."""
    record(db, actor="ada", action="job.cancel", target="job:1")
    time.passes(29 * DAY.total_seconds())
    engine = make_engine(login_url(Role.WORKER), role=Role.WORKER)

    with engine.begin() as connection:
        connection.execute(text("delete from jobplatform.audit_log where id >= 0"))

    assert fact("select count(*) from jobplatform.audit_log") == 1
    engine.dispose()


def test_what_a_live_job_waited_for_is_kept_as_long_as_it_may_ask_for_its_result(
    put: Put, db: Session, worker: Worker, time: Time, prune: Prune, fact: Fact
) -> None:
    first = put()
    other = put(run_after=datetime.datetime(2099, 1, 1, tzinfo=datetime.UTC))
    last = put(after=[first, other])
    settle_endings(db)
    complete_jobs(db, [Completion(worker.lease())])
    settle_endings(db)
    time.passes(100 * DAY.total_seconds())

    assert prune() == 0
    db.execute(text("update jobplatform.job_queue set state = 1, run_after = now() where id = :id"), {"id": other})
    complete_jobs(db, [Completion(worker.lease())])
    settle_endings(db)
    assert prune() == 0
    assert fact("select state from jobplatform.job_queue where id = :id", id=last) == 1

    complete_jobs(db, [Completion(worker.lease())])
    time.passes(8 * DAY.total_seconds())
    assert prune() == 3
    assert fact("select count(*) from jobplatform.job_edges") == 0


def test_the_jobs_of_an_open_batch_are_kept_and_the_batch_goes_with_them(
    put: Put, db: Session, worker: Worker, time: Time, prune: Prune, workspace_id: uuid.UUID, fact: Fact
) -> None:
    batch_id = open_batch(db, workspace_id)
    put(batch_id=batch_id)
    complete_jobs(db, [Completion(worker.lease())])
    time.passes(100 * DAY.total_seconds())
    assert prune() == 0

    close_batch(db, workspace_id, batch_id)
    settle_endings(db)

    assert prune() == 1
    assert fact("select count(*) from jobplatform.batches") == 1
    time.passes(31 * DAY.total_seconds())
    prune()
    assert fact("select count(*) from jobplatform.batches") == 0


def test_the_jobs_of_a_batch_are_kept_while_a_callback_may_look_at_them(
    put: Put, db: Session, worker: Worker, time: Time, prune: Prune, workspace_id: uuid.UUID
) -> None:
    batch_id = open_batch(db, workspace_id)
    put(batch_id=batch_id)
    put(after=[Edge(batch_id, of_batch=True)])
    close_batch(db, workspace_id, batch_id)
    settle_endings(db)
    complete_jobs(db, [Completion(worker.lease())])
    settle_endings(db)
    time.passes(100 * DAY.total_seconds())

    assert prune() == 0
    complete_jobs(db, [Completion(worker.lease())])
    time.passes(8 * DAY.total_seconds())
    assert prune() == 2
