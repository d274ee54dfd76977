"""The plain claim, for the usual case: nothing it looks at has a limit, nothing is paused, no workspace has jobs in
several lanes.
"""

from __future__ import annotations

from jobplatform.queue.claim.by_workspace import QUOTAS, SHARE, pick, workspaces
from jobplatform.queue.claim.taking import TAKEN, answer
from jobplatform.queue.claim.walk import SEEN, lane
from jobplatform.queue.claim.weighing import WEIGHTS, Weighing

_PLAIN = f"""
{workspaces().strip()},
facts as materialized (
    select
        {QUOTAS.strip()},
        {WEIGHTS.strip()}
    from open
),
{pick(f"open o cross join facts where facts.weighs = {Weighing.NOTHING:d}", SHARE, "%(limit)s").strip()}
"""

_PLAIN_SEEN = f"""
select
    {SEEN.strip()}
    facts.weighs, facts.leads, null::float8 as wait, false as held_back, null::integer as paid
from facts
"""

CLAIM = f"""
with recursive
{lane().strip()},
{_PLAIN.strip()},
{TAKEN.strip()}
{answer(_PLAIN_SEEN).strip()}
"""
