"""A worker with a defect: `python -m tests.chaos.broken_worker VARIANT [options of jobplatform worker]`."""

from __future__ import annotations

import sys

from jobplatform.cli import main
from tests.chaos.variants import broken

if __name__ == "__main__":
    with broken(sys.argv[1]):
        main(["worker", *sys.argv[2:]])
