"""``make bench``: our numbers beside the peers', on this machine, in one run.

    benchmarks/run.py [--quick] [--rounds N] [--no-peers] [--output PAGE] [SECTION …]

Everything happens on a PostgreSQL server that is made for the run and removed after it. A full run of all
sections writes ``docs/benchmarks.md``; anything smaller is only printed unless ``--output`` says where to.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
import traceback
from pathlib import Path

from harness.database import databases
from harness.facts import gather
from harness.peers import installed_peers
from harness.report import Report
from harness.run import Run
from sections import (
    adaptive,
    claim,
    drain,
    enqueue,
    events,
    hooks,
    latency,
    limits,
    noisy,
    pages,
    shares,
    snapshot,
    stuck,
    sync,
    upkeep,
    why,
)

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
SECTIONS = {
    "enqueue": enqueue.measure,
    "drain": drain.measure,
    "latency": latency.measure,
    "events": events.measure,
    "hooks": hooks.measure,
    "claim": claim.measure,
    "limits": limits.measure,
    "adaptive": adaptive.measure,
    "noisy": noisy.measure,
    "shares": shares.measure,
    "why": why.measure,
    "stuck": stuck.measure,
    "upkeep": upkeep.measure,
    "pages": pages.measure,
    "sync": sync.measure,
    "snapshot": snapshot.measure,
}
#: Rounds of those that take long, or whose targets are not ratios to anybody.
FEWER_ROUNDS = {"adaptive": 1, "events": 1, "why": 1, "stuck": 2, "upkeep": 1, "pages": 1, "sync": 1, "snapshot": 1}


def main() -> None:
    options = _options()
    # Without this a run that is ended from outside would leave its server and its workers behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))
    started = time.monotonic()
    report, failed = _measured(options)
    report.print_targets()
    print(f"\n{(time.monotonic() - started) / 60:.1f} minutes")
    if failed:
        sys.exit(f"failed, and nothing was written: {', '.join(failed)}")
    if options.output is not None:
        report.write(options.output)
        print(f"written to {options.output.name}")


def _measured(options: argparse.Namespace) -> tuple[Report, list[str]]:
    """What was measured, and the sections that broke: the others have taken their time all the same."""
    failed = []
    peers, missing = ([], []) if options.no_peers else installed_peers()
    with databases() as server:
        report = Report(gather(server, _how(options)), remarks=missing)
        for name in options.sections:
            rounds = min(options.rounds, FEWER_ROUNDS.get(name, options.rounds))
            began = time.monotonic()
            try:
                report.add(*SECTIONS[name](Run(server, peers, rounds, options.quick)))
            except Exception:  # noqa: BLE001 - whatever it is, it is shown, and the run does not count as one
                traceback.print_exc()
                failed.append(name)
            print(f"  {name}: {time.monotonic() - began:.0f} s", flush=True)
    return report, failed


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks/run.py", description="Our numbers beside the peers'.")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="one round of small loads: to see that it works")
    parser.add_argument("--rounds", type=int, help="how often the contenders take turns (3; quick: 1)")
    parser.add_argument("--no-peers", action="store_true", help="jobplatform alone")
    parser.add_argument("--output", type=Path, help="the page to write (a full run: docs/benchmarks.md)")
    options = parser.parse_args()
    if unknown := sorted(set(options.sections) - set(SECTIONS)):
        parser.error(f"there is no section {', '.join(unknown)}, only {', '.join(SECTIONS)}")
    is_full = not (options.sections or options.quick or options.no_peers)
    options.output = options.output or (PAGE if is_full else None)
    options.sections = options.sections or list(SECTIONS)
    options.rounds = options.rounds or (1 if options.quick else 3)
    return options


def _how(options: argparse.Namespace) -> str:
    fewer = {name: most for name, most in FEWER_ROUNDS.items() if most < options.rounds and name in options.sections}
    exceptions = f" ({', '.join(f'{name}: {most}' for name, most in fewer.items())})" if fewer else ""
    plural = "s" if options.rounds > 1 else ""
    return f"{options.rounds} round{plural}{exceptions}{' of small loads' if options.quick else ''}"


if __name__ == "__main__":
    main()
