"""Schemas: what goes over the wire, one for each resource.

Where to look, by what it is about:

    what workspaces ask for    jobs (and all that has no module of its own), schedules, connections, hooks, webhooks
    what operators ask for     operator
    what a field may be        fields
"""
