"""Waited: for how long a job waited, in SQL for those who count.

From when it was due (see :mod:`jobplatform.queue.start_by`) until its first attempt began, whatever held it back: the
jobs before it, a limit, a pause, the running job of its key. The record's ``run_after`` says since when it was due;
whoever makes a job due anew writes it there as long as no attempt counts. Of one with several attempts, or whose
process was lost, nobody knows when the first began.
"""

from __future__ import annotations

from typing import Final

#: In seconds, of a record ``r`` that has a ``started_at``; null where nobody knows.
WAITED: Final = """case
            when r.attempts <= 1 and r.crash_count = 0
            then greatest(0, extract(epoch from r.started_at - greatest(r.run_after, r.created_at)))
        end"""
