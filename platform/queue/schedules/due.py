"""What is due of a schedule, and what of it is still done after nobody looked for a while. No I/O.

A schedule that is looked at in time has one tick due, and that is done. With more of them, or a late one, its policy
decides: ``one`` does the newest for all of them, ``none`` the newest only while it is less than a minute late, ``all``
does each, of the last 24 hours and a thousand at most. A single moment is done however late it is.
"""

from __future__ import annotations

import datetime
import itertools
from typing import Final, NamedTuple

from jobplatform.models import CatchUp
from jobplatform.queue.schedules.recurrence import Every, Once, Rule, latest_tick, ticks_after

#: No later than this a tick is on time. A worker that is there looks within a poll, which is a second or so.
LATE: Final = datetime.timedelta(minutes=1)
LONGEST_CATCH_UP: Final = datetime.timedelta(hours=24)
MOST_CAUGHT_UP: Final = 1_000


class Due(NamedTuple):
    """Ticks to do now, in order; the first of those that are not done any more; and the one to wait for next."""

    ticks: list[datetime.datetime]
    missed: datetime.datetime | None
    next_tick: datetime.datetime | None


def due_ticks(
    rule: Rule, policy: str, first: datetime.datetime, now: datetime.datetime, most: int = MOST_CAUGHT_UP
) -> Due:
    """What is due at ``now`` of a rule whose next tick was to be ``first``: up to ``most`` ticks, and then the rest."""
    if isinstance(rule, Once):
        return Due([first], None, None)
    newest = latest_tick(rule, first, now)
    if policy == CatchUp.ALL:
        return _all(rule, first, newest, now, most)
    ticks = [newest] if policy == CatchUp.ONE or now - newest <= LATE else []
    missed = None if ticks == [first] else first
    return Due(ticks, missed, rule.next_after(newest))


def _all(rule: Rule, first: datetime.datetime, newest: datetime.datetime, now: datetime.datetime, most: int) -> Due:
    kept = _kept(rule, first, newest, now)
    ticks, later = kept[:most], kept[most:]
    missed = None if kept[0] == first else first
    return Due(ticks, missed, later[0] if later else rule.next_after(newest))


def _kept(
    rule: Rule, first: datetime.datetime, newest: datetime.datetime, now: datetime.datetime
) -> list[datetime.datetime]:
    """Those that are not too old, the newest thousand. There is always one: what is not, is missed in favour of it."""
    begin = max(first, now - LONGEST_CATCH_UP)
    if isinstance(rule, Every):
        begin = max(begin, newest - (MOST_CAUGHT_UP - 1) * rule.interval)
    before = begin - datetime.timedelta(microseconds=1)
    found = list(itertools.takewhile(lambda tick: tick <= newest, ticks_after(rule, before)))
    return found[-MOST_CAUGHT_UP:] or [newest]
