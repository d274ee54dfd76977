"""Reading: jobs as they are seen, and what is new about them.

Where to look, by what is asked:

    how jobs are      read, failed
    what is new       watch, changes
"""
