"""jobplatform, asked when its waiting jobs will start, and what became of the answers.

``estimates SCENARIO WORKERS SLOTS PERCENT`` starts workers with SLOTS each and answers {pid} for each of them. Then it
enqueues a scenario with PERCENT of its jobs, asks about some of those that wait at several moments, lets all of them
run and answers with {asked: [[estimated, really], …]}, in seconds from the asking; estimated is null where there was no
estimate. ``install`` is as everywhere.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg
from backlog import workspace
from protocol import DATABASE_URL, answer, run, stamp, wait_for_the_end
from sqlalchemy.orm import Session, sessionmaker
from with_jobplatform import _start_worker, install

from jobplatform.models import make_engine
from jobplatform.queue import NewJob, enqueue_jobs, set_workspace_limits, why_waiting

#: When so much of a scenario has ended, and how many jobs are asked about each time.
MOMENTS = (0.0, 0.2, 0.4, 0.6)
SAMPLE = 12

READY = "select workspace_id, id from jobplatform.job_queue where state = 1 order by id"
ALIVE = "select count(*) from jobplatform.workers where dead_at is null"
ENDED = "select count(*) from jobplatform.job_records where task = 'stamp' and status is not null"
STARTED = "select started_at from jobplatform.job_records where id = %s"


@dataclass(frozen=True)
class Scenario:
    """Jobs of each workspace by name, how long one takes (ms), limits of workspaces, and how many priorities there are.

    ``newcomers``: so many workspaces ring with one job each whenever we ask, and are asked about at once.
    """

    jobs: dict[str, int]
    milliseconds: Callable[[str], int] = lambda _: 100
    limits: dict[str, dict[str, int]] = field(default_factory=dict)
    priorities: int = 1
    newcomers: int = 0


def _lengths(_: str) -> int:
    return random.choice((40, 80, 120, 400))


WARM_UP_JOBS = 24
WARM_UP = Scenario({"warm-up": WARM_UP_JOBS})
#: In the order of their numbers.
SCENARIOS = (
    Scenario({"alone": 200}),
    Scenario({f"even {n}": 40 for n in range(5)}),
    Scenario({"noisy": 150, **{f"quiet {n}": 5 for n in range(10)}}),
    Scenario({f"mixed {n}": 40 for n in range(5)}, _lengths),
    Scenario({"light": 80, "heavy": 120}, limits={"heavy": {"weight": 3}}),
    Scenario(
        {"one at a time": 30, "paced": 30, "free": 140},
        limits={"one at a time": {"max_running": 1}, "paced": {"rate_units": 8, "rate_period_ms": 1_000}},
    ),
    Scenario({"short": 150, "long": 25}, lambda name: 600 if name == "long" else 60),
    Scenario({"first": 100, "second": 60}, priorities=5),
    Scenario({f"many {n}": 8 for n in range(25)}, newcomers=3),
)


def estimates(number: int, workers: int, slots: int, percent: int) -> None:
    random.seed(number)
    scenario = SCENARIOS[number]
    sessions = sessionmaker(make_engine(DATABASE_URL))
    for _ in range(workers):
        answer(pid=_start_worker(slots).pid)
    with psycopg.connect(DATABASE_URL, autocommit=True) as connection:
        while _one(connection, ALIVE) < workers:
            time.sleep(0.02)
        # Workers claim ahead by how long jobs took, and have seen at most one, that did nothing.
        _wait_until_ended(connection, _enqueue(sessions, WARM_UP, 100))
    total = _enqueue(sessions, scenario, percent)
    answers: list[tuple[UUID, Any, float | None]] = []
    with psycopg.connect(DATABASE_URL, autocommit=True) as connection:
        for moment in MOMENTS:
            _wait_until_ended(connection, WARM_UP_JOBS + moment * total)
            rung = [_ring(sessions, f"newcomer {moment} {n}") for n in range(scenario.newcomers)]
            total += len(rung)
            answers += _ask(sessions, rung)
            answers += _ask(sessions, _some(connection.execute(READY).fetchall()))
        _wait_until_ended(connection, WARM_UP_JOBS + total)
        answer(asked=[(estimated, _really(connection, job_id, at)) for job_id, at, estimated in answers])
    wait_for_the_end()


def _enqueue(sessions: sessionmaker[Session], scenario: Scenario, percent: int) -> int:
    jobs = [
        NewJob(
            workspace_id=workspace(name),
            task="stamp",
            payload=stamp(name, scenario.milliseconds(name)),
            priority=number % scenario.priorities,
        )
        for name, count in scenario.jobs.items()
        for number in range(max(2, count * percent // 100))
    ]
    with sessions.begin() as session:
        for name, limits in scenario.limits.items():
            set_workspace_limits(session, workspace(name), limits)
        enqueue_jobs(session, jobs)
    return len(jobs)


def _wait_until_ended(connection: psycopg.Connection[Any], count: float) -> None:
    while _one(connection, ENDED) < count:
        time.sleep(0.02)


def _ring(sessions: sessionmaker[Session], name: str) -> tuple[UUID, UUID]:
    """A workspace that had nothing to do enqueues a job."""
    with sessions.begin() as session:
        job = NewJob(workspace_id=workspace(name), task="stamp", payload=stamp(name, 100))
        return job.workspace_id, enqueue_jobs(session, [job])[0].job_id


def _some(ready: Sequence[Any]) -> Sequence[Any]:
    return random.sample(ready, min(SAMPLE, len(ready)))


def _ask(sessions: sessionmaker[Session], jobs: Iterable[tuple[UUID, UUID]]) -> list[tuple[UUID, Any, float | None]]:
    """The job, the moment and the seconds, for those that are still ready."""
    answers = []
    for workspace_id, job_id in jobs:
        with sessions.begin() as session:
            why = why_waiting(session, workspace_id, job_id)
        if why is not None and why.position is not None:
            at = why.estimated_start_at
            answers.append((job_id, why.asked_at, None if at is None else (at - why.asked_at).total_seconds()))
    return answers


def _really(connection: psycopg.Connection[Any], job_id: Any, asked_at: Any) -> float:
    row = connection.execute(STARTED, (job_id,)).fetchone()
    assert row is not None
    return float((row[0] - asked_at).total_seconds())


def _one(connection: psycopg.Connection[Any], query: str) -> Any:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


if __name__ == "__main__":
    run({"install": install, "estimates": estimates})
