"""How a client of the platform lives through database restarts: it asks again until it has an answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.models import Role, confine, make_engine
from jobplatform.proof.onlooker import NAME

T = TypeVar("T")

#: Seconds between two tries while the database is away.
PAUSE = 0.1

#: SQLSTATE classes that mean trouble with the infrastructure: connection, resources, operator, system, rollback.
INFRASTRUCTURE = ("08", "53", "57", "58", "40")


class Client:
    """Runs transactions on a small pool of its own. Its backends are fair game for the monkey."""

    def __init__(self, url: str, name: str, stop: threading.Event, role: Role) -> None:
        self.engine = make_engine(url, application_name=f"{NAME}-{name}", pool_size=2)
        self.repeats = 0
        self._role = role
        self._sessions = sessionmaker(self.engine)
        self._stop = stop

    def transact(
        self, work: Callable[[Session], T], *, commit: bool = True, as_handler_of: str | None = None
    ) -> T | None:
        """``work`` in a transaction, again until its commit is acknowledged; None when told to stop before. It has the
        rights of this client's role or of a handler, who sees one workspace.

        After a lost connection nobody knows whether the commit counted. So ``work`` must bear being repeated.
        """
        while not self._stop.is_set():
            try:
                with self._sessions() as session:
                    confine(session, Role.HANDLER if as_handler_of else self._role, as_handler_of)
                    answer = work(session)
                    session.commit() if commit else session.rollback()
                    return answer
            except DBAPIError as error:
                if not _is_infrastructure(error):
                    raise
                self.repeats += 1
                self._stop.wait(PAUSE)
        return None


def _is_infrastructure(error: DBAPIError) -> bool:
    state = getattr(error.orig, "sqlstate", None)
    return state is None or state[:2] in INFRASTRUCTURE
