"""Schedules: rules that enqueue. A schedule is a row, so it changes while everything runs.

Platform-wide ones belong to :data:`PLATFORM_WORKSPACE` and enqueue there, or for every workspace. Nothing here commits.

Where to look, by what is asked:

    what it may say               plan, recurrence (a rule's ticks), zones, row (what a row says)
    how it is made and changed    create, change, delete, pause, conditions (what must hold before it is written)
    how code declares it          declare, settle (by workers)
    what is done at a tick        fire, due (what is still done of ticks that are late), asked
    what people ask of it         find, preview, run_now
    what depends on connections   of_connections
    what is forgotten             forget_ticks
"""

from jobplatform.queue.schedules.asked import TaskDefaults
from jobplatform.queue.schedules.change import change_schedule
from jobplatform.queue.schedules.create import create_schedule
from jobplatform.queue.schedules.declare import Declared
from jobplatform.queue.schedules.delete import delete_schedule
from jobplatform.queue.schedules.find import (
    closed_payload,
    find_schedule,
    find_schedule_named,
    get_schedule,
    last_ticks,
    list_schedules,
    list_ticks,
    shown_payload,
    tasks_served,
    time_now,
)
from jobplatform.queue.schedules.fire import Fired, fire_schedules
from jobplatform.queue.schedules.forget_ticks import forget_ticks
from jobplatform.queue.schedules.of_connections import find_unconnected, pause_schedules_of, resume_schedules_of
from jobplatform.queue.schedules.pause import pause_schedule, resume_schedule
from jobplatform.queue.schedules.plan import LONGEST_SPREAD
from jobplatform.queue.schedules.preview import MOST_PREVIEWED, preview, preview_rule
from jobplatform.queue.schedules.recurrence import LONGEST_INTERVAL, Cron, Every, Once, Rule
from jobplatform.queue.schedules.row import rule_of
from jobplatform.queue.schedules.run_now import run_schedule_now
from jobplatform.queue.schedules.settle import RENEW_SECONDS, Settled, settle_schedules
from jobplatform.queue.schedules.zones import default_timezone

__all__ = [
    "LONGEST_INTERVAL",
    "LONGEST_SPREAD",
    "MOST_PREVIEWED",
    "RENEW_SECONDS",
    "Cron",
    "Declared",
    "Every",
    "Fired",
    "Once",
    "Rule",
    "Settled",
    "TaskDefaults",
    "change_schedule",
    "closed_payload",
    "create_schedule",
    "default_timezone",
    "delete_schedule",
    "find_schedule",
    "find_schedule_named",
    "find_unconnected",
    "fire_schedules",
    "forget_ticks",
    "get_schedule",
    "last_ticks",
    "list_schedules",
    "list_ticks",
    "pause_schedule",
    "pause_schedules_of",
    "preview",
    "preview_rule",
    "resume_schedule",
    "resume_schedules_of",
    "rule_of",
    "run_schedule_now",
    "settle_schedules",
    "shown_payload",
    "tasks_served",
    "time_now",
]
