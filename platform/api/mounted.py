"""What one mounted API works with. An application may have several, each with its own database and tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from flask import Request, current_app, request
from sqlalchemy.orm import Session

from jobplatform.api.principals import Principal
from jobplatform.queue import Tasks

#: A host's own way to say who is asking; None means nobody it knows. The workspace is None on routes without.
Authorize = Callable[[Request, UUID | None], Principal | None]


@dataclass(frozen=True)
class Mounted:
    """The collaborators of a mounted API."""

    sessions: Callable[[], Session]
    tasks: Tasks
    authorize: Authorize | None = None

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A Session for one short transaction: committed at the end, rolled back on an exception."""
        with self.sessions() as session, session.begin():
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """The same for looking only; what was read stays readable afterwards."""
        with self.transaction() as session:
            yield session
            # Let go before the commit, which would expire it. Not ended by a rollback instead: psycopg forgets
            # its prepared statements at one.
            session.expunge_all()


def mounted() -> Mounted:
    """Those of the API that serves the current request."""
    found: Mounted = current_app.blueprints[serving_blueprint_name()].mounted  # type: ignore[attr-defined]  # see below
    return found


def serving_blueprint_name() -> str:
    """The name under which our outermost blueprint is mounted; a host may have nested it in its own."""
    for name in request.blueprints:
        if isinstance(getattr(current_app.blueprints[name], "mounted", None), Mounted):
            return name
    raise RuntimeError(f"{request.endpoint} is not a view of a mounted jobplatform API")
