"""``jobplatform adopt``: jobs that wait in another queue become ours."""

from __future__ import annotations

import dataclasses
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

import click
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from jobplatform.adopting import (
    LOCK,
    SYSTEMS,
    Adoption,
    Rule,
    read_rules,
    require_complete,
)
from jobplatform.cli.acting import actor
from jobplatform.cli.adopt_told import Told, tell, tell_schedules
from jobplatform.cli.database import known_tasks, open_session
from jobplatform.cli.show import as_json_option, make_console
from jobplatform.errors import AdoptionError
from jobplatform.models import make_engine
from jobplatform.wording import plural

UNLIMITED = (
    f"their locks are the resources {LOCK}:… here, and nothing limits those yet: run "
    f"`jobplatform resources limit '{LOCK}:*' 1` to have one job of a lock run at a time"
)
#: Between two looks of ``--follow``; after a look that took longer, as long as that took.
POLL_SECONDS = 1.0


@click.command()
@click.argument("system", type=click.Choice(list(SYSTEMS)))
@click.option(
    "--from", "url", envvar="ADOPT_FROM", help="The database they are in, as a URL. Default: the one ours are in."
)
@click.option("--schema", help="Theirs. Default: pgboss for pg-boss, else public.")
@click.option("--prefix", default="", help="Of the names of PGQueuer's tables, as its PGQUEUER_PREFIX says.")
@click.option(
    "-m", "--map", "pairs", multiple=True, metavar="THEIRS=OURS", help="Their name, our task; more than once."
)
@click.option("--map-file", type=click.Path(path_type=Path), help="The same, in TOML.")
@click.option("-w", "--workspace", help="Whose the jobs are, by id or name.")
@click.option("--workspace-from", metavar="PATH", help="Where in a payload that stands, as in tenant.id.")
@click.option("--payload-from", metavar="PATH", help="Which part of theirs is our payload. Default: all.")
@click.option("--without", multiple=True, metavar="PATH", help="A field that our payload does not have; repeatable.")
@click.option("--leave", "stay", multiple=True, metavar="THEIRS", help="A name whose jobs stay there; repeatable.")
@click.option("--dry-run", is_flag=True, help="Only say what would be taken over, and what would not.")
@click.option("--follow", is_flag=True, help="Go on, for producers that still enqueue there, until Ctrl-C.")
@click.option("--schedules", "repeats", is_flag=True, help="Only list what repeats there, as commands for here.")
@as_json_option
def adopt(
    system: str,
    url: str | None,
    schema: str | None,
    prefix: str,
    pairs: tuple[str, ...],
    map_file: Path | None,
    workspace: str | None,
    workspace_from: str | None,
    payload_from: str | None,
    without: tuple[str, ...],
    stay: tuple[str, ...],
    dry_run: bool,
    follow: bool,
    repeats: bool,
    as_json: bool,
) -> None:
    """Take over the jobs that wait in another queue in PostgreSQL: pg-boss, procrastinate or pgqueuer.

    Without --map it lists what is there. What runs there is left to its worker. The exit code is 1 as long as
    something is left there, other than by --leave.
    """
    if dry_run and follow:
        raise click.UsageError("--dry-run looks once, and --follow goes on")
    common = Rule("", workspace, workspace_from, payload_from, without)
    rules = _rules(common, pairs, map_file)
    source = SYSTEMS[system](schema, prefix)
    with _connected(url) as (session, theirs):
        adoption = Adoption(session, source, known_tasks(), rules, actor=actor(), theirs=theirs)
        if repeats:
            tell_schedules(adoption.schedules(), rules, as_json=as_json)
            return
        told = Told(source, rules, frozenset(stay), adoption.count(), dry_run=dry_run)
        if rules:
            _run(adoption, told, follow=follow, quiet=as_json)
            told.after = adoption.count()
            if adoption.needs_limit():
                click.echo(UNLIMITED, err=True)
    tell(told, as_json=as_json)
    if told.is_something_left():
        raise click.exceptions.Exit(1)


def _rules(common: Rule, pairs: tuple[str, ...], map_file: Path | None) -> dict[str, Rule]:
    """What ``--map`` says counts before the file."""
    try:
        rules = read_rules(map_file.read_text(encoding="utf-8"), common) if map_file is not None else {}
    except (AdoptionError, OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{map_file}: {error}") from None
    for pair in pairs:
        name, _, task = pair.rpartition("=")
        if not (name and task):
            raise click.BadParameter(f"{pair!r} is not of the form THEIRS=OURS, as in send-email=email.send")
        rules[name] = dataclasses.replace(common, task=task)
    try:
        require_complete(rules)
    except AdoptionError as error:
        raise click.UsageError(f"{error}: --workspace, --workspace-from, or in --map-file") from None
    return rules


@contextmanager
def _connected(url: str | None) -> Iterator[tuple[Session, Connection | None]]:
    """Our Session with all rights of its login, which may have to reach their tables too; and those, if elsewhere."""
    with ExitStack() as stack:
        theirs = None
        if url is not None:
            engine = make_engine(url, application_name="jobplatform-adopt", pool_size=1)
            stack.callback(engine.dispose)
            theirs = stack.enter_context(engine.connect())
        yield stack.enter_context(open_session(role=None)), theirs


def _run(adoption: Adoption, told: Told, *, follow: bool, quiet: bool) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    look = adoption.rehearse if told.dry_run else adoption.move
    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = make_console()
    shown = console.is_terminal and not quiet
    with _until_stopped() as stop, Progress(*columns, console=console, disable=not shown, transient=True) as bar:
        task = bar.add_task("moving", total=told.expected())
        while True:
            began = time.monotonic()
            for portion in look(lambda: not stop.is_set()):
                told.add(portion)
                if follow and portion.taken and not (shown or quiet):
                    click.echo(f"{portion.name}: {plural(portion.taken, 'job')} taken over")
                bar.update(task, advance=portion.looked_at, description=portion.name)
            told.stopped = stop.is_set()
            if not follow or stop.wait(max(POLL_SECONDS, time.monotonic() - began)):
                return
            bar.update(task, total=told.moved(), completed=told.moved(), description="following")
            told.look_again()


@contextmanager
def _until_stopped() -> Iterator[threading.Event]:
    """Set by Ctrl-C and SIGTERM. A portion that was begun is brought to its end; whoever asks twice does not wait."""
    stop = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
