"""The web process: ``flask --app wsgi run`` or ``gunicorn wsgi:app``."""

from jobplatform.api.wsgi import app

__all__ = ["app"]
