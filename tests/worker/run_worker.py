"""Runs a worker as a process of its own: `python -m tests.worker.run_worker OPTIONS`, the options as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

from jobplatform.logs import configure_logging
from jobplatform.worker import Worker


def run(options: dict[str, Any]) -> int:
    configure_logging("INFO", "json", sys.stdout)
    return Worker(**options).run()


if __name__ == "__main__":
    sys.exit(run(json.loads(sys.argv[1])))
