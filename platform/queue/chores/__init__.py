"""Chores: what any worker does for all of them, and when there is nothing left to do.

Where to look, by what is asked:

    is there anything to do    look_around, leftover
    what becomes of waiting    promote, end_late
    what tables need           compact
"""
