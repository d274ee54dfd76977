"""Operator: the routes of whoever runs the platform.

Where to look, by what it is about:

    who is there             workspaces, tokens, workers
    what may run             limits, pauses, schedules
    what is kept             retention, audit
    what is wrong            alerts
"""
