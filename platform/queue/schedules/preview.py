"""Preview: the ticks that are to come, of a schedule or of a rule that is none yet. No I/O."""

from __future__ import annotations

import datetime
import itertools
from dataclasses import replace
from typing import Final

from jobplatform.errors import InvalidScheduleError
from jobplatform.models import Schedule
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.schedules.recurrence import Every, Once, Rule, ticks_after
from jobplatform.queue.schedules.row import offset_of, rule_of

MOST_PREVIEWED: Final = 100


@checks_arguments(InvalidScheduleError)
def preview(
    schedule: Schedule, *, count: int = 5, after: datetime.datetime
) -> list[tuple[datetime.datetime, datetime.datetime]]:
    """The next ticks after a moment, each with when it is done: later by the schedule's place in its spread.

    Of one for every workspace that is when the first job may start. A paused schedule has them too: what would be.
    """
    rule, offset = rule_of(schedule), offset_of(schedule)
    if isinstance(rule, Once) and schedule.next_tick_at == rule.at:
        return [(rule.at, max(rule.at + offset, after))]
    return [(tick, tick + offset) for tick in itertools.islice(ticks_after(rule, after - offset), count)]


@checks_arguments(InvalidScheduleError)
def preview_rule(rule: Rule, *, count: int = 5, after: datetime.datetime) -> list[datetime.datetime]:
    """The ticks of a schedule that does not exist yet, if it were made at this moment."""
    if isinstance(rule, Once):
        return [rule.at]
    if isinstance(rule, Every) and rule.anchor is None:
        rule = replace(rule, anchor=after)
    return list(itertools.islice(ticks_after(rule, after), count))
