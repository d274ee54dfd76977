"""Nobody is passed over: a real worker, a workspace of one kind beside a crowd of the other, all there from the start.

What is looked at is the order in which handlers began, and how long each of them took; not when that was. The same
questions are asked about first-in first-out, of the same jobs: there they are answered the other way.
"""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from jobplatform.queue import pause, resume
from tests.worker.conftest import Database, Lines, StartWorker

LONG, SHORT = 0.02, 0.005
CROWD = 8
#: Rounds of turns in which everybody has begun something.
ROUNDS = 8
#: Long jobs' time that one of the others may be given meanwhile.
LONG_JOBS = 10


class Share(NamedTuple):
    """What each workspace of a kind wants: so many jobs of so many seconds."""

    jobs: int
    seconds: float


class Start(NamedTuple):
    """A handler began, and took so long then."""

    workspace_id: uuid.UUID
    seconds: float


#: The one that is not like the others, and what each of those wants: enough to be passed over for. First-in first-out
#: begins with the former.
SCENES = {
    "long jobs beside a crowd with short ones": (Share(50, LONG), Share(30, SHORT)),
    "short jobs beside a crowd with long ones": (Share(200, SHORT), Share(8, LONG)),
}


def enqueue_all(database: Database, told: Lines, one: Share, each: Share) -> list[uuid.UUID]:
    """Enqueue what the one wants and then what the crowd does, while nothing of it can start."""
    with database.sessions.begin() as session:
        pause(session, "queue", "default", reason="not yet", actor="a test")
    ids = []
    for share in (one, *[each] * CROWD):
        database.workspace_id = uuid.uuid4()
        ids += database.enqueue_many("take", [{"file": told.path, "seconds": share.seconds}] * share.jobs)
    return ids


def starts(database: Database, ids: Sequence[uuid.UUID]) -> list[Start]:
    """These jobs' starts, in the order given."""
    rows = database.rows("select id, workspace_id, result::text::float8 as seconds from jobplatform.jobs")
    found = {row.id: Start(row.workspace_id, row.seconds) for row in rows}
    return [found[job_id] for job_id in ids]


def most_meanwhile(order: Sequence[Start]) -> float:
    """The most seconds that one workspace was given between two turns of another that had something waiting."""
    left = Counter(start.workspace_id for start in order)
    given: dict[uuid.UUID, dict[uuid.UUID, float]] = {workspace_id: defaultdict(float) for workspace_id in left}
    most = 0.0
    for start in order:
        left[start.workspace_id] -= 1
        given[start.workspace_id].clear()
        for workspace_id, others in given.items():
            if left[workspace_id] and workspace_id != start.workspace_id:
                others[start.workspace_id] += start.seconds
                most = max(most, others[start.workspace_id])
    return most


def allowed_meanwhile(order: Sequence[Start]) -> float:
    """As many long jobs as they usually took; and one job more, in which the machine may have stood still."""
    long = median(start.seconds for start in order if start.seconds >= LONG)
    return LONG_JOBS * long + max(start.seconds for start in order)


def begun(order: Sequence[Start]) -> int:
    """How many workspaces have begun something after a few rounds of turns."""
    return len({start.workspace_id for start in order[: ROUNDS * (CROWD + 1)]})


def test_nobody_is_passed_over_for_long_beside_jobs_of_another_length(
    start_worker: StartWorker, database: Database, told: Lines
) -> None:
    start_worker(slots=2)
    for scene, (one, each) in SCENES.items():
        enqueued = enqueue_all(database, told, one, each)
        before = len(told.read())

        with database.sessions.begin() as session:
            resume(session, "queue", "default")
        database.wait_until_done()

        fair = starts(database, [uuid.UUID(line) for line in told.read()[before:]])
        assert len(fair) == len(enqueued), scene
        assert begun(fair) == CROWD + 1, (scene, fair)
        assert most_meanwhile(fair) <= allowed_meanwhile(fair), (scene, fair)

        first_in_first_out = starts(database, enqueued)
        assert begun(first_in_first_out) < CROWD + 1, scene
        assert most_meanwhile(first_in_first_out) > allowed_meanwhile(first_in_first_out), scene
