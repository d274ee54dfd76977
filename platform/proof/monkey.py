"""The chaos monkey: injures workers, their processes, database backends and the server, as its seed says."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable

import psycopg

from jobplatform.embedded import EmbeddedServer
from jobplatform.proof.fleet import Fleet, WorkerProcess
from jobplatform.proof.onlooker import NAME, connect
from jobplatform.proof.part import Part
from jobplatform.proof.processes import children, send
from jobplatform.proof.proxy import Proxy

RESTART = "restart server"
LOSE_CLAIM = "lose answer of a claim"

#: How often each fault is chosen. Restarts of the server come at their own times.
WEIGHTS = {
    "kill child": 30,
    "terminate backend": 25,
    "lose answer": 15,
    LOSE_CLAIM: 15,
    "stop worker": 12,
    "stop worker and handlers": 8,
    "kill worker": 12,
    "kill nursery": 6,
    "stop child": 6,
    "terminate all backends": 3,
    "ask worker to leave": 4,
}


TERMINATE = """
select pg_terminate_backend(pid)
from (
    select pid
    from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid()
        and application_name like 'jobplatform%%' and application_name <> %s
    order by random()
    limit %s
) chosen
"""


class Monkey(Part):
    """Injects one fault after the other until told to stop, then wakes whatever it has stopped."""

    def __init__(
        self,
        stop: threading.Event,
        *,
        seed: str,
        fleet: Fleet,
        server: EmbeddedServer | None,
        proxy: Proxy,
        url: str,
        pause: float,
        restarts: int,
        seconds: float,
        kinds: Iterable[str],
        stops: tuple[float, float],
    ) -> None:
        super().__init__("monkey", stop)
        self.draw = random.Random(seed)
        self.fleet = fleet
        self.server = server
        self.proxy = proxy
        self.url = url
        self.pause = pause
        self.kinds = list(kinds)
        self.stops = stops
        self.injected: Counter[str] = Counter()
        self._deck = self._shuffled_deck()
        self._asleep: list[tuple[float, WorkerProcess | None, list[int]]] = []
        self._restarts = [seconds * (number + 0.5) / restarts for number in range(restarts)]
        self._faults: dict[str, Callable[[], bool]] = {
            "kill child": self.kill_child,
            "terminate backend": lambda: self.terminate_backends(1),
            "lose answer": lambda: self.proxy.lose_answer(self.draw),
            LOSE_CLAIM: lambda: self.proxy.lose_answer(self.draw, of_a_claim=True),
            "stop worker": lambda: self.stop_worker(with_handlers=False),
            "stop worker and handlers": lambda: self.stop_worker(with_handlers=True),
            "kill worker": lambda: self.end_worker(signal.SIGKILL),
            "kill nursery": self.kill_nursery,
            "stop child": self.stop_child,
            "terminate all backends": lambda: self.terminate_backends(1000),
            "ask worker to leave": lambda: self.end_worker(signal.SIGTERM),
            RESTART: self.restart_server,
        }

    @property
    def through(self) -> bool:
        """Whether each kind of fault has hit somebody, and the server was restarted as often as it was to be."""
        return not self._restarts and self.injected.keys() >= set(self.kinds)

    def live(self) -> None:
        begun = time.monotonic()
        while not self.stop.wait(self.pause * self.draw.uniform(0.5, 1.5)):
            self.wake(time.monotonic())
            if self._restarts and time.monotonic() - begun > self._restarts[0]:
                self._restarts.pop(0)
                self.inject(RESTART)
            else:
                self.inject(self._next_kind())

    def leave(self) -> None:
        self.wake(float("inf"))

    def inject(self, kind: str) -> None:
        """A fault that finds nobody to hit does not count, and comes again later."""
        if self._faults[kind]():
            self.injected[kind] += 1
        else:
            self._deck.insert(0, kind)

    def _next_kind(self) -> str:
        """First each kind in turn, so that the shortest storm has them all; then as their weights say."""
        if self._deck:
            return self._deck.pop()
        return self.draw.choices(self.kinds, [WEIGHTS[kind] for kind in self.kinds])[0]

    def _shuffled_deck(self) -> list[str]:
        return self.draw.sample(self.kinds, len(self.kinds))

    # Workers. Each fault says whether it hit somebody.

    def end_worker(self, signum: signal.Signals) -> bool:
        worker = self._some_worker()
        if worker is None:
            return False
        self.fleet.note_descendants(worker)
        worker.expected = True
        return send(worker.pid, signum)

    def stop_worker(self, *, with_handlers: bool) -> bool:
        """For longer than a lease: the others declare it dead and take its jobs."""
        worker = self._some_worker()
        if worker is None:
            return False
        processes = self.fleet.note_descendants(worker)
        pids = [worker.pid, *(process.pid for process in processes if with_handlers)]
        worker.stopped = True
        for pid in pids:
            send(pid, signal.SIGSTOP)
        self._sleep(pids, self.draw.uniform(*self.stops), worker)
        return True

    # Processes of a worker

    def kill_nursery(self) -> bool:
        return any(send(nursery, signal.SIGKILL) for nursery in self._nurseries()[:1])

    def kill_child(self) -> bool:
        return any(send(child, signal.SIGKILL) for child in self._handlers()[:1])

    def stop_child(self) -> bool:
        stopped = [child for child in self._handlers()[:1] if send(child, signal.SIGSTOP)]
        self._sleep(stopped, self.draw.uniform(0.2, 2))
        return bool(stopped)

    # The database

    def terminate_backends(self, number: int) -> bool:
        with contextlib.suppress(psycopg.OperationalError), connect(self.url) as connection:
            return bool(connection.execute(TERMINATE, [NAME, number]).fetchall())
        return False

    def restart_server(self) -> bool:
        if self.server is None:
            return False
        self.server.restart("immediate")
        return True

    # Whom to hit, and whom to wake

    def _some_worker(self) -> WorkerProcess | None:
        there = [
            worker for worker in self.fleet.workers if worker.running and not worker.expected and not worker.stopped
        ]
        return self.draw.choice(there) if there else None

    def _nurseries(self) -> list[int]:
        worker = self._some_worker()
        return [process.pid for process in children(worker.pid)] if worker else []

    def _handlers(self) -> list[int]:
        handlers = [process.pid for nursery in self._nurseries() for process in children(nursery)]
        self.draw.shuffle(handlers)
        return handlers

    def _sleep(self, pids: list[int], leases: float, worker: WorkerProcess | None = None) -> None:
        if pids:
            self._asleep.append((time.monotonic() + leases * self.fleet.lease, worker, pids))

    def wake(self, now: float) -> None:
        """Wake those whose time has come."""
        for at, worker, pids in [sleeper for sleeper in self._asleep if sleeper[0] <= now]:
            self._asleep.remove((at, worker, pids))
            for pid in pids:
                send(pid, signal.SIGCONT)
            if worker:
                worker.stopped = False
