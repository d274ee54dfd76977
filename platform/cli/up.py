"""``jobplatform up``: the whole stack for daily work on one machine."""

from __future__ import annotations

import os
import shlex
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import httpx
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from jobplatform.cli.database import open_database
from jobplatform.cli.serve import DRAIN
from jobplatform.cli.serving.listening import address_of, address_options, listen
from jobplatform.cli.serving.reloading import as_arguments, folders_to_watch, reload_options
from jobplatform.cli.stack import Part, Stack, interruptible
from jobplatform.embedded import SYSTEM_USER
from jobplatform.logs import escape_controls
from jobplatform.migrations import upgrade
from jobplatform.models import Role, WorkerRow, confine, make_engine, require_entry
from jobplatform.settings import Settings

READY_SECONDS = 60.0
DEMO_SOURCE_PORT = 8099
COLOURS = {"api": "cyan", "worker": "magenta", "demo source": "yellow"}


@click.command()
@click.option("-c", "--concurrency", type=click.IntRange(1, 512), help="Slots of the worker.")
@address_options
@click.option("--demo-source", is_flag=True, help="Also run the demo source that `jobplatform demo` syncs from.")
@reload_options
def up(
    concurrency: int | None,
    host: str | None,
    port: int | None,
    demo_source: bool,
    reload: bool,
    reload_dirs: tuple[Path, ...],
) -> None:
    """Run database, API and worker until Ctrl-C, which stops everything that was started here and nothing else."""
    watched = folders_to_watch(reload=reload, reload_dirs=reload_dirs)
    settings = Settings.from_env()
    with (
        interruptible(),
        # Before anything is started: what is in the way of it costs nobody the time of a start.
        listen(settings, host, port) as listening,
        open_database(settings) as url,
        Stack(settings.database_url, _print_line, stop_seconds=settings.drain_timeout + 10) as stack,
    ):
        _migrate(url)
        tell_database(settings, url)
        if demo_source:
            click.echo(f"demo source  {start_demo_source(stack)}")
        with_worker = settings.mode == "queue"
        api_url = start_platform(stack, listening, url, concurrency, watched, with_worker=with_worker)
        if not with_worker:
            click.echo(
                "worker       none: jobs run where they are enqueued (JOBPLATFORM_MODE=sync or DISABLE_QUEUE=true)"
            )
        click.echo(f"api          {api_url}  (documented at {api_url}/openapi.json)")
        if settings.pages_prefix:
            opens = "jobplatform tokens create --operator"
            click.echo(f"console      {api_url}{settings.pages_prefix}  (a token for it: {opens})")
        click.echo("Ctrl-C stops all of it")
        stack.run_until_interrupted()
        click.echo("stopping")


def _migrate(url: str) -> None:
    try:
        upgrade(url)
    except OperationalError:
        require_entry(url)
        raise


def tell_database(settings: Settings, url: str) -> None:
    """Say which database this is, and how to look into it: the embedded one, at ``url``, is in a place of its own."""
    if settings.database_url is not None:
        click.echo("database     the one that DATABASE_URL names")
    else:
        as_root = f", running as {SYSTEM_USER} because it refuses root" if os.geteuid() == 0 else ""
        click.echo(f"database     embedded PostgreSQL, data in {settings.data_dir}{as_root}")
        click.echo(f"sql          psql {shlex.quote(url)}  (while this runs)")


def start_platform(
    stack: Stack,
    listening: socket.socket,
    database_url: str,
    concurrency: int | None = None,
    watched: Sequence[Path] = (),
    *,
    with_worker: bool = True,
) -> str:
    """Start worker and API, which serves what comes to ``listening``, wait until both are ready, and return the API's
    URL. Both begin anew when Python files below ``watched`` change."""
    # Side by side: each spends its first second importing.
    worker = start_worker(stack, concurrency, watched) if with_worker else None
    api, api_url = start_api(stack, listening, watched)
    if worker is not None:
        worker.wait_until(_registered(database_url, worker), READY_SECONDS)
    api.wait_until(lambda: _answers(api_url), READY_SECONDS)
    return api_url


def start_worker(stack: Stack, concurrency: int | None = None, watched: Sequence[Path] = ()) -> Part:
    options = [*(() if concurrency is None else ("-c", str(concurrency))), *as_arguments(watched)]
    return stack.start("worker", "jobplatform.cli", "worker", *options, environment=_for_parts(), stop_with=DRAIN)


def start_api(stack: Stack, listening: socket.socket, watched: Sequence[Path] = ()) -> tuple[Part, str]:
    # Its own from here on: nobody should be kept waiting by a socket of ours when it has ended.
    with listening:
        host, port, *_ = listening.getsockname()
        descriptor = listening.fileno()
        options = ("--fd", str(descriptor), "--workers", "1", *as_arguments(watched))
        part = stack.start("api", "jobplatform.cli", "api", *options, environment=_for_parts(), sockets=[descriptor])
    return part, f"http://{address_of(host, port)}"


def start_demo_source(stack: Stack, delay: float = 0.15) -> str:
    """Start it and return its URL; on its usual port when that is free, so that earlier connections still work."""
    arguments = ("--port", str(DEMO_SOURCE_PORT), "--delay", str(delay))
    return stack.start("demo source", "jobplatform.connectors.demo_source", *arguments).find_line("http", READY_SECONDS)


def _for_parts() -> dict[str, str]:
    """What a development machine wants unless its owner has decided otherwise: sources on this very machine, such as
    the demo source, a database login that may do anything, and logs for the person who reads along (the parts write
    into a pipe and could not know)."""
    wanted = {"JOBPLATFORM_ALLOW_PRIVATE_ADDRESSES": "true", "JOBPLATFORM_TRUST_LOGIN": "true"}
    if sys.stdout.isatty():
        wanted |= {"JOBPLATFORM_LOG_FORMAT": "console", "FORCE_COLOR": "1"}
    return {name: value for name, value in wanted.items() if name not in os.environ}


def _registered(database_url: str, worker: Part) -> Callable[[], bool]:
    engine = make_engine(database_url, application_name="jobplatform-cli", pool_size=1)
    mine = (WorkerRow.pid == worker.process.pid) & WorkerRow.dead_at.is_(None)

    def registered() -> bool:
        try:
            with confine(Session(engine), Role.OPERATOR) as session:
                return session.scalar(select(func.count()).select_from(WorkerRow).where(mine)) != 0
        finally:
            engine.dispose()

    return registered


def _answers(api_url: str) -> bool:
    try:
        return httpx.get(f"{api_url}/readyz", timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _print_line(name: str, line: str) -> None:
    # The parts colour their own lines in a terminal; everywhere else they are JSON and hold no control characters.
    text = line if sys.stdout.isatty() else escape_controls(line)
    click.echo(f"{click.style(name.ljust(11), fg=COLOURS[name])} | {text}")
