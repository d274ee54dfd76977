"""Ticks are forgotten when they are old, and only then."""

from __future__ import annotations

import datetime

from sqlalchemy import text
from sqlalchemy.orm import Session

from jobplatform.queue import forget_ticks
from tests.queue.conftest import Fact

MAKE = """
insert into jobplatform.schedule_ticks (workspace_id, schedule_id, tick_at, outcome, fired_at)
select gen_random_uuid(), gen_random_uuid(), now(), 'skipped', jobplatform.clock() - make_interval(days => :days)
from generate_series(1, :count)
"""


def test_old_ticks_are_forgotten_in_portions_and_young_ones_kept(db: Session, fact: Fact) -> None:
    db.execute(text(MAKE), {"days": 36, "count": 1500})
    db.execute(text(MAKE), {"days": 34, "count": 3})
    month = datetime.timedelta(days=35)

    assert [forget_ticks(db, after=month) for _ in range(3)] == [1000, 500, 0]
    assert fact("select count(*) from jobplatform.schedule_ticks") == 3
