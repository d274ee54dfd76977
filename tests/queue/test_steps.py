"""What an attempt has done is done for the job: each step once, whoever is killed, and never by two."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidJobError, LeaseLostError, StepError
from jobplatform.models import CHECKPOINT_PART, Role, confine
from jobplatform.queue import (
    MOST_PARTS,
    MOST_STEPS,
    STEP_LIMIT,
    Lease,
    RetryKind,
    RunningJob,
    cancel_job,
    deregister_worker,
    get_job,
    list_steps,
    promote_jobs,
    release_jobs,
    report_progress,
    rescue_jobs,
    retry_job,
    safe_json,
)
from jobplatform.queue.attempts import save_step
from jobplatform.queue.attempts.progress import ProgressReport
from jobplatform.queue.attempts.release import Release
from tests.queue.actors import Elsewhere, Time, Worker
from tests.queue.conftest import Fact, Put

PAGES = "create table pages (page int, epoch int); grant all on pages to public"
Attempt = Callable[[], RunningJob]


class Silent:
    """A channel to nobody."""

    def progress(self, report: str) -> None: ...

    def log(self, level: str, message: str) -> None: ...

    def completing(self) -> None: ...

    def interruption(self) -> type[BaseException] | None:
        return None


@pytest.fixture
def take(engine: Engine, worker: Worker, db: Session) -> Iterator[Attempt]:
    """Claim the one job there is, and have what its handler would be given."""
    db.execute(text(PAGES))
    jobs: list[RunningJob] = []

    def take(by: Worker = worker) -> RunningJob:
        lease = by.lease()
        jobs.append(
            RunningJob(
                lease=lease, task="work", attempt=1, max_attempts=3, channel=Silent(),
                open_session=lambda: confine(Session(engine), Role.HANDLER, lease.workspace_id),
            )
        )  # fmt: skip
        return jobs[-1]

    yield take
    for job in jobs:
        job.close_session(commit=False)


@pytest.fixture
def job(put: Put, take: Attempt) -> RunningJob:
    put()
    return take()


def apply(session: Session, page: int, job: RunningJob) -> None:
    session.execute(text("insert into pages values (:page, :epoch)"), {"page": page, "epoch": job.epoch})


def pages(db: Session) -> list[int]:
    return list(db.scalars(text("select page from pages order by page")))


def go_through(job: RunningJob, upto: int) -> None:
    for page in range(1, upto + 1):
        with job.step(f"page-{page}") as step:
            if step:
                apply(job.session, page, job)


def hand_back(db: Session, job: RunningJob) -> None:
    job.close_session(commit=False)
    assert release_jobs(db, [Release(job.lease)]) == {job.lease}


def lose(db: Session, worker: Worker, time: Time) -> None:
    """The worker is declared dead and its jobs are there to be claimed."""
    deregister_worker(db, worker.id)
    rescue_jobs(db)
    time.passes(600)
    promote_jobs(db)


# A step is done once


def test_the_next_attempt_goes_on_after_the_steps_that_are_done(job: RunningJob, take: Attempt, db: Session) -> None:
    go_through(job, 3)
    hand_back(db, job)

    second = take()
    go_through(second, 5)

    rows = db.execute(text("select page, epoch from pages order by page")).all()
    assert [tuple(row) for row in rows] == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2)]


def test_a_step_that_raises_leaves_neither_its_rows_nor_a_note(job: RunningJob, db: Session) -> None:
    def fail() -> None:
        apply(job.session, 1, job)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        job.step("page-1", fail)
    go_through(job, 2)

    assert pages(db) == [1, 2]


def test_rows_that_cannot_be_committed_leave_no_note(job: RunningJob, db: Session, workspace_id: uuid.UUID) -> None:
    db.execute(text("alter table pages add primary key (page) deferrable initially deferred"))

    def twice() -> None:
        apply(job.session, 1, job)
        apply(job.session, 1, job)

    with pytest.raises(IntegrityError):
        job.step("page-1", twice)

    assert (pages(db), list_steps(db, workspace_id, job.id)) == ([], [])
    go_through(job, 1)
    assert pages(db) == [1]


def test_the_result_of_a_step_is_the_same_in_the_attempt_that_did_it_and_in_the_next(
    job: RunningJob, take: Attempt, db: Session
) -> None:
    def load() -> Any:
        return {"ids": (1, 2), "odd": "\x00"}

    first = job.step("load", load)
    hand_back(db, job)
    second = take().step("load", lambda: pytest.fail("was done"))

    assert first == second == {"ids": [1, 2], "odd": "\N{REPLACEMENT CHARACTER}"}


def test_a_step_in_a_block_can_leave_a_result(job: RunningJob, take: Attempt, db: Session) -> None:
    with job.step("load") as step:
        if step:
            step.result = [1]
    assert (step.done, step.result) == (True, [1])
    hand_back(db, job)

    with take().step("load") as again:
        assert not again
    assert again.result == [1]
    with pytest.raises(StepError, match="has its result"):
        again.result = [2]


def test_a_step_in_a_session_of_the_caller_s_counts_when_that_is_committed(
    job: RunningJob, take: Attempt, db: Session, engine: Engine
) -> None:
    def page(job: RunningJob, number: int, *, commit: bool) -> bool:
        with Session(engine) as session:
            with job.step(f"page-{number}", session=session) as step:
                if step:
                    apply(session, number, job)
            session.commit() if commit else session.rollback()
            return not step.done or step.result is None

    page(job, 1, commit=True)
    page(job, 2, commit=False)
    page(job, 2, commit=True)
    page(job, 3, commit=False)
    assert pages(db) == [1, 2]
    hand_back(db, job)

    second = take()
    for number in (1, 2, 3):
        page(second, number, commit=True)
    assert pages(db) == [1, 2, 3]


# Used wrongly


def test_a_block_that_does_not_ask_is_refused_in_its_first_run(job: RunningJob, db: Session) -> None:
    with pytest.raises(StepError, match="`if step:`"), job.step("page-1"):
        apply(job.session, 1, job)

    assert pages(db) == []


def test_two_steps_of_one_name_are_refused(job: RunningJob, take: Attempt, db: Session) -> None:
    job.step("page", lambda: apply(job.session, 1, job))
    with pytest.raises(StepError, match="begun twice"):
        job.step("page", lambda: apply(job.session, 2, job))
    hand_back(db, job)

    second = take()
    second.step("page", lambda: apply(second.session, 1, second))
    with pytest.raises(StepError, match="begun twice"):
        second.step("page", lambda: apply(second.session, 2, second))
    assert pages(db) == [1]


def test_a_name_that_is_open_in_the_caller_s_transaction_is_not_begun_again(job: RunningJob, engine: Engine) -> None:
    with Session(engine) as session:
        job.step("page", lambda: None, session=session)
        with pytest.raises(StepError, match="begun twice"):
            job.step("page", lambda: None)


@pytest.mark.parametrize(
    "inner",
    [lambda job: job.step("inner", lambda: None), lambda job: job.checkpoint(1)],
    ids=["step", "checkpoint"],
)
def test_steps_and_checkpoints_are_not_nested(job: RunningJob, db: Session, inner: Callable[[RunningJob], Any]) -> None:
    def outer() -> None:
        apply(job.session, 1, job)
        inner(job)

    with pytest.raises(StepError, match="cannot be inside"):
        job.step("outer", outer)

    assert pages(db) == []


def test_a_name_that_cannot_be_kept_is_refused(job: RunningJob) -> None:
    names: list[Any] = ["", "x" * 201, "a\x00", 12]
    for name in names:
        with pytest.raises(StepError, match="the name of a step must"):
            job.step(name, lambda: None)


@pytest.mark.parametrize("value", [object(), "x" * STEP_LIMIT], ids=["no JSON", "too large"])
def test_what_cannot_be_kept_is_refused_with_the_rows(job: RunningJob, db: Session, value: Any) -> None:
    def work() -> Any:
        apply(job.session, 1, job)
        return value

    with pytest.raises(StepError, match="'load'"):
        job.step("load", work)
    apply(job.session, 2, job)
    with pytest.raises(StepError, match="state"):
        job.checkpoint(value)

    assert not StepError.should_retry
    assert pages(db) == []


def test_an_async_function_is_refused_and_told_what_to_write(job: RunningJob) -> None:
    async def work() -> None: ...

    with pytest.raises(StepError, match="is async"):
        job.step("load", work)


def test_a_job_has_no_more_steps_than_can_be_looked_at(job: RunningJob, db: Session) -> None:
    db.execute(
        text("insert into jobplatform.job_steps select :w, :j, 'step-' || n, 1, '1' from generate_series(1, :n) n"),
        {"w": job.workspace_id, "j": job.id, "n": MOST_STEPS},
    )

    assert job.step("step-1", lambda: 0) == 1
    with pytest.raises(StepError, match="checkpoint"):
        job.step("another", lambda: None)


def test_after_complete_in_nothing_is_saved_any_more(job: RunningJob, db: Session) -> None:
    with pytest.raises(StepError, match="completed its job"):
        job.step("last", lambda: job.complete_in(job.session))
    with pytest.raises(StepError, match="comes too late"):
        job.checkpoint(1)
    with pytest.raises(StepError, match="comes too late"):
        job.step("another", lambda: None)


# Checkpoints


def test_a_checkpoint_commits_the_rows_with_the_state(job: RunningJob, take: Attempt, db: Session) -> None:
    assert job.checkpoint_state is None
    for page in (1, 2, 3):
        apply(job.session, page, job)
        job.checkpoint({"page": page})
    assert job.checkpoint_state == {"page": 3}
    apply(job.session, 4, job)
    hand_back(db, job)

    assert take().checkpoint_state == {"page": 3}
    assert pages(db) == [1, 2, 3]


def test_a_state_in_a_session_of_the_caller_s_counts_when_that_is_committed(job: RunningJob, engine: Engine) -> None:
    job.checkpoint(1)
    with Session(engine) as session:
        job.checkpoint(2, session=session)
        session.rollback()
        assert job.checkpoint_state == 1
        job.checkpoint(3, session=session)
        session.commit()
        assert job.checkpoint_state == 3


def test_the_parts_of_a_checkpoint_are_saved_each_on_its_own(
    job: RunningJob, take: Attempt, db: Session, workspace_id: uuid.UUID
) -> None:
    large = "x" * (STEP_LIMIT - 2)
    assert job.checkpoint_parts == {}
    job.checkpoint(1, parts={"a": large, "b": large})
    job.checkpoint(2, parts={"b": [2]})
    job.checkpoint(3)
    hand_back(db, job)

    again = take()

    assert (again.checkpoint_state, again.checkpoint_parts) == (3, {"a": large, "b": [2]})
    assert again.step("a", lambda: "is a step as well") == "is a step as well"
    assert [step.name for step in list_steps(db, workspace_id, job.id)] == ["", "a"]


@pytest.mark.parametrize(
    ("part", "value", "match"),
    [
        ("", 1, "1 to 199 characters"),
        ("x" * 200, 1, "1 to 199 characters"),
        ("\x1ex", 1, "U\\+001E"),
        ("x", "x" * STEP_LIMIT, "the part 'x' of a checkpoint is 262146 bytes"),
    ],
)
def test_a_part_that_cannot_be_kept_is_refused_and_nothing_is_saved(
    job: RunningJob, part: str, value: Any, match: str
) -> None:
    with pytest.raises(StepError, match=match):
        job.checkpoint(1, parts={part: value})

    assert (job.checkpoint_state, job.checkpoint_parts) == (None, {})


def test_a_checkpoint_has_a_most_of_parts(job: RunningJob) -> None:
    job.checkpoint(1, parts={str(number): number for number in range(MOST_PARTS)})
    job.checkpoint(2, parts={"0": "anew"})

    with pytest.raises(StepError, match="more than 10000 parts"):
        job.checkpoint(3, parts={"one more": 0})

    assert (job.checkpoint_state, len(job.checkpoint_parts)) == (2, MOST_PARTS)


# The fence

Save = Callable[[RunningJob, Session | None], Any]


def a_step(job: RunningJob, session: Session | None = None) -> None:
    job.step("page-1", lambda: apply(session or job.session, 1, job), session=session)


def a_checkpoint(job: RunningJob, session: Session | None = None) -> None:
    apply(session or job.session, 1, job)
    job.checkpoint({"page": 1}, session=session)


def a_part(job: RunningJob, session: Session | None = None) -> None:
    apply(session or job.session, 1, job)
    job.checkpoint(None, parts={"a": 1}, session=session)


SAVES = pytest.mark.parametrize("save", [a_step, a_checkpoint, a_part], ids=["step", "checkpoint", "part"])


@SAVES
@pytest.mark.parametrize("own", [True, False], ids=["job.session", "a session given"])
def test_an_attempt_that_lost_its_lease_saves_nothing_and_its_rows_are_not_committed(
    job: RunningJob, db: Session, engine: Engine, worker: Worker, workspace_id: uuid.UUID, save: Save, own: bool
) -> None:
    deregister_worker(db, worker.id)
    rescue_jobs(db)

    with Session(engine) as session:
        with pytest.raises(LeaseLostError):
            save(job, None if own else session)
        # Even where the error is swallowed.
        session.commit()
    job.close_session(commit=True)

    assert (pages(db), list_steps(db, workspace_id, job.id)) == ([], [])


@SAVES
def test_an_attempt_whose_job_is_in_other_hands_saves_nothing(
    job: RunningJob, take: Callable[..., RunningJob], db: Session, worker: Worker, time: Time, save: Save
) -> None:
    lose(db, worker, time)
    other = take(Worker(db))

    with pytest.raises(LeaseLostError):
        save(job, None)
    save(other, None)

    assert pages(db) == [1]
    assert db.scalar(text("select epoch from jobplatform.job_steps")) == other.epoch


@SAVES
def test_a_save_that_meets_a_rescue_waits_and_is_refused(
    job: RunningJob, session: Session, elsewhere: Elsewhere, db: Session, worker: Worker, save: Save
) -> None:
    deregister_worker(db, worker.id)
    rescue_jobs(session)
    saving = elsewhere.start_and_wait_for_lock(lambda other: save(job, other))

    session.commit()

    with pytest.raises(LeaseLostError):
        saving.result()
    assert pages(db) == []


@SAVES
def test_a_rescue_that_meets_a_save_leaves_the_job_where_it_is_until_the_commit(
    job: RunningJob, session: Session, db: Session, worker: Worker, save: Save
) -> None:
    save(job, session)
    deregister_worker(db, worker.id)

    assert rescue_jobs(db) == []
    session.commit()

    assert [rescued.lease for rescued in rescue_jobs(db)] == [job.lease]
    assert pages(db) == [1]


@SAVES
def test_who_hands_the_job_back_waits_for_a_save_to_be_committed(
    job: RunningJob, session: Session, elsewhere: Elsewhere, save: Save
) -> None:
    save(job, session)
    back = elsewhere.start_and_wait_for_lock(lambda other: release_jobs(other, [Release(job.lease)]))

    session.commit()

    assert back.result() == {job.lease}


@SAVES
def test_progress_and_requests_to_cancel_do_not_wait_for_a_save(
    job: RunningJob, session: Session, db: Session, workspace_id: uuid.UUID, save: Save
) -> None:
    db.execute(text("set lock_timeout = '5s'"))
    save(job, session)

    assert report_progress(db, [ProgressReport(job.lease, '{"current": 1}')]) == {job.lease}
    assert cancel_job(db, workspace_id, job.id).value == "requested"

    # And the lock outlives the rows that they made.
    assert db.scalar(text("select count(*) from (select from jobplatform.job_queue for update skip locked) x")) == 0
    session.commit()
    assert pages(db) == [1]


def applied_twice(job: RunningJob, other: Callable[[], RunningJob], session: Session) -> list[int]:
    """A checkpoint is written, the worker is declared dead, somebody else tries to have the job, the first commits."""
    a_checkpoint(job, session)
    try:
        found = other()
    except ValueError:  # Nothing to claim: it is still ours.
        session.commit()
        found = other()
    if found.checkpoint_state is None:
        a_checkpoint_without_waiting(found)
    session.commit()
    return list(session.scalars(text("select page from pages")))


def a_checkpoint_without_waiting(job: RunningJob) -> None:
    apply(job.session, 1, job)
    job.session.commit()


@pytest.mark.parametrize("locked", [True, False], ids=["healthy", "broken"])
def test_without_the_lock_a_page_would_be_applied_twice(
    job: RunningJob,
    take: Callable[..., RunningJob],
    session: Session,
    db: Session,
    worker: Worker,
    time: Time,
    monkeypatch: pytest.MonkeyPatch,
    locked: bool,
) -> None:
    if not locked:
        broken = save_step.SAVE_CHECKPOINT.replace("for key share", "")
        assert broken != save_step.SAVE_CHECKPOINT
        monkeypatch.setattr(save_step, "SAVE_CHECKPOINT", broken)

    def other() -> RunningJob:
        lose(db, worker, time)
        return take(Worker(db))

    assert applied_twice(job, other, session) == ([1] if locked else [1, 1])


# What becomes of them


def fail_for_good(db: Session, lease: Lease) -> None:
    from jobplatform.queue import Failure, fail_jobs

    fail_jobs(db, [Failure(lease, "error", "ValueError", "no", retry=False)])


@pytest.mark.parametrize("from_start", [False, True])
def test_a_retry_by_hand_goes_on_unless_it_is_from_the_start(
    job: RunningJob, take: Attempt, db: Session, workspace_id: uuid.UUID, from_start: bool
) -> None:
    job.step("page-1", lambda: None)
    job.checkpoint("half")
    job.close_session(commit=False)
    fail_for_good(db, job.lease)

    retry_job(db, workspace_id, job.id, from_start=from_start)

    assert take().checkpoint_state == (None if from_start else "half")
    assert len(list_steps(db, workspace_id, job.id)) == (0 if from_start else 2)


def test_a_retry_from_a_step_forgets_that_step_and_what_came_after_it(
    job: RunningJob, take: Attempt, db: Session, workspace_id: uuid.UUID
) -> None:
    for name in ("one", "two", "three"):
        job.step(name, lambda name=name: f"old {name}")  # type: ignore[misc]  # mypy cannot infer it
        job.checkpoint(name, parts={f"part {name}": name})
    job.close_session(commit=False)
    fail_for_good(db, job.lease)

    for unknown in ("tow", "", CHECKPOINT_PART + "part one", "t\0o", "\ud800"):
        with pytest.raises(
            InvalidJobError, match=r"/fromStep: (.*is not a step that the job has done|must not contain)"
        ):
            retry_job(db, workspace_id, job.id, from_step=unknown)
    assert len(list_steps(db, workspace_id, job.id)) == 4
    assert retry_job(db, workspace_id, job.id, from_step="two").kind is RetryKind.RETRIED

    again = take()
    assert (again.checkpoint_state, again.checkpoint_parts) == (None, {})
    assert [again.step(name, lambda: "anew") for name in ("one", "two", "three")] == ["old one", "anew", "anew"]


@pytest.mark.parametrize(
    ("from_step", "values"),
    [("one", ["anew", "anew", "anew"]), ("two", ["old", "anew", "anew"]), ("three", ["old", "old", "anew"])],
)
def test_a_step_that_an_older_transaction_saves_comes_after_those_that_were_saved_since_it_began(
    job: RunningJob,
    take: Attempt,
    db: Session,
    session: Session,
    workspace_id: uuid.UUID,
    from_step: str,
    values: list[str],
) -> None:
    session.execute(text("select 1"))
    job.step("one", lambda: "old")
    job.step("two", lambda: "old", session=session)
    session.commit()
    job.step("three", lambda: "old")
    job.close_session(commit=False)
    fail_for_good(db, job.lease)

    retry_job(db, workspace_id, job.id, from_step=from_step)

    again = take()
    assert [again.step(name, lambda: "anew") for name in ("one", "two", "three")] == values


def test_a_step_that_is_committed_late_comes_before_those_that_were_saved_since(
    job: RunningJob, take: Attempt, db: Session, session: Session, workspace_id: uuid.UUID
) -> None:
    assert job.session.execute(text("select 1")).all()
    job.step("one", lambda: "old", session=session)
    job.step("two", lambda: "old")
    session.commit()
    job.close_session(commit=False)
    fail_for_good(db, job.lease)

    retry_job(db, workspace_id, job.id, from_step="one")

    again = take()
    assert [again.step(name, lambda: "anew") for name in ("one", "two")] == ["anew", "anew"]


def test_while_the_clock_stands_still_steps_have_their_order(
    job: RunningJob, db: Session, workspace_id: uuid.UUID, time: Time
) -> None:
    time.freeze()
    for name in "dbca":
        job.step(name, lambda: None)
        job.checkpoint(name)

    assert [step.name for step in list_steps(db, workspace_id, job.id)] == ["d", "b", "c", "a", ""]


def test_a_retry_that_is_refused_forgets_nothing(job: RunningJob, db: Session, workspace_id: uuid.UUID) -> None:
    job.checkpoint("half")

    retry_job(db, workspace_id, job.id, from_start=True)

    assert len(list_steps(db, workspace_id, job.id)) == 1


def test_steps_are_listed_in_their_order_and_by_workspace(
    job: RunningJob, db: Session, workspace_id: uuid.UUID
) -> None:
    for name in ("b", "a"):
        job.step(name, lambda: None)

    assert [step.name for step in list_steps(db, workspace_id, job.id)] == ["b", "a"]
    assert list_steps(db, uuid.uuid4(), job.id) == []


def test_a_job_without_steps_asks_the_database_nothing(put: Put, take: Attempt, fact: Fact) -> None:
    put()
    job = take()

    job.close_session(commit=True)

    assert job.opened_session is None
    assert fact("select count(*) from jobplatform.job_steps") == 0


def test_looking_for_what_is_done_leaves_the_handler_s_transaction_alone(job: RunningJob) -> None:
    assert job.checkpoint_state is None
    assert job.opened_session is None


def test_any_value_survives(job: RunningJob, take: Attempt, db: Session) -> None:
    value = {"a": [None, True, 1.5, {"$sealed": "not really"}], "$sealed": "v1:1:AAAA"}
    assert safe_json(value)
    job.checkpoint(value)
    hand_back(db, job)

    assert take().checkpoint_state == value


def test_the_job_is_there_with_its_result_all_the_same(job: RunningJob, db: Session, workspace_id: uuid.UUID) -> None:
    job.step("only", lambda: 1)
    job.complete_in(job.session, {"done": True})
    job.close_session(commit=True)

    found = get_job(db, workspace_id, job.id)
    assert found is not None
    assert (found.status, found.result) == ("completed", {"done": True})
