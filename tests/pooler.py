"""A PgBouncer in front of the tests' server: transactions of all clients share a few connections."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import psycopg
import pytest

from jobplatform.embedded import SUPERUSER, SYSTEM_USER, EmbeddedServer
from jobplatform.models import Role
from jobplatform.testing import wait_until

PORT = 6432

# Each transaction goes to the connection that was idle for longest, so that nobody finds the session that they left.
# Some tests hold ten transactions open at a time.
INI = """
[databases]
{databases} = host={server}

[pgbouncer]
listen_addr =
listen_port = {port}
unix_socket_dir = {folder}
auth_type = trust
admin_users = {admin}
auth_file = {folder}/logins
pidfile = {folder}/pid
logfile = {folder}/log
pool_mode = {pool_mode}
default_pool_size = 12
min_pool_size = 2
max_client_conn = 500
server_round_robin = 1
server_login_retry = 1
query_wait_timeout = 10
{user}
"""


class Pooler:
    """One that runs, and its address."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def url(self, direct_url: str) -> str:
        """The same database and login, by way of the pooler."""
        login, database = urlsplit(direct_url).username, urlsplit(direct_url).path.lstrip("/")
        return f"postgresql://{login}@/{database}?host={quote(str(self._folder))}&port={PORT}"

    def leave(self, direct_url: str) -> None:
        """Close all connections to this database, on both sides. The next one to come finds it open again."""
        database = urlsplit(direct_url).path.lstrip("/")
        with psycopg.connect(self.url(f"postgresql://{SUPERUSER}@/pgbouncer"), autocommit=True) as console:
            try:
                console.execute(f'kill "{database}"')
            except psycopg.Error as error:
                if "no such database" not in str(error):
                    raise
            else:
                console.execute(f'resume "{database}"')

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")


def is_pooled(url: str) -> bool:
    """Whether this is an address that a pooler gave."""
    return f"port={PORT}" in urlsplit(url).query


def find_pgbouncer() -> str | None:
    """Debian keeps it where only root's search path leads."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def login_name(roles: tuple[Role, ...]) -> str:
    """The login that is a member of these and nothing else."""
    return "_".join(("only", *(role.removeprefix("jobplatform_") for role in roles)))


@contextmanager
def run_pooler(server: EmbeddedServer, pool_mode: str = "transaction", databases: str = "*") -> Iterator[Pooler]:
    """A PgBouncer on a Unix socket that only its own user and root can reach. Without one the test is skipped.

    It knows the database of this name, or all.
    """
    program = find_pgbouncer()
    if program is None:
        pytest.skip("there is no pgbouncer on this machine (Debian: apt install pgbouncer)")
    folder = Path(tempfile.mkdtemp(prefix="jobplatform-pooler-"))
    _configure(folder, server, pool_mode, databases)
    process = subprocess.Popen([program, "--quiet", str(folder / "ini")])
    pooler = Pooler(folder)
    try:
        wait_until(lambda: _answers(pooler.url(server.url("postgres"))), what="PgBouncer to answer")
        yield pooler
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder)


def _configure(folder: Path, server: EmbeddedServer, pool_mode: str, databases: str) -> None:
    # It refuses to run as root, and the socket of the server is its user's alone.
    user = f"user = {SYSTEM_USER}" if os.geteuid() == 0 else ""
    socket = parse_qs(urlsplit(server.url()).query)["host"][0]
    settings = {"databases": databases, "pool_mode": pool_mode, "admin": SUPERUSER, "user": user}
    text = INI.format(server=socket, folder=folder, port=PORT, **settings)
    (folder / "ini").write_text(text)
    logins = [SUPERUSER, *(login_name(roles) for n in (1, 2, 3) for roles in itertools.permutations(Role, n))]
    (folder / "logins").write_text("".join(f'"{login}" ""\n' for login in logins))
    if user:
        owner = pwd.getpwnam(SYSTEM_USER)
        for path in (folder, *folder.iterdir()):
            os.chown(path, owner.pw_uid, owner.pw_gid)


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True
