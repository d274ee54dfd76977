"""The web process: ``flask --app wsgi run`` or ``gunicorn wsgi:app``."""

from jobplatform.api import create_app

app = create_app()
