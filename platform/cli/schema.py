"""``jobplatform migrate``."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import click
from sqlalchemy import Engine
from sqlalchemy.exc import ProgrammingError

from jobplatform.cli.database import open_engine_past_pooler
from jobplatform.cli.show import as_json_option, tell
from jobplatform.errors import MigrationError
from jobplatform.migrations import FOR_PSQL, current, head, upgrade, upgrade_sql


@click.command()
@click.option("--sql", "as_sql", is_flag=True, help="Print the SQL instead of running it; needs no database.")
@click.option("--from", "begins_at", metavar="REVISION", help="With --sql: only what comes after this revision.")
@as_json_option
def migrate(as_sql: bool, begins_at: str | None, as_json: bool) -> None:
    """Bring the database's schema up to date. Safe to run from several places at once, and while others work."""
    if as_sql:
        tell(as_json, sql := _sql(begins_at), sql=sql)
        return
    if begins_at is not None:
        raise click.UsageError("--from is for --sql: a database that can be asked is brought up from where it is.")
    with open_engine_past_pooler("jobplatform-migrate") as (engine, is_direct), _waits_told(as_json):
        before = _revision(engine)
        upgrade(engine, trusted=is_direct)
        after = current(engine)
    sentence = f"the schema is at {after}" + ("" if before == after else f" (was {before or 'empty'})")
    newer = "" if after == head() else f"; this version needs {head()}, and there is nothing to do"
    tell(as_json, sentence + newer, revision=after, before=before)


class _Told(logging.Handler):
    """Who is waited for, for whoever sits in front of it."""

    def emit(self, record: logging.LogRecord) -> None:
        facts = {name: vars(record).get(name) for name in ("revision", "behind")}
        named = "".join(f"; {name}: {fact}" for name, fact in facts.items() if fact)
        click.echo(f"{record.getMessage()}{named}", err=True)


@contextmanager
def _waits_told(as_json: bool) -> Iterator[None]:
    """Where one document is asked for, nothing is put beside it."""
    logger = logging.getLogger("jobplatform.migrations")
    handler = logging.NullHandler() if as_json else _Told(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _revision(engine: Engine) -> str | None:
    """Who may not even read it is told by the migration what is needed."""
    try:
        return current(engine)
    except ProgrammingError:
        return None


def _sql(begins_at: str | None) -> str:
    """Whoever prints it has psql, or a person who reads its first line."""
    try:
        return upgrade_sql(begins_at) if begins_at is not None else FOR_PSQL + upgrade_sql()
    except MigrationError as error:
        raise click.BadParameter(f"{error}.", param_hint="--from") from None
