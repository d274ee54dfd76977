"""``jobplatform migrate``."""

from __future__ import annotations

import click
from sqlalchemy import Engine
from sqlalchemy.exc import ProgrammingError

from jobplatform.cli.database import open_engine
from jobplatform.cli.show import as_json_option, tell
from jobplatform.errors import MigrationError
from jobplatform.migrations import current, head, upgrade, upgrade_sql


@click.command()
@click.option("--sql", "as_sql", is_flag=True, help="Print the SQL instead of running it; needs no database.")
@click.option("--from", "begins_at", metavar="REVISION", help="With --sql: only what comes after this revision.")
@as_json_option
def migrate(as_sql: bool, begins_at: str | None, as_json: bool) -> None:
    """Bring the database's schema up to date. Safe to run from several places at once."""
    if as_sql:
        tell(as_json, sql := _sql(begins_at), sql=sql)
        return
    if begins_at is not None:
        raise click.UsageError("--from is for --sql: a database that can be asked is brought up from where it is.")
    with open_engine("jobplatform-migrate") as engine:
        before = _revision(engine)
        upgrade(engine)
    sentence = f"the schema is at {head()}" + ("" if before == head() else f" (was {before or 'empty'})")
    tell(as_json, sentence, revision=head(), before=before)


def _revision(engine: Engine) -> str | None:
    """Who may not even read it is told by the migration what is needed."""
    try:
        return current(engine)
    except ProgrammingError:
        return None


def _sql(begins_at: str | None) -> str:
    try:
        return upgrade_sql(begins_at)
    except MigrationError as error:
        raise click.BadParameter(f"{error}.", param_hint="--from") from None
