"""The composition root of the web process: settings in, a WSGI application out."""

from __future__ import annotations

import atexit
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flask import Flask
from sqlalchemy.orm import sessionmaker

from jobplatform.api.blueprint import blueprint_for, register_error_handlers
from jobplatform.api.mounted import Mounted
from jobplatform.api.pages import mount_pages
from jobplatform.api.requests import accompany_requests, hide_secrets
from jobplatform.api.streams.stopping import end_streams_when_told_to_stop
from jobplatform.connectors import require_store
from jobplatform.embedded import EmbeddedServer
from jobplatform.key_ring import adopt_ring_beside
from jobplatform.models import Role, embedded_login, make_engine, require_roles
from jobplatform.queue import load_tasks
from jobplatform.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: Every path is served at the root and below this.
PREFIX = "/api"


def create_app(settings: Settings | None = None) -> Flask:
    """The API as an application of its own. Settings come from the environment unless given.

    Without a database URL the embedded PostgreSQL is started, or joined when another process runs it already. Raises
    :class:`SettingsError` for a database login that could see more than one workspace at a time, and for a folder of
    exports that is not there.
    """
    settings = settings or Settings.from_env()
    require_store(settings, writes=False)
    engine = make_engine(_database_url(settings), application_name="jobplatform-api")
    require_roles(engine, *roles_of_api(settings), trust_login=settings.trust_login)
    tasks = load_tasks(settings.tasks)
    if settings.mode == "sync":
        tasks.mode = "sync"

    app = Flask("jobplatform.api", static_folder=None)
    # A path with two slashes is none of ours, and werkzeug would send its client to where the Host header says.
    app.url_map.merge_slashes = False
    app.extensions["jobplatform.engine"] = engine
    # It looks at the login too: the database may not have been there just now.
    mounted = Mounted.by_settings(settings, sessionmaker(engine), tasks)
    blueprint = blueprint_for(mounted)
    app.register_blueprint(blueprint)
    end_streams_when_told_to_stop(blueprint)
    mount_pages(app, mounted, settings)
    # Flask's development server writes down what was asked for, with the query.
    logging.getLogger("werkzeug").addFilter(hide_secrets)
    # For what happens outside every route: unknown paths, unknown methods.
    register_error_handlers(app)
    accompany_requests(app)
    app.wsgi_app = PrefixMiddleware(app.wsgi_app, PREFIX)  # type: ignore[method-assign]  # Flask's documented way
    return app


def roles_of_api(settings: Settings) -> tuple[Role, ...]:
    """In synchronous mode a request is a worker too."""
    return (Role.API, Role.WORKER) if settings.mode == "sync" else (Role.API,)


class PrefixMiddleware:
    """Serves an application below ``prefix`` too, and lets it know, so that its links keep the prefix."""

    def __init__(self, app: WSGIApplication, prefix: str) -> None:
        self.app = app
        self.prefix = prefix

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == self.prefix or path.startswith(self.prefix + "/"):
            environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "") + self.prefix
            environ["PATH_INFO"] = path[len(self.prefix) :]
        return self.app(environ, start_response)


def _database_url(settings: Settings) -> str:
    if settings.database_url:
        return settings.database_url
    adopt_ring_beside(settings.data_dir)
    server = EmbeddedServer(settings.data_dir, programs=settings.postgres_programs)
    server.start()
    # The last process to stop using the server stops it.
    atexit.register(server.stop)
    return embedded_login(server, *roles_of_api(settings))
