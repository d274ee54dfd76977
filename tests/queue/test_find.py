"""A search finds its jobs and no others, newest first, and never looks without an end."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from jobplatform.errors import SearchError
from jobplatform.models import Role, confine
from jobplatform.queue import (
    Completion,
    Failure,
    Search,
    cancel_job,
    complete_jobs,
    count_endings,
    count_jobs,
    fail_jobs,
    find_jobs,
    parse_search,
    retry_job,
)
from jobplatform.queue.find.ways import LOOK, LOOK_UP
from tests.queue.actors import Worker
from tests.queue.conftest import Put
from tests.queue.plans import explain_all

Jobs = dict[str, uuid.UUID]
OTHER = uuid.UUID("22222222-2222-4222-8222-222222222222")

#: Finished jobs by SQL, an id for each second: enough for a look to end before all of them are seen.
FILL = """
insert into jobplatform.job_records (
    workspace_id, id, task, queue, payload, status, outcome, created_at, started_at, completed_at, tags
)
select
    :workspace_id, (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7000' || '8000' || lpad(
        to_hex(n), 12, '0'
    ))::uuid,
    'bulky', 'default', '{}', 3, 'ok', at, at, at, case when n = 1 then array['oldest'] else '{}' end
from (
    select n, timestamptz '2029-01-01 00:00+00' + make_interval(secs => n) as at from generate_series(1, :amount) as n
) these
"""


#: The same of live ones, each in both tables.
FILL_LIVE = """
with made as (
    select
        (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7000' || '8000' || lpad(
            to_hex(n), 12, '0'
        ))::uuid as id,
        at, n
    from (
        select n, timestamptz '2029-01-01 00:00+00' + make_interval(secs => n) as at
        from generate_series(1, :amount) as n
    ) these
),
queued as (
    insert into jobplatform.job_queue (
        workspace_id, id, queue, task, state, priority, max_attempts, timeout_ms, run_after
    )
    select :workspace_id, id, 'default', 'bulky', 1, 0, 3, 60000, at from made
)
insert into jobplatform.job_records (workspace_id, id, task, queue, payload, created_at, run_after, tags)
select
    :workspace_id, id, 'bulky', 'default', '{}', at, at,
    case when n = 1 then array['oldest'] when n = :amount then array['newest'] else '{}' end
from made
"""


def found(db: Session, search: str, **options: Any) -> list[uuid.UUID]:
    return [job.id for job in find_jobs(db, parse_search(search), **options).jobs]


def fill(db: Session, workspace_id: uuid.UUID, amount: int) -> None:
    db.execute(text(FILL), {"workspace_id": workspace_id, "amount": amount})
    db.execute(text("analyze jobplatform.job_records"))


@pytest.fixture
def jobs(put: Put, db: Session, workspace_id: uuid.UUID) -> Jobs:
    """One of each kind, in the order of their names."""
    worker = Worker(db, tasks=("work", "other"), queues=("default", "exports"))
    made: Jobs = {"a completed": put()}
    complete_jobs(db, [Completion(worker.lease())])
    made["b failed"] = put(task="other", tags=("eu", "vip"))
    fail_jobs(db, [Failure(worker.lease(), "error", "KeyError", "no user 3", retry=False)])
    made["c cancelled"] = put()
    cancel_job(db, workspace_id, made["c cancelled"])
    made["d running"] = put(priority=7)
    worker.claim()
    made["e pending"] = put(queue="exports", priority=-3, tags=("eu",))
    made["f elsewhere"] = put(workspace_id=OTHER)
    count_endings(db)
    return made


def named(jobs: Jobs, letters: str) -> list[uuid.UUID]:
    """Newest first."""
    return [job for name, job in sorted(jobs.items(), reverse=True) if name[0] in letters]


#: Which jobs a search finds, by the first letters of their names.
FINDS = {
    "": "abcdef",
    "status:pending": "ef",
    "status:running": "d",
    "status:pending,running": "def",
    "status:completed": "a",
    "status:failed,cancelled": "bc",
    "status:failed,pending": "bef",
    "status:running,completed": "ad",
    "task:other": "b",
    "task:work,other status:failed,completed": "ab",
    "queue:exports": "e",
    "queue:exports status:pending": "e",
    "queue:exports status:running": "",
    "priority:7": "d",
    "priority:<0,>=5": "de",
    "priority:>5 status:running": "d",
    "tag:eu": "be",
    "tag:eu tag:vip": "b",
    "tag:vip,eu status:pending": "e",
    "tag:nope": "",
    "error:KeyError": "b",
    "error:KeyError status:failed task:other tag:eu": "b",
    "error:KeyError task:work": "",
    "error:ValueError": "",
    "error:KeyError status:completed": "",
    "error:KeyError status:running": "",
    "error:0123456789abcdef": "",
    f"workspace:{OTHER}": "f",
    f"workspace:{OTHER} status:pending": "f",
    f"workspace:{OTHER} error:KeyError": "",
}


def test_each_qualifier_narrows_what_is_found(db: Session, jobs: Jobs) -> None:
    assert {search: found(db, search) for search in FINDS} == {
        search: named(jobs, letters) for search, letters in FINDS.items()
    }


def test_a_workspace_narrows_every_way(db: Session, jobs: Jobs, workspace_id: uuid.UUID) -> None:
    mine = f"workspace:{workspace_id} "

    assert found(db, mine) == named(jobs, "abcde")
    assert found(db, mine + f"workspace:{OTHER}") == named(jobs, "abcdef")
    assert found(db, mine + "status:pending") == named(jobs, "e")
    assert found(db, mine + "error:KeyError") == named(jobs, "b")
    assert found(db, mine + "status:completed") == named(jobs, "a")


def test_a_job_is_found_by_its_id_in_whichever_workspace(db: Session, jobs: Jobs, workspace_id: uuid.UUID) -> None:
    job = jobs["f elsewhere"]

    assert found(db, str(job)) == [job]
    assert found(db, f"id:{job} status:failed") == []
    assert found(db, f"id:{job} workspace:{workspace_id}") == []
    assert found(db, f"id:{job},{jobs['b failed']} status:failed,pending") == named(jobs, "bf")


def test_failures_are_found_by_their_fingerprint_until_they_are_retried(
    db: Session, jobs: Jobs, workspace_id: uuid.UUID
) -> None:
    fingerprint = db.scalar(text("select fingerprint from jobplatform.platform_error_groups"))
    assert found(db, f"error:{fingerprint}") == named(jobs, "b")

    retry_job(db, workspace_id, jobs["b failed"])

    assert found(db, f"error:{fingerprint}") == []


@pytest.mark.parametrize("status", ["running", "completed,pending"])
def test_a_group_of_failures_is_refused_for_jobs_that_did_not_fail(db: Session, status: str) -> None:
    with pytest.raises(SearchError, match=f"leave out status:{status}"):
        find_jobs(db, parse_search(f"error:0123456789abcdef status:{status}"))


def test_a_line_tells_what_a_list_shows(db: Session, jobs: Jobs, workspace_id: uuid.UUID) -> None:
    running = find_jobs(db, parse_search("status:running")).jobs[0]
    failed = find_jobs(db, parse_search("status:failed")).jobs[0]

    assert (running.status, running.priority, running.attempts, running.completed_at) == ("running", 7, 1, None)
    assert running.started_at is not None
    assert (failed.workspace_id, failed.task, failed.queue, failed.tags) == (
        workspace_id,
        "other",
        "default",
        ("eu", "vip"),
    )
    assert (failed.outcome, failed.error_type, failed.error) == ("error", "KeyError", "no user 3")
    assert failed.completed_at is not None


def test_a_long_error_is_cut_and_a_sealed_one_is_not_shown(put: Put, db: Session, worker: Worker) -> None:
    put(), put()
    sealed = '{"$sealed": "v1:1:' + "A" * 60 + '"}'
    for job, error in zip(worker.claim(limit=2), ("x" * 900, sealed), strict=True):
        fail_jobs(db, [Failure(job.lease, "error", "E", error, retry=False)])

    errors = {job.error for job in find_jobs(db, Search()).jobs}

    assert errors == {"x" * 299 + "…", "[sealed]"}


@pytest.mark.parametrize("search", ["", "status:pending", "task:work", "workspace", "error:E"])
def test_pages_have_every_job_once(put: Put, db: Session, worker: Worker, workspace_id: uuid.UUID, search: str) -> None:
    made = [put() for _ in range(7)]
    if search == "error:E":
        fail_jobs(db, [Failure(job.lease, "error", "E", "no", retry=False) for job in worker.claim(limit=7)])
        count_endings(db)
    wanted = parse_search(f"workspace:{workspace_id}" if search == "workspace" else search)

    pages = list(pages_of(db, wanted, limit=3))

    assert [len(page) for page in pages] == [3, 3, 1]
    assert [job for page in pages for job in page] == list(reversed(made))


def pages_of(db: Session, search: Search, limit: int) -> Iterator[list[uuid.UUID]]:
    before: str | None = None
    while True:
        page = find_jobs(db, search, limit=limit, before=before)
        yield [job.id for job in page.jobs]
        assert page.complete
        if page.next is None:
            return
        before = page.next


def test_a_page_that_was_not_looked_for_to_the_end_says_how_far_and_goes_on(
    put: Put, db: Session, workspace_id: uuid.UUID
) -> None:
    fill(db, workspace_id, LOOK + 10)
    for search in ("tag:oldest", f"workspace:{workspace_id} tag:oldest"):
        first = find_jobs(db, parse_search(search))
        assert (first.jobs, first.complete) == ((), False)
        # As many seconds before the last of them.
        assert first.looked_back_to is not None
        assert first.looked_back_to.isoformat() == "2029-01-01T00:00:11+00:00"

        second = find_jobs(db, parse_search(search), before=first.next)
        assert [job.task for job in second.jobs] == ["bulky"]
        assert (second.complete, second.next) == (True, None)


def test_a_look_at_live_jobs_says_how_far_it_went_too_and_goes_on(db: Session, workspace_id: uuid.UUID) -> None:
    db.execute(text(FILL_LIVE), {"workspace_id": workspace_id, "amount": LOOK_UP + 10})
    for tag, on_first, on_second in (("oldest", 0, 1), ("newest", 1, 0)):
        search = parse_search(f"status:pending tag:{tag}")

        first = find_jobs(db, search)
        second = find_jobs(db, search, before=first.next)

        assert (len(first.jobs), first.complete) == (on_first, False)
        assert first.looked_back_to is not None
        assert first.looked_back_to.isoformat() == "2029-01-01T00:00:11+00:00"
        assert (len(second.jobs), second.complete, second.next) == (on_second, True, None)
    assert str(count_jobs(db, parse_search("tag:nowhere")).pending) == "0 recent"
    assert str(count_jobs(db, parse_search("task:bulky")).pending) == "1,000+"


def test_counts_are_exact_while_they_are_small(db: Session, jobs: Jobs, workspace_id: uuid.UUID) -> None:
    counts = count_jobs(db, Search())

    assert [str(counts.of(status)) for status in ("pending", "running", "completed", "failed", "cancelled")] == [
        "2", "1", "1", "1", "1",
    ]  # fmt: skip
    assert str(count_jobs(db, parse_search("tag:eu status:failed")).pending) == "1"
    assert str(count_jobs(db, parse_search(f"workspace:{OTHER}")).pending) == "1"
    assert str(count_jobs(db, parse_search("error:KeyError")).failed) == "1"
    assert str(count_jobs(db, parse_search("error:0123456789abcdef")).pending) == "0"


def test_counts_end_at_a_thousand_and_say_when_not_all_were_looked_at(
    put: Put, db: Session, workspace_id: uuid.UUID
) -> None:
    fill(db, workspace_id, LOOK + 10)

    assert str(count_jobs(db, Search()).completed) == "≈20,000"
    assert str(count_jobs(db, parse_search("task:bulky")).completed) == "1,000+"
    assert str(count_jobs(db, parse_search("tag:oldest")).completed) == "0 recent"
    assert str(count_jobs(db, Search()).pending) == "0"


def test_a_cursor_of_somebody_else_is_refused(db: Session) -> None:
    with pytest.raises(SearchError, match="no cursor of ours"):
        find_jobs(db, Search(), before="x")


def test_who_sees_one_workspace_finds_nothing_of_another(session: Session, jobs: Jobs, workspace_id: uuid.UUID) -> None:
    confine(session, Role.API, workspace_id)

    assert [job.id for job in find_jobs(session, Search()).jobs] == named(jobs, "abcde")
    assert find_jobs(session, Search(workspace_ids=(OTHER,))).jobs == ()
    assert find_jobs(session, parse_search(str(jobs["f elsewhere"]))).jobs == ()
    assert found(session, f"workspace:{workspace_id} error:KeyError") == named(jobs, "b")


def test_no_search_reads_a_table_from_end_to_end_nor_more_than_a_look(
    put: Put, db: Session, engine: Engine, workspace_id: uuid.UUID
) -> None:
    fill(db, workspace_id, 4 * LOOK)
    put(tags=("eu",)), put(workspace_id=OTHER)
    db.execute(text("analyze jobplatform.job_queue"))
    searches = [
        "",
        "status:completed",
        "tag:oldest",
        "task:nope priority:>5",
        "status:pending tag:eu",
        str(workspace_id),
    ]
    searches += [f"workspace:{workspace_id} {search}" for search in ("", "tag:nope", "status:failed")]
    searches += [f"workspace:{workspace_id},{OTHER} tag:nope", "error:0123456789abcdef", "error:E task:work"]

    for search in map(parse_search, searches):
        for act in (find_jobs, count_jobs):
            plans = explain_all(engine, partial(_ask, act, search))
            assert [scan for plan in plans for scan in plan.sequential_scans if scan == "job_records"] == [], (
                search.text
            )
            assert max(plan.rows_visited("job_records") for plan in plans) <= LOOK + 1, search.text

    # A common thing is found after a few rows.
    first, *_ = explain_all(engine, partial(_ask, find_jobs, parse_search("status:completed")))
    assert first.buffers < 300


def _ask(act: Callable[[Session, Search], object], search: Search, session: Session) -> object:
    return act(session, search)
