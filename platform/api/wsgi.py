"""For WSGI servers of an installed package: ``gunicorn jobplatform.api.wsgi:app``.

The application is made when ``app`` is first asked for: importing this module alone connects to nothing.
"""

from __future__ import annotations

import functools

from flask import Flask

from jobplatform.api.app import create_app


def __getattr__(name: str) -> Flask:
    if name == "app":
        return _application()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@functools.cache
def _application() -> Flask:
    return create_app()
