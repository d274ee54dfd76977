"""Whether this process may serve with the database login it has: asked once, as soon as the database can be asked."""

from __future__ import annotations

import logging
from collections.abc import Callable

from sqlalchemy.orm import Session

from jobplatform.api.problems import unavailable
from jobplatform.errors import SettingsError
from jobplatform.models import Role, may_serve

logger = logging.getLogger("jobplatform.api")


class Admission:
    """The answer, kept. A refusal is not: whoever corrects the login's rights need not restart anything."""

    def __init__(self, *, trust_login: bool = False) -> None:
        self._trust_login = trust_login
        self._granted = False
        self._told: tuple[str, ...] = ()

    def require(self, sessions: Callable[[], Session]) -> None:
        """Answer 503 in place of whatever was asked while the login could see more than one workspace at a time.

        A schema that is not there yet has nothing to protect; the question comes up again. Raises OperationalError
        while the database cannot be reached.
        """
        if self._granted:
            return
        with sessions() as session:
            engine = session.get_bind().engine
        try:
            self._granted = may_serve(engine, Role.API, trust_login=self._trust_login)
        except SettingsError as error:
            self._tell(error.problems)
            raise unavailable(
                "The API may not use its database login; its log says what to correct.", reason="login-refused"
            ) from None

    def _tell(self, problems: tuple[str, ...]) -> None:
        """Once, not at every request."""
        if problems != self._told:
            self._told = problems
            # In the message itself: an application whose logging leaves out everything else has to be told too.
            logger.error("the database login is refused: %s", "; ".join(problems), extra={"problems": list(problems)})
