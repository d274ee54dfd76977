"""``jobplatform doctor``."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from typing import Any

import click
from sqlalchemy.exc import DBAPIError, OperationalError

from jobplatform.cli.amounts import Duration
from jobplatform.cli.database import open_session
from jobplatform.cli.refusals import NOT_ALLOWED, first_line, sqlstate_of
from jobplatform.cli.show import as_json_option, plain, print_json
from jobplatform.errors import JobPlatformError, MigrationError, SettingsError
from jobplatform.models import Role, confine
from jobplatform.queue import Finding, Severity, examine_queue, examine_schema, examine_server

COLORS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}


@click.command()
@click.option(
    "--patience",
    type=Duration(),
    default=datetime.timedelta(minutes=5),
    show_default="5m",
    help="How long a transaction may be open before it is a finding.",
)
@as_json_option
def doctor(patience: datetime.timedelta, as_json: bool) -> None:
    """Find what is wrong with the installation, and say what to do. Exit code 1 when something is wrong."""
    found = list(_examine(patience))
    if as_json:
        print_json({"healthy": not _wrong(found), "findings": plain(found)})
    else:
        _print(found)
    if _wrong(found):
        raise SystemExit(1)


def _examine(patience: datetime.timedelta) -> Iterator[Finding]:
    """What needs the login's own rights first; then as an operator; jobs only where the schema is as expected."""
    with open_session(role=None) as session:
        try:
            yield from examine_server(session, patience=patience)
            session.rollback()
            confine(session, Role.OPERATOR)
            schema = list(examine_schema(session))
            yield from schema
            if not schema:
                yield from examine_queue(session)
        except OperationalError:
            raise
        except (DBAPIError, JobPlatformError) as error:
            session.rollback()
            yield _not_examined(error)


def _not_examined(error: DBAPIError | JobPlatformError) -> Finding:
    """What the rest could not be looked at for: the schema is not there, the login may not, or something is broken."""
    if isinstance(error, MigrationError):
        seen = str(error).partition(";")[0]
        return Finding(Severity.ERROR, "schema_revision", seen, "nothing works before that", "jobplatform migrate")
    seen = "; ".join(error.problems) if isinstance(error, SettingsError) else first_line(error)
    if isinstance(error, SettingsError) or sqlstate_of(error) == NOT_ALLOWED:
        means = "the login may not look, so the rest of this examination is missing"
        # A login that may not act as a role is told what to grant.
        said, _, grant = seen.rpartition(": ") if isinstance(error, SettingsError) else (seen, "", "")
        command = grant.removeprefix("connect with a login that may, or ") or f"grant {Role.OPERATOR} to the login"
        return Finding(Severity.ERROR, "not_examined", said or seen, means, command)
    means = "something could not be looked at, and the rest of this examination is missing"
    return Finding(Severity.ERROR, "not_examined", seen, means, "jobplatform migrate")


def _wrong(found: Sequence[Finding]) -> bool:
    return any(one.severity is not Severity.INFO for one in found)


def _print(found: Sequence[Finding]) -> None:
    for one in found:
        style: dict[str, Any] = {"fg": COLORS[one.severity], "bold": True}
        click.secho(f"{one.severity}: {one.code}", **style)
        click.echo(f"  {one.seen}\n  {one.means}")
        click.secho(f"  {one.command}\n", fg="cyan")
    if not _wrong(found):
        click.secho("nothing is wrong", fg="green")
