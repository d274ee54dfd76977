"""Arrays of UUIDs arrive as the same ones whether a connection sends them as text or in the server's own form."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from jobplatform.models import UuidArray, make_engine
from jobplatform.models.uuid_array import _UuidArrayDumper, send_uuids_as_bytes

FOUR = [uuid.UUID(int=number) for number in (0, 1, 2**127 + 45, 2**128 - 1)]


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url, autocommit=True, prepare_threshold=None) as connection:
        yield connection


@pytest.mark.parametrize("ids", [[], FOUR[:1], FOUR])
def test_they_arrive_as_what_they_are_either_way(connection: psycopg.Connection[Any], ids: list[uuid.UUID]) -> None:
    sent = UuidArray.of(map(str, ids))

    as_text = connection.execute("select %s::uuid[]", [sent]).fetchone()
    send_uuids_as_bytes(connection)
    as_bytes = connection.execute("select %s::uuid[]", [sent]).fetchone()

    assert as_text == as_bytes == (ids,)


def test_our_connections_send_them_in_the_server_s_form(database_url: str) -> None:
    for autocommit in (True, False):
        engine = make_engine(database_url, autocommit=autocommit)
        with engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            dumper = driver.adapters.get_dumper(UuidArray, psycopg.adapt.PyFormat.AUTO)
            found = connection.exec_driver_sql("select %(ids)s::uuid[]", {"ids": UuidArray.of(map(str, FOUR))})
            assert (dumper.format, found.scalar_one()) == (psycopg.pq.Format.BINARY, FOUR)
        engine.dispose()


@pytest.mark.parametrize("wrong", ["", "x", f"{FOUR[0]}0", f"{FOUR[0]},", str(FOUR[0]).replace("0", "g")])
def test_what_is_no_uuid_is_refused_before_it_is_sent(wrong: str) -> None:
    with pytest.raises(ValueError):
        _UuidArrayDumper(UuidArray).dump(UuidArray.of([str(FOUR[1]), wrong]))
