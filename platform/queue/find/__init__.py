"""Find: the jobs that a search describes, newest first, a page at a time; nothing is ever looked at without an end.

What leads to them is decided by what the search says:

    id          the key, or the index of ids
    error       the index of fingerprints of attempts that ended a job; a type is looked up among the groups first
    only status pending or running   the narrow table of live jobs, or a workspace's part of it
    workspace   its jobs by key, newest first
    anything else                    all jobs by the index of ids, newest first

All but the first look at the newest 20,000 that the way leads to, or at 3,000 if each has to be looked up; then the
page says that it is not complete and where to go on. The other qualifiers are asked of each job on the way. What a live
job's own row answers is asked of all of them: that table is small by design.

``search`` makes values of what was written into a box. ``asked`` has the conditions, ``ways`` what leads to the jobs,
``rows`` what is read at its end; ``jobs`` and ``counts`` are the questions. ``named`` finds workspaces by their names.
"""

from jobplatform.queue.find.asked import Key
from jobplatform.queue.find.counts import Capped, JobCounts, count_jobs, count_statuses
from jobplatform.queue.find.jobs import JobPage, Keys, find_jobs, find_keys
from jobplatform.queue.find.lines import JobLine, short_error, status_of
from jobplatform.queue.find.named import nearest_workspace_name, workspaces_named

__all__ = [
    "Capped",
    "JobCounts",
    "JobLine",
    "JobPage",
    "Key",
    "Keys",
    "count_jobs",
    "count_statuses",
    "find_jobs",
    "find_keys",
    "nearest_workspace_name",
    "short_error",
    "status_of",
    "workspaces_named",
]
