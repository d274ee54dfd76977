"""A server that will never let us in is told from one that is away, by the code of its error and in any language."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from jobplatform.embedded import EmbeddedServer
from jobplatform.errors import SettingsError
from jobplatform.models import make_engine, require_entry
from tests.models.refusing import SECRET, an_error, saying
from tests.pooler import run_pooler


@pytest.mark.parametrize(
    ("sqlstate", "said", "expected"),
    [
        ("28P01", "Passwort-Authentifizierung für Benutzer »ada« fehlgeschlagen", "refuses the login"),
        ("28000", 'role "ada" is not permitted to log in', "refuses the login"),
        ("3D000", 'database "app" does not exist', "has not the database"),
    ],
)
def test_a_refusal_is_told_in_the_words_of_the_server(sqlstate: str, said: str, expected: str) -> None:
    with saying(an_error(sqlstate, said, "ФАТАЛЬНО")) as url, pytest.raises(SettingsError) as refused:
        require_entry(url)

    (problem,) = refused.value.problems
    assert expected in problem
    assert f"({said})" in problem
    assert SECRET not in problem


@pytest.mark.parametrize(
    ("sqlstate", "said"),
    [
        ("57P03", "the database system is starting up"),
        ("53300", "sorry, too many clients already"),
        ("08P01", "password authentication failed"),  # as PgBouncer said until 1.19, and of many other things
        ("57P01", 'C "28P01" M "not from the server"'),
    ],
)
def test_a_server_that_says_anything_else_is_waited_for(sqlstate: str, said: str) -> None:
    with saying(an_error(sqlstate, said)) as url:
        require_entry(url)


def test_a_server_that_is_away_or_hangs_up_is_waited_for() -> None:
    require_entry("postgresql://ada@127.0.0.1:1/app")
    require_entry(f"postgresql://ada@/app?host={tempfile.gettempdir()}/nowhere")
    with saying(b"") as url:
        require_entry(url)


def test_a_server_that_says_nothing_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobplatform.models.entry.PATIENCE", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        require_entry(f"postgresql://ada@127.0.0.1:{silent.getsockname()[1]}/app")


def test_who_is_let_in_hears_nothing(database_url: str) -> None:
    require_entry(database_url)


@pytest.fixture(scope="module")
def guarded() -> Iterator[Callable[[str], str]]:
    """A server of its own that asks for passwords: the URL for one."""
    with tempfile.TemporaryDirectory(prefix="jobplatform-test-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedServer(Path(folder), {"fsync": "off"})
        engine = make_engine(server.start(), pool_size=1)
        try:
            with engine.begin() as connection:
                connection.execute(text("create role ada login password 'right'"))
            (hba,) = Path(folder).rglob("pg_hba.conf")
            hba.write_text("local all ada scram-sha-256\nlocal all all trust\n")
            with engine.begin() as connection:
                connection.execute(text("select pg_reload_conf()"))
            address = make_url(server.url("postgres")).set(username="ada")
            yield lambda password: address.set(password=password or None).render_as_string(hide_password=False)
        finally:
            engine.dispose()
            server.stop()


@pytest.mark.parametrize(
    ("password", "said"),
    [("wrong", 'password authentication failed for user "ada"'), ("", "it asks for a password")],
)
def test_a_password_that_is_wrong_or_missing_is_a_mistake(
    guarded: Callable[[str], str], password: str, said: str
) -> None:
    require_entry(guarded("right"))

    with pytest.raises(SettingsError) as refused:
        require_entry(guarded(password))

    assert said in refused.value.problems[0]


def test_a_login_and_a_database_that_are_not_there_are_mistakes(server: EmbeddedServer) -> None:
    nobody = make_url(server.url("postgres")).set(username="nobody_of_that_name")

    with pytest.raises(SettingsError, match='role "nobody_of_that_name" does not exist'):
        require_entry(nobody)
    with pytest.raises(SettingsError, match='database "no_such_database" does not exist'):
        require_entry(server.url("no_such_database"))


def test_who_is_let_in_by_a_pooler_hears_nothing(server: EmbeddedServer) -> None:
    with run_pooler(server, databases="postgres") as pooler:
        require_entry(pooler.url(server.url("postgres")))
