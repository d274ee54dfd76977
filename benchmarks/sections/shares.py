"""Shares: weights, turns over many rounds, and how soon a newcomer has its first turn."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

import psycopg
from contenders.backlog import load_backlog, workspace
from contenders.protocol import stamp
from harness.contenders import jobplatform
from harness.figures import jain, middle, percentile, shown, shown_share
from harness.report import Table, Target
from harness.rounds import Part, Rounds, alternate, column
from harness.run import Run
from harness.workers import enqueue, one, started, stopped, wait_until, workers
from sqlalchemy.orm import Session

from jobplatform.models import make_engine
from jobplatform.queue import NewJob, set_workspace_limits

SLOTS = 4
MILLISECONDS = 10
HEAVY = 4
SERVED = 500
RINGERS = 40
ROUNDS = 10
#: What is behind a workspace's served jobs, so that nobody runs out of them.
SPARE = 5
BACKLOGGED = 20_000
NEWCOMERS = 20
NEWCOMERS_A_SECOND = 10
ALL_STARTED = "select count(*) >= %s from jobplatform.job_records where task = 'stamp' and status = 3"
NEWCOMERS_ENDED = "select not exists (select from jobplatform.job_queue where workspace_id = any(%s))"
NEWCOMERS_STARTED = """
select result -> 'started'
from jobplatform.job_records
where workspace_id = any(%s) and task = 'stamp'
order by workspace_id
"""

EXPLANATION = """
*Weights*: two workspaces with weights 4 and 1 and a backlog each of jobs of 10 ms, on four slots; of the first {served}
jobs, those of the one for each of the other. *Turns*: {ringers} workspaces with a backlog on two workers of four slots;
Jain's index of the jobs each has had when {rounds} have been started for each on average (1: all the same; 1/{ringers}:
one had them all). *Newcomer*: {backlogged:,} workspaces with two jobs of 1 ms each, and while a worker with four slots
goes round among them, {newcomers} workspaces that had nothing enqueue one job each, {a_second} a second; their wait,
and its share of the time that one round takes at the rate of that moment.
"""


def measure(run: Run) -> tuple[list[Table], list[Target]]:
    parts = [Part("weights", _weights), Part("turns", _turns), Part("newcomer", _newcomers)]
    results = alternate("shares", parts, run.rounds, lambda part: part.measure(run))
    table = Table(
        "Shares",
        EXPLANATION.format(
            served=SERVED,
            ringers=RINGERS,
            rounds=ROUNDS,
            backlogged=_backlogged(run),
            newcomers=NEWCOMERS,
            a_second=NEWCOMERS_A_SECOND,
        ),
        ("", "result", "by round"),
        _rows(results, _backlogged(run)),
    )
    return [table], _targets(results)


def _weights(run: Run) -> dict[str, float]:
    url = jobplatform().fresh_database(run.databases)
    _set_weight(url, "heavy", HEAVY)
    jobs = [_job(owner, f"{owner} {number}") for number in range(SERVED + SPARE) for owner in ("heavy", "light")]
    with workers(jobplatform(), url, SLOTS):
        first = _first_served(url, jobs, SERVED)
    return {"ratio": first["heavy"] / max(1, first["light"])}


def _set_weight(url: str, owner: str, weight: int) -> None:
    engine = make_engine(url)
    with Session(engine) as session, session.begin():
        set_workspace_limits(session, workspace(owner), {"weight": weight})
    engine.dispose()


def _turns(run: Run) -> dict[str, float]:
    url = jobplatform().fresh_database(run.databases)
    jobs = [
        _job(f"ringer-{owner}", f"ringer-{owner} {number}")
        for number in range(ROUNDS + SPARE)
        for owner in range(RINGERS)
    ]
    with workers(jobplatform(), url, SLOTS, count=2):
        first = _first_served(url, jobs, ROUNDS * RINGERS)
    return {"jain": jain([first[f"ringer-{owner}"] for owner in range(RINGERS)])}


def _first_served(url: str, jobs: Sequence[NewJob], count: int) -> Counter[str]:
    """How many jobs each owner had among the first so many that were started."""
    enqueue(url, jobs)
    # Those that are started last of these may end after others: a few more, and the order is known.
    wait_until(url, ALL_STARTED, min(len(jobs), count + 4 * SLOTS), seconds=60)
    at = started(url)
    return Counter(key.split()[0] for key in sorted(at, key=lambda key: at[key])[:count])


def _newcomers(run: Run) -> dict[str, float]:
    url = jobplatform().fresh_database(run.databases)
    with workers(jobplatform(), url, SLOTS) as (pid,):
        with stopped(pid):
            backlogged = _backlogged(run)
            load_backlog(url, 2 * backlogged, backlogged, stamp("backlog", 1), task="stamp")
            run.databases.settle(url)
        wait_until(url, "select count(*) <= %s from jobplatform.job_queue", 2 * backlogged - 500, seconds=30)
        waits, rate = _arrivals(url)
    a_pass = backlogged / rate
    return {
        "p50 ms": 1000 * percentile(waits, 0.5),
        "p95 ms": 1000 * percentile(waits, 0.95),
        "jobs/s": rate,
        "p50": percentile(waits, 0.5) / a_pass,
        "p95": percentile(waits, 0.95) / a_pass,
    }


def _arrivals(url: str) -> tuple[list[float], float]:
    """The seconds that each newcomer's job waited, and the jobs a second that the worker ran meanwhile."""
    owners = sorted((workspace(f"newcomer {number}") for number in range(NEWCOMERS)), key=lambda owner: owner.int)
    committed = []
    with psycopg.connect(url, autocommit=True) as connection:
        before, began = one(connection, "select count(*) from jobplatform.job_queue"), time.monotonic()
        for owner in owners:
            time.sleep(1 / NEWCOMERS_A_SECOND)
            enqueue(url, [NewJob(workspace_id=owner, task="stamp", payload=stamp("newcomer", 1))])
            committed.append(time.monotonic())
        after, passed = one(connection, "select count(*) from jobplatform.job_queue"), time.monotonic() - began
        wait_until(url, NEWCOMERS_ENDED, owners, seconds=60)
        first_lines = [at for (at,) in connection.execute(NEWCOMERS_STARTED, [owners]).fetchall()]
    waits = [at - commit for at, commit in zip(first_lines, committed, strict=True)]
    return waits, (before - after + NEWCOMERS) / passed


def _backlogged(run: Run) -> int:
    return BACKLOGGED // 5 if run.quick else BACKLOGGED


def _job(owner: str, key: str) -> NewJob:
    return NewJob(workspace_id=workspace(owner), task="stamp", payload=stamp(key, MILLISECONDS))


def _rows(results: Rounds, backlogged: int) -> list[list[str]]:
    def cells(part: str, figure: str, digits: int) -> list[str]:
        values = column(results, part, figure)
        return [shown(middle(values), digits), ", ".join(shown(value, digits) for value in values)]

    def shares(figure: str) -> list[str]:
        values = column(results, "newcomer", figure)
        return [shown_share(middle(values), 1), ", ".join(shown_share(value, 1) for value in values)]

    return [
        ["weights 4 and 1: served of the one for each of the other", *cells("weights", "ratio", 2)],
        [f"turns: Jain's index over {ROUNDS} rounds of {RINGERS} workspaces, 2 workers", *cells("turns", "jain", 3)],
        [f"newcomer among {backlogged:,} with a backlog: wait p50, ms", *cells("newcomer", "p50 ms", 1)],
        ["wait p95, ms", *cells("newcomer", "p95 ms", 1)],
        ["wait p50, of a round", *shares("p50")],
        ["wait p95, of a round", *shares("p95")],
        ["jobs/s meanwhile", *cells("newcomer", "jobs/s", 0)],
    ]


def _targets(results: Rounds) -> list[Target]:
    ratio = middle(column(results, "weights", "ratio"))
    index = middle(column(results, "turns", "jain"))
    share = middle(column(results, "newcomer", "p95"))
    return [
        Target.within("weights 4 and 1 are served 4 to 1", 4, 0.05, ratio, 2),
        Target.at_least(f"Jain's index over {ROUNDS} rounds, 2 workers", 0.95, index, 3),
        Target.at_most("a newcomer's wait p95, of a round among many with a backlog", 0.05, share, 3),
    ]
