"""Health: what is wrong, when it is, and who is told.

Where to look, by what is asked:

    what is wrong with jobs                health
    what is wrong with the installation    doctor
    when a number is too large             rules, workspace_rules
    who is told                            alerts, workspace_alerts
"""
