"""``jobplatform pause``, ``resume`` and ``pauses``."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any, TypeVar
from uuid import UUID

import click
from sqlalchemy.orm import Session

from jobplatform.cli.acting import actor, audit
from jobplatform.cli.amounts import Duration, Moment, moment_after
from jobplatform.cli.database import find_known_workspace, open_session
from jobplatform.cli.show import as_json_option, print_json, print_table, tell
from jobplatform.models import Pause, PauseKind
from jobplatform.queue import list_pauses
from jobplatform.queue import pause as pause_work
from jobplatform.queue import resume as resume_work

Command = TypeVar("Command", bound=Callable[..., Any])

_KIND = click.Choice([kind.value for kind in PauseKind])
_OPTIONS = (
    click.option("--reason", required=True, help="Why, for whoever wonders."),
    click.option("--until", type=Moment(), help="Ends by itself then, as in 2026-01-05T12:00:00Z."),
    click.option("--for", "duration", type=Duration(), help="Ends by itself after so long, as in 30m."),
)


def pause_options(command: Command) -> Command:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command()
@click.argument("kind", type=_KIND)
@click.argument("key")
@pause_options
@as_json_option
def pause(
    kind: str,
    key: str,
    reason: str,
    until: datetime.datetime | None,
    duration: datetime.timedelta | None,
    as_json: bool,
) -> None:
    """Start nothing more of a queue, task, workspace or resource. What runs goes on to its end.

    KEY is a name, for a workspace its id or name. Pausing again replaces the reason and the end.
    """
    with open_session() as session:
        made = start_pause(session, kind, _spell(session, kind, key), reason, until, duration)
    tell_pause(made, as_json=as_json)


@click.command()
@click.argument("kind", type=_KIND)
@click.argument("key")
@as_json_option
def resume(kind: str, key: str, as_json: bool) -> None:
    """End a pause; idle workers look at once."""
    with open_session() as session:
        end_pause(session, kind, _spell(session, kind, key))
    tell(as_json, f"{kind} {key} is resumed", kind=kind, key=key, resumed=True)


@click.command()
@click.option("--kind", type=_KIND, help="Only those of one kind.")
@as_json_option
def pauses(kind: str | None, as_json: bool) -> None:
    """List what is paused now."""
    with open_session() as session:
        found = list_pauses(session, kind)
    if as_json:
        print_json([pause_as_dict(one) for one in found])
    else:
        columns = ["kind", "key", "reason", "by", "since", "until"]
        rows = [(one.kind, one.key, one.reason, one.actor, one.paused_at, one.until) for one in found]
        print_table(columns, rows)


def start_pause(
    session: Session,
    kind: str,
    key: str,
    reason: str,
    until: datetime.datetime | None,
    duration: datetime.timedelta | None,
) -> Pause:
    """Pause and write it down."""
    if until and duration:
        raise click.UsageError("say --until or --for, not both")
    end = moment_after(session, duration) if duration else until
    made = pause_work(session, kind, key, reason=reason, actor=actor(), until=end)
    audit(session, f"{kind}.pause", f"{kind}:{key}", _workspace(kind, key), reason=reason, until=end)
    return made


def end_pause(session: Session, kind: str, key: str) -> None:
    """Resume and write it down."""
    if not resume_work(session, kind, key):
        raise click.ClickException(f"{kind} {key} is not paused; see `jobplatform pauses`")
    audit(session, f"{kind}.resume", f"{kind}:{key}", _workspace(kind, key))


def tell_pause(made: Pause, *, as_json: bool) -> None:
    end = "" if made.until is None else f" until {made.until.astimezone(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"
    tell(as_json, f"{made.kind} {made.key} is paused{end}", **pause_as_dict(made))


def pause_as_dict(one: Pause) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "key": one.key,
        "reason": one.reason,
        "actor": one.actor,
        "pausedAt": one.paused_at,
        "until": one.until,
    }


def _spell(session: Session, kind: str, key: str) -> str:
    return str(find_known_workspace(session, key)) if kind == PauseKind.WORKSPACE else key


def _workspace(kind: str, key: str) -> UUID | None:
    return UUID(key) if kind == PauseKind.WORKSPACE else None
