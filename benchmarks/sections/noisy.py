"""Noisy neighbours: how long twenty quiet workspaces wait behind somebody else's backlog."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness.contenders import Contender, jobplatform
from harness.figures import NOTHING, middle, percentile, shown, shown_share
from harness.report import Table, Target
from harness.rounds import Rounds, alternate, column
from harness.run import Run

MILLISECONDS = 10
SLOTS = 4
QUIET = 20
NOISY = (1, 2, 3)
KEYS = 50
LONGER = 100
MANY = 2_000
#: When this many are busy, fairness itself is a long line: everybody's next turn comes after all the others'.
EVERYBODY = 50
#: Those for which the usual load would last for minutes.
SLOW = {"dbos": 0.2}
SECONDS = 180.0

EXPLANATION = """
{backlog:,} jobs of 10 ms from the noisy workspaces, and behind them one job from each of twenty quiet ones, on one
worker with four slots. The quiet ones' wait is counted in lengths of a job (10 ms); *busy* is the share of the slots'
time that was spent inside jobs. *Spread over 50 keys*: the jobs of the one noisy workspace use fifty different
resources. *Nobody else*: its backlog alone, to see whether fairness leaves slots idle. *Nobody noisy*: twenty come at
the same moment to four slots, so the last of them wait up to four lengths even then. With 50 noisy workspaces a fair
turn comes after 50 to 70 jobs, 12 to 18 lengths.

jobplatform is fair without being told. pg-boss is given a cap of two running jobs for each group, without which it is
first in, first out as procrastinate and pgqueuer are; groups are the workspaces, or the noisy one's fifty keys. dbos is
given a queue partitioned in the same way, two running for each partition, looked at every 50 ms, and a fifth of the
backlog. procrastinate and pgqueuer know no workspaces: they show the queue's length. These three, and the 50 noisy
ones, ran once.
"""
LONG_EXPLANATION = """
One workspace with a backlog of jobs of 1 s, and behind it twenty with a backlog of jobs of 10 ms ({each} each, dbos
{each_slow}), on four slots. *Wait* is that of each quiet workspace's first job. Nothing is preempted: when the quiet
ones come every slot is in the middle of a long job, and they wait until the first of these ends, up to 1 s. What
fairness can do is that no other long job is started then before its turn. So *share of the slots' time*, what the long
jobs get of it, is counted from 1 s after the first quiet job came to the end of the last; fair would be 1 in 21, 4.8 %,
and a single long job is about {one_job:.0f} % of it here. *Quiet jobs/s*: in the same time; four slots could do 400.
The peers ran once.
"""
MANY_EXPLANATION = """
Nobody is noisy, there are just many: {many:,} workspaces with one job of 10 ms each, four slots. *Seconds* is from the
start of the first job to the end of the last; at best it is {best:.1f}. dbos got a fifth of them; the peers ran once.
"""


@dataclass(frozen=True)
class Crowd:
    """Who comes to a contender's worker; crowds take turns like contenders. See ``crowd`` in the protocol."""

    contender: Contender
    title: str
    backlog: int
    noisy: int = 1
    keys: int = 1
    longer: int = 1
    quiet: int = QUIET
    each: int = 1

    @property
    def name(self) -> str:
        return f"{self.contender.name.split(',')[0]}, {self.title}"

    @property
    def numbers(self) -> tuple[int, ...]:
        return self.backlog, self.noisy, self.keys, self.longer, self.quiet, self.each, MILLISECONDS


@dataclass(frozen=True)
class Seen:
    """When each job was started, and when the quiet ones' first jobs were committed."""

    committed: Mapping[str, float]
    started: Mapping[str, float]

    @property
    def waits(self) -> list[float]:
        """Of the quiet workspaces' first jobs, in job lengths."""
        return [1000 * (self.started[key] - at) / MILLISECONDS for key, at in self.committed.items()]


def measure(run: Run) -> tuple[list[Table], list[Target]]:
    capped = [peer for peer in run.peers_in("noisy") if peer.name in ("pg-boss", "dbos")]
    in_line = [peer for peer in run.peers if peer.name != "pg-boss"]
    measured = [_neighbours(run, capped, in_line), _long_jobs(run, capped), _many(run, capped)]
    return [table for table, _ in measured], [target for _, targets in measured for target in targets]


def _neighbours(run: Run, capped: Sequence[Contender], in_line: Sequence[Contender]) -> tuple[Table, list[Target]]:
    backlog = 300 if run.quick else 1_000
    spread = Crowd(jobplatform(), f"1 noisy, spread over {KEYS} keys", backlog, keys=KEYS)
    alone = Crowd(jobplatform(), "1 noisy, nobody else", backlog, quiet=0)
    nobody = Crowd(jobplatform(), "nobody noisy", backlog=0)
    some = [Crowd(jobplatform(), f"{noisy} noisy", backlog, noisy) for noisy in NOISY]
    everybody = Crowd(jobplatform(), f"{EVERYBODY} noisy", backlog, EVERYBODY)
    theirs = [
        replace(crowd, contender=peer, backlog=_scaled(backlog, peer))
        for peer in capped
        for crowd in (some[0], some[1], spread)
    ]
    often = [nobody, *some, spread, alone, *(crowd for crowd in theirs if crowd.contender.name not in SLOW)]
    once = [everybody, *(crowd for crowd in theirs if crowd.contender.name in SLOW)]
    once += [replace(some[0], contender=peer) for peer in in_line]
    results = alternate("noisy", often, run.rounds, lambda crowd: _quiet_waits(run, crowd))
    results |= alternate("noisy", once, 1, lambda crowd: _quiet_waits(run, crowd))
    table = Table(
        "One noisy workspace against twenty quiet ones",
        EXPLANATION.format(backlog=backlog),
        ("", "quiet wait p50, job lengths", "p95", "longest", "slots busy"),
        [_row(crowd.name, results) for crowd in sorted([*often, *once], key=_ours_first)],
    )
    return table, _targets(some, spread, alone, results)


def _ours_first(crowd: Crowd) -> bool:
    return not crowd.contender.name.startswith("jobplatform")


def _quiet_waits(run: Run, crowd: Crowd) -> dict[str, float]:
    seen = _seen(run, crowd)
    seconds = _span(seen.started)
    busy = len(seen.started) * MILLISECONDS / 1000 / SLOTS / seconds
    if not seen.committed:
        return {"busy": busy}
    waits = seen.waits
    shares = {"p50": percentile(waits, 0.5), "p95": percentile(waits, 0.95), "longest": max(waits)}
    return {**shares, "busy": busy} if crowd.backlog else shares


def _row(name: str, results: Rounds) -> list[str]:
    waits = (middle(column(results, name, figure)) for figure in ("p50", "p95", "longest"))
    return [name, *(shown(wait, 1) for wait in waits), shown_share(middle(column(results, name, "busy")))]


def _targets(some: Sequence[Crowd], spread: Crowd, alone: Crowd, results: Rounds) -> list[Target]:
    p95s = [middle(column(results, crowd.name, "p95")) for crowd in some]
    measured = [value for value in p95s if value is not None]
    worst = max(measured) if len(measured) == len(p95s) else None
    spread_p95 = middle(column(results, spread.name, "p95"))
    busy = middle(column(results, alone.name, "busy"))
    return [
        Target.at_most("quiet wait p95 with 1, 2 and 3 noisy workspaces, job lengths", 5, worst, 1),
        Target.at_most(f"quiet wait p95 with one noisy spread over {KEYS} keys, job lengths", 5, spread_p95, 1),
        Target.at_least("slots busy with only the noisy one present", 0.9, busy, 2),
    ]


def _long_jobs(run: Run, capped: Sequence[Contender]) -> tuple[Table, list[Target]]:
    each = 30 if run.quick else 100
    title = f"1 noisy, jobs {LONGER}x longer"
    ours = Crowd(jobplatform(), title, backlog=40, longer=LONGER, each=each)
    theirs = [replace(ours, contender=peer, each=_scaled(each, peer)) for peer in capped]
    results = alternate("long jobs", [ours], run.rounds, lambda crowd: _against_long_jobs(run, crowd))
    results |= alternate("long jobs", theirs, 1, lambda crowd: _against_long_jobs(run, crowd))
    explanation = LONG_EXPLANATION.format(
        each=each, each_slow=int(each * SLOW["dbos"]), one_job=100 * LONGER / (QUIET * each + LONGER)
    )
    table = Table(
        "One workspace with jobs a hundred times longer",
        explanation,
        ("", "share of the slots' time", "quiet jobs/s", "quiet wait p50, ms", "p95", "slots busy"),
        [_long_row(crowd.name, results) for crowd in [ours, *theirs]],
    )
    share = middle(column(results, ours.name, "share"))
    wait = middle(column(results, ours.name, "p95 ms"))
    lengths = None if wait is None else wait / (LONGER * MILLISECONDS)
    return table, [
        Target.at_most(f"share of slot time of one with jobs {LONGER} times longer (fair: 0.048)", 0.1, share, 3),
        Target.at_most(f"quiet wait p95 behind jobs {LONGER} times longer, lengths of those", 5, lengths, 1),
    ]


def _against_long_jobs(run: Run, crowd: Crowd) -> dict[str, float]:
    seen = _seen(run, crowd, only_quiet=True)
    length = LONGER * MILLISECONDS / 1000
    quiet = [at for key, at in seen.started.items() if key.startswith("quiet")]
    long = [at for key, at in seen.started.items() if key.startswith("noisy")]
    begin, end = min(seen.committed.values()) + length, max(quiet) + MILLISECONDS / 1000
    taken = sum(max(0.0, min(at + length, end) - max(at, begin)) for at in long)
    served = sum(at >= begin for at in quiet)
    slots = SLOTS * (end - begin)
    return {
        "share": taken / slots,
        "quiet/s": served / (end - begin),
        "p50 ms": MILLISECONDS * percentile(seen.waits, 0.5),
        "p95 ms": MILLISECONDS * percentile(seen.waits, 0.95),
        "busy": (taken + served * MILLISECONDS / 1000) / slots,
    }


def _long_row(name: str, results: Rounds) -> list[str]:
    rate, p50, p95 = (middle(column(results, name, figure)) for figure in ("quiet/s", "p50 ms", "p95 ms"))
    share, busy = (shown_share(middle(column(results, name, figure))) for figure in ("share", "busy"))
    return [name, share, shown(rate), shown(p50), shown(p95), busy]


def _many(run: Run, capped: Sequence[Contender]) -> tuple[Table, list[Target]]:
    many = 400 if run.quick else MANY
    ours = Crowd(jobplatform(), "a job each", many, many)
    theirs = [replace(ours, contender=peer, backlog=_scaled(many, peer), noisy=_scaled(many, peer)) for peer in capped]
    results = alternate("many", [ours], run.rounds, lambda crowd: _all_served(run, crowd))
    results |= alternate("many", theirs, 1, lambda crowd: _all_served(run, crowd))
    jobs = many + QUIET
    table = Table(
        "Many workspaces with one job each",
        MANY_EXPLANATION.format(many=jobs, best=jobs * MILLISECONDS / 1000 / SLOTS),
        ("", "seconds", "jobs/s", "slots busy"),
        [_many_row(crowd.name, results) for crowd in [ours, *theirs]],
    )
    seconds, busy = (middle(column(results, ours.name, figure)) for figure in ("seconds", "busy"))
    targets = [Target.at_least("slots busy with a job each of many workspaces", 0.9, busy, 2)]
    if not run.quick:
        targets.append(Target.at_most(f"{jobs:,} workspaces with a job each, seconds", 6, seconds, 1))
    return table, targets


def _all_served(run: Run, crowd: Crowd) -> dict[str, float]:
    seen = _seen(run, crowd)
    seconds, jobs = _span(seen.started), len(seen.started)
    return {"seconds": seconds, "jobs/s": jobs / seconds, "busy": jobs * MILLISECONDS / 1000 / SLOTS / seconds}


def _many_row(name: str, results: Rounds) -> list[str]:
    seconds, rate, busy = (middle(column(results, name, figure)) for figure in ("seconds", "jobs/s", "busy"))
    return [name, NOTHING if seconds is None else f"{seconds:.1f}", shown(rate), shown_share(busy)]


def _scaled(load: int, contender: Contender) -> int:
    return int(load * SLOW.get(contender.name, 1.0))


def _seen(run: Run, crowd: Crowd, only_quiet: bool = False) -> Seen:
    contender = crowd.contender
    url = contender.fresh_database(run.databases)
    jobs = crowd.quiet * crowd.each + (0 if only_quiet else crowd.backlog)
    with contender.run(url, "serve", jobs, SLOTS, *([1] if only_quiet else [])) as program:
        program.answer(60)
        with contender.run(url, "crowd", *crowd.numbers) as feeder:
            committed = feeder.answer(60)["committed"]
            return Seen(committed, program.answer(SECONDS)["started"])


def _span(started: Mapping[str, float]) -> float:
    return max(started.values()) - min(started.values()) + MILLISECONDS / 1000
