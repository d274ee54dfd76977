"""``--reload``, for development: what runs somebody's code takes it anew whenever that changes.

A worker begins again as the same process, so whoever started it need not know. The API's server has processes that
serve, and replaces those.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from jobplatform.errors import JobPlatformError

if TYPE_CHECKING:
    from jobplatform.worker import Worker

Command = TypeVar("Command", bound=Callable[..., Any])

#: Seconds between two requests to make way: a worker that is only being started does not hear the first one.
INSISTENCE = 0.05
#: Files that a log line names.
MOST_NAMED = 5

logger = logging.getLogger(__name__)


def reload_options(command: Command) -> Command:
    """``--reload`` and ``--reload-dir``; :func:`folders_to_watch` says what they mean."""
    on = click.option("--reload", is_flag=True, help="Begin anew when Python files change. For development.")
    where = click.option(
        "--reload-dir",
        "reload_dirs",
        multiple=True,
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Look for changes below this folder (repeatable). Default: the current one.",
    )
    return on(where(command))


def folders_to_watch(*, reload: bool, reload_dirs: Sequence[Path]) -> tuple[Path, ...]:
    """Nothing means not to reload. Raises UsageError where the package for it, or the current folder, is missing."""
    if not reload and not reload_dirs:
        return ()
    try:
        import watchfiles  # noqa: F401
    except ImportError:
        raise click.UsageError("--reload needs watchfiles: pip install 'jobplatform[reload]'") from None
    try:
        return tuple(reload_dirs) or (Path.cwd(),)
    except FileNotFoundError:
        raise click.UsageError("the current folder is not there any more; say which one with --reload-dir") from None


def as_arguments(folders: Sequence[Path]) -> list[str]:
    """The options by which another command of ours watches the same."""
    return [argument for folder in folders for argument in ("--reload-dir", str(folder))]


@contextmanager
def watching(folders: Sequence[Path], act: Callable[[], None]) -> Iterator[None]:
    """Within the block ``act`` is called, in another thread, after each change of Python files below ``folders``.

    What comes in quick succession, as an editor or a checkout writes it, is one change. Environments, caches and
    repositories are not looked into.
    """
    if not folders:
        yield
        return
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(folders, act, over), name="jobplatform-code", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _watch(folders: Sequence[Path], act: Callable[[], None], over: threading.Event) -> None:
    from watchfiles import PythonFilter, watch

    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # What it says of each change is said here.
    try:
        for changes in watch(*folders, watch_filter=PythonFilter(), stop_event=over, raise_interrupt=False):
            files = sorted({os.path.relpath(path) for _, path in changes})
            logger.info("code has changed", extra={"files": files[:MOST_NAMED], "more_files": len(files[MOST_NAMED:])})
            act()
    except Exception:
        # As many watches as the system allows, or a folder that nobody may read.
        logger.exception("cannot look for changes of the code; start again after a change yourself")


def run_and_reload(worker: Worker, folders: Sequence[Path], *, drain_on: signal.Signals) -> int | None:
    """Run the worker until it is told to stop, and return its exit code; or until the code has changed: None.

    What runs then is handed back at once, without spending an attempt. A worker whose tasks cannot be loaded says why
    and waits for the next change; one that stops anyway is let be.
    """
    changed, ended = threading.Event(), threading.Event()

    def begin_anew() -> None:
        changed.set()
        while not (worker.told_to_stop or ended.wait(INSISTENCE)):
            worker.make_way()

    with watching(folders, begin_anew):
        try:
            code = worker.run(drain_on=drain_on)
        except JobPlatformError as error:
            click.echo(f"Error: {error}\nWaiting for a change of the code.", err=True)
            code = _wait_for(changed, drain_on)
        finally:
            ended.set()
    return None if changed.is_set() and not worker.told_to_stop else code


def _wait_for(changed: threading.Event, drain_on: signal.Signals) -> int:
    """Wait for a change, or for whatever would have stopped the worker; then this process ends, since nothing runs."""

    def leave(_number: int, _frame: object) -> None:
        raise SystemExit(0)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, drain_on):
        signal.signal(number, leave)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, leave)
    changed.wait()
    return 0


def begin_again() -> NoReturn:
    """Become what was started here, anew: with the same process id, arguments and environment."""
    logger.info("beginning again")
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, sys.orig_argv)
