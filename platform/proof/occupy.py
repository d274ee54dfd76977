"""One run at a time in a database that was given, and who has it.

Two that found it empty would both begin, and whichever ended first would clear away what the other works with. So each
holds a lock from before it looks until everything of it is gone. A transaction holds it, and no session: a pooler may
stand in between. Where its connection is lost the run goes on, and what it has made keeps others away.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg

from jobplatform.proof.onlooker import connect

#: Next to that of migrations.
RUN_LOCK = 7_246_180_002

#: At any other isolation level it would keep its first snapshot, and vacuum would leave for it what it could see.
BEGIN = "begin isolation level read committed"

#: It does nothing from now on, which a server may allow for a while only. Not each version knows each of these.
NO_TIMEOUTS = """
select set_config(name, '0', true)
from pg_settings
where name in ('idle_in_transaction_session_timeout', 'transaction_timeout')
"""

#: Without a parameter: what a statement with one has looked at stays open until the next statement, with its snapshot.
TRY_LOCK = f"select pg_try_advisory_xact_lock({RUN_LOCK})"

# Of another login's session a server tells hardly more than that it is there.
WHO = f"""
select
    a.pid,
    a.usename::text,
    a.application_name,
    coalesce(
        a.client_hostname, host(a.client_addr), case when a.backend_start is not null then 'the server itself' end
    ),
    a.xact_start
from pg_locks l
join pg_stat_activity a using (pid)
where l.locktype = 'advisory' and l.granted
    and l.database = (select oid from pg_database where datname = current_database())
    and l.objsubid = 1 and l.classid::bigint << 32 | l.objid::bigint = {RUN_LOCK}
"""


@dataclass(frozen=True, slots=True)
class Occupant:
    """Who has a database, as the server tells: ``pid`` is that of the server's process. Through a pooler the host is
    the pooler's."""

    pid: int
    login: str
    application: str
    host: str | None
    since: datetime.datetime | None

    def __str__(self) -> str:
        said = [self.application, f"from {self.host}" if self.host else ""]
        if self.since is not None:
            said.append(f"since {self.since.astimezone(datetime.UTC):%Y-%m-%d %H:%M:%S} UTC")
        return f"{' '.join(filter(None, said))} (login {self.login}, process {self.pid} of the server)"


@contextmanager
def occupy_database(url: str) -> Iterator[Occupant | None]:
    """Until the end of the block no other run has the database of ``url``. Or, at once, the one that has it."""
    with closing(connect(url)) as connection:
        connection.execute(BEGIN)
        connection.execute(NO_TIMEOUTS)
        try:
            yield _occupant(connection)
        finally:
            # Whoever comes next finds it free: that a connection was closed the server notices a moment later.
            with suppress(psycopg.OperationalError):
                connection.execute("rollback")


def _occupant(connection: psycopg.Connection[Any]) -> Occupant | None:
    while connection.execute(TRY_LOCK).fetchone() != (True,):
        # Nobody: it ended while we asked.
        if (row := connection.execute(WHO).fetchone()) is not None:
            return Occupant(*row)
    return None
