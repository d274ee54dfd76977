"""``jobplatform demo``: a sync of an HTTP source, end to end, with every part a process of its own.

What is printed is what happened: each step asks the running parts and prints their answer, and a step that does not
get the answer it promises ends the demo with an error.
"""

from __future__ import annotations

import datetime
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import click
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from jobplatform.api import Scope, mint_token, presented_id
from jobplatform.cli.acting import audit
from jobplatform.cli.database import open_database
from jobplatform.cli.demo_story import Story
from jobplatform.cli.serving.listening import address_options, listen
from jobplatform.cli.stack import Stack, interruptible
from jobplatform.cli.up import start_demo_source, start_platform, tell_database
from jobplatform.connectors.demo_source import connection_config
from jobplatform.logs import escape_controls
from jobplatform.migrations import head, upgrade
from jobplatform.models import Connection, Record, Role, Workspace, clock, confine, make_engine
from jobplatform.settings import Settings

WORKSPACES = ("Acme", "Globex")
PAGE_DELAY = 0.15
#: For how long a token for the console is good.
KEPT = datetime.timedelta(days=1)
#: The demo is of the platform's own sync, whatever application the environment is set up for.
OWN_TASKS = {
    "JOBPLATFORM_TASKS": "jobplatform.connectors:tasks",
    "JOBPLATFORM_MODE": "queue",
    "JOBPLATFORM_QUEUES": "",
    "JOBPLATFORM_ALLOW_PRIVATE_ADDRESSES": "true",
    "JOBPLATFORM_TRUST_LOGIN": "true",
    "DISABLE_QUEUE": "false",
}


@dataclass(frozen=True)
class Tenant:
    """A workspace of the demo and the token for it."""

    id: UUID
    name: str
    token: str


@click.command()
@click.option("--keep", is_flag=True, help="Leave everything running until Ctrl-C, to go on by hand.")
@click.option("--fast", is_flag=True, help="Let the demo source answer without the pause of a real one.")
@address_options
def demo(keep: bool, fast: bool, host: str | None, port: int | None) -> None:
    """Watch a sync run end to end: database, API, worker and a demo source, over real HTTP."""
    settings = Settings.from_env()
    with interruptible(), listen(settings, host, port) as listening, open_database(settings) as url:
        step(1, "Database")
        upgrade(url)
        tell_database(settings, url)
        click.echo(f"schema       at revision {head()}")
        patience = settings.drain_timeout + 10
        with (
            _log_file(settings.data_dir) as log,
            Stack(settings.database_url, log.write_line, stop_seconds=patience, environment=OWN_TASKS) as stack,
        ):
            acme, globex, api_url = _start(stack, listening, url, delay=0.0 if fast else PAGE_DELAY)
            operator_token = _create_operator(url) if keep and settings.pages_prefix else None
            _tell_story(api_url, acme, globex, url)
            _say_goodbye(api_url, (acme, globex), log.path)
            if keep:
                if operator_token:
                    click.echo(f"console       {api_url}{settings.pages_prefix}   (sign in with {operator_token})")
                if settings.portal_prefix:
                    portal = f"{api_url}{settings.portal_prefix}/{acme.id}/"
                    click.echo(f"portal        {portal}   ({acme.name}'s own; sign in with {acme.token})")
                click.echo("\neverything is left running; Ctrl-C stops all of it")
                stack.run_until_interrupted()
                click.echo("stopping")


def step(number: int, title: str) -> None:
    click.secho(f"\n{number}. {title}", bold=True)


def _start(stack: Stack, listening: socket.socket, database_url: str, delay: float) -> tuple[Tenant, Tenant, str]:
    step(2, "Processes")
    source_url = start_demo_source(stack, delay)
    click.echo(f"demo source  {source_url}  (a made-up CRM: pages, HTTP 429 with Retry-After, an occasional 500)")
    api_url = start_platform(stack, listening, database_url)
    click.echo(f"worker       running, process {stack.parts[1].process.pid}")
    click.echo(f"api          {api_url}  (gunicorn, process {stack.parts[2].process.pid})")
    step(3, "Two workspaces, each with a connection to the demo source and a token")
    acme, globex = _create_tenants(database_url, source_url)
    for tenant in (acme, globex):
        click.echo(f"{tenant.name:12} {tenant.id}  token {tenant.token}")
    return acme, globex, api_url


def _create_tenants(database_url: str, source_url: str) -> tuple[Tenant, Tenant]:
    """New ones in every run, so that nothing an earlier run left behind can be in the way."""
    engine = make_engine(database_url, application_name="jobplatform-demo", pool_size=1)
    with confine(Session(engine), Role.OPERATOR) as session, session.begin():
        acme, globex = (_create_tenant(session, name, source_url) for name in WORKSPACES)
    engine.dispose()
    return acme, globex


def _create_operator(database_url: str) -> str:
    """A token for the console, as long as somebody is there to look at it."""
    engine = make_engine(database_url, application_name="jobplatform-demo", pool_size=1)
    with confine(Session(engine), Role.OPERATOR) as session, session.begin():
        token = mint_token(session, None, (Scope.OPERATOR,), "demo", _now(session) + KEPT)
        audit(session, "demo.create_token", f"token:{presented_id(token)}")
    engine.dispose()
    return token


def _now(session: Session) -> datetime.datetime:
    return session.execute(select(clock())).scalar_one()


def _create_tenant(session: Session, name: str, source_url: str) -> Tenant:
    workspace_id = uuid7()
    session.add(Workspace(id=workspace_id, name=name))
    session.add(
        Connection(
            workspace_id=workspace_id,
            id=uuid7(),
            connector_type="http_json",
            name="Demo CRM",
            config=connection_config(source_url),
        )
    )
    token = mint_token(session, workspace_id, (Scope.JOBS_READ, Scope.JOBS_WRITE), "demo")
    audit(session, "demo.create_workspace", f"workspace:{workspace_id}", workspace_id, name=name)
    return Tenant(workspace_id, name, token)


def _tell_story(api_url: str, acme: Tenant, globex: Tenant, database_url: str) -> None:
    with Story(api_url, acme.id, acme.token) as story:
        step(4, "A sync, asked for twice")
        story.start_sync()
        story.ask_again()
        step(5, "Its progress, by polling the status URL")
        story.watch()
        step(6, "Its result")
        story.show_result()
        _show_stored(database_url, acme.id, story.total_records)
        step(7, "The recent jobs of the workspace")
        story.show_recent()
        step(8, f"The same URL with the token of {globex.name}")
        story.try_as_stranger(globex.token)


def _show_stored(database_url: str, workspace_id: UUID, expected: int) -> None:
    engine = make_engine(database_url, application_name="jobplatform-demo", pool_size=1)
    with confine(Session(engine), Role.OPERATOR) as session:
        rows = session.execute(
            select(Record.stream, func.count())
            .where(Record.workspace_id == workspace_id)
            .group_by(Record.stream)
            .order_by(Record.stream)
        ).all()
    engine.dispose()
    stored = {str(stream): int(count) for stream, count in rows}
    if sum(stored.values()) != expected:
        raise click.ClickException(f"the job says {expected} records and the database has {sum(stored.values())}")
    parts = ", ".join(f"{count} {stream}" for stream, count in stored.items())
    click.echo(f"in jobplatform.records: {sum(stored.values())} ({parts})")


def _say_goodbye(api_url: str, tenants: tuple[Tenant, ...], log_file: Path) -> None:
    step(9, "Go on from here")
    for tenant in tenants:
        sync_url = f"{api_url}/workspaces/{tenant.id}/sync"
        click.echo(f"# {tenant.name}\ncurl -X POST -H 'Authorization: Bearer {tenant.token}' -H 'Content-Type: "
                   f"application/json' -d '{{}}' {sync_url}")  # fmt: skip
    click.echo(f"API           {api_url}   (OpenAPI: {api_url}/openapi.json)")
    click.echo(f"logs          {log_file}")
    click.echo(f"run the stack  {_own_command()} up --demo-source   (the tokens stay valid)")


def _own_command() -> str:
    """How this command was called, so that the next one can be copied as it stands."""
    called = Path(sys.argv[0])
    if called.name != "jobplatform":
        return "jobplatform"
    return os.path.relpath(called) if called.is_relative_to(Path.cwd()) else str(called)


class _LogFile:
    """Where the parts' own lines go while the demo tells its story."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path.open("w", encoding="utf-8")

    def write_line(self, name: str, line: str) -> None:
        self.file.write(f"{name} | {escape_controls(line)}\n")
        self.file.flush()


@contextmanager
def _log_file(folder: Path) -> Iterator[_LogFile]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        log = _LogFile(folder / "demo.log")
    except OSError as error:
        raise click.ClickException(f"no log can be kept there ({error}); see JOBPLATFORM_DATA_DIR") from error
    try:
        yield log
    finally:
        log.file.close()
