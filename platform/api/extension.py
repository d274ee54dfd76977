"""The Flask extension: the API inside an application that has a life of its own."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

import click
from flask import Flask
from sqlalchemy.orm import Session, sessionmaker

from jobplatform.api.blueprint import blueprint_for
from jobplatform.api.mounted import Authorize, Mounted
from jobplatform.api.pages import mount_pages
from jobplatform.api.streams.stopping import end_streams_when_told_to_stop
from jobplatform.errors import SettingsError
from jobplatform.models import make_engine
from jobplatform.queue import Tasks
from jobplatform.settings import Settings

EXTENSION = "jobplatform"
COMMANDS = "jobplatform.cli.flask_jobs"


class JobPlatform:
    """Tasks and their API for a Flask application::

        jobs = JobPlatform(tasks=tasks)

        def create_app():
            app = Flask(__name__)
            jobs.init_app(app)
            return app

    ``sessions`` makes our Sessions: your ``sessionmaker``, or ``db.session`` of Flask-SQLAlchemy. Configuration, from
    ``app.config``, with its default:

    - ``JOBPLATFORM_DATABASE_URL``: the environment's ``JOBS_DATABASE_URL`` or ``DATABASE_URL``. Not used when
      ``sessions`` is given.
    - ``JOBPLATFORM_MODE``: the environment's, else ``queue``. ``sync`` runs jobs inside the request.
    - ``JOBPLATFORM_URL_PREFIX``: ``/api``.
    - ``JOBPLATFORM_REGISTER_BLUEPRINT``: true. When false, mount :func:`create_blueprint` yourself.
    - ``JOBPLATFORM_TRUST_LOGIN``: the environment's, else false. Whether the API works with a database login that
      could bypass row security, as a developer's superuser; otherwise it answers 503 and logs what to correct.

    - ``JOBPLATFORM_PAGES_PREFIX`` and ``JOBPLATFORM_PORTAL_PREFIX``: the environment's, else ``/console`` and ``/w``.
      Where the pages for operators and for a workspace's own people are; empty for nowhere.
    - ``JOBPLATFORM_PAGES_READ_ONLY``, ``JOBPLATFORM_PAGES_SESSION_HOURS``, ``JOBPLATFORM_PORTAL_FRAME_ANCESTORS``: see
      docs/howto/console.md.

    ``pages_access(request, workspace_id)`` is the application's own way to say who looks at the pages: it answers with
    a :class:`jobplatform.pages.Visitor`, or None for nobody. Without it one of our tokens opens them.

    ``flask jobs`` has the commands of ``jobplatform`` for this application's database and tasks.
    """

    def __init__(
        self,
        app: Flask | None = None,
        tasks: Tasks | None = None,
        *,
        sessions: Callable[[], Session] | None = None,
        authorize: Authorize | None = None,
        pages_access: Callable[..., Any] | None = None,
    ) -> None:
        _require_collaborators(app, tasks, sessions=sessions, authorize=authorize, pages_access=pages_access)
        self.tasks = Tasks() if tasks is None else tasks
        #: Registers a handler; see :meth:`jobplatform.queue.Tasks.task`.
        self.task = self.tasks.task
        self._sessions = sessions
        self._authorize = authorize
        self._pages_access = pages_access
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Serve the API in ``app``. State is in ``app.extensions["jobplatform"]``: one object serves many."""
        app.config.setdefault("JOBPLATFORM_URL_PREFIX", "/api")
        app.config.setdefault("JOBPLATFORM_REGISTER_BLUEPRINT", True)
        _require_collaborators(app, self.tasks)
        settings = _settings(app)
        sessions = self._sessions or sessionmaker(make_engine(_database_url(app, settings)))
        if settings.mode == "sync":
            self.tasks.mode = "sync"
        mounted = Mounted.by_settings(settings, sessions, self.tasks, self._authorize)
        app.extensions[EXTENSION] = mounted
        app.cli.add_command(_Commands())
        if app.config["JOBPLATFORM_REGISTER_BLUEPRINT"]:
            blueprint = blueprint_for(mounted)
            app.register_blueprint(blueprint, url_prefix=app.config["JOBPLATFORM_URL_PREFIX"])
            end_streams_when_told_to_stop(blueprint)
            mount_pages(app, mounted, settings, self._pages_access)


class _Commands(click.Group):
    """``flask jobs …``. What it does stands above this module, which must not know it: it is loaded by name, and when
    somebody types it."""

    def __init__(self) -> None:
        about = "Background jobs: list, enqueue, watch, retry and cancel them."
        super().__init__("jobs", help=about, context_settings={"help_option_names": ["-h", "--help"]})

    def list_commands(self, ctx: click.Context) -> list[str]:
        return self._behind().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return self._behind().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self._behind().format_commands(ctx, formatter)

    def invoke(self, ctx: click.Context) -> Any:
        return self._behind().invoke(ctx)

    @staticmethod
    def _behind() -> click.Group:
        found: click.Group = importlib.import_module(COMMANDS).jobs
        return found


def _settings(app: Flask) -> Settings:
    """The environment's, with what the application's configuration says instead."""
    settings = Settings.from_env()
    mode = app.config.get("JOBPLATFORM_MODE") or settings.mode
    trust = app.config.get("JOBPLATFORM_TRUST_LOGIN", settings.trust_login)
    problems = []
    if mode not in ("queue", "sync"):
        problems.append(f"app.config['JOBPLATFORM_MODE'] = {mode!r}: must be 'queue' or 'sync'")
    if trust not in (True, False):
        # A text would be taken for a yes, whatever it says.
        problems.append(f"app.config['JOBPLATFORM_TRUST_LOGIN'] = {trust!r}: must be True or False")
    if problems:
        raise SettingsError(problems)
    return dataclasses.replace(settings, mode=mode, trust_login=trust)


def _require_collaborators(app: object, tasks: object, **callables: object) -> None:
    """Raises TypeError for what is none, where it is handed over: the first request would fail with it."""
    if app is not None and not isinstance(app, Flask):
        hint = ": write JobPlatform(tasks=…)" if isinstance(app, Tasks) else ""
        raise TypeError(f"app must be a Flask application, and is a {type(app).__name__}{hint}")
    if tasks is not None and not isinstance(tasks, Tasks):
        raise TypeError(f"tasks must be a Tasks(), and is a {type(tasks).__name__}")
    for name, given in callables.items():
        if given is not None and not callable(given):
            raise TypeError(f"{name} is called for each request, and is a {type(given).__name__}")


def _database_url(app: Flask, settings: Settings) -> str:
    url = app.config.get("JOBPLATFORM_DATABASE_URL") or settings.database_url
    if not url:
        raise SettingsError(["set JOBPLATFORM_DATABASE_URL in app.config, or DATABASE_URL in the environment"])
    return str(url)
