"""What a test has in its hands: an engine, or a Session on one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session


def engine_of(where: Engine | Session) -> Engine:
    """The engine behind it. Raises ValueError for a Session that is bound to one connection: nothing it does is seen
    by anybody else before that connection commits, so no worker could run its jobs."""
    if isinstance(where, Engine):
        return where
    bind = where.get_bind()
    if isinstance(bind, Connection):
        raise ValueError(
            "this Session is bound to a single connection, whose transaction no worker can look into; "
            "bind it to an engine (the fixtures jobplatform_session and jobplatform_engine are), and commit for real"
        )
    return bind


def commit(where: Engine | Session) -> None:
    """A job exists for others when its transaction has committed."""
    if isinstance(where, Session):
        where.commit()


@contextmanager
def reading(where: Engine | Session) -> Iterator[Session]:
    """The Session itself, which sees what it has not committed yet, or one on the engine."""
    if isinstance(where, Session):
        yield where
        return
    with Session(where) as session:
        yield session
