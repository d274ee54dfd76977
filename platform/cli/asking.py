"""Questions before what cannot be taken back."""

from __future__ import annotations

import sys

import click
from sqlalchemy.orm import Session


def agrees(session: Session, question: str, *, as_json: bool, instead: str = "--yes") -> bool:
    """Whether somebody says yes. Whoever can be asked may take an hour: no transaction waits with them."""
    require_somebody(as_json=as_json, instead=instead)
    session.commit()
    return confirmed(question, instead=instead)


def require_somebody(*, as_json: bool, instead: str = "--yes") -> None:
    """Refuse before there is a question that nobody could answer."""
    if as_json:
        raise click.UsageError(f"with --json nobody can be asked: add {instead}")


def confirmed(question: str, *, instead: str = "--yes") -> bool:
    """The same where no transaction is open."""
    try:
        return click.confirm(question)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        click.echo(err=True)
        raise click.UsageError(f"nobody is there to be asked, and nothing was done: add {instead}") from None
