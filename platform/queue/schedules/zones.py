"""The time zone of cron lines that name none."""

from __future__ import annotations

import os

VARIABLE = "JOBS_CRON_TZ"


def default_timezone() -> str:
    """``JOBS_CRON_TZ``, or UTC. Whether there is such a zone is seen where it is used, and when a process starts."""
    return os.environ.get(VARIABLE, "").strip() or "UTC"
