"""Connections that died while nobody used them are replaced, not handed out."""

from __future__ import annotations

import re

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError, OperationalError

from jobplatform.errors import SettingsError
from jobplatform.models import engine as engines
from jobplatform.models import make_engine
from jobplatform.settings import Settings


def kill_idle_connections(engine: Engine, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as elsewhere:
        elsewhere.execute(
            "select pg_terminate_backend(pid, 10000) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'"
        )


def answer(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("select 42")).scalar_one())


def test_a_connection_that_died_while_it_was_idle_is_replaced(
    engine: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "IDLE_SECONDS", 0.0)
    assert answer(engine) == 42

    kill_idle_connections(engine, database_url)

    assert answer(engine) == 42


@pytest.mark.direct("PgBouncer gives the next transaction another backend, so nobody notices")
def test_one_that_died_right_after_its_use_fails_once_and_never_again(engine: Engine, database_url: str) -> None:
    assert answer(engine) == 42

    kill_idle_connections(engine, database_url)

    with pytest.raises(OperationalError):
        answer(engine)
    assert answer(engine) == 42


@pytest.mark.parametrize("form", ["postgres", "postgresql", "postgres+psycopg", "postgresql+psycopg"])
def test_every_form_of_a_url_that_settings_accept_is_for_psycopg(form: str) -> None:
    url = Settings.from_env({"DATABASE_URL": f"{form}://app:hunter2@db/app"}).database_url
    assert url is not None

    assert make_engine(url).url.render_as_string(hide_password=False) == "postgresql+psycopg://app:hunter2@db/app"


@pytest.mark.parametrize("rest", ["hunter2@db:port/app", "h@ter2@db/app", "h@t/er2@db:5432/app", "x@db:1,db2:2/app"])
def test_a_url_whose_password_is_not_encoded_is_refused_with_what_to_write(rest: str) -> None:
    with pytest.raises(SettingsError, match="with %40 for an @ in the password") as refused:
        make_engine(f"postgresql://app:{rest}")

    assert not re.search("hunter2|ter2|er2", str(refused.value))
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("form", ["sqlite", "mysql", "postgresql+psycopg2", "postgresql+asyncpg"])
def test_a_url_of_another_database_or_driver_is_refused_with_what_to_write(form: str) -> None:
    with pytest.raises(SettingsError, match="must start with postgresql://") as refused:
        make_engine(f"{form}://app:hunter2@db/app")

    assert "hunter2" not in str(refused.value)


def test_an_error_does_not_repeat_what_was_to_be_stored(engine: Engine) -> None:
    with pytest.raises(DBAPIError) as refused, engine.connect() as connection:
        connection.execute(text("select cast(:n as integer) / 0 where :canary <> ''"), {"n": 1, "canary": "c4n4ry"})

    assert "division by zero" in str(refused.value)
    assert "c4n4ry" not in str(refused.value)
