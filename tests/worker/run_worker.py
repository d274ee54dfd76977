"""Runs a worker as a process of its own: `python -m tests.worker.run_worker OPTIONS`, the options as JSON.

Each log event goes to standard output as one line of JSON.
"""

from __future__ import annotations

import json
import logging
import sys

from jobplatform.worker import Worker

STANDARD = frozenset(vars(logging.makeLogRecord({})))


class EventLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        facts = {key: value for key, value in vars(record).items() if key not in STANDARD}
        if record.exc_info:
            facts["traceback"] = self.formatException(record.exc_info)
        return json.dumps({"event": record.getMessage(), "logger": record.name, **facts}, default=str)


def main() -> int:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(EventLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    return Worker(**json.loads(sys.argv[1])).run()


if __name__ == "__main__":
    sys.exit(main())
