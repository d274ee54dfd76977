"""Silent: for how long a worker may say nothing before people are told. Nothing is decided by it."""

import datetime
from typing import Final

#: Two heartbeats that did not come, as workers have them by default: worth a word, and not yet a death.
SILENT_AFTER: Final = datetime.timedelta(seconds=20)
