"""`make chaos`: kill workers, their processes, backends and the server while jobs run and limits change, then count.

    .venv/bin/python tests/chaos/run.py [--seed N] [--jobs N] [--minutes M] [--keep]
    .venv/bin/python tests/chaos/run.py --mutants

Exit code 0 if every promise held, 1 if not. The seed decides the jobs and the order of the faults; what they hit is
also a matter of timing, so a repeated seed is the same storm and not the same raindrops.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)

from jobplatform.proof.checker import judge  # noqa: E402
from jobplatform.proof.experiment import Experiment, Setup, scratch  # noqa: E402
from jobplatform.proof.report import show  # noqa: E402
from tests.chaos import broken_storms, mutants  # noqa: E402 - the folder above has to be found first

#: Of the time of a run, this is when jobs are enqueued and faults injected; the rest is for finishing.
STORM = 0.75


def main() -> int:
    options = _options()
    # Ended from outside, it still ends everything that it started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with scratch(options.keep, _say) as folder:
        if options.mutants:
            return break_it(options, folder)
        return storm(options, folder)


def break_it(options: argparse.Namespace, folder: Path) -> int:
    _say("Scenes, played with the verbs, broken and healthy")
    alive = mutants.run_all(folder, _say)
    _say(f"\nStorms over broken processes, seed {options.seed}")
    alive += broken_storms.run_all(folder, options.seed, _say)
    total = len(mutants.MUTANTS) + len(broken_storms.STORMS)
    _say(f"\nkilled {total - alive}/{total}")
    return 1 if alive else 0


def storm(options: argparse.Namespace, folder: Path) -> int:
    seconds = options.minutes * 60
    setup = Setup(
        seed=options.seed,
        jobs=options.jobs,
        seconds=seconds * STORM,
        rest_seconds=max(60.0, seconds * (1 - STORM) * 2),
        workers=options.workers,
        restarts=max(1, round(options.minutes * 1.2)),
    )
    _say(f"seed {setup.seed}: {setup.jobs} jobs, {setup.workers} workers, {options.minutes:g} minutes, fsync on")
    outcome = Experiment(setup, folder, _say).run()
    judgement = judge(outcome.evidence)
    show(outcome, judgement, _say)
    if judgement.findings:
        _say(f"\n{len(judgement.findings)} violations. Repeat with --seed {setup.seed}")
        return 1
    _say("\nNothing lost, nothing twice, no limit exceeded.")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--jobs", type=int, default=11_000, help="asked for; about 5 %% are duplicates or rolled back")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long, about")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--mutants", action="store_true", help="break the platform: each break must be found")
    parser.add_argument("--keep", action="store_true", help="keep database and logs, and say where")
    return parser.parse_args()


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
