"""Snapshot: what a transaction that began earlier cannot see of a job, and PostgreSQL does not let it overwrite.

Under READ COMMITTED each statement sees what was committed before it. Under REPEATABLE READ and SERIALIZABLE a change
of what somebody else has changed meanwhile is refused: whoever asks is told so in our words, and with which job.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from sqlalchemy.exc import OperationalError

from jobplatform.errors import UnseenChangeError

P = ParamSpec("P")
T = TypeVar("T")

CANNOT_SERIALIZE: Final = "40001"


def says_what_it_cannot_see(verb: Callable[P, T]) -> Callable[P, T]:
    """The verb, which takes a Session, a workspace and the id of something of it: it raises :class:`UnseenChangeError`
    for what was changed behind the Session's snapshot."""

    @functools.wraps(verb)
    def saying(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return verb(*args, **kwargs)
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != CANNOT_SERIALIZE:
                raise
            _session, workspace_id, id, *_ = inspect.signature(verb).bind(*args, **kwargs).arguments.values()
            raise UnseenChangeError(workspace_id, id) from error

    return saying
