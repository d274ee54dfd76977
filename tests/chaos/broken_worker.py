"""A worker with a defect: `python tests/chaos/broken_worker.py VARIANT [options of jobplatform worker]`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])

from jobplatform.cli import main  # noqa: E402 - the folder above has to be found first
from tests.chaos.variants import broken  # noqa: E402

if __name__ == "__main__":
    with broken(sys.argv[1]):
        main(["worker", *sys.argv[2:]])
