"""One PostgreSQL for the whole run, with normal durability, and a scratch database for each measurement."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg

from harness.cpu import CpuTime, cpu_time
from jobplatform.embedded import EmbeddedServer

#: Beside the defaults (fsync and full page writes are on). Checkpoints are asked for before each measurement,
#: so that none falls into one contender's minute and not into the other's.
SETTINGS = {
    "max_wal_size": "4GB",
    "checkpoint_timeout": "30min",
    "shared_buffers": "512MB",
    "max_connections": "60",
}


class Databases:
    """Fresh databases on one server, copied from a template for each schema."""

    def __init__(self, server: EmbeddedServer) -> None:
        self._server = server
        self._installed: set[str] = set()
        self._postmaster = _postmaster_pid(server.url("postgres"))

    def fresh(self, schema: str, install: Callable[[str], object], copy: str = "scratch") -> str:
        """An empty database with that schema; ``install`` makes the first one of its kind. What was in the
        same ``copy`` before is dropped."""
        template = f"template_{schema}"
        if schema not in self._installed:
            install(self._server.create_database(template))
            self._installed.add(schema)
        self._server.drop_database(f"{copy}_{schema}")
        return self._server.create_database(f"{copy}_{schema}", template=template)

    def settle(self, url: str) -> None:
        """Statistics as after a quiet night, dirty pages written."""
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("vacuum analyze")
            connection.execute("checkpoint")

    def cpu(self) -> CpuTime:
        """The whole server's: backends, autovacuum, checkpointer."""
        return cpu_time(self._postmaster)

    def version(self) -> str:
        with psycopg.connect(self._server.url("postgres")) as connection:
            return str(connection.info.parameter_status("server_version"))


@contextlib.contextmanager
def databases() -> Iterator[Databases]:
    """A server that exists for this run only."""
    folder = Path(tempfile.mkdtemp(prefix="jobplatform-bench-"))
    server = EmbeddedServer(folder, SETTINGS)
    try:
        server.start()
        yield Databases(server)
    finally:
        server.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)


def _postmaster_pid(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("select pg_read_file('postmaster.pid')").fetchone()
    assert row is not None
    return int(row[0].split()[0])
