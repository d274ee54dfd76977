"""One run: producers, workers and a monkey; then rest; then the evidence."""

from __future__ import annotations

import contextlib
import math
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import psycopg

from jobplatform import migrations
from jobplatform.proof import diary, history
from jobplatform.proof.clients import ClientThread, Intruder, Operator, Producer, Promises
from jobplatform.proof.evidence import Evidence, gather
from jobplatform.proof.families import Families
from jobplatform.proof.fleet import Crowd, Fleet
from jobplatform.proof.knobs import Knobs
from jobplatform.proof.monkey import LOSE_CLAIM, RESTART, Monkey
from jobplatform.proof.onlooker import as_role, connect, join_roles
from jobplatform.proof.part import Part
from jobplatform.proof.place import Place
from jobplatform.proof.plan import Plan
from jobplatform.proof.proxy import Proxy
from jobplatform.proof.setup import Setup
from jobplatform.proof.terrain import QUEUE, Floods, Rushes, Terrain
from jobplatform.proof.timetable import make_schedules, stop_schedules
from jobplatform.proof.watcher import Watcher
from jobplatform.queue import NewJob

WORKS = "select count(*) from (select from jobplatform.workers limit 1) as first"
LEFT = "select (select count(*) from jobplatform.job_queue) + (select count(*) from jobplatform.notices)"

#: Seconds that a storm may go on for, after its time, until each kind of fault has hit somebody.
MOST_LATE = 60
#: Between two words about how it goes.
TELL_EVERY = 15
#: And that a thread has for its last statement when a run is broken off.
LAST_WORDS = 10


@dataclass(slots=True)
class Outcome:
    """A finished run."""

    evidence: Evidence
    injected: Counter[str]
    turned: Counter[str]
    workers_started: int
    repeats: int
    seconds: float
    rest_seconds: float
    left_out: dict[str, str]
    """Faults that could not be had here, and why."""


class Experiment:
    """Runs one :class:`Setup` on a database; ``folder`` is for its files. ``say`` is told how it goes."""

    def __init__(self, setup: Setup, place: Place, folder: Path, say: Callable[[str], None]) -> None:
        self.setup = setup
        self.place = place
        self.folder = folder
        self.say = say
        self.promises = Promises()
        self.over = threading.Event()
        self.calm = threading.Event()
        self.parts: list[Part] = []
        self.left_out: dict[str, str] = {}
        draw = random.Random(f"{setup.seed}:operator")
        self.workspaces = [uuid.UUID(int=draw.getrandbits(128), version=4) for _ in range(setup.workspaces)]
        self.terrain = Terrain.drawn(draw, setup.limits) if setup.limits else None

    def run(self) -> Outcome:
        """Everything, in order. Whatever happens, nothing that was started is left behind."""
        url = self.place.url
        with contextlib.ExitStack() as stack:
            self._prepare(url)
            proxy = Proxy(self.folder, url)
            self.left_out = _left_out(self.place, proxy)
            stack.callback(self._end_parts)
            stack.callback(proxy.close)
            fleet = self._fleet(proxy.url)
            stack.callback(fleet.kill)
            stack.callback(self._stop_everything)
            watcher = Watcher(url, self.over, pause=0.15)
            monkey = self._monkey(fleet, proxy, url)
            clients = self._clients(proxy.url)
            knobs = self._knobs(proxy.url)
            return self._play(url, fleet, watcher, [*clients, *knobs], monkey, knobs)

    def _play(
        self,
        url: str,
        fleet: Fleet,
        watcher: Watcher,
        clients: list[ClientThread],
        monkey: Monkey,
        knobs: list[Knobs],
    ) -> Outcome:
        for knob in knobs:
            knob.set_up()
        begun = time.monotonic()
        fleet.start()
        crowd = Crowd(self.calm, fleet, size=self.setup.crowd, seconds=self.setup.seconds)
        self.parts = parts = [watcher, crowd, *clients, monkey]
        for part in parts:
            # There is more to do than can be done while the workers begin, and nobody to be hit yet.
            if part is monkey:
                self._until(lambda: self._ask(url, WORKS) == 1, MOST_LATE)
            part.start()
        # On a busy machine a worker that ended is not there again for a while, and what finds nobody comes again later.
        stormy = self.setup.seconds * 2 + MOST_LATE
        self._until(lambda: not _producing(clients) and monkey.through, stormy)
        self.calm.set()
        for part in parts:
            # The monkey, the operator and who turns the knobs: nobody may reopen a job, or pause anything, while we
            # wait for the last one to end.
            if part.stop is self.calm:
                part.join()
        calm_since = time.monotonic()
        stop_schedules(url, self.setup.rest_seconds)
        self._come_to_rest(url)
        rested = time.monotonic()
        self._stop_everything()
        for part in parts:
            part.join()
        complaints = self._complaints(fleet, parts)
        evidence = self._evidence(url, fleet, watcher)
        evidence.complaints += complaints
        return Outcome(
            evidence=evidence,
            injected=monkey.injected,
            turned=sum((knob.turned for knob in knobs), Counter()),
            workers_started=fleet.started,
            repeats=sum(client.client.repeats for client in clients),
            seconds=rested - begun,
            rest_seconds=rested - calm_since,
            left_out=self.left_out,
        )

    # What is needed

    def _prepare(self, url: str) -> None:
        migrations.upgrade(url)
        with connect(url) as connection:
            join_roles(connection)
            history.install(connection)
            if self.setup.alter is not None:
                self.setup.alter(connection)
        make_schedules(url, random.Random(f"{self.setup.seed}:schedules"), self.setup.schedules)

    def _fleet(self, url: str) -> Fleet:
        setup = self.setup
        return Fleet(
            url=url,
            folder=self.folder,
            size=setup.workers,
            slots=setup.slots,
            lease=setup.lease,
            crash_limit=setup.crash_limit,
            program=setup.worker,
        )

    def _clients(self, url: str) -> list[ClientThread]:
        setup = self.setup
        draw = random.Random(f"{setup.seed}:operator:work")
        doomed: SimpleQueue[NewJob] = SimpleQueue()
        common: tuple[Any, ...] = (url, self.promises)
        plans: list[Plan | Floods | Families] = [*self._plans(), *self._floods(), *self._rushes(), *self._families()]
        producers = [
            Producer(
                f"producer-{number}",
                *common,
                self.over,
                plan=plan,
                seconds=setup.seconds,
                doomed=doomed,
            )
            for number, plan in enumerate(plans)
        ]
        operator = Operator("operator", *common, self.calm, draw=draw, doomed=doomed, most_retries=setup.retries)
        return [*producers, operator, Intruder("intruder", *common, self.over, pause=setup.pause)]

    def _plans(self) -> list[Plan]:
        setup, terrain = self.setup, self.terrain
        jobs = setup.jobs * (1 - setup.flooded) if terrain else setup.jobs
        return [
            Plan(
                f"{setup.seed}:producer:{number}",
                workspaces=self.workspaces + (terrain.open_to_all if terrain else []),
                jobs=math.ceil(jobs / setup.producers),
                poison=-(-setup.poison // setup.producers),
                longest_nap=setup.lease * 1.6,
                long_naps=setup.long_naps,
                queues=("default", QUEUE) if terrain else ("default",),
            )
            for number in range(setup.producers)
        ]

    def _floods(self) -> list[Floods]:
        """Two, so that two call at once for the last places of a quota."""
        setup = self.setup
        if self.terrain is None:
            return []
        jobs = math.ceil(setup.jobs * setup.flooded / 2)
        return [
            Floods(
                f"{setup.seed}:flood:{number}", self.terrain, workspaces=self.workspaces, jobs=jobs, size=setup.flood
            )
            for number in range(2)
        ]

    def _rushes(self) -> list[Rushes]:
        setup = self.setup
        if self.terrain is None:
            return []
        jobs = math.ceil(setup.jobs * setup.rushes)
        return [Rushes(f"{setup.seed}:rushes", self.terrain, workspaces=self.workspaces, jobs=jobs, size=setup.flood)]

    def _families(self) -> list[Families]:
        setup = self.setup
        jobs = math.ceil(setup.jobs * setup.families)
        return [Families(f"{setup.seed}:families", workspaces=self.workspaces, jobs=jobs)] if jobs else []

    def _knobs(self, url: str) -> list[Knobs]:
        setup = self.setup
        if self.terrain is None:
            return []
        common: tuple[Any, ...] = ("knobs", url, self.promises, self.calm)
        seed = f"{setup.seed}:knobs"
        return [
            Knobs(
                *common,
                patience=self.over,
                terrain=self.terrain,
                seed=seed,
                pause=setup.turns,
                plain_for=setup.seconds / 6,
            )
        ]

    def _monkey(self, fleet: Fleet, proxy: Proxy, url: str) -> Monkey:
        setup = self.setup
        return Monkey(
            self.calm,
            seed=f"{setup.seed}:monkey",
            fleet=fleet,
            server=self.place.server,
            proxy=proxy,
            url=url,
            pause=setup.pause,
            restarts=0 if RESTART in self.left_out else setup.restarts,
            seconds=setup.seconds,
            kinds=[kind for kind in setup.faults if kind not in self.left_out],
            stops=setup.stops,
        )

    # How it ends

    def _stop_everything(self) -> None:
        self.calm.set()
        self.over.set()

    def _end_parts(self) -> None:
        """However it ended: whoever comes after us finds nobody at work on the database."""
        for part in self.parts:
            if part.ident is not None:
                part.join(timeout=LAST_WORDS)

    def _until(self, done: Callable[[], bool], seconds: float) -> None:
        """Wait for a state; past the deadline the checker says what is missing."""
        begun = told = time.monotonic()
        while not done() and time.monotonic() - begun < seconds:
            self.over.wait(0.2)
            if time.monotonic() - told > TELL_EVERY:
                told = time.monotonic()
                self.say(f"{told - begun:.0f} s: {len(self.promises.asked)} jobs asked for")

    def _come_to_rest(self, url: str) -> None:
        """Wait until nothing is left, for as long as it becomes less: a slow machine takes its time, and loses nothing
        by that."""
        fewest, since, told = math.inf, time.monotonic(), time.monotonic()
        while (left := self._ask(url, LEFT)) and time.monotonic() - since < self.setup.rest_seconds:
            if left < fewest:
                fewest, since = left, time.monotonic()
            self.over.wait(0.2)
            if time.monotonic() - told > TELL_EVERY:
                told = time.monotonic()
                self.say(f"finishing: {fewest:.0f} to go")

    def _ask(self, url: str, statement: str) -> float:
        """How many there are; more than ever while nobody can be asked."""
        with contextlib.suppress(psycopg.OperationalError), connect(url) as connection, as_role(connection):
            row = connection.execute(statement).fetchone()
            return float(row[0]) if row else math.inf
        return math.inf

    def _complaints(self, fleet: Fleet, parts: list[Part]) -> list[str]:
        """What went wrong with processes, and with the parts of the run itself."""
        complaints = fleet.end(seconds=60) + fleet.fallen
        complaints += [f"{part.name} gave up: {part.error!r}" for part in parts if part.error]
        deadline = time.monotonic() + 10
        while (orphans := fleet.orphans()) and time.monotonic() < deadline:
            threading.Event().wait(0.1)
        return complaints + [f"process {orphan.pid} outlived its worker" for orphan in orphans]

    def _evidence(self, url: str, fleet: Fleet, watcher: Watcher) -> Evidence:
        with connect(url) as connection:
            evidence = gather(
                connection,
                crash_limit=self.setup.crash_limit,
                promises=self.promises,
                diary=diary.read_diary(fleet.diary),
                seen=watcher.seen,
            )
        evidence.demanded = self.setup.demanded if self.terrain else frozenset()
        evidence.patience = self.setup.patience * self.setup.lease + 1
        return evidence


def _left_out(place: Place, proxy: Proxy) -> dict[str, str]:
    found = {}
    if place.server is None:
        found[RESTART] = "the server is not ours to restart"
    if not proxy.reads:
        found[LOSE_CLAIM] = "the connection is encrypted, so nobody in between knows a claim; other answers were lost"
    return found


def _producing(clients: list[ClientThread]) -> bool:
    return any(isinstance(client, Producer) and client.is_alive() for client in clients)
