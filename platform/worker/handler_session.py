"""The Sessions of a child's handlers: each sees its job's workspace and nothing else of ours."""

import threading
from typing import Final

from sqlalchemy import Engine, ExceptionContext, event
from sqlalchemy.orm import Session

from jobplatform.models import Role, confine, make_engine

MISSING_RIGHT: Final = "42501"
WHAT_TO_GRANT: Final = (
    f"job.session acts as {Role.HANDLER}, which has no rights to what is the application's before it is granted some: "
    f"grant select, insert, update, delete on all tables in schema public to {Role.HANDLER}; "
    f"grant usage, select on all sequences in schema public to {Role.HANDLER}"
)


class HandlerSessions:
    """Opens them. The engine is this child's own, made when the first handler asks for a Session.

    Confined is the Session, not the process: a handler that opens a connection of its own has the rights of the
    worker's login. This keeps mistakes apart, not enemies.
    """

    def __init__(self, database_url: str, threads: int) -> None:
        self._database_url = database_url
        self._threads = threads
        self._engine: Engine | None = None
        self._making = threading.Lock()

    def open(self, workspace_id: str) -> Session:
        """A Session that is told this workspace at the begin of every transaction, those after a commit too."""
        return confine(Session(self._engine or self._make_engine()), Role.HANDLER, workspace_id)

    def _make_engine(self) -> Engine:
        """Once, however many threads ask for the first one: nobody would ever close the other's connections."""
        with self._making:
            if self._engine is None:
                engine = make_engine(
                    self._database_url, application_name="jobplatform-handler", pool_size=self._threads
                )
                event.listen(engine, "handle_error", _say_what_to_grant)
                self._engine = engine
            return self._engine


def _say_what_to_grant(context: ExceptionContext) -> None:
    """PostgreSQL does not say who is refused, and it is not the login that the application has elsewhere."""
    if getattr(context.original_exception, "sqlstate", None) == MISSING_RIGHT and context.sqlalchemy_exception:
        context.sqlalchemy_exception.add_note(WHAT_TO_GRANT)
