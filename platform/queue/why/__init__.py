"""Why a job is not running: what holds it back, who is before it, and when it will probably start.

Where to look, by what is asked:

    what is answered              answer
    what is in its way            blockers
    when it will start            estimate
    what both are made from       job_facts (the job itself), hold_facts (limits, pauses, workers), crowd_facts (others)
"""

from jobplatform.queue.why.answer import Why, why_waiting
from jobplatform.queue.why.blockers import CODES, Blocker, JobsAhead

__all__ = ["CODES", "Blocker", "JobsAhead", "Why", "why_waiting"]
