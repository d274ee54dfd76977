"""A process that is told to stop does not wait for its streams: they end at once, and their clients come back later.

gunicorn lets running requests finish before it stops, and a stream never does. Its worker processes answer to SIGTERM
with a handler of its own; ours goes before it. Where they are forked after the application was made (``--preload``)
they set theirs after ours, and only a hook of theirs can have it the right way round.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable
from types import FrameType

from flask import Blueprint, Flask

from jobplatform.api.mounted import Mounted


def end_streams(where: Blueprint | Flask) -> None:
    """End every stream of a blueprint of ours, or of all in an application, and every one that is begun later.

    For a server that has a hook of its own for stopping. Returns at once.
    """
    for blueprint in where.blueprints.values() if isinstance(where, Flask) else (where,):
        mounted = getattr(blueprint, "mounted", None)
        if isinstance(mounted, Mounted):
            mounted.hub.end_all()


def end_streams_when_told_to_stop(where: Blueprint | Flask) -> None:
    """Go before the handler of SIGTERM, where there is one; without one the process ends by itself.

    Our applications and blueprints do this when they are made. It is to be done again where a server has put a handler
    of its own in place since then: with ``gunicorn --preload``, from the hook ``post_worker_init``.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    before = signal.getsignal(signal.SIGTERM)
    if not callable(before):
        return
    with contextlib.suppress(ValueError):  # an interpreter within another has no signals
        signal.signal(signal.SIGTERM, _going_before(before, where))


def _going_before(
    before: Callable[[int, FrameType | None], object], where: Blueprint | Flask
) -> Callable[[int, FrameType | None], None]:
    def handle(number: int, frame: FrameType | None) -> None:
        end_streams(where)
        before(number, frame)

    return handle
