"""Numbers: what is counted, for people, pages and gauges.

Where to look, by what is asked:

    what there is now       counts, levels, overview
    what there was          count, stats, waited (for how long a job did)
    what failed alike       fingerprint, group_errors
"""
