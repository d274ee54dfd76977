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
from itertools import cycle
from typing import Any, NamedTuple

from jobplatform.proof.changes import AT_ONCE, LEVEL_REACHED, LOWERED, PAUSES, Scope
from jobplatform.proof.plan import Order
from jobplatform.proof.workload import tasks
from jobplatform.queue import NewJob

#: A queue and a task with limits, served by all workers. The queue has jobs of many workspaces, and the task too.
QUEUE, TASK = "narrow", "scarce"
#: One resource with a rate of its own, and two that have the rate of their kind, each by itself.
POOL, KIND, ACCOUNTS = "pool:shared", "account:*", ("account:1", "account:2")
#: Two that are limited as each of their kind is.
EACH_DESK, DESKS = "desk:*", ("desk:1", "desk:2")
#: One that says now and then that it is asked too often, so that the level of its adaptive limit moves.
EACH_TIDE, TIDE = "tide:*", "tide:1"
PLAN = "trial"

#: What must have happened in a run with limits, or it says nothing about them. See reached.nothing_was_vacuous.
DEMANDED = frozenset({*AT_ONCE, LOWERED, LEVEL_REACHED, "pace", "rate", "waiting", "refused", "shed", *PAUSES.values()})


class Knob(NamedTuple):
    """What may be turned while jobs run, to any of ``values``; the first is where it starts, and rests unless there is
    an ``ample`` one, with which all can come to its end soon. On a busy machine most of it runs only then. So what is
    reached by few jobs rests where it is reached as well: a bucket that fills quickly is small.

    ``late`` ones are not set at first: as long as there is no limit on any task or queue, and no pause, most claims are
    plain ones. One ``beside`` the others has its turn once in a round of theirs, and takes none of theirs.
    """

    scope: Scope
    values: tuple[Any, ...]
    late: bool = False
    ample: Any = None
    beside: bool = False

    @property
    def rest(self) -> Any:
        return self.ample or self.values[0]


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
        """Limited workspaces that have all kinds of jobs beside what floods them."""
        return [self.one, self.many, self.on_plan, self.paused, self.heavy]

    def knobs(self) -> list[Knob]:
        one, few, many = self.limits
        return [
            Knob(Scope("workspace", str(self.one)), (one, one + 1), ample=4 * one),
            Knob(Scope("workspace", str(self.few)), (few, 1, 2 * few), ample=3 * few),
            Knob(Scope("workspace", str(self.many)), (many, few, 2 * many, None)),
            Knob(Scope("workspace", str(self.on_plan)), (2, 4)),
            Knob(Scope("pace", str(self.paced)), ((2, 2), (1, 2), (6, 3)), ample=(2, 20)),
            Knob(Scope("weight", str(self.heavy)), (5, 20, 1)),
            Knob(Scope("waiting", str(self.full)), (10, 6, 20)),
            Knob(Scope("waiting", str(self.shedding)), (6, 4)),
            Knob(Scope("workspace", str(self.full)), (2, 1)),
            Knob(Scope("workspace", str(self.shedding)), (1, 2), ample=4),
            Knob(Scope("rate", POOL), ((4, 3), (8, 4), (4, 2)), ample=(4, 12)),
            Knob(Scope("rate", KIND), ((3, 2), (5, 2)), ample=(20, 20)),
            Knob(Scope("resource", EACH_DESK), (1, 2)),
            Knob(Scope("adaptive", EACH_TIDE), ((1, 6), (2, 8), (1, 3)), beside=True),
            Knob(Scope("queue", QUEUE), (2, 4, None), late=True),
            Knob(Scope("task", TASK), (2, 3, None), late=True),
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
        return Order(jobs, [job for job in jobs if self._draw.random() < 0.02])

    def _endless(self) -> Iterator[list[NewJob]]:
        """Every place in turn, each time in another order."""
        terrain = self._terrain
        alone = [terrain.one, terrain.few, terrain.many, terrain.on_plan, terrain.paused, terrain.paced, terrain.paced]
        places: list[Callable[[], list[NewJob]]] = [partial(self._into, workspace) for workspace in alone]
        places += [self._into_queue, self._of_task, self._of_task, self._on_pool, self._on_account, self._at_desks]
        quotas = cycle((self._into_full, self._into_shedding))
        while True:
            self._draw.shuffle(places)
            for number, place in enumerate(places):
                jobs = place()
                self._made += len(jobs)
                yield jobs
                if number % 2:
                    yield from self._in_succession(next(quotas))

    def _into(self, workspace: uuid.UUID) -> list[NewJob]:
        longest = 0.5 if workspace == self._terrain.many else 0.15
        return [
            self._job(workspace, task=self._draw.choice(("nap", "nap", "flaky")), longest=longest)
            for _ in range(self._count())
        ]

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

    def _at_desks(self) -> list[NewJob]:
        tasks_there = ("nap", "flaky")
        return [
            self._job(self._anywhere(), task=self._draw.choice(tasks_there), resource=self._draw.choice(DESKS))
            for _ in range(self._count())
        ]

    def _in_succession(self, place: Callable[[], list[NewJob]]) -> Iterator[list[NewJob]]:
        """Who produces waits after the last of them for all: so, however quick the workers are and however little there
        is to produce, what came first still waits when the last comes."""
        *before, last = (place() for _ in range(4))
        yield from before
        self._made += sum(map(len, before)) + len(last)
        yield last

    def _into_full(self) -> list[NewJob]:
        """A few at a time, so that the last place is reached as well as overrun; and slow to run, so that somebody sees
        that it is full."""
        return [self._job(self._terrain.full, longest=0.5) for _ in range(self._draw.choice((1, 2, 9)))]

    def _into_shedding(self) -> list[NewJob]:
        """Slow to run: so something waits when something more important comes."""
        priority = self._draw.randint(0, 9)
        count = self._draw.randint(1, 4)
        return [self._job(self._terrain.shedding, priority=priority, longest=0.5) for _ in range(count)]

    def _anywhere(self) -> uuid.UUID:
        return self._draw.choice([*self._some, self._terrain.heavy, self._terrain.few])

    def _count(self) -> int:
        return self._draw.randint(self._size // 2, self._size)

    def _job(self, workspace: uuid.UUID, task: str = "nap", longest: float = 0.15, **options: Any) -> NewJob:
        delay = timedelta(seconds=self._draw.uniform(0.1, 1)) if self._draw.random() < 0.05 else None
        payload = {"seconds": self._draw.uniform(0.02, longest)}
        return tasks[task].new_job(payload, workspace_id=workspace, delay=delay, **options)


class Rushes(Floods):
    """The same for resources alone: those with a limit, and the one whose limit is adaptive.

    They come beside the floods, so that no other place is flooded less often for their sake. Few at a desk: as long as
    one may be there at a time, a slow machine takes seconds for each.
    """

    def _endless(self) -> Iterator[list[NewJob]]:
        for place in cycle((self._by_tide, self._by_tide, self._at_desks)):
            jobs = place()
            self._made += len(jobs)
            yield jobs

    def _by_tide(self) -> list[NewJob]:
        return [self._job(self._anywhere(), task="tidal", resource=TIDE) for _ in range(self._count())]
