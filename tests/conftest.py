"""The tests' own corner of the kit: shorter names for its fixtures, logins with the roles of one process, a pooler.

With ``--pooled`` the tests reach the database through a PgBouncer in transaction mode, except for those marked
``direct``.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, make_url
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.embedded import PROGRAMS, EmbeddedServer
from jobplatform.key_ring import VARIABLE
from jobplatform.models import Role
from jobplatform.queue import use_key_ring
from jobplatform.testing import Databases, DatabaseServer
from jobplatform.testing.databases import usual_engine
from tests.browser.chromium import CHROMIUM, MISSING, open_browser
from tests.pooler import Pooler, find_pgbouncer, is_pooled, login_name, run_pooler

#: Makes an engine for a URL; a second argument says of what kind.
EngineOn = Callable[..., Engine]

#: Objects that are made before Python looks for garbage among them.
COLLECT_AFTER = 20_000


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pooled", action="store_true", help="reach the database through PgBouncer in transaction mode")


def pytest_configure(config: pytest.Config) -> None:
    """Tests choose their settings; what the developer's shell has set is not theirs."""
    if config.getoption("--pooled") and find_pgbouncer() is None:
        pytest.exit("skipped: there is no pgbouncer on this machine (Debian: apt install pgbouncer)", returncode=0)
    for name in list(os.environ):
        # What the tests are run with is for whoever runs them to say.
        if name == PROGRAMS:
            continue
        if name.startswith("JOBPLATFORM_") or name in (
            "DATABASE_URL",
            "JOBS_DATABASE_URL",
            "JOBS_CRON_TZ",
            "DISABLE_QUEUE",
        ):
            del os.environ[name]
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A script that runs this in the background has it ignore Ctrl-C, and so would every process started from here.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            # So it does with these, or nohup does. A handler is not handed on: whom we start minds them again.
            signal.signal(number, lambda *_: None)
    _, *older = gc.get_threshold()
    # Thousands of tests that are collected look like a leak: a quarter of the time that took was looking for garbage.
    gc.set_threshold(COLLECT_AFTER, *older)
    _keep_bytecode()


def _keep_bytecode() -> None:
    """Hundreds of processes are started from here, and without it each of them would compile all of our code again.

    Beside the code, as Python does it: in a place of its own (``PYTHONPYCACHEPREFIX``) what pip and the distribution
    have compiled would not be found, and the first run would begin with half a minute of compiling it once more.
    """
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_collection_finish() -> None:
    """Thousands of tests and their modules stay until the end: whoever looks for garbage need not look there."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With ``--pooled`` only what goes through the pooler: nothing is new about the rest."""
    _give_examples_time(items)
    if "PYTEST_XDIST_WORKER" in os.environ:
        _let_one_wait_while_another_works(items)
    if config.getoption("--pooled"):
        pooled = [item for item in items if "reach" in item.fixturenames and not item.get_closest_marker("direct")]  # type: ignore[attr-defined]
        config.hook.pytest_deselected(items=[item for item in items if item not in pooled])
        items[:] = pooled


#: Tests that wait most of the time, for processes that they start: the longest first.
WAITING = (
    "tests/end_to_end/test_demo.py",
    "tests/end_to_end/test_prove.py",
    "tests/end_to_end/test_up.py",
    "tests/api/test_streams_of_a_server.py",
    "tests/examples/",
    "tests/browser/",
    "tests/testing/test_plugin.py",
    "tests/worker/",
    "tests/api/test_gunicorn.py",
    "tests/end_to_end/test_slow_clients.py",
    "tests/end_to_end/test_embedded.py",
)


def _let_one_wait_while_another_works(items: list[pytest.Item]) -> None:
    """Of the processes that share the tests each begins with its part of them. If all waited at the same time the
    machine would have nothing to do; and a long test at the end would be waited for by all."""
    places = {item: _place(item.nodeid) for item in items}
    items.sort(key=places.__getitem__)


def _place(node_id: str) -> int:
    return next((place for place, start in enumerate(WAITING) if node_id.startswith(start)), len(WAITING))


def _give_examples_time(items: list[pytest.Item]) -> None:
    """An example of hypothesis may take as long as a busy machine takes for it.

    A profile would do that too, but it has to be there before any property is: every run would import hypothesis.
    """
    for function in {item.function for item in items if isinstance(item, pytest.Function)}:
        if (chosen := getattr(function, "_hypothesis_internal_use_settings", None)) is not None:
            patient = type(chosen)(chosen, deadline=None)
            function._hypothesis_internal_use_settings = patient


@pytest.fixture(scope="session")
def server(jobplatform_server: DatabaseServer) -> EmbeddedServer:
    """One embedded server, shared by all test processes of this run."""
    assert jobplatform_server.embedded is not None
    return jobplatform_server.embedded


@pytest.fixture(scope="session")
def pooler(server: EmbeddedServer) -> Iterator[Pooler]:
    """A PgBouncer of this test process, in transaction mode."""
    with run_pooler(server) as pooler:
        yield pooler


@pytest.fixture(scope="session")
def jobplatform_databases(jobplatform_databases: Databases, request: pytest.FixtureRequest) -> Iterator[Databases]:
    """The kit's. A pooler would keep connections to them for longer than a test takes."""
    if not request.config.getoption("--pooled"):
        yield jobplatform_databases
        return
    pooler: Pooler = request.getfixturevalue("pooler")
    databases = jobplatform_databases.left_by(pooler.leave)
    yield databases
    databases.close()


@pytest.fixture
def reach(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """The address by which this test uses a database of the server: the server's own or, with ``--pooled``, one that
    leads through PgBouncer."""
    if request.config.getoption("--pooled") and request.node.get_closest_marker("direct") is None:
        pooler: Pooler = request.getfixturevalue("pooler")
        return pooler.url
    return str


@pytest.fixture
def direct_url(jobplatform_database_url: str) -> str:
    """A migrated database of this test's own, without a pooler in between."""
    return jobplatform_database_url


@pytest.fixture
def database_url(direct_url: str, reach: Callable[[str], str]) -> str:
    """A migrated database of this test's own."""
    return reach(direct_url)


@pytest.fixture(scope="session")
def provide_login(server: EmbeddedServer) -> Callable[..., str]:
    """The name of a login that is a member of these roles and nothing else; made once."""

    @cache
    def provide_login(*roles: Role) -> str:
        name = login_name(roles)
        server.provide_login(name, *roles)
        return name

    return provide_login


@pytest.fixture
def login_url(
    server: EmbeddedServer, provide_login: Callable[..., str], direct_url: str, reach: Callable[[str], str]
) -> Callable[..., str]:
    """The test's database as a login that is a member of these roles and nothing else."""

    def login_url(*roles: Role) -> str:
        return reach(server.url(make_url(direct_url).database or "", provide_login(*roles)))

    return login_url


@pytest.fixture
def engine_on(jobplatform_databases: Databases) -> Iterator[EngineOn]:
    """Makes engines on the test's database. Where another test uses that next, the connections go on to it."""
    with ExitStack() as stack:

        def engine_on(url: str, make: Callable[[str], Engine] = usual_engine) -> Engine:
            if jobplatform_databases.is_reused(url) and not is_pooled(url):
                return jobplatform_databases.engine(url, make)
            engine = make(url)
            stack.callback(engine.dispose)
            return engine

        yield engine_on


@pytest.fixture
def engine(database_url: str, engine_on: EngineOn) -> Engine:
    return engine_on(database_url)


@pytest.fixture
def sessions(engine: Engine) -> sessionmaker[Session]:
    return sessionmaker(engine)


@pytest.fixture
def session(sessions: sessionmaker[Session]) -> Iterator[Session]:
    """A Session whose transaction is the test's to commit."""
    with sessions() as session:
        yield session


@pytest.fixture
def workspace_id(jobplatform_workspace_id: uuid.UUID) -> uuid.UUID:
    return jobplatform_workspace_id


@pytest.fixture(scope="session")
def worker_id(request: pytest.FixtureRequest) -> str:
    """The name of this test process; ``master`` when there is only one."""
    return os.environ.get("PYTEST_XDIST_WORKER", "master")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A browser for all tests of a process: Playwright's driver cannot be there twice."""
    if CHROMIUM is None:
        pytest.skip(MISSING)
    with open_browser() as browser:
        yield browser


@pytest.fixture(autouse=True)
def _no_loop_of_a_browser_is_running(request: pytest.FixtureRequest) -> Iterator[None]:
    """As long as Playwright is there its loop counts as running in this thread, and ``asyncio.run`` would be refused to
    all tests that come after those with a browser."""
    loop = None if "chromium" in request.fixturenames else asyncio._get_running_loop()
    if loop is not None:
        asyncio._set_running_loop(None)
    yield
    if loop is not None:
        asyncio._set_running_loop(loop)


@pytest.fixture(scope="session", autouse=True)
def _certificates_are_read_once() -> Iterator[None]:
    """Each client of httpx reads the machine's certificates, which takes it longer than the request that it is made
    for; what a test asks of a server here goes without TLS."""
    if (transport := sys.modules.get("httpx._transports.default")) is None:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transport, "create_ssl_context", cache(transport.create_ssl_context))
        yield


@pytest.fixture(autouse=True)
def _no_key_ring_is_left_behind() -> Iterator[None]:
    """An application on an embedded database adopts the ring beside it, for its process: which is that of all tests."""
    before = os.environ.get(VARIABLE)
    yield
    use_key_ring(None)
    if before is None:
        os.environ.pop(VARIABLE, None)
    else:
        os.environ[VARIABLE] = before


@pytest.fixture(autouse=True)
def _no_logging_is_set_up() -> Iterator[None]:
    """A command that serves sets up logging for its process. It has to be one of its own: in this one all tests that
    come later would log what nobody reads."""
    level = logging.getLogger().level
    yield
    assert logging.getLogger().level == level, "the test has set up logging; start a process for what does that"


@pytest.fixture
def empty_url(server: EmbeddedServer) -> Iterator[str]:
    """A database without anything of ours."""
    name = f"empty_{uuid.uuid4().hex}"
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(f"create database {name} template template0")
    yield server.url(name)
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(f"drop database {name} with (force)")
