"""Keep: how long things are kept, and what a workspace takes along or leaves behind.

Where to look, by what is asked:

    what is kept, and how long    how_long, retention, forget_periods
    what a workspace has          belongings, export, export_files, exports
    what is left of it            erase
"""
