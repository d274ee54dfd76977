"""The process that runs jobs: a parent that owns the database work, a nursery, and children that run handlers.

Where to look, by what is asked:

    how it is put together        host, options, hub (the loop of the parent)
    who speaks to the database    claimer, finisher, registrar, keeper, database (the thread of each of them)
    who hears the doorbell        ear, listener
    how many jobs are claimed     supply, pace, newcomers
    what the parent holds         ledger, attempt, gathering, outbox
    which child gets which job    dispatch
    what children say             hearing, bodies, output (what they print)
    what becomes of an attempt    verdicts
    how children live and die     pool, slot, cradle, ladder (by which one is stopped)
    who makes children            nursery, nursery_link
    what runs in a child          child, channel, handler_session, surroundings
    what is said between them     frames
    how long we are a worker      membership, departure, until
    what is done every so often   chore, keeper_messages, repair
    what the system has for us    kernel, clock
    what others are told of it    port, watching, tally
"""

from jobplatform.worker.host import Worker
from jobplatform.worker.options import WorkerOptions

__all__ = ["Worker", "WorkerOptions"]
