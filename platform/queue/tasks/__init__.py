"""Tasks: what an application knows how to do, declared in code.

Where to look, by what is asked:

    how it is declared          registry (all of them), task, options, retry
    how a process gets them     load
    what its jobs are given     payloads
    which of them are the same  unique
    what they use outside       resources
    how it is described         describe
    which are the platform's    own
"""
