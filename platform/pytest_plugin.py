"""The fixtures of ``jobplatform.testing``, which pytest finds by itself where jobplatform is installed.

Whoever asks for none of them pays for nothing: what they need is imported when the first of them is made. All names
begin with ``jobplatform_``.
"""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session, sessionmaker

    from jobplatform.queue import Tasks
    from jobplatform.testing import Clock, DatabaseServer, WorkerProcess
    from jobplatform.testing.databases import Databases

DATABASE_URL = "JOBPLATFORM_TEST_DATABASE_URL"
FRESH, REUSED = "fresh", "reused"
_RUN = pytest.StashKey[str]()


class Hooks:
    """What a project may do to the template that its tests' databases are copied from."""

    @pytest.hookspec
    def pytest_jobplatform_template(self, engine: Engine) -> None:
        """Add your own tables, and rows that every test begins with. Called once in a test run, on a database that
        has the schema of jobplatform; what is in the schema ``public`` is your handlers' to use."""


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(Hooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        "jobplatform_database_url",
        "a server on which test databases are made, instead of an embedded one; "
        f"the variable {DATABASE_URL} has precedence",
        default="",
    )
    parser.addini(
        "jobplatform_database",
        f"{REUSED}: each test process has a database, cleaned between tests; {FRESH}: each test gets one of its own",
        default=REUSED,
    )
    parser.getgroup("jobplatform").addoption(
        "--jobplatform-database",
        choices=[FRESH, REUSED],
        help="instead of the ini option jobplatform_database",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "jobplatform_fresh_database: this test gets a database that no other test has used"
    )


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """The process that starts xdist's workers remembers their run, whose folder it removes in the end."""
    node.config.stash[_RUN] = node.workerinput["testrunuid"][:12]


def pytest_unconfigure(config: pytest.Config) -> None:
    if (run := config.stash.get(_RUN, None)) is not None:
        from jobplatform.testing.server import remove_folder_of

        remove_folder_of(run)


# -- databases -----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def jobplatform_server(pytestconfig: pytest.Config) -> Iterator[DatabaseServer]:
    """The server that the databases of this test run are on, shared by all its processes."""
    from jobplatform.testing.server import embedded_server, folder_of, given_server

    # All processes of xdist know this; alone, nobody has to.
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", uuid.uuid4().hex)[:12]
    url = os.environ.get(DATABASE_URL) or str(pytestconfig.getini("jobplatform_database_url"))
    if not url and "PYTEST_XDIST_WORKER" not in os.environ:
        pytestconfig.stash[_RUN] = run
    with given_server(url, run) if url else embedded_server(folder_of(run), run) as server:
        yield server


@pytest.fixture(scope="session")
def jobplatform_databases(jobplatform_server: DatabaseServer, pytestconfig: pytest.Config) -> Iterator[Databases]:
    """Makes the databases, from a template with the tables of ``pytest_jobplatform_template``."""
    from jobplatform.testing.databases import Databases

    def prepare(engine: Engine) -> None:
        pytestconfig.hook.pytest_jobplatform_template(engine=engine)

    databases = Databases(jobplatform_server, prepare)
    yield databases
    databases.close()


@pytest.fixture
def jobplatform_database_url(jobplatform_databases: Databases, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a migrated database that has your tables and no rows but the template's."""
    if _wants_fresh(request):
        url = jobplatform_databases.fresh()
        yield url
        jobplatform_databases.drop(url)
    else:
        yield jobplatform_databases.reused()
        jobplatform_databases.clean()


def _wants_fresh(request: pytest.FixtureRequest) -> bool:
    if request.node.get_closest_marker("jobplatform_fresh_database") is not None:
        return True
    chosen = request.config.getoption("--jobplatform-database") or request.config.getini("jobplatform_database")
    if chosen not in (FRESH, REUSED):
        raise pytest.UsageError(f"jobplatform_database must be {FRESH} or {REUSED}, not {chosen!r}")
    return bool(chosen == FRESH)


@pytest.fixture
def jobplatform_engine(
    jobplatform_database_url: str, jobplatform_databases: Databases, request: pytest.FixtureRequest
) -> Iterator[Engine]:
    """An engine on the test's database."""
    from jobplatform.models import make_engine

    if not _wants_fresh(request):
        yield jobplatform_databases.engine()
        return
    engine = make_engine(jobplatform_database_url, pool_size=10)
    yield engine
    engine.dispose()


@pytest.fixture
def jobplatform_sessions(jobplatform_engine: Engine) -> sessionmaker[Session]:
    """Makes Sessions on the test's database."""
    from sqlalchemy.orm import sessionmaker

    return sessionmaker(jobplatform_engine)


@pytest.fixture
def jobplatform_session(jobplatform_sessions: sessionmaker[Session]) -> Iterator[Session]:
    """A Session on the test's database. Nothing commits it but the test, and the helpers that say so."""
    with jobplatform_sessions() as session:
        yield session


@pytest.fixture
def jobplatform_workspace_id() -> uuid.UUID:
    """The id of a workspace that nobody else uses."""
    return uuid.uuid4()


# -- time and modes ------------------------------------------------------------------------------


@pytest.fixture
def jobplatform_clock(jobplatform_engine: Engine) -> Clock:
    """Moves the platform's time in the test's database."""
    from jobplatform.testing import Clock

    return Clock(jobplatform_engine)


@pytest.fixture
def jobplatform_inline() -> Iterator[Callable[[Tasks], Tasks]]:
    """Call it with your ``Tasks``: until the test ends, each job runs right after the commit that enqueued it."""
    from jobplatform.testing import inline

    with ExitStack() as stack:
        yield lambda tasks: stack.enter_context(inline(tasks))


@pytest.fixture
def jobplatform_manual() -> Iterator[Callable[[Tasks], Tasks]]:
    """Call it with your ``Tasks``: until the test ends, jobs wait until the test drains them."""
    from jobplatform.testing import manual

    with ExitStack() as stack:
        yield lambda tasks: stack.enter_context(manual(tasks))


# -- workers -------------------------------------------------------------------------------------


class StartWorker(Protocol):
    """Starts a worker on the test's database and waits until it is ready."""

    def __call__(self, tasks: str, *, ready: bool = True, **variables: str) -> WorkerProcess:
        """``tasks`` is ``module:attribute``, as for the command; ``variables`` are of its environment, such as
        ``JOBPLATFORM_CONCURRENCY="4"``."""


@pytest.fixture
def jobplatform_worker(
    jobplatform_server: DatabaseServer,
    jobplatform_database_url: str,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[StartWorker]:
    """Starts real workers (``jobplatform worker``) on the test's database; ends them with the test, and shows what
    they logged when it failed."""
    from jobplatform.models import Role
    from jobplatform.testing.databases import database_of
    from jobplatform.testing.worker_process import WorkerProcess, environment_of

    started = request.node.stash.setdefault(_WORKERS, [])
    folder: Path = tmp_path_factory.mktemp("workers")
    numbers = itertools.count(1)
    _show_logs_of_failures(request.config)

    def start(tasks: str, *, ready: bool = True, **variables: str) -> WorkerProcess:
        login = jobplatform_server.provide_login(Role.WORKER)
        url = jobplatform_server.url(database_of(jobplatform_database_url), login)
        # On a server where no login could be made for it, it has to make do with the test's own.
        trust = {} if login else {"JOBPLATFORM_TRUST_LOGIN": "true"}
        environment = environment_of(url, tasks, trust | variables)
        worker = WorkerProcess(folder / f"{next(numbers)}.log", environment, folder=request.config.rootpath)
        started.append(worker)
        if ready:
            worker.wait_until_ready()
        return worker

    yield start
    for worker in started:
        worker.destroy()


_WORKERS = pytest.StashKey[list[Any]]()


def _show_logs_of_failures(config: pytest.Config) -> None:
    if not config.pluginmanager.has_plugin(_WorkerLogs.__name__):
        config.pluginmanager.register(_WorkerLogs(), _WorkerLogs.__name__)


class _WorkerLogs:
    """Adds the logs of a failed test's workers to its report. Registered when there is a worker to speak of."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.failed:
            workers = item.stash.get(_WORKERS, None) or []
            for number, worker in enumerate(workers, start=1):
                report.sections.append((f"log of worker {number}", worker.end_of_log))
        return report
