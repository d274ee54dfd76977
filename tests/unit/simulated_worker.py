"""A worker without processes or a database: slots, a ring of workspaces, and time that is only a number.

It claims as the statements do: from where it is on the ring, over no more workspaces than a claim looks at, those not
ahead first, by weight; and as many jobs ahead as a worker does. What it cannot do is run fast or slow; so a share that
is wrong here is wrong by its rule.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import math
import random
import uuid
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from jobplatform.queue import Ahead, ClaimedJob, Lease
from jobplatform.queue.claim.ring import FEWEST_WORKSPACES
from jobplatform.queue.claim.shares import Shares
from jobplatform.worker.pace import Pace, claim_size
from jobplatform.worker.supply import MOST_FOR_LATE, OUT_OF_TURN

AN_ID = str(uuid.UUID(int=1))

Length = Callable[[random.Random], float]


def every(seconds: float) -> Length:
    return lambda _draw: seconds


def around(seconds: float) -> Length:
    return lambda draw: draw.expovariate(1 / seconds)


def a_job(workspace: str, weight: int = 1, task: str = "work") -> ClaimedJob:
    return ClaimedJob(Lease(workspace, AN_ID, 1), "default", task, 1, 3, 0, 1000, "{}", 1, None, None, weight=weight)


@dataclass
class Tenant:
    """How long its jobs take, its weight, how many it has at the moment, and whether each is followed by another."""

    seconds: Length
    weight: int = 1
    jobs: float = math.inf
    comes_back: bool = False


@dataclass(frozen=True)
class Crowd:
    """So many workspaces wait at any moment, each with one job. Who has had it is replaced by another, for ever."""

    waiting: int
    seconds: Length
    weight: int = 1


@dataclass(frozen=True)
class Claimed:
    names: list[str]
    waiting: list[str]
    came_round: bool


@dataclass
class Ring:
    """Who has something ready, in the order of their names, and where the worker is among them."""

    names: list[str] = field(default_factory=list)
    cursor: str = ""

    def add(self, name: str) -> None:
        bisect.insort(self.names, name)

    def remove(self, name: str) -> None:
        del self.names[bisect.bisect_left(self.names, name)]

    def walk(self, most: int) -> list[str]:
        begin = bisect.bisect_right(self.names, self.cursor)
        return [self.names[(begin + step) % len(self.names)] for step in range(min(most, len(self.names)))]


class SimulatedWorker:
    """``shares`` may be a variant of them; without ``fair``, turns are all there is. A claim's answer takes
    ``claim_seconds``, in which its slots stand idle.
    """

    def __init__(
        self,
        tenants: Mapping[str, Tenant],
        *,
        slots: int = 4,
        crowd: Crowd | None = None,
        shares: Shares | None = None,
        fair: bool = True,
        claim_seconds: float = 0.0,
        seed: int = 1,
    ) -> None:
        self.tenants = dict(tenants)
        self.shares = Shares() if shares is None else shares
        self.draw = random.Random(seed)
        self.now = 0.0
        self.used: Counter[str] = Counter()
        self.fair_time: Counter[str] = Counter()
        self.first_start: dict[str, float] = {}
        self.starts: list[str] = []
        self._fair = fair
        self._slots = slots
        self._free = slots
        self._claim_seconds = claim_seconds
        self._answer: tuple[float, Claimed, float] | None = None
        self._stock: deque[tuple[str, ClaimedJob, float]] = deque()
        self._pace = Pace()
        self._ends: list[tuple[float, int, str, ClaimedJob, float, float, float]] = []
        self._number = itertools.count()
        self._ring = Ring()
        self._for_late = 0.0
        self._crowd = crowd
        self._crowd_length = crowd.waiting if crowd else 0
        for _ in range(self._crowd_length):
            self._another()

    # -- time ------------------------------------------------------------------------------------

    def run(self, until: float) -> None:
        """Work until then, or until nothing is left to do."""
        for name, tenant in self.tenants.items():
            if tenant.jobs > 0 and name not in self._ring.names:
                self._ring.add(name)
        while self.now < until:
            self._fill()
            happens = [end[0] for end in self._ends[:1]] + ([self._answer[0]] if self._answer else [])
            if not happens:
                return
            self._pass(min(*happens, until))
            while self._ends and self._ends[0][0] <= self.now:
                self._end(*heapq.heappop(self._ends)[2:-1])
            if self._answer and self._answer[0] <= self.now:
                self._answered()

    def share(self, name: str) -> float:
        return self.used[name] / sum(self.used.values())

    def _pass(self, until: float) -> None:
        """Time goes by. What of it would be fair is for those to share, by weight, who have something ready."""
        passed = until - self.now
        weights = sum(self.tenants[name].weight for name in self._ring.names)
        for name in self._ring.names:
            self.fair_time[name] += passed * self._slots * self.tenants[name].weight / weights  # type: ignore[assignment]
        for _, _, name, *_ in self._ends:
            self.used[name] += passed  # type: ignore[assignment]
        self.now = until

    # -- jobs ------------------------------------------------------------------------------------

    def _fill(self) -> None:
        self._hand_back_surplus()
        while self._free:
            held = len(self._ends) + len(self._stock)
            wanted = claim_size(self._pace.room(self._slots), held, held, self._slots)
            if wanted and self._ring.names and self._answer is None:
                self._ask(wanted)
            if not self._stock:
                return
            self._start(*self._stock.popleft())

    def _hand_back_surplus(self) -> None:
        """What was claimed ahead because jobs seemed to be shorter than they are."""
        begun = sorted(started for *_, started in self._ends)
        middle = self._slots // 2
        running = self.now - begun[middle] if len(begun) > middle else 0.0
        while len(self._stock) > self._pace.keep(self._slots, running):
            name, job, charged = self._stock.pop()
            self.shares.ended(job, charged, None)
            self.tenants[name].jobs += 1
            if name not in self._ring.names:
                self._ring.add(name)

    def _ask(self, limit: int) -> None:
        # As in Supply: the ring keeps its part.
        self._for_late = min(MOST_FOR_LATE, self._for_late + limit * OUT_OF_TURN)
        late = self.shares.late(min(int(self._for_late), limit)) if self._fair else []
        self._for_late -= len(late)
        claimed = self.claim(limit, late, self.shares.ahead() if self._fair else Ahead())
        for name in claimed.names:
            self._take(name)
        self._answer = (self.now + self._claim_seconds, claimed, min(self._free, len(claimed.names)))
        if not self._claim_seconds:
            self._answered()

    def _answered(self) -> None:
        assert self._answer is not None
        _, claimed, idle = self._answer
        self._answer = None
        jobs = [a_job(name, self.tenants[name].weight, self._task(name)) for name in claimed.names]
        charges = self.shares.claimed(
            jobs, waiting=claimed.waiting, came_round=claimed.came_round, stood_idle=idle * self._claim_seconds
        )
        turns: Counter[str] = Counter()
        order = []
        for name in claimed.names:
            turns[name] += 1
            order.append(turns[name] / self.tenants[name].weight)
        new = list(zip(claimed.names, jobs, charges, strict=True))
        self._stock += [new[index] for index in sorted(range(len(new)), key=order.__getitem__)]

    def claim(self, limit: int, first: Sequence[str], ahead: Ahead) -> Claimed:
        """What the claim's statement does."""
        lead = {name: place for place, name in enumerate(ahead.workspaces, start=1)}
        walk = self._ring.walk(max(limit, FEWEST_WORKSPACES))
        places = {name: place for place, name in enumerate(walk, start=1)}
        places |= {name: -nth for nth, name in enumerate(first, start=1) if name in self._ring.names}
        order = sorted(places, key=lambda name: (lead.get(name, 0), places[name]))
        weights: Counter[bool] = Counter()
        for name in order:
            weights[lead.get(name, 0) <= ahead.fair] += self.tenants[name].weight
        taken: list[str] = []
        for name in order:
            tenant = self.tenants[name]
            turns = math.ceil(limit / weights[lead.get(name, 0) <= ahead.fair])
            taken += [name] * int(min(tenant.weight * turns, tenant.jobs, limit - len(taken)))
        furthest = max((places[name] for name in taken), default=0) if len(taken) == limit else len(walk)
        came_round = False
        if furthest > 0:
            cursor = walk[furthest - 1]
            came_round, self._ring.cursor = cursor <= self._ring.cursor, cursor
        return Claimed(taken, [name for name in order if name in lead], came_round)

    def _take(self, name: str) -> None:
        tenant = self.tenants[name]
        tenant.jobs -= 1
        if tenant.jobs <= 0:
            self._ring.remove(name)
            if "visitor" in name:
                self._another()

    def _another(self) -> None:
        assert self._crowd is not None
        name = f"{self.draw.random():.6f} visitor {next(self._number)}"
        self.tenants[name] = Tenant(self._crowd.seconds, self._crowd.weight, jobs=1)
        self._ring.add(name)

    def _task(self, name: str) -> str:
        return "visit" if "visitor" in name else name

    def _start(self, name: str, job: ClaimedJob, charged: float) -> None:
        self._free -= 1
        seconds = self.tenants[name].seconds(self.draw)
        self.starts.append(name)
        self.first_start.setdefault(name, self.now)
        end = (self.now + seconds, next(self._number), name, job, charged, seconds, self.now)
        heapq.heappush(self._ends, end)

    def _end(self, name: str, job: ClaimedJob, charged: float, seconds: float) -> None:
        self._free += 1
        self.shares.ended(job, charged, seconds)
        self._pace.took(job.task, seconds)
        if "visitor" in name:
            del self.tenants[name], self.first_start[name]
        elif self.tenants[name].comes_back:
            self.tenants[name].jobs = 1
            self._ring.add(name)
