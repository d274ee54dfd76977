"""Situations in which it matters that each tick is done once, and the variants that get it wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable

from jobplatform.testing import wait_until
from tests.chaos.stage import Stage

Scene = Callable[[Stage], None]


def two_workers_look_at_a_due_schedule(stage: Stage) -> None:
    stage.schedule(behind=3)
    other = threading.Thread(target=stage.fire)

    with stage.transaction() as session:
        stage.fire_in(session)
        other.start()
        wait_until(lambda: stage.somebody_waits_for_a_lock() or not other.is_alive(), what="the other worker")
    other.join()

    stage.stop_schedules()


def nobody_looked_for_a_while(stage: Stage) -> None:
    stage.schedule(behind=5)

    stage.fire()

    stage.stop_schedules()


def a_schedule_is_put_back(stage: Stage) -> None:
    """By a restored backup, or by hand."""
    stage.schedule(behind=3)
    stage.fire()

    stage.put_back(seconds=2)
    stage.fire()

    stage.stop_schedules()


#: The variant, the scene in which it shows, and the rule that must be reported as broken.
SCHEDULE_MUTANTS: tuple[tuple[str, Scene, str], ...] = (
    ("ticks without a lock or a record", two_workers_look_at_a_due_schedule, "ticks"),
    ("missed ticks are dropped", nobody_looked_for_a_while, "ticks"),
    ("a tick that was done is done again", a_schedule_is_put_back, "ticks"),
)
