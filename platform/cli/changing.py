"""What is to be different about jobs that wait, as it is said on the command line."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click
from sqlalchemy.orm import Session

from jobplatform.cli.amounts import NOW, Duration, MomentOrNow, moment_after
from jobplatform.queue import JobChange

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--priority", type=int, help="Higher first."),
    click.option("-Q", "--queue", help="Where it waits."),
    click.option("--run-after", type=MomentOrNow(), help="Not before, as in 2026-01-05T12:00:00Z; or now."),
    click.option("--delay", type=Duration(), help="Not before so long from now, as in 10m."),
)


def change_options(command: Command) -> Command:
    """Priority, queue and moment."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def says_change(priority: int | None, queue: str | None, run_after: Any, delay: datetime.timedelta | None) -> bool:
    """Whether any of the options was given."""
    return any(given is not None for given in (priority, queue, run_after, delay))


def read_change(
    session: Session, priority: int | None, queue: str | None, run_after: Any, delay: datetime.timedelta | None
) -> JobChange:
    """What the options say, by the database's clock. Raises :class:`InvalidJobError` for what no job can be."""
    if not says_change(priority, queue, run_after, delay):
        raise click.UsageError("say what is to be different: --priority, --queue, --run-after or --delay")
    if run_after is not None and delay is not None:
        raise click.UsageError("--run-after and --delay are two ways to say when; say one")
    at_once = run_after == NOW
    moment = None if at_once else run_after
    if delay is not None:
        moment = moment_after(session, delay)
    return JobChange(priority=priority, queue=queue, run_after=moment, at_once=at_once)


def words_of(arguments: Mapping[str, Any]) -> list[str]:
    """What is to be different, as a bulk action keeps it, in the words of the options."""
    words = {"priority": "priority", "queue": "queue", "runAfter": "run-after"}
    return [
        f"{word}={NOW if arguments[name] is None else arguments[name]}"
        for name, word in words.items()
        if name in arguments
    ]
