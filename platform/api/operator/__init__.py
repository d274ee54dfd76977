"""Operator: the routes of whoever runs the platform.

Where to look, by what it is about:

    who is there             workspaces, tokens, workers
    what may run             plans, limits, resources, pauses, schedules
    how any of it is set     setting
    what is kept             retention, audit
    what is wrong            alerts
"""
