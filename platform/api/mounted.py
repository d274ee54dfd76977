"""What one mounted API works with. An application may have several, each with its own database and tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from flask import Request, current_app, g, request, url_for
from sqlalchemy.orm import Session, scoped_session

from jobplatform.api.access.admission import Admission
from jobplatform.api.access.principals import Principal
from jobplatform.api.access.refused_deliveries import RefusedDeliveries
from jobplatform.api.access.request_rates import RequestRates
from jobplatform.api.kept_levels import KeptLevels
from jobplatform.api.streams.hub import Hub, StreamLimits
from jobplatform.models import Role, confine, set_free
from jobplatform.queue import Tasks
from jobplatform.settings import Settings

#: A host's own way to say who is asking; None means nobody it knows. The workspace is None on routes without.
Authorize = Callable[[Request, UUID | None], Principal | None]


@dataclass(frozen=True, slots=True)
class Reach:
    """What a transaction may see, as the database enforces it: the rows of one workspace, unless the role sees all.

    ``token_id`` adds the token of this public id, for finding out whose it is.
    """

    role: Role = Role.API
    workspace_id: UUID | None = None
    token_id: str = ""


NOTHING = Reach()

#: A statement that only reads is given up then: the client has left by now, or is better off with an answer that says
#: so, and the database has others to serve.
LONGEST_LOOK = timedelta(seconds=10)


def reach_of_request() -> Reach:
    """What the guard allowed."""
    found: Reach = g.get("jobplatform_reach", NOTHING)
    return found


def let_request_reach(reach: Reach) -> None:
    """For the guard, once it knows who is asking."""
    g.jobplatform_reach = reach


@dataclass(frozen=True)
class Mounted:
    """The collaborators of a mounted API."""

    sessions: Callable[[], Session]
    tasks: Tasks
    authorize: Authorize | None = None
    admission: Admission = field(default_factory=Admission)
    hub: Hub = field(default_factory=Hub)
    levels: KeptLevels = field(default_factory=KeptLevels)
    rates: RequestRates = field(default_factory=RequestRates)
    docs: bool = False
    refused: RefusedDeliveries = field(default_factory=RefusedDeliveries)

    def __post_init__(self) -> None:
        if not isinstance(self.tasks, Tasks):
            raise TypeError(f"tasks must be a Tasks(), and is a {type(self.tasks).__name__}")
        if not callable(self.sessions):
            raise TypeError(f"sessions makes a Session for each transaction, and is a {type(self.sessions).__name__}")
        # A registry, such as `db.session` of Flask-SQLAlchemy, would hand us the very Session that the host has in use
        # in this request: in the middle of its transaction, and closed when we are done with it.
        if isinstance(self.sessions, scoped_session):
            object.__setattr__(self, "sessions", self.sessions.session_factory)

    @classmethod
    def by_settings(
        cls, settings: Settings, sessions: Callable[[], Session], tasks: Tasks, authorize: Authorize | None = None
    ) -> Mounted:
        """Those of an application's API, and of its pages: both have the same limits, and count together."""
        return cls(
            sessions,
            tasks,
            authorize,
            Admission(trust_login=settings.trust_login),
            Hub(StreamLimits.from_settings(settings)),
            rates=RequestRates(settings.requests_per_minute),
            refused=RefusedDeliveries(settings.refused_deliveries_per_minute),
            docs=settings.docs,
        )

    @contextmanager
    def transaction(self, reach: Reach | None = None, *, at_most: timedelta | None = None) -> Iterator[Session]:
        """A Session for one short transaction: committed at the end, rolled back on an exception.

        It reaches what the guard found the request may reach, unless told otherwise; before the guard, nothing. No
        statement takes longer than ``at_most``, unless it is a part of what another transaction does.
        """
        reach = reach or reach_of_request()
        if (shared := g.get("jobplatform_transaction")) and shared[0] == (id(self), reach):
            yield shared[1]
            # Whoever asks next may look with SQL of its own.
            shared[1].flush()
            return
        self.admission.require(self.sessions)
        with self.sessions() as session:
            confine(session, reach.role, reach.workspace_id, token_id=reach.token_id, at_most=at_most)
            try:
                with session.begin():
                    yield session
            finally:
                # The host may hand out the same Session again, and use it itself.
                set_free(session)

    @contextmanager
    def one_transaction(self) -> Iterator[Session]:
        """One transaction for all that the request does within the block: those it asks for there are parts of it.

        What one of them raises, and the block lets out, undoes all of them.
        """
        with self.transaction() as session:
            g.jobplatform_transaction = ((id(self), reach_of_request()), session)
            try:
                yield session
            finally:
                del g.jobplatform_transaction

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """The same for looking only, and not for longer than :data:`LONGEST_LOOK`; what was read stays readable."""
        with self.transaction(at_most=LONGEST_LOOK) as session:
            yield session
            # Let go before the commit, which would expire it. Not ended by a rollback instead: psycopg forgets
            # its prepared statements at one.
            session.expunge_all()


def mounted() -> Mounted:
    """Those of the API that serves the current request."""
    found: Mounted = current_app.blueprints[serving_blueprint_name()].mounted  # type: ignore[attr-defined]  # see below
    return found


def serving_url(view: str, **values: object) -> str:
    """Where a view of the API that serves the current request is."""
    return url_for(f"{serving_blueprint_name()}.{view}", **values)  # type: ignore[arg-type]  # whatever a path takes


def serving_blueprint_name() -> str:
    """The name under which our outermost blueprint is mounted; a host may have nested it in its own."""
    for name in request.blueprints:
        if isinstance(getattr(current_app.blueprints[name], "mounted", None), Mounted):
            return name
    raise RuntimeError(f"{request.endpoint} is not a view of a mounted jobplatform API")
