"""Drain: a whole worker against a backlog of jobs that do nothing, and the CPU that costs."""

from __future__ import annotations

from harness.contenders import Contender, jobplatform
from harness.cpu import cpu_time
from harness.figures import NOTHING, middle, ratios, shown, shown_ratios
from harness.report import Table, Target
from harness.rounds import Rounds, alternate, column
from harness.run import Run

SIZE = 200
WORKSPACES = 200
SECONDS = 180.0
#: Those for which the usual load would last for minutes.
SLOW = {"procrastinate": 0.1}

EXPLANATION = """
{jobs:,} jobs that do nothing, payload 200 bytes, one worker (jobplatform: two slots), from the moment it is
let loose until the last completion is committed{fewer}. *CPU* is milliseconds per 1,000 jobs, that is
microseconds a job, of the worker's own process, its children and the whole server. pgqueuer: asyncpg,
uvloop, batches of 100; pg-boss: its workers with batches of 500, two at a time, a result for each job; neither
knows workspaces.
"""


def measure(run: Run) -> tuple[list[Table], list[Target]]:
    ours = [jobplatform(), jobplatform(WORKSPACES)]
    contenders = [*ours, *run.peers]
    results = alternate("drain", contenders, run.rounds, lambda contender: _drain(run, contender))
    slower = [f"{name} got {_jobs(run, name):,}" for name in SLOW if name in results]
    table = Table(
        "Drain of no-op jobs",
        EXPLANATION.format(jobs=_jobs(run, ""), fewer=f" ({', '.join(slower)})" if slower else ""),
        (
            "",
            "jobs/s",
            "jobplatform, 1 workspace, to it, by round",
            "CPU: worker + children + server = total",
        ),
        [_row(contender.name, ours[0].name, results) for contender in contenders],
    )
    return [table], _targets(ours, results)


def _jobs(run: Run, name: str) -> int:
    return int((2_000 if run.quick else 60_000) * SLOW.get(name, 1.0))


def _drain(run: Run, contender: Contender) -> dict[str, float]:
    """The worker is started first and waits; then the backlog is loaded; then it is let loose."""
    jobs = _jobs(run, contender.name)
    url = contender.fresh_database(run.databases)
    with contender.run(url, "drain", jobs) as program:
        pid = int(program.answer(60)["pid"])
        contender.ask(url, "load", jobs, contender.workspaces, SIZE)
        run.databases.settle(url)
        worker, server = cpu_time(pid), run.databases.cpu()
        program.say("go")
        seconds = program.answer(SECONDS)["seconds"]
        worker, server = cpu_time(pid) - worker, run.databases.cpu() - server
    spent = {"worker": worker.own, "children": worker.descendants, "server": server.total}
    per_thousand = {f"{name} ms": 1e6 * used / jobs for name, used in spent.items()}
    return {"jobs/s": jobs / seconds, **per_thousand, "total ms": sum(per_thousand.values())}


def _row(name: str, ours: str, results: Rounds) -> list[str]:
    parts = [shown(middle(column(results, name, f"{part} ms"))) for part in ("worker", "children", "server", "total")]
    rate = shown(middle(column(results, name, "jobs/s")))
    ratio = "" if name == ours else shown_ratios(_ratio(results, ours, name, "jobs/s"))
    return [name, rate, ratio, NOTHING if NOTHING in parts else "{} + {} + {} = {}".format(*parts)]


def _ratio(results: Rounds, ours: str, other: str, figure: str) -> list[float]:
    return ratios(column(results, ours, figure), column(results, other, figure)) if other in results else []


def _targets(ours: list[Contender], results: Rounds) -> list[Target]:
    targets = []
    for name in (contender.name for contender in ours):
        to_pgqueuer = middle(_ratio(results, name, "pgqueuer", "jobs/s"))
        cpu_to_pgqueuer = middle(_ratio(results, name, "pgqueuer", "total ms"))
        to_pgboss = middle(_ratio(results, name, "pg-boss", "jobs/s"))
        cpu = middle(column(results, name, "total ms"))
        targets += [
            Target.at_least(f"drain, {name}, to pgqueuer", 1.8, to_pgqueuer, 2),
            Target.at_most(f"its CPU, {name}, to pgqueuer", 0.75, cpu_to_pgqueuer, 2),
            Target.at_least(f"drain, {name}, to pg-boss", 1.2, to_pgboss, 2),
            Target.at_most(f"CPU per 1,000 jobs in all, {name}, ms", 150, cpu),
        ]
    return targets
