"""An example as somebody runs it: its application in this process, and a worker in its folder."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

import pytest
from flask.testing import FlaskClient

from jobplatform.testing import WorkerProcess

EXAMPLES = Path(__file__).parents[2] / "examples"

Load = Callable[[str], ModuleType]
ClientOf = Callable[[ModuleType], FlaskClient]
WorkIn = Callable[..., WorkerProcess]


@pytest.fixture
def load(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads the ``app.py`` of an example, which finds the test's database in its environment."""
    monkeypatch.setenv("DATABASE_URL", database_url)

    def load(example: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"{example}_app", EXAMPLES / example / "app.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        # Dataclasses look their module up by name.
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def client_of() -> Iterator[ClientOf]:
    """Makes the application of a loaded example, and a client of it."""
    with ExitStack() as stack:

        def client_of(example: ModuleType) -> FlaskClient:
            app = example.create_app()
            stack.callback(app.extensions["jobplatform"].sessions.kw["bind"].dispose)
            client: FlaskClient = app.test_client()
            return client

        yield client_of


@pytest.fixture
def work_in(tmp_path: Path) -> Iterator[WorkIn]:
    """Starts a worker in the folder of an example, with this process's environment. It has to stop when it is told."""
    started: list[WorkerProcess] = []

    def work_in(example: str, **variables: str) -> WorkerProcess:
        environment = {**os.environ, "JOBPLATFORM_TASKS": "app:tasks", "JOBPLATFORM_CONCURRENCY": "2", **variables}
        started.append(WorkerProcess(tmp_path / "worker.log", environment, folder=EXAMPLES / example))
        return started[-1]

    yield work_in
    try:
        codes = [worker.stop() for worker in started]
    finally:
        for worker in started:
            worker.destroy()
    assert codes == [0] * len(started), started[-1].end_of_log
