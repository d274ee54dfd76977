"""Run: what a handler gets, how it is called, and what is made of however it ends. No verb of a worker's.

Where to look, by what is asked:

    what a handler gets      running, items (of a batch handler), steps
    what it may say          outcomes
    who calls it             execute, execute_batch, inline (without a worker), replay (nothing is kept), recording
    who has no row           unrecorded
    what an error says       asking, infrastructure, retry_after
    whether it tries again   again
"""
