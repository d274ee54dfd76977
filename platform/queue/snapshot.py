"""Snapshot: what a transaction that began earlier cannot see, and PostgreSQL does not let it overwrite.

Under READ COMMITTED each statement sees what was committed before it. Under REPEATABLE READ and SERIALIZABLE a change
of what somebody else has changed meanwhile is refused: whoever asks is told so in our words, and of what.
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
            if not _is_unseen(error):
                raise
            _session, workspace_id, id, *_ = inspect.signature(verb).bind(*args, **kwargs).arguments.values()
            raise UnseenChangeError(workspace_id, id) from error

    return saying


def says_it_cannot_see(setting: str, name: str | None = None) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """The same of a verb that changes a setting: what it is called, and which parameter has its name, where there are
    several. It is a workspace's if there is a parameter ``workspace_id``."""

    def decorate(verb: Callable[P, T]) -> Callable[P, T]:
        signature = inspect.signature(verb)

        @functools.wraps(verb)
        def saying(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return verb(*args, **kwargs)
            except OperationalError as error:
                if not _is_unseen(error):
                    raise
                given = signature.bind(*args, **kwargs).arguments
                id = None if name is None else given.get(name)
                raise UnseenChangeError(given.get("workspace_id"), id, setting) from error

        return saying

    return decorate


def _is_unseen(error: OperationalError) -> bool:
    return getattr(error.orig, "sqlstate", None) == CANNOT_SERIALIZE
