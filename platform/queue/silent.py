"""Silent: for how long a worker may say nothing before people are told, and from when on it is as good as dead."""

import datetime
import os
from typing import Final

from jobplatform.settings import Settings

VARIABLE: Final = "JOBPLATFORM_LEASE_SECONDS"

#: Two heartbeats that did not come, as workers have them by default: worth a word, and not yet a death. Nothing is
#: decided by it.
SILENT_AFTER: Final = datetime.timedelta(seconds=20)


def lease_seconds() -> float:
    """``JOBPLATFORM_LEASE_SECONDS``, or its default: for whoever looks from outside whether a worker lives. One that
    is silent for longer may be declared dead by any other at any moment, and its jobs are taken back.

    What is wrong with the setting is told when a process starts, and counts for nothing here.
    """
    try:
        said = float(os.environ.get(VARIABLE, ""))
    except ValueError:
        said = 0.0
    return said if 1 <= said <= 3_600 else Settings().lease_seconds
