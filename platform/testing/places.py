"""What a test has in its hands: an engine, a Session on one, or the registry of an application that holds Sessions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session, scoped_session

from jobplatform.queue import Tasks

#: Flask-SQLAlchemy's ``db.session`` is a registry.
Place = Engine | Session | scoped_session[Session]


def require_place(where: object) -> None:
    """Raises TypeError for what is none, before anything is done."""
    if not isinstance(where, Engine | Session | scoped_session):
        kind = type(where).__name__
        raise TypeError(f"the first argument is an engine, a Session, or a registry of Sessions, and is a {kind}")


def require_tasks(tasks: object) -> None:
    """Raises TypeError for what is no registry of tasks: it is the one that the application was given."""
    if not isinstance(tasks, Tasks):
        kind = type(tasks).__name__
        raise TypeError(f"the tasks of an application are asked for, as in tasks = Tasks(), and this is a {kind}")


def session_of(where: Place) -> Session | None:
    """The Session, if it is one or a registry of them."""
    if isinstance(where, scoped_session):
        return where()
    return where if isinstance(where, Session) else None


def engine_of(where: Place) -> Engine:
    """The engine behind it. Raises ValueError for a Session that is bound to one connection: nothing it does is seen
    by anybody else before that connection commits, so no worker could run its jobs."""
    require_place(where)
    if isinstance(where, Engine):
        return where
    bind = where.get_bind()
    if isinstance(bind, Connection):
        raise ValueError(
            "this Session is bound to a single connection, whose transaction no worker can look into; "
            "bind it to an engine (the fixtures jobplatform_session and jobplatform_engine are), and commit for real"
        )
    return bind


def commit(where: Place) -> None:
    """A job exists for others when its transaction has committed."""
    require_place(where)
    if (session := session_of(where)) is not None:
        session.commit()


@contextmanager
def reading(where: Place) -> Iterator[Session]:
    """The Session itself, which sees what it has not committed yet, or one on the engine."""
    if (held := session_of(where)) is not None:
        yield held
        return
    with Session(engine_of(where)) as session:
        yield session
