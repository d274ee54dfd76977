"""What keeps a second run away from a database: that it lasts as long as the first one, and is in nobody's way."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import psycopg
import pytest

from jobplatform.proof.monkey import TERMINATE
from jobplatform.proof.occupy import occupy_database
from jobplatform.proof.onlooker import NAME, connect
from jobplatform.testing import wait_until

IMPATIENT = "options=-c%20default_transaction_isolation%3Dserializable%20-c%20idle_in_transaction_session_timeout%3D200"


@pytest.fixture
def url(empty_url: str, reach: Callable[[str], str]) -> str:
    return reach(empty_url)


def test_a_database_is_free_again_when_its_run_has_ended(url: str) -> None:
    with occupy_database(url) as nobody, occupy_database(url) as first:
        assert nobody is None
        assert first is not None
    with occupy_database(url) as nobody:
        assert nobody is None


def test_a_run_in_one_database_keeps_nobody_from_another(url: str, database_url: str) -> None:
    with occupy_database(url), occupy_database(database_url) as nobody:
        assert nobody is None


def test_the_storm_spares_the_connection_that_keeps_others_away(url: str) -> None:
    with occupy_database(url), psycopg.connect(url, application_name="jobplatform-worker") as worker:
        worker.execute("select")

        with connect(url) as monkey:
            monkey.execute(TERMINATE, [NAME, 1000])

        with pytest.raises(psycopg.OperationalError):
            worker.execute("select")
        with occupy_database(url) as occupant:
            assert occupant is not None


@pytest.mark.direct
def test_it_is_idle_for_as_long_as_it_takes_and_vacuum_need_not_wait_for_it(empty_url: str) -> None:
    impatient = f"{empty_url}&{IMPATIENT}"
    with occupy_database(impatient), psycopg.connect(empty_url, autocommit=True) as admin:
        with closing(psycopg.connect(impatient)) as other:
            other.execute("select")
            about_other = [other.info.backend_pid]
            ended = "select not exists (select from pg_stat_activity where pid = %s)"
            wait_until(lambda: admin.execute(ended, about_other).fetchone() == (True,), what="the server to end it")

        with occupy_database(empty_url) as occupant:
            assert occupant is not None
            of_backend = "select backend_xmin from pg_stat_activity where pid = %s"
            assert admin.execute(of_backend, [occupant.pid]).fetchone() == (None,)
