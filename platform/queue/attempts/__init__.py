"""Attempts: the verbs of whoever runs jobs. Each is for many attempts in one statement, and fenced.

Where to look, by what is asked:

    what is said meanwhile           begin, progress, logs, save_step
    how an attempt ends              complete, fail, release, ending (what these have in common), refund
    when nobody says that it ended   rescue, reconcile
"""
