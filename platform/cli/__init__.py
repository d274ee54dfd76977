"""The ``jobplatform`` command: composition roots, and what a person sees of them in a terminal.

Where to look, by what is asked (a name with a slash is a folder, with a map of its own):

    how a command is reached      root, flask_jobs (within a host's own)
    what is deployed              serve, serving/ (the web server)
    the whole stack at once       up, stack (its processes), demo, demo_story
    jobs, one or many             jobs, why, watch, replay, fork, acting_on_jobs, bulk, enqueue, batches, adopt
    what repeats                  schedules
    workspaces, who may enter     workspaces, leaving (encrypted, exported, erased), tokens, keys
    what a workspace connects     connections, syncs, records, exports, hooks, webhooks
    when jobs may run             queues (tasks, too), resources, rates, pauses, plans
    how it is doing               health, doctor, alerts, stats, workers, audit_log
    what is kept, and how long    retention, prune
    the database and the API      schema, openapi
    a proof                       prove
    what several commands share   database (which, and for how long), acting, asking, amounts, show, waiting,
                                  refusals, endpoints (hooks and webhooks), limit_options, beginning (replay and
                                  fork), changing, cancelling, adopt_told, schedules_told
"""

from jobplatform.cli.root import main

__all__ = ["main"]
