"""Pickup latency: how long a job waits for a worker that has nothing else to do."""

from __future__ import annotations

from harness.contenders import Contender, jobplatform
from harness.figures import percentile, shown
from harness.report import Table, Target
from harness.rounds import alternate
from harness.run import Run

RATE = 20

EXPLANATION = """
From the return of the enqueuing commit to the handler's first line, in another process; {jobs} jobs in all,
{rate} a second, so that the worker is idle each time. Milliseconds over all rounds. All contenders are
woken by NOTIFY.
"""


def measure(run: Run) -> tuple[list[Table], list[Target]]:
    ours = jobplatform()
    waits: dict[str, list[float]] = {contender.name: [] for contender in [ours, *run.peers]}

    def one(contender: Contender) -> dict[str, float]:
        measured = _waits(run, contender)
        waits[contender.name] += measured
        return _figures(measured)

    alternate("latency", [ours, *run.peers], run.rounds, one)
    table = Table(
        "Pickup latency on an idle worker",
        EXPLANATION.format(jobs=_jobs(run) * run.rounds, rate=RATE),
        ("", "p50", "p95", "p99", "longest"),
        [[name, *(shown(value, 1) for value in _cells(measured))] for name, measured in waits.items()],
    )
    return [table], _targets(waits[ours.name])


def _jobs(run: Run) -> int:
    return 30 if run.quick else 100


def _waits(run: Run, contender: Contender) -> list[float]:
    url = contender.fresh_database(run.databases)
    jobs = _jobs(run)
    with contender.run(url, "serve", jobs, 0) as program:
        program.answer(60)
        # A worker that has just started is not idle yet: it looks at the empty queue once more, and listens.
        with contender.run(url, "feed", jobs, RATE) as feeder:
            committed = feeder.answer(60)["committed"]
            started = program.answer(60)["started"]
    return [1000 * (started[key] - at) for key, at in committed.items()]


def _cells(waits: list[float]) -> list[float | None]:
    return list(_figures(waits).values()) if waits else [None] * 4


def _figures(waits: list[float]) -> dict[str, float]:
    shares = {f"p{share}": percentile(waits, share / 100) for share in (50, 95, 99)}
    return {**shares, "longest": max(waits)}


def _targets(waits: list[float]) -> list[Target]:
    p50, _, p99, _ = _cells(waits)
    return [
        Target.at_most("pickup latency p50, ms", 3, p50, 1),
        Target.at_most("pickup latency p99, ms", 10, p99, 1),
    ]
