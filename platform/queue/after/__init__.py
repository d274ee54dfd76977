"""After: what waits for the end of jobs, and what follows it.

Where to look, by what is asked:

    what is counted together    batches, fill_batch
    what a job waits for        predecessors
    how an ending is noticed    notices
    what it lets go             settle, settle_sql, succeed (for the running job of a key)
"""
