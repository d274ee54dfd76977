"""Streams: how news reaches whoever follows a job or a workspace.

Where to look, by what is asked:

    the routes                 events
    a request that stays open  streaming, carrying (when its request has ended)
    who looks for news         hub, following, places (how far each has got)
    who has to wait            giving_way
    how a process stops        stopping
"""
