"""Whether a worker may be one is asked until it is, and never again."""

from __future__ import annotations

from collections import deque
from typing import Any

from jobplatform.errors import SettingsError
from jobplatform.models import make_engine
from jobplatform.queue import WorkerInfo
from jobplatform.testing import wait_until
from jobplatform.worker.registrar import LoginRefused, Register, Registered, Registrar

INFO = WorkerInfo(name="w", host="h", pid=1, version="1", queues=("default",), tasks=("work",), slots=1)
REFUSED = SettingsError(["the server refuses the login"])


def test_a_password_that_is_changed_ends_a_start_and_no_worker_that_runs(database_url: str) -> None:
    answers: deque[Any] = deque()
    let_in = True

    def admit() -> bool:
        if not let_in:
            raise REFUSED
        return True

    def ask_for_a_place(registrar: Registrar) -> Any:
        registrar.ask(Register(INFO))
        wait_until(lambda: len(answers) == 1, what="an answer")
        return answers.popleft()

    engine = make_engine(database_url, autocommit=True)
    running, starting = Registrar(engine, answers.append, admit), Registrar(engine, answers.append, admit)
    running.start()
    starting.start()
    try:
        assert isinstance(ask_for_a_place(running), Registered)
        let_in = False
        again, first = ask_for_a_place(running), ask_for_a_place(starting)
    finally:
        running.stop(10)
        starting.stop(10)
        engine.dispose()

    assert isinstance(again, Registered)
    assert first == LoginRefused(REFUSED)
