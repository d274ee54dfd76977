"""`make chaos`: `jobplatform prove` on an embedded server, or everything that is broken on purpose and must be found.

    .venv/bin/python tests/chaos/run.py [--seed N] [--jobs N] [--minutes M] [--workers N] [--keep]
    .venv/bin/python tests/chaos/run.py --mutants [--seed N]

Exit code 0 if every promise was put to the test and held, 1 if not. The seed decides the jobs and the order of the
faults; what they hit is also a matter of timing, so a repeated seed is the same storm and not the same raindrops.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)

from jobplatform.cli import main as command  # noqa: E402 - the folder above has to be found first
from jobplatform.proof.place import scratch  # noqa: E402
from tests.chaos import broken_storms, mutants  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--mutants", action="store_true")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    options, others = parser.parse_known_args()
    if options.mutants:
        return break_it(options.seed, keep="--keep" in others)
    for name in ("DATABASE_URL", "JOBS_DATABASE_URL"):
        os.environ.pop(name, None)
    command(["prove", "--seed", str(options.seed), *others], prog_name="make chaos:")
    return 0


def break_it(seed: int, *, keep: bool) -> int:
    # Ended from outside, it still ends everything that it started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with scratch(keep, _say) as folder:
        _say("Scenes, played with the verbs, broken and healthy")
        alive = mutants.run_all(folder, _say)
        _say(f"\nStorms over broken processes, seed {seed}")
        alive += broken_storms.run_all(folder, seed, _say)
    total = len(mutants.MUTANTS) + len(broken_storms.STORMS)
    _say(f"\nkilled {total - alive}/{total}")
    return 1 if alive else 0


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
