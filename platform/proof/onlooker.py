"""A connection of the run's own, beside those that the storm is about: nobody terminates it, and it sees everything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

from jobplatform.models import MAY_BECOME, Role, connect_bare

#: Whoever has this name is part of the run. What is on trial begins like it and goes on.
NAME = "jobplatform-prove"

#: What a run does, it does as one of these.
NEEDED = (Role.OWNER, Role.OPERATOR, Role.WORKER, Role.HANDLER)


def connect(url: str) -> psycopg.Connection[Any]:
    """Each statement is a transaction of its own; nothing belongs to a session, so a pooler may stand in between."""
    return connect_bare(url, application_name=NAME)


def join_roles(connection: psycopg.Connection[Any]) -> None:
    """Where the login has just made our roles it may be all of them; one that cannot become them yet can do so then."""
    for role in NEEDED:
        if connection.execute("select " + MAY_BECOME.format(role="%s"), [role]).fetchone() != (True,):
            connection.execute(sql.SQL("grant {} to current_user").format(sql.Identifier(role)))


@contextmanager
def as_role(connection: psycopg.Connection[Any], role: Role = Role.OPERATOR) -> Iterator[None]:
    """One transaction with the rights of a role: an operator sees all workspaces, whoever logged in."""
    with connection.transaction():
        connection.execute(f"set local role {role}")
        yield
