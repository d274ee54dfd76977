"""Tables of a customer's database: here a schema of the test's own, behind a port of this machine."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from marshmallow import ValidationError
from sqlalchemy import Engine, make_url, select, text
from sqlalchemy.orm import Session

from jobplatform.connectors import CONNECTORS, SHIPPED, ConnectorType, Opening, Page, run_sync, sql
from jobplatform.connectors.keeping import Credentials
from jobplatform.connectors.sql import Sql, SqlConfig
from jobplatform.errors import (
    AddressRefusedError,
    NeedsAttentionError,
    SourceError,
    SourceUnreachableError,
)
from jobplatform.models import Record
from tests.connectors.conftest import Jobs
from tests.connectors.forwarding import forwarded
from tests.models.refusing import SECRET, an_error, saying

TABLES = """
create schema shop;
create table shop.orders (
    id bigint primary key, "total %" numeric, paid boolean, placed_at timestamptz, tags text[], note text, odd float8
);
insert into shop.orders
select n, n / 3.0, n % 2 = 0, timestamptz '2026-01-01' + n * interval '1 minute', array['a', 'b'], null, 'NaN'
from generate_series(1, 25) n;
insert into shop.orders values (100, 12345678901234567.89, null, null, null, 'never placed', 0.1);
create table shop.words (word text primary key);
insert into shop.words values ('it''s'), ('a:b'), ('50%'), ('ü');
"""

Connect = Callable[..., uuid.UUID]
OpenSql = Callable[..., Sql]

ORDERS = {"table": "orders", "schema": "shop", "cursorColumn": "placed_at"}


@pytest.fixture
def port(engine: Engine, direct_url: str) -> Iterator[int]:
    with engine.begin() as connection:
        connection.execute(text(TABLES))
    folder = str(make_url(direct_url).query["host"])
    with forwarded(next(Path(folder).glob(".s.PGSQL.[0-9]*[0-9]"))) as port:
        yield port


@pytest.fixture
def config(port: int, direct_url: str) -> Callable[..., dict[str, Any]]:
    def config(**streams: Any) -> dict[str, Any]:
        database = make_url(direct_url).database
        base = {"host": "127.0.0.1", "port": port, "database": database, "sslMode": "disable", "pageSize": 10}
        return {**base, "streams": streams or {"orders": ORDERS}}

    return config


@pytest.fixture
def credentials(direct_url: str) -> dict[str, str]:
    url = make_url(direct_url)
    return {"scheme": "password", "username": url.username or "postgres", "password": url.password or "unused"}


def opened(config: dict[str, Any], credentials: dict[str, str] | None, *, allow_private: bool = True) -> Sql:
    return Sql(Opening.of(SqlConfig, config, credentials=credentials, allow_private=allow_private))


def pages_of(config: dict[str, Any], credentials: dict[str, str], stream: str, cursor: str | None = None) -> list[Page]:
    with opened(config, credentials) as connector:
        found = [connector.fetch(stream, cursor)]
        while (following := found[-1].next_cursor) is not None:
            found.append(connector.fetch(stream, following))
        return found


def ids(pages: list[Page]) -> list[str]:
    return [record.external_id for page in pages for record in page.records]


def test_a_table_is_read_by_its_id_a_page_at_a_time_with_every_type(
    config: Callable[..., dict[str, Any]], credentials: dict[str, str]
) -> None:
    pages = pages_of(config(), credentials, "orders")

    assert [len(page.records) for page in pages] == [10, 10, 6]
    assert ids(pages) == [*map(str, range(1, 26)), "100"]
    assert pages[0].records[0].data == {
        "id": 1,
        # More digits than a number of JSON keeps.
        "total %": "0.33333333333333333333",
        "paid": False,
        "placed_at": "2026-01-01T00:01:00+00:00",
        "tags": ["a", "b"],
        "note": None,
        "odd": "NaN",
    }
    assert pages[-1].records[-1].data["total %"] == "12345678901234567.89"
    assert pages[-1].records[-1].data["odd"] == 0.1


#: What a page may have at most: twelve rows of 5,000 characters, and what is around them.
FEW_ROWS = 64_000
BOOKS = """
create table shop.books (id int primary key, revised timestamptz default '2026-01-01', body text);
insert into shop.books select n, '2026-01-01', repeat('x', 5000) from generate_series(1, 40) n;
"""


@pytest.mark.parametrize("cursor", [None, '{"since": "2025-01-01"}'], ids=["everything", "changes"])
def test_a_page_that_would_be_too_large_is_shorter_and_what_is_left_comes_with_the_next(
    config: Callable[..., dict[str, Any]],
    credentials: dict[str, str],
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    cursor: str | None,
) -> None:
    with engine.begin() as connection:
        connection.execute(text(BOOKS))
    monkeypatch.setattr(sql, "LARGEST_PAGE", FEW_ROWS)
    books = config(books={"table": "books", "schema": "shop", "cursorColumn": "revised"}) | {"pageSize": 30}

    pages = pages_of(books, credentials, "books", cursor)

    assert [len(page.records) for page in pages] == [12, 12, 12, 4]
    assert ids(pages) == [str(number) for number in range(1, 41)]


def test_a_row_that_is_too_large_alone_is_named_and_not_sent(
    config: Callable[..., dict[str, Any]],
    credentials: dict[str, str],
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with engine.begin() as connection:
        connection.execute(text(BOOKS))
        connection.execute(text("update shop.books set body = repeat('x', 70000) where id = 14"))
    monkeypatch.setattr(sql, "LARGEST_PAGE", FEW_ROWS)

    with pytest.raises(SourceError, match="the row '14' is larger than"):
        pages_of(config(books={"table": "books", "schema": "shop"}), credentials, "books")


def test_on_a_database_that_sends_more_than_it_was_asked_for_is_hung_up(
    config: Callable[..., dict[str, Any]],
    credentials: dict[str, str],
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its functions are its own: here one that says of each text that it has no bytes."""
    with engine.begin() as connection:
        connection.execute(text(BOOKS))
        connection.execute(text("create function shop.octet_length(text) returns int language sql as 'select 0'"))
        database = connection.scalar(text("select quote_ident(current_database())"))
        connection.execute(text(f"alter database {database} set search_path = shop, pg_catalog"))
    monkeypatch.setattr(sql, "LARGEST_PAGE", FEW_ROWS)
    books = config(books={"table": "books", "schema": "shop"}) | {"pageSize": 30}

    with opened(books, credentials) as connector:
        with pytest.raises(SourceError, match="was asked for no more than 30 rows of together"):
            connector.fetch("books", None)
        with engine.begin() as connection:
            connection.execute(text(f"alter database {database} reset search_path"))
        # It connects anew.
        assert len(connector.fetch("books", None).records) == 12


def test_changes_are_read_from_the_last_cursor_on_and_ties_come_again(
    config: Callable[..., dict[str, Any]], credentials: dict[str, str], engine: Engine
) -> None:
    state = pages_of(config(), credentials, "orders")[-1].state
    assert ids(pages_of(config(), credentials, "orders", state)) == ["25"]

    with engine.begin() as connection:
        connection.execute(text("update shop.orders set placed_at = '2026-02-01' where id <= 15"))
        connection.execute(text("insert into shop.orders (id, placed_at) values (200, '2026-01-01 00:25')"))
    pages = pages_of(config(), credentials, "orders", state)

    # Fifteen of the same moment, over two pages, and one that was committed late with the moment of the last.
    assert ids(pages) == ["25", "200", *map(str, range(1, 16))]
    assert ids(pages_of(config(), credentials, "orders", pages[-1].state)) == [*map(str, range(1, 16))]


def test_what_changes_while_everything_is_read_is_read_by_the_next_sync(
    config: Callable[..., dict[str, Any]], credentials: dict[str, str], engine: Engine
) -> None:
    with opened(config(), credentials) as connector:
        page = connector.fetch("orders", None)
        with engine.begin() as connection:
            connection.execute(text("update shop.orders set placed_at = '2026-03-01', note = 'late' where id = 1"))
        while page.next_cursor is not None:
            page = connector.fetch("orders", page.next_cursor)

    changes = pages_of(config(), credentials, "orders", page.state)

    assert ids(changes) == ["25", "1"]
    assert changes[0].records[-1].data["note"] == "late"


@pytest.mark.parametrize("moment", ["infinity", "9999-12-31"])
@pytest.mark.parametrize("kind", ["timestamptz", "timestamp", "date"])
@pytest.mark.parametrize("overlap", [0, 60])
def test_a_row_whose_moment_is_far_to_come_keeps_no_later_change_from_being_read(
    config: Callable[..., dict[str, Any]], credentials: dict[str, str], engine: Engine, moment: str, kind: str,
    overlap: int,
) -> None:  # fmt: skip
    orders = config(orders={**ORDERS, "overlapSeconds": overlap})
    with engine.begin() as connection:
        connection.execute(text(f"alter table shop.orders alter placed_at type {kind}"))
        connection.execute(text(f"insert into shop.orders (id, placed_at) values (300, '{moment}')"))

    state = pages_of(orders, credentials, "orders")[-1].state
    for changed in (3, 4):  # what the first sync kept, and what the one after it did
        with engine.begin() as connection:
            connection.execute(text(f"update shop.orders set placed_at = now() where id = {changed}"))
        pages = pages_of(orders, credentials, "orders", state)
        state = pages[-1].state

        assert str(changed) in ids(pages)
        assert "1" not in ids(pages)


def test_a_place_that_is_far_to_come_was_kept_by_an_earlier_version_and_is_left(
    config: Callable[..., dict[str, Any]], credentials: dict[str, str], engine: Engine
) -> None:
    with engine.begin() as connection:
        connection.execute(text("update shop.orders set placed_at = now() where id = 3"))

    pages = pages_of(config(), credentials, "orders", '{"since": "infinity"}')

    assert ids(pages) == ["3"]


def test_of_rows_with_the_same_id_one_is_copied_and_the_others_are_told(
    config: Callable[..., dict[str, Any]], credentials: dict[str, str], engine: Engine
) -> None:
    with engine.begin() as connection:
        connection.execute(text("create table shop.visits as select v % 4 as id, v from generate_series(0, 5) v"))

    (page,) = pages_of(config(visits={"table": "visits", "schema": "shop"}), credentials, "visits")

    assert page.warnings == [
        "2 rows have the id of another one ('0'), and of those one is copied: idColumn ('id') must be unique"
    ]


@pytest.mark.parametrize(("stream", "since"), [({}, None), ({"cursorColumn": "at"}, '{"since": "2026-01-01"}')])
def test_rows_of_the_same_id_around_the_end_of_a_page_are_told_because_only_the_first_ones_are_copied(
    engine: Engine,
    config: Callable[..., dict[str, Any]],
    credentials: dict[str, str],
    stream: dict[str, Any],
    since: str | None,
) -> None:
    with engine.begin() as connection:
        connection.execute(text("create table shop.visits (id int, at date default '2026-01-01', note text)"))
        connection.execute(text("insert into shop.visits select least(n, 10) from generate_series(1, 12) n"))
        connection.execute(text("insert into shop.visits values (11), (12)"))

    pages = pages_of(config(visits={"table": "visits", "schema": "shop", **stream}), credentials, "visits", since)

    # A page has ten: the third of the rows 10 is behind its end.
    assert ids(pages) == [*map(str, range(1, 13))]
    assert [list(page.warnings) for page in pages] == [
        [
            "at the end of a page other rows have the id of the last one, too ('10'), and are not copied: "
            "idColumn ('id') must be unique"
        ],
        [],
    ]


@pytest.mark.parametrize("rows", [7, 10, 12, 25], ids=lambda rows: f"{rows} rows with an id")
@pytest.mark.parametrize(
    ("stream", "since"),
    [({}, None), ({"cursorColumn": "at"}, '{"since": "2026-01-01"}')],
    ids=["everything", "changes"],
)
def test_rows_without_an_id_are_counted_wherever_they_are(
    engine: Engine,
    config: Callable[..., dict[str, Any]],
    credentials: dict[str, str],
    stream: dict[str, Any],
    since: str | None,
    rows: int,
) -> None:
    """A page has ten. In the order of the id they are the last ones; of changes some are in the middle."""
    with engine.begin() as connection:
        connection.execute(text("create table shop.visits (id int, at date default '2026-01-01')"))
        connection.execute(text(f"insert into shop.visits select n from generate_series(1, {rows}) n"))
        connection.execute(text("insert into shop.visits select null, '2026-01-01' from generate_series(1, 11)"))
        connection.execute(
            text("insert into shop.visits values (null, '2026-01-02'), (null, '2026-01-03'), (99, '2026-01-03')")
        )

    pages = pages_of(config(visits={"table": "visits", "schema": "shop", **stream}), credentials, "visits", since)

    assert ids(pages) == [*map(str, range(1, rows + 1)), "99"]
    assert sum(page.skipped for page in pages) == 13
    assert [warning for page in pages for warning in page.warnings] == ["13 rows have no id"]


def test_of_the_rows_that_have_not_changed_none_is_counted_again(
    engine: Engine, config: Callable[..., dict[str, Any]], credentials: dict[str, str]
) -> None:
    with engine.begin() as connection:
        connection.execute(text("create table shop.visits (id int, at date)"))
        connection.execute(
            text("insert into shop.visits values (1, '2026-01-01'), (null, '2026-01-01'), (2, '2026-01-02')")
        )
    visits = config(visits={"table": "visits", "schema": "shop", "cursorColumn": "at"})

    (first,) = pages_of(visits, credentials, "visits")
    (second,) = pages_of(visits, credentials, "visits", first.state)

    assert (first.skipped, second.skipped) == (1, 0)


def test_rows_without_a_cursor_are_no_change_and_that_is_told(
    engine: Engine, config: Callable[..., dict[str, Any]], credentials: dict[str, str]
) -> None:
    state = pages_of(config(), credentials, "orders")[-1].state
    with engine.begin() as connection:
        connection.execute(text("insert into shop.orders (id) values (101)"))

    (page,) = pages_of(config(), credentials, "orders", state)

    assert ids([page]) == ["25"]
    assert list(page.warnings) == [
        "2 rows have no cursorColumn ('placed_at'), so whether they have changed nobody can say: "
        "they are read by a sync in the mode initial only"
    ]


def test_an_overlap_reads_the_moments_before_again(
    config: Callable[..., dict[str, Any]], credentials: dict[str, str]
) -> None:
    lagging = config(orders={**ORDERS, "overlapSeconds": 180})
    state = pages_of(lagging, credentials, "orders")[-1].state

    assert ids(pages_of(lagging, credentials, "orders", state)) == ["22", "23", "24", "25"]

    of_numbers = config(orders={**ORDERS, "cursorColumn": "id", "overlapSeconds": 180})
    with pytest.raises(SourceError, match="needs a cursorColumn of moments"):
        pages_of(of_numbers, credentials, "orders", '{"since": "3"}')


def test_a_query_and_chosen_columns_are_read_whatever_characters_are_in_them(
    config: Callable[..., dict[str, Any]], credentials: dict[str, str]
) -> None:
    streams = {
        "odd": {
            "query": "select word, word like '%\\%' as percent from shop.words where word <> ':x' -- all;",
            "idColumn": "word",
        },
        "few": {**ORDERS, "columns": ["total %"]},
    }
    odd = pages_of(config(**streams), credentials, "odd")
    few = pages_of(config(**streams), credentials, "few")

    assert {record.external_id: record.data["percent"] for record in odd[0].records} == {
        "it's": False, "a:b": False, "50%": True, "ü": False
    }  # fmt: skip
    assert set(few[0].records[0].data) == {"total %", "id", "placed_at"}


@pytest.mark.parametrize(
    "query",
    [
        "delete from shop.words returning word",
        "with gone as (delete from shop.words returning word) select word from gone",
        "select word from shop.words; delete from shop.words",
        "select word from shop.words) as q; delete from shop.words; select (1",
        "select set_config('transaction_read_only', 'off', false), 'x' as word",
    ],
)
def test_a_query_cannot_change_anything(
    config: Callable[..., dict[str, Any]], credentials: dict[str, str], engine: Engine, query: str
) -> None:
    streams = {"words": {"query": query, "idColumn": "word"}}

    with pytest.raises(SourceError, match="the database refused"):
        pages_of(config(**streams), credentials, "words")

    with engine.connect() as connection:
        assert connection.scalar(text("select count(*) from shop.words")) == 4


def test_a_page_that_takes_too_long_is_given_up(
    config: Callable[..., dict[str, Any]], credentials: dict[str, str]
) -> None:
    slow = {"slow": {"query": "select 1 as id from pg_sleep(30)"}}

    with pytest.raises(SourceError, match="took longer than 1 s"):
        pages_of({**config(**slow), "statementTimeoutSeconds": 1}, credentials, "slow")


def test_mistakes_are_told_in_the_database_s_words(
    config: Callable[..., dict[str, Any]], credentials: dict[str, str], port: int
) -> None:
    with pytest.raises(SourceError, match=r'relation "shop.nothing" does not exist'):
        pages_of(config(x={**ORDERS, "table": "nothing"}), credentials, "x")
    with pytest.raises(NeedsAttentionError, match="no credentials"):
        opened(config(), None)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody hears the code of a refusal")
def test_a_database_or_a_login_that_is_not_there_is_told_with_what_to_do_and_not_as_a_server_that_is_away(
    config: Callable[..., dict[str, Any]], credentials: dict[str, str]
) -> None:
    with pytest.raises(SourceError) as no_database:
        pages_of({**config(), "database": "no_such_database"}, credentials, "orders")
    with pytest.raises(SourceError) as no_login:
        pages_of(config(), {**credentials, "username": "nobody_of_that_name"}, "orders")

    assert str(no_database.value) == (
        "the server 127.0.0.1 has not the database 'no_such_database' (database \"no_such_database\" does not exist): "
        "have it made, or correct the database in the connection's configuration"
    )
    assert str(no_login.value) == (
        "the server 127.0.0.1 refuses the login 'nobody_of_that_name' (role \"nobody_of_that_name\" does not exist): "
        "have it let in there, or give the connection other credentials"
    )
    for refused in (no_database, no_login):
        assert not isinstance(refused.value, SourceUnreachableError | NeedsAttentionError)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody hears the code of a refusal")
@pytest.mark.parametrize(
    ("sqlstate", "said", "expected", "message"),
    [
        ("28P01", "Passwort-Authentifizierung fehlgeschlagen", NeedsAttentionError, "does not accept the connection's"),
        ("28000", "aucune entrée dans pg_hba.conf", SourceError, "refuses the login 'ada' (aucune entrée"),
        ("3D000", "база данных не существует", SourceError, "has not the database 'app' (база данных"),
        ("42501", "keine Berechtigung für Datenbank", SourceError, "does not let 'ada' into the database 'app' (keine"),
        ("57P03", "das Datenbanksystem startet", SourceUnreachableError, "cannot be reached"),
        ("53300", "trop de clients", SourceUnreachableError, "cannot be reached"),
    ],
)
def test_whoever_is_not_let_in_is_told_so_by_the_code_and_in_any_language(
    sqlstate: str, said: str, expected: type[SourceError], message: str
) -> None:
    with saying(an_error(sqlstate, said, "ФАТАЛЬНО")) as url:
        address = make_url(url)
        config = {"host": address.host, "port": address.port, "database": "app", "sslMode": "disable"}
        login = {"scheme": "password", "username": "ada", "password": SECRET}
        with pytest.raises(SourceError) as refused:
            pages_of({**config, "streams": {"orders": ORDERS}}, login, "orders")

    assert type(refused.value) is expected
    assert message in str(refused.value)
    assert SECRET not in str(refused.value)


def test_nothing_is_taken_from_the_environment_of_the_process(
    config: Callable[..., dict[str, Any]], credentials: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What libpq would read there is somebody else's: another host, and this user's passwords and certificates."""
    monkeypatch.setenv("PGHOSTADDR", "192.0.2.1")
    monkeypatch.setenv("PGOPTIONS", "-c search_path=nowhere")
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    with opened(config(), credentials) as connector:
        parameters = connector._parameters("127.0.0.1")

    assert ids(pages_of(config(), credentials, "orders"))[:2] == ["1", "2"]
    assert parameters["passfile"] == "/nonexistent"
    assert parameters["sslcertmode"] == "disable"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "::1", "10.0.0.1", "169.254.169.254"]
)
def test_a_database_at_an_address_that_is_not_public_is_refused(host: str) -> None:
    config = {"host": host, "database": "x", "streams": {"a": {"table": "a"}}}
    credentials = {"scheme": "password", "username": "u", "password": "p"}

    with opened(config, credentials, allow_private=False) as connector, pytest.raises(AddressRefusedError):
        connector.fetch("a", None)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"host": "a.example,127.0.0.1"}, "host"),
        ({"host": "/var/run/postgresql"}, "host"),
        ({"host": "@socket"}, "host"),
        ({"host": "fe80::1%eth0"}, "host"),
        ({"host": "a b"}, "host"),
        ({"host": ""}, "host"),
        ({"hostaddr": "127.0.0.1"}, "hostaddr"),
        ({"dialect": "mysql"}, "dialect"),
        ({"sslMode": "prefer"}, "sslMode"),
        ({"database": "a\0b"}, "database"),
        ({"streams": {"x": {}}}, "streams"),
        ({"streams": {"x": {"table": "t", "query": "select 1"}}}, "streams"),
        ({"streams": {"x": {"query": "select 1", "schema": "s"}}}, "streams"),
    ],
)
def test_a_wrong_configuration_names_the_field(changes: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as error:
        SqlConfig().load({"host": "db.example", "database": "d", "streams": {"x": {"table": "t"}}, **changes})

    assert list(error.value.messages) == [place]  # type: ignore[arg-type]


def test_without_encryption_only_in_development() -> None:
    config = {"host": "db.example", "database": "d", "sslMode": "disable", "streams": {"x": {"table": "t"}}}

    with pytest.raises(SourceError, match="without encryption"):
        opened(config, {"scheme": "password", "username": "u", "password": "p"}, allow_private=False)


def test_a_table_is_synced_and_then_its_changes(
    config: Callable[..., dict[str, Any]], credentials: dict[str, str], jobs: Jobs, connect: Connect, session: Session,
    engine: Engine, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    connect(connector="sql", config=config())
    given = {name: value for name, value in credentials.items() if name != "scheme"}

    def open_sql(opening: Opening) -> Sql:
        return Sql(dataclasses.replace(opening, sealed=Credentials("password", given)))

    monkeypatch.setitem(CONNECTORS, "sql", ConnectorType(open_sql, SqlConfig))
    first: Any = run_sync(jobs.start(), allow_private=True)
    with engine.begin() as connection:
        connection.execute(text("update shop.orders set note = 'x', placed_at = '2027-01-01' where id = 3"))
        connection.execute(text("delete from shop.orders where id = 4"))
    second: Any = run_sync(jobs.start(), allow_private=True)
    third: Any = run_sync(jobs.start(), mode="initial", allow_private=True)

    assert [result["totalRecords"] for result in (first, second, third)] == [26, 2, 25]
    assert [result["results"][0]["written"] for result in (first, second)] == [26, 1]
    assert third["results"][0]["deleted"] == 1
    note = select(Record.data["note"].astext).where(Record.external_id == "3")
    assert session.scalar(note) == "x"
    assert os.environ.get("PGPASSWORD") is None


def test_a_password_is_not_given_to_another_server_than_it_was_given_for() -> None:
    def asked(**changes: Any) -> str | None:
        config = {"host": "db.example", "database": "d", "streams": {"x": {"table": "t"}}, **changes}
        return SHIPPED["sql"].asks(SqlConfig().load(config))

    assert asked() == asked(database="other", port=5432)
    assert len({asked(), asked(host="evil.example"), asked(port=5433)}) == 3


def test_of_a_host_with_many_addresses_a_few_are_tried(
    config: Callable[..., dict[str, Any]], credentials: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def refuse(**parameters: Any) -> None:
        tried.append(parameters["hostaddr"])
        raise psycopg.errors.ConnectionTimeout("timeout expired")

    many = [ipaddress.ip_address(f"203.0.113.{number}") for number in range(1, 100)]
    monkeypatch.setattr(sql, "judged_addresses", lambda *_, **__: many)
    monkeypatch.setattr(psycopg, "connect", refuse)

    with opened(config(), credentials) as connector, pytest.raises(SourceUnreachableError, match="timeout expired"):
        connector.fetch("orders", None)

    assert tried == ["203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4"]
