"""Infrastructure: whether an attempt failed because something outside could not be reached, or did not work. Pure.

Libraries wrap what the system said: of ``httpx`` and ``requests`` alike a refused connection is an exception of their
own, with the refusal as its cause or its context. So the whole chain is looked at, and no library is imported.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

from jobplatform.queue.run.asking import answer_of, asked, unless_it_raises

#: What the system says of connections and of names that nobody answers for. A timeout of ours is no exception of these.
OUTSIDE = (ConnectionError, TimeoutError, socket.gaierror)
#: Answers of whoever stands before a service that cannot answer itself.
NOT_THERE = (502, 503, 504)
#: How far down the causes of an exception, and groups in groups, are looked at.
DEPTH = 8


def is_infrastructure(error: BaseException) -> bool:
    """An exception may say of itself (``infrastructure``), and the outermost one that does decides."""
    return _is_infrastructure(error, DEPTH)


def _is_infrastructure(error: BaseException, depth: int) -> bool:
    for cause in _chain(error):
        said = _said(cause)
        if said is not None:
            return said
        if isinstance(cause, OUTSIDE) or _status(cause) in NOT_THERE:
            return True
        if isinstance(cause, BaseExceptionGroup):
            # A name may have several addresses, of which each was tried.
            return depth > 1 and all(_is_infrastructure(one, depth - 1) for one in cause.exceptions)
    return False


def _said(error: BaseException) -> bool | None:
    said = asked(error, "infrastructure")
    return None if said is None else unless_it_raises(lambda: bool(said), None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception, what it was raised from, or what was being handled when it was raised, and so on.

    One that is raised ``from None`` has nothing to do with what came before, if a handler says so. Further down it is
    a library that keeps tracebacks short.
    """
    yield error
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    for _ in range(DEPTH - 1):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__


def _status(error: BaseException) -> int | None:
    """That of the HTTP answer that an exception carries, whichever library's it is."""
    answer = answer_of(error)
    return None if answer is None else answer.status
