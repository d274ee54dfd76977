"""What an operator looks at."""

from __future__ import annotations

import datetime
import uuid

from sqlalchemy.orm import Session

from jobplatform.models import Workspace
from jobplatform.queue import (
    Completion,
    complete_jobs,
    find_workspace,
    list_queues,
    list_workers,
    list_workspaces,
    pause,
    set_queue_limit,
    set_workspace_limits,
)
from tests.queue.actors import Time, Worker
from tests.queue.conftest import Fact, Put


def test_workspaces_are_those_with_a_row_with_limits_or_with_live_jobs(db: Session, put: Put) -> None:
    ids = sorted(uuid.uuid4() for _ in range(3))
    db.add(Workspace(id=ids[0], name="Acme"))
    db.flush()
    set_workspace_limits(db, ids[1], {"weight": 2})
    first = put(workspace_id=ids[2])
    put(workspace_id=ids[2], delay=datetime.timedelta(hours=1))
    put(workspace_id=ids[2], after=[first])

    found = list_workspaces(db)

    assert [(one.id, one.name, one.ready, one.scheduled, one.blocked, one.pending, one.running) for one in found] == [
        (ids[0], "Acme", 0, 0, 0, 0, 0),
        (ids[1], None, 0, 0, 0, 0, 0),
        (ids[2], None, 1, 1, 1, 3, 0),
    ]


def test_a_workspace_that_is_known_in_every_way_is_listed_once(db: Session, put: Put, workspace_id: uuid.UUID) -> None:
    db.add(Workspace(id=workspace_id, name="Acme"))
    db.flush()
    set_workspace_limits(db, workspace_id, {"weight": 2})
    put()

    assert len(list_workspaces(db)) == 1


def test_pages_of_workspaces_follow_each_other_and_miss_nobody(db: Session, put: Put) -> None:
    ids = sorted(uuid.uuid4() for _ in range(7))
    for place, workspace_id in enumerate(ids):
        if place % 2:
            put(workspace_id=workspace_id)
        else:
            db.add(Workspace(id=workspace_id, name="x"))
            db.flush()

    seen: list[uuid.UUID] = []
    while page := list_workspaces(db, limit=3, after=seen[-1] if seen else None):
        seen += [one.id for one in page]

    assert seen == ids


def test_a_workspace_is_known_by_jobs_that_ended(
    db: Session, put: Put, worker: Worker, workspace_id: uuid.UUID
) -> None:
    assert find_workspace(db, workspace_id) is None

    put()
    complete_jobs(db, [Completion(worker.lease(), "null")])

    found = find_workspace(db, workspace_id)
    assert found is not None
    assert (found.name, found.pending, found.running) == (None, 0, 0)


def test_queues_show_their_jobs_their_limit_and_how_long_the_oldest_has_been_ready(
    db: Session, put: Put, worker: Worker, time: Time
) -> None:
    put()
    worker.claim()
    put(after=[put()])
    put(queue="slow", delay=datetime.timedelta(hours=1))
    set_queue_limit(db, "limited", 3)
    pause(db, "queue", "paused", reason="a look", actor="ann")
    time.passes(30)

    queues = {one.queue: one for one in list_queues(db)}

    assert list(queues) == ["default", "limited", "paused", "slow"]
    default = queues["default"]
    assert (default.ready, default.scheduled, default.blocked, default.running, default.workers) == (1, 0, 1, 1, 1)
    assert default.oldest_ready_seconds is not None
    assert 30 <= default.oldest_ready_seconds < 60
    assert (queues["slow"].scheduled, queues["slow"].oldest_ready_seconds) == (1, None)
    assert queues["limited"].max_running == 3


def test_workers_show_what_they_serve_and_run(db: Session, put: Put, worker: Worker, fact: Fact) -> None:
    put()
    worker.claim()

    (seen,) = list_workers(db)

    assert (seen.id, seen.name, seen.queues, seen.tasks) == (worker.id, "worker", ["default"], ["work"])
    assert (seen.running, seen.draining) == (1, False)
    fact("update jobplatform.workers set dead_at = jobplatform.clock() returning 1")
    assert list_workers(db) == []
