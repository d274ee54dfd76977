"""For WSGI servers of an installed package: ``gunicorn jobplatform.api.wsgi:app``.

The application is made when ``app`` is first asked for: importing this module alone connects to nothing.
"""

from __future__ import annotations

import functools
import gc
from typing import Final

from flask import Flask

from jobplatform.api.app import create_app

#: New objects until the next look for garbage. A page of the console makes some 10,000.
COLLECT_AFTER: Final = 10_000


def __getattr__(name: str) -> Flask:
    if name == "app":
        return _application()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@functools.cache
def _application() -> Flask:
    app = create_app()
    collect_little()
    return app


def collect_little() -> None:
    """Have Python look for cyclic garbage rarely, and never among what there is by now.

    For a process that is the application's alone: nothing of it becomes garbage. A full collection would look at its
    200,000 objects, for a quarter of a second in the midst of some request; of the larger pages every tenth met one.
    """
    gc.collect()
    gc.freeze()
    _, *older = gc.get_threshold()
    gc.set_threshold(COLLECT_AFTER, *older)
