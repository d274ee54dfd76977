"""A real PostgreSQL for every test: one server for all, a database from a migrated template for each.

With ``--pooled`` the tests reach it through a PgBouncer in transaction mode, except for those marked ``direct``.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, make_url
from sqlalchemy.orm import Session, sessionmaker

from jobplatform import migrations
from jobplatform.embedded import SUPERUSER, EmbeddedServer
from jobplatform.models import Role, make_engine
from tests.pooler import Pooler, find_pgbouncer, login_name, run_pooler

TEMPLATE = "template_jobplatform"
SERVER_FOLDER = "TEST_SERVER_FOLDER"

#: A test server loses nothing that anybody wants back.
FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "autovacuum_naptime": "5s",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pooled", action="store_true", help="reach the database through PgBouncer in transaction mode")


def pytest_configure(config: pytest.Config) -> None:
    """Tests choose their settings; what the developer's shell has set is not theirs."""
    if config.getoption("--pooled") and find_pgbouncer() is None:
        pytest.exit("skipped: there is no pgbouncer on this machine (Debian: apt install pgbouncer)", returncode=0)
    for name in list(os.environ):
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
    _provide_server_folder(config)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With ``--pooled`` only what goes through the pooler: nothing is new about the rest."""
    if config.getoption("--pooled"):
        pooled = [item for item in items if "reach" in item.fixturenames and not item.get_closest_marker("direct")]  # type: ignore[attr-defined]
        config.hook.pytest_deselected(items=[item for item in items if item not in pooled])
        items[:] = pooled


def _provide_server_folder(config: pytest.Config) -> None:
    """A folder for the server of this run, made by the first process and known to those it starts.

    Not below pytest's own temporary folder: for root the server is another user, and every run of pytest closes that
    one to others, also while a neighbour's server works in it.
    """
    if SERVER_FOLDER not in os.environ:
        folder = os.environ[SERVER_FOLDER] = tempfile.mkdtemp(prefix="jobplatform-tests-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        config.add_cleanup(lambda: os.environ.pop(SERVER_FOLDER, None))


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    """One embedded server, shared by all test processes of this run; the last of them stops it."""
    folder = Path(os.environ[SERVER_FOLDER])
    embedded = EmbeddedServer(folder, FAST)
    embedded.start()
    try:
        with FileLock(folder / "template.lock"):
            _make_template(embedded)
        yield embedded
    finally:
        embedded.stop()


@pytest.fixture(scope="session")
def pooler(server: EmbeddedServer) -> Iterator[Pooler]:
    """A PgBouncer of this test process, in transaction mode."""
    if find_pgbouncer() is None:
        pytest.skip("there is no pgbouncer on this machine (Debian: apt install pgbouncer)")
    with run_pooler(server) as pooler:
        yield pooler


@pytest.fixture
def reach(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """The address by which this test uses a database of the server: the server's own or, with ``--pooled``, one that
    leads through PgBouncer."""
    if request.config.getoption("--pooled") and request.node.get_closest_marker("direct") is None:
        pooler: Pooler = request.getfixturevalue("pooler")
        return pooler.url
    return str


@pytest.fixture
def direct_url(server: EmbeddedServer) -> Iterator[str]:
    """A freshly migrated database of this test's own, without a pooler in between."""
    name = f"test_{uuid.uuid4().hex}"
    with _admin(server) as connection:
        connection.execute(f"create database {name} template {TEMPLATE} strategy file_copy")
    yield server.url(name)
    with _admin(server) as connection:
        connection.execute(f"drop database {name} with (force)")


@pytest.fixture
def database_url(direct_url: str, reach: Callable[[str], str]) -> str:
    """A freshly migrated database of this test's own."""
    return reach(direct_url)


@pytest.fixture
def login_url(server: EmbeddedServer, direct_url: str, reach: Callable[[str], str]) -> Callable[..., str]:
    """The test's database as a login that is a member of these roles and nothing else."""

    def login_url(*roles: Role) -> str:
        name = login_name(roles)
        server.provide_login(name, *roles)
        return reach(server.url(make_url(direct_url).database or "", name))

    return login_url


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url, pool_size=10)
    yield engine
    engine.dispose()


@pytest.fixture
def sessions(engine: Engine) -> sessionmaker[Session]:
    return sessionmaker(engine)


@pytest.fixture
def session(sessions: sessionmaker[Session]) -> Iterator[Session]:
    """A Session whose transaction is the test's to commit."""
    with sessions() as session:
        yield session


@pytest.fixture
def workspace_id() -> uuid.UUID:
    return uuid.uuid4()


@pytest.fixture(scope="session")
def worker_id(request: pytest.FixtureRequest) -> str:
    """The name of this test process; ``master`` when there is only one."""
    return os.environ.get("PYTEST_XDIST_WORKER", "master")


def _make_template(server: EmbeddedServer) -> None:
    with _admin(server) as connection:
        if connection.execute("select 1 from pg_database where datname = %s", (TEMPLATE,)).fetchone():
            return
        connection.execute(f"create database {TEMPLATE}_draft")
    engine = make_engine(server.url(f"{TEMPLATE}_draft"))
    migrations.upgrade(engine)
    engine.dispose()
    # Handlers of tests have tables of their own, as a host application has.
    server.share_tables(f"{TEMPLATE}_draft", [SUPERUSER], [Role.HANDLER])
    with _admin(server) as connection:
        connection.execute(f"alter database {TEMPLATE}_draft rename to {TEMPLATE}")


def _admin(server: EmbeddedServer) -> psycopg.Connection:
    return psycopg.connect(server.url("postgres"), autocommit=True)


class FileLock:
    """An exclusive lock on a file, between test processes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        self._file = self._path.open("w")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_exc: object) -> None:
        self._file.close()
