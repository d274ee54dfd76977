"""``jobplatform worker`` and ``jobplatform api``: the processes that are deployed."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from pathlib import Path
from typing import Any, Final

import click

from jobplatform.cli.amounts import Duration
from jobplatform.cli.database import mention_migrations, open_database
from jobplatform.cli.serving.listening import address_options, free_address
from jobplatform.cli.serving.reloading import begin_again, folders_to_watch, reload_options, run_and_reload
from jobplatform.errors import SettingsError
from jobplatform.logs import configure_logging
from jobplatform.models import Role, make_engine, require_entry, require_roles
from jobplatform.settings import Settings, parse_queues

#: How a parent has `jobplatform worker` stop. Somebody may have sent SIGTERM to both of them at once, and the parent's
#: would be the worker's second one.
DRAIN: Final = signal.SIGUSR2


class Queues(click.ParamType[Any]):
    """``sync,default``."""

    name = "queues"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return parse_queues(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.option("-c", "--concurrency", type=click.IntRange(1, 512), help="Slots: handler processes.")
@click.option("-Q", "--queues", type=Queues(), help="Only these, as in sync,default. Default: all its tasks name.")
@click.option("--threads", type=click.IntRange(1, 256), help="Handler threads in each process (soft timeouts only).")
@click.option("--drain-timeout", type=Duration(0, 86_400), help="So long running jobs get at a stop, as in 30s.")
@click.option("--memory-mb", type=click.IntRange(0), help="Memory a handler process may use; 0 is no limit.")
@click.option("--max-jobs-per-child", type=click.IntRange(0), help="Jobs until a process is replaced; 0 is never.")
@click.option("--tasks", help="Where the tasks are, as module:attribute.")
@click.option("--health-port", type=click.IntRange(0, 65_535), help="Serve /livez, /readyz and /metrics here.")
@click.option("--health-host", help="Default: 127.0.0.1, which only this machine reaches.")
@click.option("--name", help="How this worker is called. Default: host and process id.")
@click.option("--until-empty", is_flag=True, help="Leave when nothing is left that it may run: for cron and CI.")
@click.option("--max-jobs", type=click.IntRange(1), help="Leave after having started so many jobs.")
@reload_options
def worker(
    name: str | None,
    until_empty: bool,
    max_jobs: int | None,
    reload: bool,
    reload_dirs: tuple[Path, ...],
    **options: Any,
) -> None:
    """Run jobs. What is not said here comes from JOBPLATFORM_... variables.

    SIGTERM, Ctrl-C or the end of the terminal: takes nothing new, lets running jobs finish until the drain timeout,
    hands back the rest without spending an attempt. A second SIGTERM or Ctrl-C, or SIGQUIT, hands back at once.
    SIGUSR2 says what a first one does, and is never a second one.
    """
    from jobplatform.worker import Worker, WorkerOptions

    watched = folders_to_watch(reload=reload, reload_dirs=reload_dirs)
    if watched and (until_empty or max_jobs):
        raise click.UsageError("--reload is for a worker that goes on; --until-empty and --max-jobs have it leave")
    settings = Settings.from_env()
    given = {option: value for option, value in options.items() if value is not None}
    if "drain_timeout" in given:
        given["drain_timeout"] = given["drain_timeout"].total_seconds()
    settings = dataclasses.replace(settings, **given)
    if settings.mode == "sync":
        raise SettingsError(
            [
                "JOBPLATFORM_MODE=sync and DISABLE_QUEUE=true run jobs where they are enqueued: a worker would find "
                "none; start it without them"
            ]
        )
    _require_store(settings, writes=True)
    configure_logging(settings.log_level, settings.log_format)
    with open_database(settings, Role.WORKER) as url:
        mention_migrations(url)
        ends = {"until_empty": until_empty, "max_jobs": max_jobs or 0}
        process = Worker(WorkerOptions.from_settings(settings, database_url=url, name=name, **ends))
        code = run_and_reload(process, watched, drain_on=DRAIN) if watched else process.run(drain_on=DRAIN)
    if code is None:
        begin_again()
    raise SystemExit(code)


@click.command()
@address_options
@click.option("--fd", type=click.IntRange(3), help="An inherited listening socket, instead of host and port.")
@click.option("--workers", type=click.IntRange(1, 256), default=2, show_default=True, help="Processes.")
@click.option("--threads", type=click.IntRange(1, 1024), default=16, show_default=True, help="Threads in each.")
@click.option(
    "--server",
    type=click.Choice(["threads", "gevent"]),
    default="threads",
    show_default=True,
    help="What serves requests in each process; gevent (an extra) holds thousands of streams.",
)
@reload_options
def api(
    host: str | None,
    port: int | None,
    fd: int | None,
    workers: int,
    threads: int,
    server: str,
    reload: bool,
    reload_dirs: tuple[Path, ...],
) -> None:
    """Serve the HTTP API with gunicorn, until SIGTERM or Ctrl-C.

    A stream of events takes a thread for as long as it lasts. With threads, half of them may be taken.
    """
    watched = folders_to_watch(reload=reload, reload_dirs=reload_dirs)
    if server == "gevent":
        if watched:
            # Under gevent a thread is a greenlet, and to wait for files in it would stop the whole server.
            raise click.UsageError("--reload goes with --server threads")
        start_again_with_greenlets()
    from jobplatform.api.app import roles_of_api
    from jobplatform.cli.serving.server import serve

    settings = Settings.from_env()
    _require_store(settings, writes=False)
    address = f"fd://{fd}" if fd is not None else free_address(settings, host, port)
    configure_logging(settings.log_level, settings.log_format)
    roles = roles_of_api(settings)
    with open_database(settings, *roles) as url:
        # Each process of the server looks too; here it is said once, and nothing has been started.
        if not require_roles(make_engine(url), *roles, trust_login=settings.trust_login):
            require_entry(url)
        mention_migrations(url)
        # Its processes read the settings again, and share the database that was opened here.
        os.environ["DATABASE_URL"] = url
        if server == "threads" and not settings.max_streams:
            os.environ["JOBPLATFORM_MAX_STREAMS"] = str(max(1, threads // 2))
        proxies = settings.trusted_proxies
        serve(address, workers=workers, threads=threads, server=server, proxies=proxies, watched=watched)


def _require_store(settings: Settings, *, writes: bool) -> None:
    """Where nothing is said there is nothing to look at, and connectors need not be loaded for it."""
    if settings.exports is not None:
        from jobplatform.connectors import require_store

        require_store(settings, writes=writes)


def start_again_with_greenlets() -> None:
    """Begin anew as a process in which gevent came first: what has been imported by now waits by stopping everything.

    Returns in that process, and nowhere else.
    """
    try:
        from gevent import monkey
    except ImportError:
        raise click.UsageError("--server gevent needs gevent: pip install 'jobplatform[gevent]'") from None
    if not monkey.is_module_patched("socket"):
        os.execv(sys.executable, [sys.executable, "-m", "gevent.monkey", "--module", "jobplatform.cli", *sys.argv[1:]])
