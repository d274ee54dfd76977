"""Limits: what a claim costs when every workspace has one, against when none has."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from contenders.backlog import load_backlog
from harness.contenders import jobplatform
from harness.figures import middle, percentile, ratios, shown, shown_ratios
from harness.report import Table, Target
from harness.rounds import Rounds, alternate, column
from harness.run import Run
from sqlalchemy.orm import Session

from jobplatform.models import make_engine
from sections.claim import BATCHES, PAYLOAD, ClosedLoop

WARM_TURNS = 10
NOTHING_LIMITED = "nothing limited"
#: Limits that are never reached: what is measured is how long it takes to know that.
KINDS: dict[str, LiteralString] = {
    NOTHING_LIMITED: "",
    "every workspace limited": "max_running = 1000000",
    "every workspace rated": "rate_units = 1000000, rate_period_ms = 1000",
    "weights only": "weight = 3",
}

EXPLANATION = """
Claims as above, with {pending:,} jobs of {workspaces:,} workspaces pending. *Limited*: each workspace has a limit of
running jobs; *rated*: each has a rate, and so a bucket that is locked and written; *weights*: each has weight 3. No
limit is ever reached. Ratios are to the same claim with nothing limited, by round.
"""


@dataclass(frozen=True)
class Claimer:
    kind: str
    batch: int
    url: str

    @property
    def name(self) -> str:
        return f"{self.kind}, claims of {self.batch}"


def measure(run: Run) -> tuple[list[Table], list[Target]]:
    pending, workspaces = (10_000, 500) if run.quick else (100_000, 2_000)
    claimers = [
        Claimer(kind, batch, url)
        for kind in KINDS
        for url in [_loaded(run, kind, pending, workspaces)]
        for batch in BATCHES
    ]
    results = alternate("limits", claimers, run.rounds, lambda claimer: _claims(claimer, 0.7 if run.quick else 1.5))
    table = Table(
        "Claim time with limits",
        EXPLANATION.format(pending=pending, workspaces=workspaces),
        ("", "claim p50, ms", "p99", "to nothing limited, by round"),
        [_row(claimer, results) for claimer in claimers],
    )
    return [table], _targets(results)


def _loaded(run: Run, kind: str, pending: int, workspaces: int) -> str:
    url = jobplatform().fresh_database(run.databases, copy=kind.replace(" ", "_"))
    load_backlog(url, pending, workspaces, PAYLOAD, noisy=True)
    if limit := KINDS[kind]:
        with psycopg.connect(url) as connection:
            connection.execute(
                "insert into jobplatform.workspace_limits (workspace_id)"
                " select distinct workspace_id from jobplatform.job_queue"
            )
            connection.execute(f"update jobplatform.workspace_limits set {limit}")
    run.databases.settle(url)
    return url


def _claims(claimer: Claimer, seconds: float) -> dict[str, float]:
    engine = make_engine(claimer.url, autocommit=True)
    with Session(engine) as session:
        loop = ClosedLoop(session, claimer.batch)
        for _ in range(WARM_TURNS):
            loop.turn()
        loop.times.clear()
        started = time.perf_counter()
        while time.perf_counter() - started < seconds:
            loop.turn()
    engine.dispose()
    claims = [claim for claim, _, _ in loop.times]
    return {"claim p50": 1000 * percentile(claims, 0.5), "claim p99": 1000 * percentile(claims, 0.99)}


def _row(claimer: Claimer, results: Rounds) -> list[str]:
    p50, p99 = (shown(middle(column(results, claimer.name, f"claim {share}")), 2) for share in ("p50", "p99"))
    ratio = "" if claimer.kind == NOTHING_LIMITED else shown_ratios(_to_nothing(results, claimer.kind, claimer.batch))
    return [claimer.name, p50, p99, ratio]


def _to_nothing(results: Rounds, kind: str, batch: int) -> list[float]:
    ours, theirs = (column(results, f"{name}, claims of {batch}", "claim p50") for name in (kind, NOTHING_LIMITED))
    return ratios(ours, theirs)


def _targets(results: Rounds) -> list[Target]:
    kind = "every workspace limited"
    return [
        Target.at_most(
            f"claim of {batch}, {kind}, to nothing limited", 1.3, middle(_to_nothing(results, kind, batch)), 2
        )
        for batch in BATCHES
    ]
