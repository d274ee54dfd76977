"""By hand: what people do to jobs.

Where to look, by what is asked:

    to one job       cancel, retry_job, fork_job, from_step, run_now, change_waiting, delete, needed
    to many at once  cancel_many, matching, bulk_actions
"""
