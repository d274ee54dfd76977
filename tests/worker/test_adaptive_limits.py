"""An API that takes so many requests at a time, asked by real workers: their limit comes to that by itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from jobplatform.queue import Adaptive, enqueue_jobs, set_resource_limit
from tests.worker import adaptive_tasks
from tests.worker.adaptive_tasks import LEAST, MOST
from tests.worker.conftest import Database, StartWorker

TASKS = "tests.worker.adaptive_tasks:tasks"
JOBS = 240
#: For how long a request is being answered: long enough for others to come meanwhile.
SECONDS = 0.02


class Api(ThreadingHTTPServer):
    """``answered`` are requests it took, ``refused`` others, ``most_at_once`` how many there were at a time, refused
    ones included. When it has answered half of them and refused one, its capacity halves, once."""

    daemon_threads = True

    def __init__(self, capacity: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.capacity = capacity
        self.lock = threading.Lock()
        self.here = self.busy = self.answered = self.refused = self.most_at_once = 0
        self.halved = False

    def enter(self) -> bool:
        with self.lock:
            self.here += 1
            self.most_at_once = max(self.most_at_once, self.here)
            taken = self.busy < self.capacity
            self.busy += taken
            self.refused += not taken
            return taken

    def leave(self, taken: bool) -> None:
        with self.lock:
            self.here -= 1
            self.busy -= taken
            self.answered += taken
            if not self.halved and self.refused and self.answered >= JOBS // 2:
                self.halved = True
                self.capacity //= 2


class _Handler(BaseHTTPRequestHandler):
    server: Api

    def do_GET(self) -> None:
        taken = self.server.enter()
        if taken:
            threading.Event().wait(SECONDS)
        # Before the answer: who has it may be asking again already.
        self.server.leave(taken)
        self.send_response(HTTPStatus.OK if taken else HTTPStatus.TOO_MANY_REQUESTS)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(capacity: int) -> Iterator[Api]:
    with Api(capacity) as api:
        thread = threading.Thread(target=api.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield api
        finally:
            api.shutdown()
            thread.join()


def ask_often(database: Database, api: Api) -> None:
    payload = {"account": 1, "port": api.server_address[1]}
    with database.sessions.begin() as session:
        new_job = adaptive_tasks.ask.new_job
        enqueue_jobs(session, [new_job(payload, workspace_id=database.workspace_id) for _ in range(JOBS)])


def level(database: Database) -> tuple[int, str | None]:
    ((found, reason),) = database.rows("select floor(level)::integer, lowered_for from jobplatform.resource_levels")
    return found, reason


@pytest.fixture
def two_workers(start_worker: StartWorker) -> None:
    for _ in range(2):
        start_worker(tasks=TASKS, slots=4, threads=3, poll=0.1)


@pytest.mark.usefixtures("two_workers")
def test_a_limit_follows_what_an_api_takes_and_what_that_refuses_spends_no_attempt(database: Database) -> None:
    with serving(capacity=6) as api:
        ask_often(database, api)
        database.wait_until_done()

    found, reason = level(database)
    assert (database.statuses(), api.answered) == ({"completed": JOBS}, JOBS)
    assert database.rows("select max(attempts) from jobplatform.job_records") == [(1,)]
    # It went up to what there was, found out that there is not more, and came down with it.
    assert (api.refused > 0, reason) == (True, "too often")
    assert 6 <= api.most_at_once <= MOST
    assert LEAST <= found <= 6


@pytest.mark.usefixtures("two_workers")
def test_an_api_that_takes_more_than_the_most_is_never_asked_by_more(database: Database) -> None:
    with serving(capacity=100) as api:
        ask_often(database, api)
        database.wait_until_done()

    assert level(database) == (MOST, None)
    assert (api.refused, api.most_at_once <= MOST) == (0, True)


@pytest.mark.thorough
@pytest.mark.usefixtures("two_workers")
def test_what_an_operator_says_of_one_account_counts_before_what_the_code_says(database: Database) -> None:
    with database.sessions.begin() as session:
        set_resource_limit(session, "api:1", Adaptive(2, 3))

    with serving(capacity=100) as api:
        ask_often(database, api)
        database.wait_until_done()

    assert level(database) == (3, None)
    assert api.most_at_once <= 3
