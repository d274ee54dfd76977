"""The terrain of the chaos run: what is limited among much that is not.

Most workspaces, tasks and queues have no limits, as before there were any. The others are few, and are flooded now and
then (:class:`Floods`), so that their limits are reached and not only set.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

from jobplatform.queue import NewJob
from tests.chaos.changes import AT_ONCE, PAUSES, Scope
from tests.chaos.plan import Order
from tests.chaos.workload import tasks

#: A queue and a task with limits, served by all workers. The queue has jobs of many workspaces, and the task too.
QUEUE, TASK = "narrow", "scarce"
#: One resource with a rate of its own, and two that have the rate of their kind, each by itself.
POOL, KIND, ACCOUNTS = "pool:shared", "account:*", ("account:1", "account:2")
PLAN = "trial"

#: What must have happened in a run with limits, or it says nothing about them. See rules.nothing_was_vacuous.
DEMANDED = frozenset({*AT_ONCE, "pace", "rate", "waiting", "refused", "shed", *PAUSES.values()})


class Knob(NamedTuple):
    """What may be turned while jobs run, to any of ``values``; the first is where it starts and rests.

    ``late`` ones are not set at first: as long as there is no limit on any task or queue, and no pause, most claims are
    plain ones.
    """

    scope: Scope
    values: tuple[Any, ...]
    late: bool = False


@dataclass(frozen=True, slots=True)
class Terrain:
    """The limited workspaces. ``limits`` are those of three of them on what runs at a time."""

    limits: tuple[int, int, int]
    one: uuid.UUID
    few: uuid.UUID
    many: uuid.UUID
    on_plan: uuid.UUID
    paced: uuid.UUID
    full: uuid.UUID
    shedding: uuid.UUID
    paused: uuid.UUID
    heavy: uuid.UUID

    @classmethod
    def drawn(cls, draw: random.Random, limits: tuple[int, int, int]) -> Terrain:
        return cls(limits, *(uuid.UUID(int=draw.getrandbits(128), version=4) for _ in range(9)))

    @property
    def open_to_all(self) -> list[uuid.UUID]:
        """Workspaces that have all kinds of jobs. Poison must not be refused or given up."""
        return [self.one, self.few, self.many, self.on_plan, self.paced, self.paused, self.heavy]

    def knobs(self) -> list[Knob]:
        one, few, many = self.limits
        return [
            Knob(Scope("workspace", str(self.one)), (one, one + 1)),
            Knob(Scope("workspace", str(self.few)), (few, 1, 2 * few)),
            Knob(Scope("workspace", str(self.many)), (many, few, 2 * many, None)),
            Knob(Scope("workspace", str(self.on_plan)), (2, 4)),
            Knob(Scope("pace", str(self.paced)), ((6, 6), (3, 3), (12, 8))),
            Knob(Scope("weight", str(self.heavy)), (5, 20, 1)),
            Knob(Scope("waiting", str(self.full)), (10, 6, 20)),
            Knob(Scope("waiting", str(self.shedding)), (8, 5)),
            Knob(Scope("workspace", str(self.full)), (2, 1)),
            Knob(Scope("workspace", str(self.shedding)), (1, 2)),
            Knob(Scope("rate", POOL), ((10, 10), (24, 8), (6, 16))),
            Knob(Scope("rate", KIND), ((6, 6), (12, 4))),
            Knob(Scope("queue", QUEUE), (2, 4, None), late=True),
            Knob(Scope("task", TASK), (3, 5, None), late=True),
            Knob(Scope("here", TASK), (1, 2), late=True),
        ]

    def pauses(self) -> list[Scope]:
        """What is paused for a while, again and again."""
        return [
            Scope(PAUSES["queue"], QUEUE),
            Scope(PAUSES["task"], TASK),
            Scope(PAUSES["workspace"], str(self.paused)),
            Scope(PAUSES["resource"], POOL),
        ]


class Floods:
    """Orders that each bring more to one limited place than it can take at once."""

    def __init__(self, seed: str, terrain: Terrain, *, workspaces: list[uuid.UUID], jobs: int, size: int) -> None:
        self._draw = random.Random(seed)
        self._terrain = terrain
        self._some = workspaces[:4]
        self._total = jobs
        self._size = size
        self._made = 0
        self._places = self._endless()

    @property
    def done(self) -> bool:
        return self._made >= self._total

    @property
    def share_done(self) -> float:
        return self._made / self._total

    def next_order(self) -> Order:
        jobs = next(self._places)
        self._made += len(jobs)
        return Order(jobs, [job for job in jobs if self._draw.random() < 0.02])

    def _endless(self) -> Iterator[list[NewJob]]:
        """Every place in turn, each time in another order."""
        terrain = self._terrain
        alone = [terrain.one, terrain.few, terrain.many, terrain.on_plan, terrain.paced, terrain.paused]
        places: list[Callable[[], list[NewJob]]] = [partial(self._into, workspace) for workspace in alone]
        places += [self._into_queue, self._of_task, self._on_pool, self._on_account]
        places += [self._into_full, self._into_shedding] * 3
        while True:
            self._draw.shuffle(places)
            for place in places:
                yield place()

    def _into(self, workspace: uuid.UUID) -> list[NewJob]:
        return [self._job(workspace, task=self._draw.choice(("nap", "nap", "flaky"))) for _ in range(self._count())]

    def _into_queue(self) -> list[NewJob]:
        return [self._job(self._anywhere(), queue=QUEUE) for _ in range(self._count())]

    def _of_task(self) -> list[NewJob]:
        return [self._job(self._anywhere(), task=TASK) for _ in range(self._count())]

    def _on_pool(self) -> list[NewJob]:
        return [
            self._job(self._anywhere(), resource=POOL, units=self._draw.randint(1, 4)) for _ in range(self._count())
        ]

    def _on_account(self) -> list[NewJob]:
        account = self._draw.choice(ACCOUNTS)
        return [self._job(self._anywhere(), resource=account) for _ in range(self._count())]

    def _into_full(self) -> list[NewJob]:
        """A few at a time, so that the last place is reached as well as overrun."""
        return [self._job(self._terrain.full) for _ in range(self._draw.choice((1, 2, 9)))]

    def _into_shedding(self) -> list[NewJob]:
        priority = self._draw.randint(0, 9)
        return [self._job(self._terrain.shedding, priority=priority) for _ in range(self._draw.randint(1, 6))]

    def _anywhere(self) -> uuid.UUID:
        return self._draw.choice([*self._some, self._terrain.heavy, self._terrain.few])

    def _count(self) -> int:
        return self._draw.randint(self._size // 2, self._size)

    def _job(self, workspace: uuid.UUID, task: str = "nap", **options: Any) -> NewJob:
        delay = timedelta(seconds=self._draw.uniform(0.1, 1)) if self._draw.random() < 0.05 else None
        payload = {"seconds": self._draw.uniform(0.05, 0.3)}
        return tasks[task].new_job(payload, workspace_id=workspace, delay=delay, **options)
