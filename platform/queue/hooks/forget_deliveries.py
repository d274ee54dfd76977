"""Deliveries are remembered for longer than any provider repeats one by itself, and then forgotten."""

from __future__ import annotations

from typing import Final

from sqlalchemy.orm import Session

from jobplatform.queue.statement import run

#: Providers repeat for days, and this is weeks more.
REMEMBERED_DAYS: Final = 30
#: Deliveries that one round of retention forgets.
MOST_FORGOTTEN: Final = 1_000

# By their keys: a worker may not see the rest of them.
FORGET = f"""
delete from jobplatform.hook_deliveries d
using (
    select workspace_id, hook_id, delivery_id
    from jobplatform.hook_deliveries
    where received_at < jobplatform.clock() - interval '{REMEMBERED_DAYS} days'
    limit {MOST_FORGOTTEN}
) old
where d.workspace_id = old.workspace_id and d.hook_id = old.hook_id and d.delivery_id = old.delivery_id
"""


def forget_deliveries(session: Session) -> int:
    """Delete up to 1,000 deliveries that are older than they are remembered, and say how many."""
    return run(session, FORGET).rowcount
