"""Limits: what may run at all, and how much of it at a time.

Where to look, by what is asked:

    what operators set             workspaces (and plans), queues, tasks, resources, rates, pause
    how each of these is changed   rows
    how many jobs may wait         quota
    what resources tell of them    breaker, resource_levels
"""
