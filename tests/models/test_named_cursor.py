"""The worker's cursor takes what the driver's own takes, and looks for the placeholders of a text once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import text

from jobplatform.models import make_engine
from jobplatform.models.named_cursor import NamedCursor, _numbered

LONG = "/* " + "x" * 5_000 + " */"


@pytest.fixture
def cursor(database_url: str) -> Iterator[NamedCursor]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield NamedCursor(connection)


@pytest.mark.parametrize(
    ("query", "params", "answer"),
    [
        ("select %(b)s::int, %(a)s::text, %(b)s::int + 1", {"a": "x", "b": 1}, (1, "x", 2)),
        ("select %s::int, %s::text", (1, "x"), (1, "x")),
        ("select 7 %% %(a)s::int, '100%%'", {"a": 4}, (3, "100%")),
        (b"select %(a)s::int", {"a": 4}, (4,)),
        (sql.SQL("select {}, %(a)s::int").format(sql.Literal("it's")), {"a": 4}, ("it's", 4)),
        ("select '%s, 100%'", None, ("%s, 100%",)),
    ],
)
def test_it_takes_what_the_drivers_own_takes(cursor: NamedCursor, query: Any, params: Any, answer: tuple[Any]) -> None:
    assert cursor.execute(query, params).fetchone() == answer


def test_it_runs_a_statement_for_many_as_the_drivers_own_does(cursor: NamedCursor) -> None:
    # One transaction, because behind a pooler the next one has no such table.
    with cursor.connection.transaction():
        cursor.execute("create temp table many (a int, b text)")
        cursor.executemany("insert into many values (%(a)s, %(b)s || '%%')", [{"b": "x", "a": 1}, {"b": "y", "a": 2}])
        cursor.executemany("insert into many values (%s, %s)", [(3, "z")])

        found = cursor.execute("select a, b from many order by a").fetchall()

    assert found == [(1, "x%"), (2, "y%"), (3, "z")]


def test_a_text_of_any_length_is_looked_through_once(cursor: NamedCursor) -> None:
    query = f"select {LONG} %(a)s::int"
    before = _numbered.cache_info()

    answers = [cursor.execute(query, {"a": number}).fetchone() for number in range(3)]

    after = _numbered.cache_info()
    assert answers == [(0,), (1,), (2,)]
    assert (after.misses - before.misses, after.hits - before.hits) == (1, 2)


def test_the_workers_engines_use_it_and_others_do_not(database_url: str) -> None:
    for autocommit in (True, False):
        engine = make_engine(database_url, autocommit=autocommit)
        with engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            assert (driver.cursor_factory is NamedCursor) == autocommit
            assert connection.scalar(text("select :a || '%'"), {"a": "100"}) == "100%"
        engine.dispose()
