"""A connector for the tables of a customer's own PostgreSQL database.

    1. The host is resolved once, every address of it is judged as that of a URL is, and the connection goes to one that
       was judged (``hostaddr``), with the name left for the certificate.
    2. Each page is a short, read-only transaction with a time limit: rows behind the last one of the page before, by
       the id column or, for changes, by the cursor column and then the id. Nothing is held open between pages.
    3. The server itself makes JSON of a row, so every type it has can be copied. It is asked for no more of them than
       may be in memory here, and what it sends is counted while it comes: on one that sends more is hung up.

Only PostgreSQL: drivers of other databases resolve the name again, or let the server send the client elsewhere.
"""

from __future__ import annotations

import ipaddress
import json
import re
import ssl
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from decimal import Decimal
from types import TracebackType
from typing import Any, NamedTuple, Self

import psycopg
from marshmallow import ValidationError, fields, validate, validates_schema
from sqlalchemy import Connection, NullPool, create_engine
from sqlalchemy.exc import DBAPIError

from jobplatform.connectors.opening import Opening
from jobplatform.connectors.outside import judged_addresses
from jobplatform.connectors.schemas import ConfigSchema
from jobplatform.connectors.source import Page, SourceRecord
from jobplatform.errors import NeedsAttentionError, Problem, SourceError, SourceUnreachableError
from jobplatform.models import Refusal, why_refused
from jobplatform.settings import Settings
from jobplatform.wording import agreeing, plural

CONNECT_SECONDS = 10
#: Addresses of a host that are tried one after another.
MOST_ADDRESSES = 4
#: Bytes of the rows of a page, and so of one. A page that would have more is shorter.
LARGEST_PAGE = 64 * 1024 * 1024
#: Characters of an id and of a cursor. What is longer can be kept neither as a record's id nor as a place to go on at.
LONGEST_ID = 2_000
LONGEST_PLACE = 70_000
LONGEST_MESSAGE = 500
NO_ENCRYPTION = (
    "has to be require, verify-ca or verify-full: the database would be asked without encryption "
    "(in development disable is allowed with JOBPLATFORM_ALLOW_PRIVATE_ADDRESSES=true)"
)
#: From the weakest to the strongest: nothing; encryption with whoever answers; with somebody of a known authority; with
#: the very host that was asked for.
SSL_MODES = ("disable", "require", "verify-ca", "verify-full")
LARGEST_CERTIFICATES = 100_000
#: Types of columns, by the number that they have with every server.
MOMENTS = {1082: "date", 1114: "timestamp", 1184: "timestamptz"}
#: In libpq's words, and OpenSSL's: what is wrong with the encryption that was offered, or that none was.
_NOT_TRUSTED = re.compile(r"certificate|does not support SSL|SSL error|no SSL encryption", re.IGNORECASE)
#: No comma (several hosts), no slash or @ (a socket of this machine), no zone: one host of the network.
_HOST = re.compile(r"[0-9A-Za-z_]([0-9A-Za-z_.-]{0,251}[0-9A-Za-z_.])?\Z")

SETTINGS = """
select
    set_config('statement_timeout', %(timeout)s, true),
    set_config('datestyle', 'ISO, YMD', true),
    set_config('timezone', 'UTC', true)
"""

NOT_FAR_TO_COME = """
select (case
    when %(place)s::{kind} > (%(began)s::timestamptz + interval '1 day')::{kind}
    then (%(began)s::timestamptz - interval '1 day')::{kind}
    else %(place)s::{kind}
end)::text
"""

# The first rows, as far as they are not too large together; of a first one that is too large alone there is only the
# id. With its limit the innermost part is done by itself, so a row's text is made once. One row more is read, to see
# whether it is in the same place as the last.
ROWS = """
select case when p.size <= {largest} then p.data end, p.id, p.place, p.found, p.has_twin
from (
    select
        s.*,
        sum(s.size) over (order by s.number) as so_far,
        count(*) over () as found
    from (
        select o.*, octet_length(o.data) + coalesce(octet_length(o.id), 0) + coalesce(octet_length(o.place), 0) as size
        from (
            select
                to_jsonb(r)::text as data,
                left(r.{id}::text, {longest_id}) as id,
                {place} as place,
                row_number() over w as number,
                ({order}) = ({following}) as has_twin
            from {source}
            where {where}
            window w as (order by {order})
            order by {order}
            limit {page_size}
        ) o
    ) s
) p
where p.so_far <= {largest} or p.number = 1
order by p.number
"""


def _host(value: str) -> None:
    if not (_HOST.match(value) or _is_address(value)):
        raise ValidationError("Must be the name or the address of one host.")


def server_of(config: Mapping[str, Any]) -> str:
    """Whom the password is given to."""
    return f"postgresql://{config['host']}:{config['port']}"


def check_encryption(config: Mapping[str, Any], allow_private: bool) -> Iterator[Problem]:
    """A database is asked without encryption in development only, and never with less than the installation wants."""
    if problem := _too_weak(config["ssl_mode"], allow_private=allow_private):
        yield Problem("/sslMode", problem)


def _too_weak(mode: str, *, allow_private: bool) -> str | None:
    weakest = Settings.from_env().sql_ssl_mode
    if mode == "disable" and weakest == SSL_MODES[1]:
        return None if allow_private else NO_ENCRYPTION
    if SSL_MODES.index(mode) < SSL_MODES.index(weakest):
        return f"has to be {weakest} or stronger: this installation wants no less (JOBPLATFORM_SQL_SSL_MODE)"
    return None


def _is_address(value: str) -> bool:
    try:
        return "%" not in value and bool(ipaddress.ip_address(value))
    except ValueError:
        return False


def _certificates(value: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=value)
    except (ssl.SSLError, ValueError) as error:
        raise ValidationError("Must be certificates in the form PEM.") from error


_name = validate.Regexp(r"[^\0]{1,63}\Z", error="Must be a name of at most 63 characters.")


class TableConfig(ConfigSchema):
    """One stream: a table, or a query, and the columns by which its rows are told apart and in order."""

    table = fields.String(validate=_name)
    schema = fields.String(validate=_name)
    query = fields.String(validate=validate.Length(1, 20_000))
    columns = fields.List(fields.String(validate=_name), validate=validate.Length(1, 1000))
    id_column = fields.String(load_default="id", validate=_name)
    cursor_column = fields.String(validate=_name)
    overlap_seconds = fields.Integer(load_default=0, validate=validate.Range(0, 86_400))

    @validates_schema
    def table_or_query(self, data: Mapping[str, Any], **_: Any) -> None:
        if ("table" in data) == ("query" in data):
            raise ValidationError("Give a table or a query.", "table")
        if "query" in data and "schema" in data:
            raise ValidationError("Goes with a table; a query names its own.", "schema")
        if "\0" in data.get("query", ""):
            raise ValidationError("Must not have NUL characters.", "query")


class SqlConfig(ConfigSchema):
    """The configuration of a connection of this type."""

    dialect = fields.String(
        load_default="postgresql",
        validate=validate.OneOf(
            ["postgresql"],
            error="Must be postgresql: of no other database's driver can it be said where it connects to.",
        ),
    )
    host = fields.String(required=True, validate=_host)
    port = fields.Integer(load_default=5432, validate=validate.Range(1, 65_535))
    database = fields.String(required=True, validate=_name)
    streams = fields.Dict(
        keys=fields.String(validate=validate.Length(1, 100)),
        values=fields.Nested(TableConfig),
        required=True,
        validate=validate.Length(min=1),
    )
    ssl_mode = fields.String(load_default="require", validate=validate.OneOf(SSL_MODES))
    ca_certificate = fields.String(validate=[validate.Length(1, LARGEST_CERTIFICATES), _certificates])
    page_size = fields.Integer(load_default=500, validate=validate.Range(1, 5000))
    statement_timeout_seconds = fields.Integer(load_default=60, validate=validate.Range(1, 600))

    @validates_schema
    def authority_for_its_mode(self, data: Mapping[str, Any], **_: Any) -> None:
        """The authorities that the system trusts issue to everybody, so of them the name has to be checked too."""
        mode = data.get("ssl_mode")
        if "ca_certificate" in data and mode not in ("verify-ca", "verify-full"):
            raise ValidationError("Goes with the sslMode verify-ca or verify-full.", "ca_certificate")
        if mode == "verify-ca" and "ca_certificate" not in data:
            raise ValidationError("verify-ca needs a caCertificate; verify-full does without.", "ssl_mode")


class PasswordCredentials(ConfigSchema):
    """A user of the database and their password. One who may only read is enough."""

    username = fields.String(required=True, validate=_name)
    password = fields.String(required=True, validate=validate.Length(1, 1000))


class Keyset(NamedTuple):
    """Which rows come next: those behind ``place`` in the order of ``columns``, or from ``since`` on."""

    columns: Sequence[str]
    place: Sequence[str] = ()
    since: str | None = None


class Sql:
    """An open connection to such a database. It connects when the first page is asked for."""

    def __init__(self, opening: Opening) -> None:
        self.config = opening.config
        self._allow_private = opening.allow_private
        self._keeper = opening.keeper
        self._sealed = opening.sealed
        if problem := _too_weak(self.config["ssl_mode"], allow_private=opening.allow_private):
            raise SourceError(f"sslMode {problem}")
        if opening.credentials is None:
            raise NeedsAttentionError("the connection has no credentials; give it a username and a password")
        self._credentials = opening.credentials
        # A dialect of SQLAlchemy's, and connections that only we make.
        self._engine = create_engine(
            "postgresql+psycopg://", creator=self._connect, poolclass=NullPool, use_native_hstore=False
        )
        self._connection: Connection | None = None
        self._fitted: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._let_go()
        self._engine.dispose()

    def streams(self) -> Sequence[str]:
        return tuple(self.config["streams"])

    def fetch(self, stream: str, cursor: str | None) -> Page:
        table = _Table(self.config["streams"][stream], self._rows_to_ask_for(stream), self._quoted)
        place = json.loads(cursor) if cursor else {}
        with self._transaction() as connection:
            is_everything = place.keys() <= {"id", "highest"}
            found = (self._everything if is_everything else self._changes)(connection, table, place)
        self._fitted[stream] = max(1, len(found.rows))
        return _page(table, found)

    def _rows_to_ask_for(self, stream: str) -> int:
        """The database makes all of them before it is seen that they do not fit: so, after a page into which fewer did,
        no more than twice as many."""
        most: int = self.config["page_size"]
        return min(most, 2 * self._fitted.get(stream, most))

    # -- pages -----------------------------------------------------------------------------------

    def _everything(self, connection: Connection, table: _Table, place: Mapping[str, Any]) -> _Found:
        """All rows by id. What changes meanwhile is behind the highest cursor there was when this began."""
        highest = place["highest"] if place else table.highest(connection)
        rows = table.read(connection, Keyset([table.id], [place["id"]] if place else []))
        following = {"id": rows[-1].id, "highest": highest} if table.may_have_more(rows) else None
        without_id = 0 if place else table.without_id(connection)
        return _Found(rows, following, {"since": highest} if highest is not None else None, without_id)

    def _changes(self, connection: Connection, table: _Table, place: Mapping[str, Any]) -> _Found:
        """Rows from the last cursor on, by cursor and id. Those at that very cursor come again: who came first there is
        not known."""
        if table.cursor is None:
            raise SourceError("the stream has no cursorColumn any more; sync it in the mode initial")
        began = place.get("began") or _now(connection)
        since, without_id, without_cursor = None, 0, 0
        if "after" not in place:
            since = table.earlier(connection, table.not_far_to_come(connection, place["since"], began))
            without_id, without_cursor = table.without_id(connection, since), table.without_cursor(connection)
        rows = table.read(connection, Keyset([table.cursor, table.id], place.get("after", []), since))
        newest: str = rows[-1].cursor or place["since"] if rows else place["since"]
        if table.may_have_more(rows):
            following = {"after": [newest, rows[-1].id], "since": newest, "began": began}
            return _Found(rows, following, {"since": newest}, without_id, without_cursor)
        state = {"since": table.not_far_to_come(connection, newest, began)}
        return _Found(rows, None, state, without_id, without_cursor)

    # -- the connection --------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            connection = self._opened()
            with connection.begin():
                timeout = f"{self.config['statement_timeout_seconds']}s"
                connection.exec_driver_sql(SETTINGS, {"timeout": timeout})
                yield connection
        except DBAPIError as error:
            raise self._explained(error.orig) from error
        except psycopg.Error as error:
            raise self._explained(error) from error

    def _opened(self) -> Connection:
        if self._connection is None:
            self._connection = self._engine.connect().execution_options(postgresql_readonly=True)
        return self._connection

    def _let_go(self) -> None:
        """Of a connection that has nothing more to say, or from which nothing good comes."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(DBAPIError):
                connection.close()

    def _connect(self) -> psycopg.Connection[Any]:
        """To an address that was judged. Nothing is left to the environment of this process or to its user's files."""
        found = judged_addresses(self.config["host"], CONNECT_SECONDS, allow_private=self._allow_private)
        # Each may take its time, and how many there are says whoever owns the name.
        addresses = found[:MOST_ADDRESSES]
        with self._authorities() as authorities:
            for address in addresses[:-1]:
                try:
                    return psycopg.connect(**self._parameters(str(address), authorities), prepare_threshold=None)
                except psycopg.OperationalError:
                    continue
            return self._connect_or_explain(self._parameters(str(addresses[-1]), authorities))

    def _connect_or_explain(self, parameters: Mapping[str, Any]) -> psycopg.Connection[Any]:
        try:
            return psycopg.connect(**parameters, prepare_threshold=None)
        except psycopg.errors.ConnectionTimeout:
            raise
        except psycopg.OperationalError as error:
            # Of what the server has said the driver tells the words alone, which may be in any language.
            if (refusal := why_refused(parameters)) and (explained := self._refused(refusal)):
                raise explained from error
            raise

    @contextmanager
    def _authorities(self) -> Iterator[str | None]:
        """Who may have issued the server's certificate, as a file: libpq takes it in no other form."""
        if "ca_certificate" not in self.config:
            yield "system" if self.config["ssl_mode"] == "verify-full" else None
            return
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(self.config["ca_certificate"])
            file.flush()
            yield file.name

    def _parameters(self, address: str, authorities: str | None = None) -> dict[str, Any]:
        mode = self.config["ssl_mode"]
        parameters = {
            "host": self.config["host"],
            "hostaddr": address,
            "port": self.config["port"],
            "dbname": self.config["database"],
            "user": self._credentials["username"],
            "password": self._credentials["password"],
            "passfile": "/nonexistent",
            "sslmode": mode,
            "gssencmode": "disable",
            "options": "",
            "client_encoding": "utf8",
            "application_name": "jobplatform",
            "target_session_attrs": "any",
            "connect_timeout": CONNECT_SECONDS,
            "keepalives": 1,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 15_000,
        }
        if authorities is not None:
            parameters["sslrootcert"] = authorities
        if psycopg.pq.version() >= 160_000:
            # Not who this process is elsewhere: no certificate and no ticket of its user.
            parameters |= {"sslcertmode": "disable", "require_auth": "password,md5,scram-sha-256,none"}
        return parameters

    def _quoted(self, name: str) -> str:
        """With every % doubled, as the driver wants it."""
        return str(self._engine.dialect.identifier_preparer.quote_identifier(name))

    def _explained(self, error: BaseException | None) -> SourceError:
        self._let_go()
        message = str(error).strip().splitlines()[0][:LONGEST_MESSAGE] if str(error).strip() else "no reason"
        sqlstate = getattr(error, "sqlstate", None)
        if sqlstate == "57014":
            seconds = self.config["statement_timeout_seconds"]
            return SourceError(f"a page took longer than {seconds} s; an index of the columns it is ordered by helps")
        if "password authentication failed" in message:
            return self._wrong_password()
        if sqlstate is None and _NOT_TRUSTED.search(message):
            mode = self.config["ssl_mode"]
            return SourceError(f"the database {self.config['host']} is not trusted (sslMode {mode}): {message}")
        if sqlstate is None or sqlstate[:2] in ("08", "53", "57"):
            return SourceUnreachableError(f"the database {self.config['host']} cannot be reached: {message}")
        return SourceError(f"the database refused: {message}")

    def _refused(self, refusal: Refusal) -> SourceError | None:
        """In whose power it is that the server lets us in; None where that may pass by itself."""
        host, database, username = self.config["host"], self.config["database"], self._credentials["username"]
        said = refusal.message[:LONGEST_MESSAGE]
        match refusal.sqlstate:
            case "28P01":
                return self._wrong_password()
            case "28000":
                return SourceError(
                    f"the server {host} refuses the login {username!r} ({said}): have it let in there, or give the "
                    "connection other credentials"
                )
            case "3D000":
                return SourceError(
                    f"the server {host} has not the database {database!r} ({said}): have it made, or correct the "
                    "database in the connection's configuration"
                )
            case "42501":
                return SourceError(
                    f"the server {host} does not let {username!r} into the database {database!r} ({said}): have the "
                    "right to connect granted to it"
                )
            case _:
                return None

    def _wrong_password(self) -> NeedsAttentionError:
        reason = f"the database {self.config['host']} does not accept the connection's credentials; give it new ones"
        self._keeper.needs_attention(reason, self._sealed)
        return NeedsAttentionError(reason)


class _Row(NamedTuple):
    """``data`` is None where it is too large. ``found`` rows there were, before it was asked how large they are. One
    that ``has_twin`` has the next one in the same place, so that a page which ends here passes over that."""

    data: str | None
    id: str
    cursor: str | None
    found: int
    has_twin: bool | None

    @property
    def size(self) -> int:
        return sum(len(text) for text in (self.data, self.id, self.cursor) if text is not None)


class _Found(NamedTuple):
    """What a page is made of. Rows without an id or a cursor are behind no place and before none, so they are counted
    with the first page for all of the stream."""

    rows: Sequence[_Row]
    following: Mapping[str, Any] | None
    state: Mapping[str, Any] | None
    without_id: int = 0
    without_cursor: int = 0


class _Table:
    """The statements of one stream."""

    def __init__(self, config: Mapping[str, Any], page_size: int, quoted: Any) -> None:
        self.id: str = config["id_column"]
        self.cursor: str | None = config.get("cursor_column")
        self.page_size = page_size
        self._overlap: int = config["overlap_seconds"]
        self._quoted = quoted
        self._source = f"({self._columns(config)}) as r"

    def _columns(self, config: Mapping[str, Any]) -> str:
        wanted = config.get("columns")
        needed = [self.id, *([self.cursor] if self.cursor else [])]
        listed = ", ".join(map(self._quoted, dict.fromkeys([*wanted, *needed]))) if wanted else "*"
        if "query" in config:
            # On lines of its own: it may end with a comment.
            query = config["query"].strip().rstrip(";").replace("%", "%%")
            return f"select {listed} from (\n{query}\n) as q"
        schema = [config["schema"]] if "schema" in config else []
        return f"select {listed} from {'.'.join(map(self._quoted, [*schema, config['table']]))}"

    @property
    def must_be_unique(self) -> str:
        return f"idColumn ({self.id!r}) must be unique"

    def highest(self, connection: Connection) -> str | None:
        """The highest cursor there is, as text."""
        if self.cursor is None:
            return None
        found: str | None = connection.exec_driver_sql(
            f"select max(r.{self._quoted(self.cursor)})::text from {self._source}", {}
        ).scalar()
        return None if found is None else self.not_far_to_come(connection, found, _now(connection))

    def not_far_to_come(self, connection: Connection, place: str, began: str) -> str:
        """``place``; or a day before the sync ``began`` where it is a moment more than a day after that. With nothing
        read but what is later still, one row of the year 9999 would keep all changes from being read.

        A day, because a moment without a zone may be by the clock of any.
        """
        kind = self._kind_of_moment(connection)
        if kind is None:
            return place
        found = connection.exec_driver_sql(NOT_FAR_TO_COME.format(kind=kind), {"place": place, "began": began})
        return str(found.scalar_one())

    def _kind_of_moment(self, connection: Connection) -> str | None:
        """The cursor's type if its values are moments. No row is read for that."""
        if self.cursor is None:
            return None
        of_none = f"select r.{self._quoted(self.cursor)} from {self._source} limit 0"
        driver: Any = connection.connection.driver_connection
        with driver.execute(of_none, {}) as cursor:
            return MOMENTS.get(cursor.description[0].type_code)

    def earlier(self, connection: Connection, since: str) -> str:
        """``since``, or a moment that lies the overlap before it."""
        if not self._overlap or self.cursor is None:
            return since
        column = self._quoted(self.cursor)
        one = f"select pg_typeof(r.{column})::text from {self._source} limit 1"
        kind = connection.exec_driver_sql(one, {}).scalar()
        if kind is None:
            return since
        if not kind.startswith(("timestamp", "date")):
            raise SourceError(f"overlapSeconds needs a cursorColumn of moments, and {self.cursor!r} is {kind}")
        moment = f"(%(since)s::{kind} - make_interval(secs => %(overlap)s))::text"
        found = connection.exec_driver_sql(f"select {moment}", {"since": since, "overlap": self._overlap}).scalar_one()
        return str(found)

    def read(self, connection: Connection, keyset: Keyset) -> Sequence[_Row]:
        columns = [f"r.{self._quoted(name)}" for name in keyset.columns]
        order = ", ".join(columns)
        parameters: dict[str, Any] = {f"p{number}": value for number, value in enumerate(keyset.place)}
        where = "true"
        if keyset.place:
            where = f"({order}) > ({', '.join(f'%({name})s' for name in parameters)})"
        elif keyset.since is not None:
            where, parameters = f"r.{self._quoted(keyset.columns[0])} >= %(since)s", {"since": keyset.since}
        statement = ROWS.format(
            largest=LARGEST_PAGE,
            id=self._quoted(self.id),
            longest_id=LONGEST_ID,
            place=f"left(r.{self._quoted(self.cursor)}::text, {LONGEST_PLACE})" if self.cursor else "null::text",
            order=order,
            following=", ".join(f"lead({column}) over w" for column in columns),
            source=self._source,
            where=where,
            page_size=self.page_size,
        )
        return _received(connection, statement, parameters, self.page_size)

    def without_id(self, connection: Connection, since: str | None = None) -> int:
        """How many rows have no id: of all, or of those from ``since`` on."""
        where = f"r.{self._quoted(self.id)} is null"
        if since is None or self.cursor is None:
            return self._count(connection, where)
        return self._count(connection, f"{where} and r.{self._quoted(self.cursor)} >= %(since)s", since=since)

    def without_cursor(self, connection: Connection) -> int:
        """How many rows no sync of changes sees."""
        return 0 if self.cursor is None else self._count(connection, f"r.{self._quoted(self.cursor)} is null")

    def _count(self, connection: Connection, where: str, **parameters: str) -> int:
        statement = f"select count(*) from {self._source} where {where}"
        return int(connection.exec_driver_sql(statement, parameters).scalar_one())

    def may_have_more(self, rows: Sequence[_Row]) -> bool:
        """There are others where not all that were found came, or not all were looked for."""
        return bool(rows) and (len(rows) < rows[0].found or rows[0].found == self.page_size)


def _now(connection: Connection) -> str:
    return str(connection.exec_driver_sql("select now()::text", {}).scalar_one())


def _received(connection: Connection, statement: str, parameters: Mapping[str, Any], most: int) -> Sequence[_Row]:
    """The rows, one by one as they come in: whoever sends more than was asked for is not listened to any longer."""
    driver: Any = connection.connection.driver_connection
    rows: list[_Row] = []
    size = 0
    with driver.cursor() as cursor:
        for values in cursor.stream(statement, parameters):
            rows.append(_Row(*values))
            size += rows[-1].size
            if size > LARGEST_PAGE or len(rows) > most:
                connection.invalidate()
                asked = f"{plural(most, 'row')} of together {_as_mib(LARGEST_PAGE)}"
                raise SourceError(f"the database was asked for no more than {asked}, and sends more")
    return rows


def _page(table: _Table, found: _Found) -> Page:
    rows = found.rows
    records = [SourceRecord(row.id, json.loads(_data_of(row), parse_float=_number)) for row in rows if row.id]
    missing = found.without_id + sum(row.id == "" for row in rows)
    return Page(
        records,
        None if found.following is None else json.dumps(found.following),
        state=None if found.state is None else json.dumps(found.state),
        skipped=missing,
        warnings=[
            *([plural(missing, "row has no id", "rows have no id")] if missing else []),
            *_unseen(table, found.without_cursor),
            *_doubles(table, records),
            *_passed_over(table, rows),
        ],
    )


def _unseen(table: _Table, count: int) -> Iterator[str]:
    if count:
        yield (
            f"{plural(count, 'row has', 'rows have')} no cursorColumn ({table.cursor!r}), so whether "
            f"{agreeing(count, 'it has', 'they have')} changed nobody can say: "
            f"{agreeing(count, 'it is', 'they are')} read by a sync in the mode initial only"
        )


def _doubles(table: _Table, records: Sequence[SourceRecord]) -> Iterator[str]:
    times = Counter(record.external_id for record in records)
    if len(times) < len(records):
        more = plural(len(records) - len(times), "row has", "rows have")
        one = times.most_common(1)[0][0][:50]
        yield f"{more} the id of another one ({one!r}), and of those one is copied: {table.must_be_unique}"


def _passed_over(table: _Table, rows: Sequence[_Row]) -> Iterator[str]:
    """The next page begins behind the last row's place, where another one may be."""
    if rows and rows[-1].has_twin:
        one = rows[-1].id[:50]
        yield (
            f"at the end of a page other rows have the id of the last one, too ({one!r}), and are not copied: "
            f"{table.must_be_unique}"
        )


def _data_of(row: _Row) -> str:
    if row.data is None:
        raise SourceError(f"the row {row.id[:50]!r} is larger than {_as_mib(LARGEST_PAGE)}")
    return row.data


def _as_mib(size: int) -> str:
    return f"{size // 1024 // 1024} MiB"


def _number(text: str) -> float | str:
    """As a number where that is the same number; else as it is written, because it may be money."""
    number = float(text)
    return number if Decimal(repr(number)) == Decimal(text) else text
