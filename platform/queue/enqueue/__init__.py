"""Enqueue: what is asked for (``new_job``), and how it comes to be (``jobs``).

``jobs`` is the verb. One job that stands alone goes by a statement of its own; all others, and what that one cannot
answer, go by the one for many, which ``many`` asks. Both are in ``statements``, and ``values`` says how they take a
job's attributes. ``replace`` has a newer request take the place of the one that waits. ``periods`` keeps those back
whose key had a job too recently. ``unseen`` tells whoever cannot see what became of a key. ``edges`` writes down
what a job waits for, ``parent`` knows which job asked for it, ``given`` whether an enqueue is called with what it
takes, and ``happenings`` tells whoever counts enqueues.
"""

from jobplatform.queue.enqueue.jobs import Enqueued, MadeRecently, Replaced, enqueue_job, enqueue_jobs, enqueue_of_ours
from jobplatform.queue.enqueue.new_job import (
    LONGEST_KEY,
    LONGEST_PERIOD,
    LONGEST_START_WITHIN,
    LONGEST_TIMEOUT,
    MAX_ATTEMPTS,
    MOST_TAGS,
    NewJob,
)

__all__ = [
    "LONGEST_KEY",
    "LONGEST_PERIOD",
    "LONGEST_START_WITHIN",
    "LONGEST_TIMEOUT",
    "MAX_ATTEMPTS",
    "MOST_TAGS",
    "Enqueued",
    "MadeRecently",
    "NewJob",
    "Replaced",
    "enqueue_job",
    "enqueue_jobs",
    "enqueue_of_ours",
]
