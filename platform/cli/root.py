"""The command itself: its sub-commands, and how their failures are told.

A sub-command is imported when it is called. A worker therefore never loads Flask, although the command that starts
it knows the API's commands too.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import gc
import importlib
import json
import os
import sys
from collections.abc import Collection
from typing import IO, Any

import click
import sqlalchemy.exc

from jobplatform.cli.refusals import IN_THE_WAY, MISSING, NOT_ALLOWED, first_line, sqlstate_of
from jobplatform.errors import (
    InvalidHookError,
    InvalidLimitError,
    InvalidScheduleError,
    JobPlatformError,
    SearchError,
    SettingsError,
    UnknownTaskError,
)

#: A full disk, a quota, a limit of a file's size, a device that is broken.
NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

#: Objects that are made before Python looks for garbage among them.
COLLECT_AFTER = 20_000

COMMANDS = {
    "demo": ("jobplatform.cli.demo:demo", "Watch a sync run end to end, on a database of its own."),
    "up": ("jobplatform.cli.up:up", "Run database, API and worker until Ctrl-C."),
    "worker": ("jobplatform.cli.serve:worker", "Run jobs."),
    "api": ("jobplatform.cli.serve:api", "Serve the HTTP API with gunicorn."),
    "migrate": ("jobplatform.cli.schema:migrate", "Bring the database's schema up to date."),
    "workspaces": ("jobplatform.cli.workspaces:workspaces", "Create, list, limit and pause workspaces."),
    "plans": ("jobplatform.cli.plans:plans", "Presets of limits: make, list and delete them."),
    "tokens": ("jobplatform.cli.tokens:tokens", "Create, list, rotate and revoke tokens of the API."),
    "queues": ("jobplatform.cli.queues:queues", "List queues, and limit them."),
    "tasks": ("jobplatform.cli.queues:tasks", "List the limits of tasks, and set them."),
    "workers": ("jobplatform.cli.workers:workers", "List workers, and have one finish and stop."),
    "retention": ("jobplatform.cli.retention:retention", "How long jobs are kept, by task and workspace."),
    "prune": ("jobplatform.cli.prune:prune", "Delete what is older than it is kept, now."),
    "rates": ("jobplatform.cli.rates:rates", "How often jobs may use what is outside."),
    "resources": ("jobplatform.cli.resources:resources", "How many jobs use a resource at a time."),
    "pause": ("jobplatform.cli.pauses:pause", "Start nothing more of a queue, task, workspace or resource."),
    "resume": ("jobplatform.cli.pauses:resume", "End a pause."),
    "pauses": ("jobplatform.cli.pauses:pauses", "List what is paused."),
    "audit": ("jobplatform.cli.audit_log:audit", "List who did what to whom."),
    "keys": ("jobplatform.cli.keys:keys", "Make, list and rotate the master keys of encryption."),
    "enqueue": ("jobplatform.cli.enqueue:enqueue", "Enqueue a job."),
    "jobs": (
        "jobplatform.cli.jobs:jobs",
        "List, show, watch, change, retry, fork, replay and cancel jobs; say why one waits.",
    ),
    "bulk": ("jobplatform.cli.bulk:bulk", "Have workers retry, cancel, delete or change all jobs of a search."),
    "stats": ("jobplatform.cli.stats:stats", "How much there is to do, how quickly it is done, how it ends."),
    "schedules": ("jobplatform.cli.schedules:schedules", "Make, list, pause, run and preview schedules."),
    "connections": ("jobplatform.cli.connections:connections", "Connect sources, try them, and give them credentials."),
    "hooks": ("jobplatform.cli.hooks:hooks", "Where providers deliver to: make, list, rotate, disable."),
    "webhooks": ("jobplatform.cli.webhooks:webhooks", "Where endings of jobs are told: make, list, test, disable."),
    "batches": ("jobplatform.cli.batches:batches", "List, show, watch and cancel batches of jobs."),
    "syncs": ("jobplatform.cli.syncs:syncs", "List and show what came of syncs."),
    "records": ("jobplatform.cli.records:records", "List and show what syncs have copied."),
    "exports": ("jobplatform.cli.exports:exports", "List the files that records were exported to."),
    "health": ("jobplatform.cli.health:health", "Is work being done? What is stuck, what fails, and what to do."),
    "alerts": ("jobplatform.cli.alerts:alerts", "List what is wrong now, and change when that is said."),
    "doctor": ("jobplatform.cli.doctor:doctor", "Find what is wrong with the installation, and say what to do."),
    "adopt": ("jobplatform.cli.adopt:adopt", "Take over the jobs that wait in pg-boss, Procrastinate or PGQueuer."),
    "prove": ("jobplatform.cli.prove:prove", "Kill and stop all there is while jobs run, on your server; then count."),
    "healthcheck": ("jobplatform.cli.health:healthcheck", "A probe for containers: exit code 0 or 1."),
    "openapi": ("jobplatform.cli.openapi:openapi", "Print the API's OpenAPI document."),
}


class UnusableSettings(click.ClickException):
    """Like wrong options: nothing was done, and doing it again will not help."""

    exit_code = 2


class JsonProblem(click.ClickException):
    """A failure as it is told to whoever asked for ``--json``: on stderr too, with the same exit code."""

    def __init__(self, error: click.ClickException) -> None:
        super().__init__(error.format_message())
        # click has it as a fact of the class, and reads it from the exception.
        vars(self)["exit_code"] = error.exit_code

    def show(self, file: IO[Any] | None = None) -> None:
        """One document, as on stdout."""
        document = {"error": self.message, "exitCode": self.exit_code}
        click.echo(json.dumps(document, indent=2), file=file, err=file is None)


def imported(name: str) -> click.Command:
    """The command that the table above has under this name."""
    module, _, attribute = COMMANDS[name][0].partition(":")
    command: click.Command = getattr(importlib.import_module(module), attribute)
    return command


class Commands(click.Group):
    """The sub-commands, imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return imported(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        name, *rest = _as_ls(args, known)
        if name in known or name.startswith("-") or ctx.resilient_parsing:
            found, command, rest = super().resolve_command(ctx, [name, *rest])
            return found, command, _as_ls(rest, command.commands) if isinstance(command, click.Group) else rest
        near = difflib.get_close_matches(name, known)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise click.UsageError(f"there is no command {name!r}{hint}", ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the table above, so that help does not import the whole house."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        _collect_rarely()
        # Looked for here, since a mistake may be found before the command has read its options.
        wants_json = "--json" in ctx.args
        try:
            _require_text(ctx.args)
            return self._invoke(ctx)
        except click.ClickException as error:
            if wants_json:
                raise JsonProblem(error) from error
            raise

    def _invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            raise _settings_problem(error) from error
        except (InvalidHookError, InvalidLimitError, InvalidScheduleError) as error:
            raise click.UsageError(_limit_problem(error)) from error
        except SearchError as error:
            raise click.UsageError("; ".join(_search_problem(*problem) for problem in error.problems)) from error
        except UnknownTaskError as error:
            raise click.ClickException(_unknown_task(error)) from error
        except JobPlatformError as error:
            raise click.ClickException(str(error)) from error
        except sqlalchemy.exc.DBAPIError as error:
            raise click.ClickException(_database_problem(error)) from error
        except OSError as error:
            # Of a file it would name that.
            if error.errno not in NOT_WRITTEN or error.filename is not None:
                raise
            raise _unheard(error) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="jobplatform")
def main() -> None:
    """Background jobs for multi-tenant software, on PostgreSQL.

    Settings come from the environment (JOBPLATFORM_..., DATABASE_URL); options win over them. Without DATABASE_URL
    an embedded PostgreSQL is started, and stopped when nobody uses it any more.
    """
    _make_tasks_importable()


def _unheard(error: OSError) -> click.ClickException:
    """Commands speak when their transaction is over."""
    with contextlib.suppress(OSError, ValueError):
        # What is left in the buffer would be written once more at the end, with another failure.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return click.ClickException(
        f"the answer could not be written: {error.strerror}; what was asked for may be done all the same, so look first"
    )


def _require_text(words: list[str]) -> None:
    """A terminal with another encoding sends bytes that no name here can have, and no database takes."""
    for word in words:
        if any("\ud800" <= letter <= "\udfff" for letter in word):
            raise click.UsageError(f"{word!a} is not text in UTF-8; is the terminal set to another encoding?")


def _as_ls(words: list[str], known: Collection[str]) -> list[str]:
    """The words with ``ls`` for ``list``: people type either, and help shows one."""
    return ["ls", *words[1:]] if words[:1] == ["list"] and "ls" in known else words


def _collect_rarely() -> None:
    """Have Python look for cyclic garbage rarely in this process. What is imported looks to the collector like a leak:
    of the CPU that it takes to import the API, looking through that over and over was a fifth, and nothing was found.
    """
    _, *older = gc.get_threshold()
    gc.set_threshold(COLLECT_AFTER, *older)


def _make_tasks_importable() -> None:
    """``JOBPLATFORM_TASKS=app.tasks:tasks`` means the application in the current folder, as with flask and gunicorn;
    the processes that are started from here look there too."""
    # A folder that was deleted has no tasks.
    with contextlib.suppress(FileNotFoundError):
        here = os.getcwd()
        if here not in sys.path:
            sys.path.append(here)


def _settings_problem(error: SettingsError) -> click.ClickException:
    return UnusableSettings(str(error))


def _limit_problem(error: InvalidHookError | InvalidLimitError | InvalidScheduleError) -> str:
    """Without the slashes that lead to a place in a document."""
    return "; ".join(f"{path.strip('/')} {message}" for path, message in error.problems)


def _search_problem(path: str, message: str) -> str:
    """By the words of the command line: what the API has in its query is an argument or an option here."""
    if path == "/q":
        return f"SEARCH: {message}"
    if path.startswith("/q/"):
        return f"SEARCH: {path.removeprefix('/q/')}: {message}"
    return f"--{path.strip('/')} {message}"


def _unknown_task(error: UnknownTaskError) -> str:
    """With what only whoever runs the platform is told. A host application's tasks are named by no setting."""
    setting = "; JOBPLATFORM_TASKS says where to look" if error.looked_in else ""
    return f"{error}{'' if error.suggestion else '.'} {error.where}{setting}"


def _is_away(sqlstate: str | None) -> bool:
    """Whether a connection was not made, or broke off. Of a lock or a full disk one that is well tells."""
    return sqlstate is None or sqlstate.startswith(("08", "57P", "53300"))


def _whence() -> str:
    named = next(filter(os.environ.get, ("JOBS_DATABASE_URL", "DATABASE_URL")), None)
    return f"\n{named} says where it is, and with which login and password" if named else ""


def _database_problem(error: sqlalchemy.exc.DBAPIError) -> str:
    if sqlstate_of(error) in MISSING:
        return f"the database has no schema of ours, or an older one: run `jobplatform migrate` ({first_line(error)})"
    if sqlstate_of(error) in IN_THE_WAY:
        return f"somebody else is changing the same at this moment: say it again ({first_line(error)})"
    if isinstance(error, sqlalchemy.exc.OperationalError) and _is_away(sqlstate_of(error)):
        return f"the database cannot be reached: {str(error.orig).strip()}{_whence()}"
    if sqlstate_of(error) == NOT_ALLOWED:
        # It has asked the database already, and other commands are not to pay for the import.
        from jobplatform.models import Role

        return (
            f"the database refused: {first_line(error)}; connect with the login of the API, with which most commands "
            f"do, or grant {Role.API} to this one"
        )
    return f"the database refused: {first_line(error)}"
