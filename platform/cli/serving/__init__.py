"""Serving: gunicorn inside a process of ours, and what it needs to be patient with clients and quick to stop.

Where to look, by what is asked:

    where it listens          listening, proxies
    who serves                server, greenlet_worker, patient_worker, patient_socket
    what is no request        refusals
    how code is taken anew    reloading, part
"""
