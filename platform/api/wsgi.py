"""For WSGI servers of an installed package: ``gunicorn jobplatform.api.wsgi:app``.

The application is made when ``app`` is first asked for: importing this module alone connects to nothing.
"""

from __future__ import annotations

import functools
import gc

from flask import Flask

from jobplatform.api.app import create_app


def __getattr__(name: str) -> Flask:
    if name == "app":
        return _application()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@functools.cache
def _application() -> Flask:
    app = create_app()
    # All that is there by now stays. Searched for garbage in every full collection it would hold up the requests of the
    # process for a quarter of a second each time.
    gc.freeze()
    return app
