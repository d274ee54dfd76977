"""Why a job is not running: what holds it back, who is before it, and when it will probably start."""

from jobplatform.queue.why.answer import Why, why_waiting
from jobplatform.queue.why.blockers import CODES, Blocker, JobsAhead

__all__ = ["CODES", "Blocker", "JobsAhead", "Why", "why_waiting"]
