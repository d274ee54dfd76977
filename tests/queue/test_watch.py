"""Whoever follows a job learns each of its states and each of its lines once, however seldom they look."""

from __future__ import annotations

import dataclasses
import datetime
import random
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from jobplatform.queue import (
    START,
    CancelAnswer,
    Change,
    Completion,
    Edge,
    Facts,
    Failure,
    Followed,
    JobChange,
    Lease,
    LogLine,
    Position,
    ProgressReport,
    Release,
    append_log_lines,
    cancel_job,
    change_job,
    changes_since,
    complete_jobs,
    enqueue_job,
    fail_jobs,
    find_news,
    look_at_jobs,
    look_at_workspace,
    promote_jobs,
    read_position,
    release_jobs,
    report_progress,
    retry_job,
)
from jobplatform.queue.statement import EPOCHS_APART
from tests.queue.actors import Time, Worker
from tests.queue.conftest import Put
from tests.queue.test_edges import new, settle

Tell = Callable[[Position, Facts], tuple[list[Change], bool]]


class Follower:
    """Somebody who follows a job, and forgets all but a position between two looks."""

    def __init__(self, db: Session, workspace_id: uuid.UUID, job_id: uuid.UUID, tell: Tell = changes_since) -> None:
        self.db = db
        self.names = (str(workspace_id), str(job_id))
        self.tell = tell
        self.position = str(START)
        self.changes: list[Change] = []

    def look(self) -> list[Change]:
        found: list[Change] = []
        more = True
        while more:
            asked = Followed(*self.names, "", read_position(self.position))
            changes, more = self.tell(asked.position, look_at_jobs(self.db, [asked])[0].facts)
            found += changes
            self.position = str(changes[-1].position) if changes else self.position
        self.changes += found
        return found

    @property
    def story(self) -> list[tuple[Any, ...]]:
        """Without progress, of which only the newest is kept."""
        return [_told(change) for change in self.changes if change.kind != "progress"]


def _told(change: Change) -> tuple[Any, ...]:
    about = change.about
    return (change.kind, about["epoch"], about["line"]) if change.kind == "log" else (change.kind, about["epoch"])


@pytest.fixture
def follow(db: Session, workspace_id: uuid.UUID) -> Callable[..., Follower]:
    return lambda job_id, **options: Follower(db, workspace_id, job_id, **options)


def say(db: Session, lease: Lease, *lines: int) -> None:
    append_log_lines(db, [LogLine(lease, line, "info", f"line {line}") for line in lines])


def fail(db: Session, lease: Lease, *, retry: bool = True) -> None:
    fail_jobs(db, [Failure(lease, "error", "RuntimeError", "no", retry=retry)])


def begin_timeline(db: Session, number: int) -> None:
    """What the server is asked for the least number to hand out."""
    first = (number - 1) * EPOCHS_APART + 1
    body = f"returns integer language sql as 'select {first}'"
    db.execute(text(f"create or replace function jobplatform.first_number() {body}"))


def test_a_job_s_whole_life_is_told_in_order(
    put: Put, db: Session, worker: Worker, follow: Callable[..., Follower]
) -> None:
    follower = follow(put())
    lease = worker.lease()
    say(db, lease, 1, 2)
    fail(db, lease)
    lease = worker.lease()
    report_progress(db, [ProgressReport(lease, '{"current": 1, "total": 2, "message": null}')])
    say(db, lease, 1)
    complete_jobs(db, [Completion(lease, '{"rows": 3}')])

    changes = follower.look()

    assert [_told(change) for change in changes] == [
        ("pending", 0),
        ("running", 1),
        ("log", 1, 1),
        ("log", 1, 2),
        ("pending", 1),
        ("running", 2),
        ("log", 2, 1),
        ("progress", 2),
        ("completed", 2),
    ]
    assert changes[4].about["error"] == {"type": "RuntimeError", "message": "no"}
    assert changes[-1].about["result"] == {"rows": 3}
    assert [change.about["attempt"] for change in changes if change.kind == "running"] == [1, 2]
    assert follower.look() == []


def test_numbers_that_a_failover_left_out_are_no_attempts(
    put: Put, db: Session, worker: Worker, follow: Callable[..., Follower]
) -> None:
    """Each server that takes over begins 100,000 higher."""
    always, at_last = (follow(job_id) for job_id in [put()] for _ in range(2))
    fail(db, worker.lease())
    always.look()
    begin_timeline(db, 2)
    release_jobs(db, [Release(worker.lease())])
    always.look()
    begin_timeline(db, 4)
    lease = worker.lease()
    say(db, lease, 1)
    fail(db, lease, retry=False)
    always.look()
    at_last.look()

    first, third = [("pending", 0), ("running", 1), ("pending", 1)], [("running", 300_001), ("log", 300_001, 1)]
    assert at_last.story == [*first, *third, ("failed", 300_001)]
    second = [("running", 100_001), ("pending", 100_001)]
    assert always.story == [*first, *second, *third, ("failed", 300_001)]


def test_progress_is_told_when_it_has_changed_and_not_again(
    put: Put, db: Session, worker: Worker, follow: Callable[..., Follower]
) -> None:
    follower = follow(put())
    lease = worker.lease()
    follower.look()

    for report in ('{"current": 1}', '{"current": 2}'):
        report_progress(db, [ProgressReport(lease, report)])

    assert [change.about["progress"] for change in follower.look()] == [{"current": 2}]
    assert follower.look() == []


def test_that_a_job_waits_is_told_again_when_it_waits_for_another_moment(
    put: Put, db: Session, workspace_id: uuid.UUID, worker: Worker
) -> None:
    job_id = put()
    follower = Follower(db, workspace_id, job_id)
    follower.look()
    moments = [datetime.datetime(year, 1, 1, tzinfo=datetime.UTC) for year in (2031, 2032)]

    for change in (JobChange(priority=5), *(JobChange(run_after=moment) for moment in moments)):
        change_job(db, workspace_id, job_id, change)
        follower.look()
        assert follower.look() == []
    late = Follower(db, workspace_id, job_id)
    late.look()
    change_job(db, workspace_id, job_id, JobChange(at_once=True))
    follower.look()
    late.look()
    change_job(db, workspace_id, job_id, JobChange(queue="default"))
    complete_jobs(db, [Completion(worker.lease())])
    follower.look()
    late.look()

    told = [(change.kind, (change.about.get("run_after") or "")[:4]) for change in follower.changes]
    now = str(datetime.datetime.now(datetime.UTC).year)
    begin, end = [("pending", now), ("pending", "2031")], [("pending", now), ("running", ""), ("completed", "")]
    assert told == [*begin, ("pending", "2032"), *end]
    assert [change.about for change in late.changes] == [change.about for change in follower.changes[2:]]


def test_that_a_job_becomes_ready_by_itself_is_no_news(
    put: Put, db: Session, workspace_id: uuid.UUID, time: Time
) -> None:
    first = put(task="first")
    followers = [
        Follower(db, workspace_id, job_id)
        for job_id in (put(delay=datetime.timedelta(seconds=5)), put(after=[Edge(first)]))
    ]
    for follower in followers:
        follower.look()

    time.passes(6)
    promote_jobs(db)
    complete_jobs(db, [Completion(Worker(db, tasks=("first",)).lease())])
    settle(db)

    assert db.scalars(text("select state from jobplatform.job_queue")).all() == [1, 1]
    assert [follower.look() for follower in followers] == [[], []]


def test_a_report_is_told_once_though_the_job_waits_for_another_moment_then(
    put: Put, db: Session, workspace_id: uuid.UUID, worker: Worker
) -> None:
    job_id = put()
    follower = Follower(db, workspace_id, job_id)
    lease = worker.lease()
    report_progress(db, [ProgressReport(lease, '{"current": 1}')])
    follower.look()
    fail_jobs(db, [Failure(lease, "error", "E", "no", delay=60)])
    follower.look()

    change_job(db, workspace_id, job_id, JobChange(run_after=datetime.datetime(2031, 1, 1, tzinfo=datetime.UTC)))
    (again,) = follower.look()
    cancel_job(db, workspace_id, job_id)
    follower.look()

    assert (again.kind, again.about["attempt"], again.about["error"]["message"]) == ("pending", 1, "no")
    kinds = [change.kind for change in follower.changes]
    assert kinds == ["pending", "running", "progress", "pending", "pending", "cancelled"]


def test_the_same_progress_of_a_later_attempt_is_news(
    put: Put, db: Session, worker: Worker, follow: Callable[..., Follower]
) -> None:
    follower = follow(put())
    for _ in range(2):
        lease = worker.lease()
        report_progress(db, [ProgressReport(lease, '{"current": 1}')])
        follower.look()
        fail(db, lease)

    assert [change.about["epoch"] for change in follower.changes if change.kind == "progress"] == [1, 2]


def test_a_cancelled_job_that_was_waiting_again_is_told_from_one_that_ran(
    put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID, follow: Callable[..., Follower]
) -> None:
    waiting, running = put(), put()
    leases = {job.lease.job_id: job.lease for job in worker.claim(50)}
    release_jobs(db, [Release(leases[str(waiting)])])
    for job_id in (waiting, running):
        cancel_job(db, workspace_id, job_id)
    release_jobs(db, [Release(leases[str(running)])])

    stories = [[_told(change) for change in follow(job_id).look()] for job_id in (waiting, running)]

    assert stories[0] == [("pending", 0), ("running", 1), ("pending", 1), ("cancelled", 1)]
    assert stories[1] == [("pending", 0), ("running", 1), ("cancelled", 1)]


def test_more_than_one_look_holds_is_told_in_several(
    put: Put, db: Session, worker: Worker, follow: Callable[..., Follower]
) -> None:
    job_id = put(max_attempts=120)
    for _ in range(60):
        lease = worker.lease()
        say(db, lease, 1, 2, 3)
        fail(db, lease)

    told = [_told(change) for change in follow(job_id).look()]

    expected: list[tuple[Any, ...]] = [("pending", 0)]
    for epoch in range(1, 61):
        expected += [("running", epoch), *(("log", epoch, line) for line in (1, 2, 3)), ("pending", epoch)]
    assert told == expected


class Life:
    """The one job there is, and what may happen to it; what is not possible just now does nothing."""

    def __init__(self, db: Session, worker: Worker, job_id: uuid.UUID, workspace_id: uuid.UUID, seed: int) -> None:
        self.db, self.worker, self.names = db, worker, (workspace_id, job_id)
        self.dice = random.Random(seed)
        self.lease = Lease(str(workspace_id), str(job_id), 0)
        self.lines = 0

    def step(self) -> None:
        acts = [self.claim, self.claim, self.log, self.log, self.progress, self.fail, self.release, self.retry]
        self.dice.choice([*acts, self.retry, self.cancel])()

    def claim(self) -> None:
        for job in self.worker.claim(1):
            self.lease, self.lines = job.lease, 0

    def log(self) -> None:
        self.lines += 1
        say(self.db, self.lease, self.lines)

    def progress(self) -> None:
        report_progress(self.db, [ProgressReport(self.lease, f'{{"current": {self.dice.randrange(3)}}}')])

    def fail(self) -> None:
        fail(self.db, self.lease, retry=self.dice.random() < 0.6)

    def release(self) -> None:
        release_jobs(self.db, [Release(self.lease)])

    def retry(self) -> None:
        retry_job(self.db, *self.names)

    def cancel(self) -> None:
        assert cancel_job(self.db, *self.names) is not CancelAnswer.UNKNOWN


@pytest.mark.parametrize("seed", range(4))
def test_who_looks_seldom_learns_the_same_as_who_looks_always(
    seed: int, put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID, follow: Callable[..., Follower]
) -> None:
    job_id = put(max_attempts=1000)
    life = Life(db, worker, job_id, workspace_id, seed)
    always, sometimes, at_last = (follow(job_id) for _ in range(3))

    for _ in range(80):
        life.step()
        always.look()
        if life.dice.random() < 0.1:
            sometimes.look()
    sometimes.look()
    at_last.look()

    assert len(always.story) > 20
    assert sometimes.story == always.story
    assert at_last.story == always.story
    states = [change.position.state for change in always.changes if change.kind not in ("log", "progress")]
    assert states == sorted(set(states))


def test_the_comparison_notices_a_teller_that_forgets_what_retries_took_back(
    put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID, follow: Callable[..., Follower]
) -> None:
    """The test above, of a variant that is broken: or else it could not fail."""

    def forgetful(position: Position, facts: Facts) -> tuple[list[Change], bool]:
        return changes_since(position, dataclasses.replace(facts, past=()))

    job_id = put()
    always, at_last = (follow(job_id, tell=forgetful) for _ in range(2))
    cancel_job(db, workspace_id, job_id)
    always.look()
    retry_job(db, workspace_id, job_id)
    complete_jobs(db, [Completion(worker.lease())])
    always.look()
    at_last.look()

    assert at_last.story != always.story


def test_a_job_that_was_called_off_and_is_brought_back_is_told_so(
    put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID, follow: Callable[..., Follower]
) -> None:
    first = put()
    second = enqueue_job(db, new(workspace_id, first)).job_id
    fail(db, worker.lease(), retry=False)
    settle(db)
    retry_job(db, workspace_id, first)
    settle(db)
    complete_jobs(db, [Completion(worker.lease())])
    settle(db)

    told = [_told(change) for change in follow(second).look()]

    assert told == [("pending", 0), ("cancelled", 0), ("pending", 0)]


def test_news_are_found_for_those_whose_job_changed_or_spoke(put: Put, db: Session, worker: Worker) -> None:
    quiet, talking, ended = put(), put(), put()
    leases = {job.lease.job_id: job.lease for job in worker.claim(50)}
    workspace = leases[str(quiet)].workspace_id
    names = [Followed(workspace, str(job_id), "", START) for job_id in (quiet, talking, ended)]
    seen = look_at_jobs(db, names)
    followed = [one._replace(version=seen[place].version) for place, one in enumerate(names)]
    assert find_news(db, followed) == []

    say(db, leases[str(talking)], 1)
    complete_jobs(db, [Completion(leases[str(ended)])])

    assert find_news(db, followed) == [1, 2]
    assert find_news(db, [one._replace(lines=False) for one in followed]) == [2]


def test_a_workspace_s_jobs_are_seen_and_no_others(
    put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID
) -> None:
    other = uuid.uuid4()
    ended, live = put(), put(run_after=None)
    put(workspace_id=other)
    lease = next(job.lease for job in worker.claim(50) if job.lease.job_id == str(ended))
    complete_jobs(db, [Completion(lease)])

    mine, nobodys = look_at_workspace(db, [(str(workspace_id), None), (str(uuid.uuid4()), None)])

    assert (mine.live, mine.ended, mine.running) == ([str(live)], [str(ended)], [str(live)])
    assert (nobodys.live, nobodys.ended, nobodys.running) == ([], [], [])


def test_a_job_that_is_gone_is_not_in_the_answer(db: Session, workspace_id: uuid.UUID) -> None:
    assert look_at_jobs(db, [Followed(str(workspace_id), str(uuid.uuid4()), "", START)]) == {}


@pytest.mark.parametrize("text", ["", "1-", "1-1.1.3..0.0", "2-0.0.1..0.0", "1-0.9999999999.1..0.0", "1-0.0.1..0.0 "])
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read_position(text)
