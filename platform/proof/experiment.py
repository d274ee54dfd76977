"""One chaos run: a server of its own, producers, workers and a monkey; then rest; then the evidence."""

from __future__ import annotations

import contextlib
import math
import random
import shutil
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from urllib.parse import quote

import psycopg

from jobplatform import migrations
from jobplatform.embedded import EmbeddedServer
from jobplatform.proof import diary, history
from jobplatform.proof.clients import ClientThread, Intruder, Operator, Producer, Promises
from jobplatform.proof.evidence import Evidence, gather
from jobplatform.proof.families import Families
from jobplatform.proof.fleet import WORKER, Crowd, Fleet
from jobplatform.proof.knobs import Knobs
from jobplatform.proof.monkey import WEIGHTS, Monkey
from jobplatform.proof.part import Part
from jobplatform.proof.plan import Plan
from jobplatform.proof.proxy import Proxy
from jobplatform.proof.terrain import DEMANDED, QUEUE, Floods, Terrain
from jobplatform.proof.timetable import make_schedules, stop_schedules
from jobplatform.proof.watcher import Watcher
from jobplatform.queue import NewJob

DATABASE = "chaos"

AT_REST = """
select not exists (select from jobplatform.job_queue) and not exists (select from jobplatform.notices)
"""

#: Two connections are all a client needs; each worker has four and one more for each handler that uses its Session.
SERVER = {"max_connections": "150", "shared_buffers": "128MB", "autovacuum_naptime": "5s"}

#: Without fsync a restart of the *server* still loses nothing, because the kernel keeps what was written. What a
#: power cut would lose is not what is tested here; `make chaos` leaves it on all the same.
QUICK_SERVER = SERVER | {"fsync": "off", "full_page_writes": "off"}


#: Seconds that a storm may go on for, after its time, until each kind of fault has hit somebody.
MOST_LATE = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How big, how long and how bad."""

    seed: int
    jobs: int = 11_000
    seconds: float = 180
    rest_seconds: float = 120
    workspaces: int = 40
    producers: int = 3
    workers: int = 4
    slots: int = 3
    poison: int = 12
    restarts: int = 5
    pause: float = 0.5
    lease: float = 2.5
    crash_limit: int = 3
    retries: int = 30
    faults: tuple[str, ...] = tuple(WEIGHTS)
    server: dict[str, str] = field(default_factory=lambda: SERVER)
    long_naps: float = 0.03
    """The share of naps that last about a lease."""
    stops: tuple[float, float] = (1.2, 3)
    """How long a stopped worker stays so, in leases."""
    worker: tuple[str, ...] = WORKER
    """The program of the workers, without its options."""
    alter: Callable[[psycopg.Connection[Any]], object] | None = None
    """What is done to the database before anybody uses it."""
    limits: tuple[int, int, int] | None = (1, 3, 10)
    """How many may run at a time in three of the workspaces; None for a run without any limits, rates and quotas."""
    flooded: float = 0.2
    """The share of the jobs that is poured into limited places."""
    flood: int = 30
    """How many at once, at most."""
    turns: float = 1.0
    """Seconds between two turns of a knob, about."""
    families: float = 0.1
    """How many jobs wait for others or belong to batches, as a share of all the others."""
    crowd: int = 8
    """How many workers there are in the middle of the storm."""
    demanded: frozenset[str] = DEMANDED
    patience: float = 3
    """For how many leases a job may be left waiting while slots are free and nothing forbids it to start. A worker that
    is stopped looks healthy for a lease, and one that lost its connection, or just began, has no use for its slots a
    while."""
    schedules: int = 8
    """How many schedules tick every second."""


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


class Experiment:
    """Runs one :class:`Setup` in ``folder``. ``say`` is told how it goes."""

    def __init__(self, setup: Setup, folder: Path, say: Callable[[str], None]) -> None:
        self.setup = setup
        self.folder = folder
        self.say = say
        self.promises = Promises()
        self.over = threading.Event()
        self.calm = threading.Event()
        draw = random.Random(f"{setup.seed}:operator")
        self.workspaces = [uuid.UUID(int=draw.getrandbits(128), version=4) for _ in range(setup.workspaces)]
        self.terrain = Terrain.drawn(draw, setup.limits) if setup.limits else None

    def run(self) -> Outcome:
        """Everything, in order. Whatever happens, nothing that was started is left behind."""
        with self._server() as server, contextlib.ExitStack() as stack:
            url = self._database(server)
            proxy, detour = self._proxy(url)
            stack.callback(proxy.close)
            fleet = self._fleet(detour)
            stack.callback(fleet.kill)
            stack.callback(self._stop_everything)
            watcher = Watcher(url, self.over, pause=0.15)
            monkey = self._monkey(fleet, server, proxy, url)
            clients = self._clients(detour)
            knobs = self._knobs(detour)
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
        parts: list[Part] = [watcher, monkey, crowd, *clients]
        for part in parts:
            part.start()
        # On a busy machine a worker that ended is not there again for a while, and what finds nobody comes again later.
        stormy = self.setup.seconds * 2 + MOST_LATE
        self._until(lambda: not _producing(clients) and monkey.through, stormy, "producing")
        self.calm.set()
        for part in parts:
            # The monkey, the operator and who turns the knobs: nobody may reopen a job, or pause anything, while we
            # wait for the last one to end.
            if part.stop is self.calm:
                part.join()
        calm_since = time.monotonic()
        stop_schedules(url, self.setup.rest_seconds)
        self._until(lambda: self._all_ended(url), self.setup.rest_seconds, "finishing")
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
        )

    # What is needed

    @contextlib.contextmanager
    def _server(self) -> Iterator[EmbeddedServer]:
        server = EmbeddedServer(self.folder / "server", self.setup.server)
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")

    def _database(self, server: EmbeddedServer) -> str:
        url = server.create_database(DATABASE)
        migrations.upgrade(url)
        with psycopg.connect(url, autocommit=True) as connection:
            history.install(connection)
            if self.setup.alter is not None:
                self.setup.alter(connection)
        make_schedules(url, random.Random(f"{self.setup.seed}:schedules"), self.setup.schedules)
        return url

    def _proxy(self, url: str) -> tuple[Proxy, str]:
        """A proxy before the server, and the URL of the database by way of it."""
        with psycopg.connect(url) as connection:
            proxy = Proxy(self.folder, Path(connection.info.host))
        return proxy, f"postgresql://postgres@/{DATABASE}?host={quote(str(self.folder))}"

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
        plans: list[Plan | Floods | Families] = [*self._plans(), *self._floods(), *self._families()]
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

    def _monkey(self, fleet: Fleet, server: EmbeddedServer, proxy: Proxy, url: str) -> Monkey:
        setup = self.setup
        return Monkey(
            self.calm,
            seed=f"{setup.seed}:monkey",
            fleet=fleet,
            server=server,
            proxy=proxy,
            url=url,
            pause=setup.pause,
            restarts=setup.restarts,
            seconds=setup.seconds,
            kinds=setup.faults,
            stops=setup.stops,
        )

    # How it ends

    def _stop_everything(self) -> None:
        self.calm.set()
        self.over.set()

    def _until(self, done: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait for a state; past the deadline the checker says what is missing."""
        begun = told = time.monotonic()
        while not done() and time.monotonic() - begun < seconds:
            self.over.wait(0.2)
            if time.monotonic() - told > 15:
                told = time.monotonic()
                self.say(f"{what}: {len(self.promises.asked)} jobs asked for, {told - begun:.0f} s")

    def _all_ended(self, url: str) -> bool:
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url) as connection:
            row = connection.execute(AT_REST).fetchone()
            return bool(row and row[0])
        return False

    def _complaints(self, fleet: Fleet, parts: list[Part]) -> list[str]:
        """What went wrong with processes, and with the parts of the run itself."""
        complaints = fleet.end(seconds=60) + fleet.fallen
        complaints += [f"{part.name} gave up: {part.error!r}" for part in parts if part.error]
        deadline = time.monotonic() + 10
        while (orphans := fleet.orphans()) and time.monotonic() < deadline:
            threading.Event().wait(0.1)
        return complaints + [f"process {orphan.pid} outlived its worker" for orphan in orphans]

    def _evidence(self, url: str, fleet: Fleet, watcher: Watcher) -> Evidence:
        with psycopg.connect(url, autocommit=True) as connection:
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


@contextlib.contextmanager
def scratch(keep: bool = False, say: Callable[[str], None] = print) -> Iterator[Path]:
    """A folder for one run, removed afterwards unless somebody wants to look into it."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    # The server may run as a system user of its own, which has to get through to its data.
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        if keep:
            say(f"kept in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _producing(clients: list[ClientThread]) -> bool:
    return any(isinstance(client, Producer) and client.is_alive() for client in clients)
