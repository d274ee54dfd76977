"""Enqueue: one job a transaction, and a thousand in one call."""

from __future__ import annotations

from collections.abc import Sequence

from harness.contenders import Contender, bare_inserts, jobplatform
from harness.figures import NOTHING, middle, ratios, shown, shown_ratios
from harness.report import Table, Target
from harness.rounds import Rounds, alternate, column
from harness.run import Run

SIZE = 200
BATCH = 1000

EXPLANATION = """
Jobs a second of one client, one after another; payload 200 bytes. *Single*: a transaction for each job,
through the contender's own front door (for jobplatform a Session, an enqueue and its commit). *Bulk*: one
call with 1,000 jobs. The bare rows are the same two rows of jobplatform's tables, written by the driver
alone or, *in a Session*, through SQLAlchemy: what the promise costs that a job belongs to the caller's own transaction.
"""


def measure(run: Run) -> tuple[list[Table], list[Target]]:
    ours, bare = jobplatform(), bare_inserts()
    single = alternate("enqueue single", [ours, *bare, *run.peers], run.rounds, lambda c: _single(run, c))
    bulk = alternate("enqueue bulk", [ours, *run.peers], run.rounds, lambda c: _bulk(run, c))
    table = Table(
        "Enqueue",
        EXPLANATION,
        ("", "single, jobs/s", "jobplatform to it, by round", "bulk, jobs/s", "jobplatform to it, by round"),
        [_row(contender, ours, single, bulk) for contender in [ours, *bare, *run.peers]],
    )
    return [table], _targets(ours, bare, run.peers, single, bulk)


def _single(run: Run, contender: Contender) -> dict[str, float]:
    url = contender.fresh_database(run.databases)
    return _rate(contender.ask(url, "enqueue_single", 200 if run.quick else 1000, SIZE))


def _bulk(run: Run, contender: Contender) -> dict[str, float]:
    url = contender.fresh_database(run.databases)
    return _rate(contender.ask(url, "enqueue_bulk", 5 if run.quick else 20, BATCH, SIZE))


def _rate(answer: dict[str, float]) -> dict[str, float]:
    return {"jobs/s": answer["jobs"] / answer["seconds"]}


def _row(contender: Contender, ours: Contender, single: Rounds, bulk: Rounds) -> list[str]:
    cells = [contender.name]
    for results in (single, bulk):
        cells += _cells(results, contender, ours) if contender.name in results else [NOTHING, NOTHING]
    return cells


def _cells(results: Rounds, contender: Contender, ours: Contender) -> list[str]:
    rate = shown(middle(column(results, contender.name, "jobs/s")))
    if contender is ours:
        return [rate, ""]
    return [rate, shown_ratios(_to(results, ours, contender))]


def _to(results: Rounds, ours: Contender, other: Contender) -> list[float]:
    return ratios(column(results, ours.name, "jobs/s"), column(results, other.name, "jobs/s"))


def _targets(
    ours: Contender, bare: Sequence[Contender], peers: Sequence[Contender], single: Rounds, bulk: Rounds
) -> list[Target]:
    two_inserts = middle(_to(single, ours, bare[0]))
    rate = middle(column(bulk, ours.name, "jobs/s"))
    targets = [
        Target.at_least("enqueue one by one, to a bare two-row insert", 0.8, two_inserts, 2),
        Target.at_least("enqueue 1,000 in one call, jobs/s", 25_000, rate),
    ]
    best = max(peers, key=lambda peer: middle(column(bulk, peer.name, "jobs/s")) or 0.0, default=None)
    if best is not None:
        to_best = middle(_to(bulk, ours, best))
        targets.append(
            Target.at_least(f"enqueue 1,000 in one call, to the fastest peer ({best.name})", 1.0, to_best, 2)
        )
    return targets
