"""``flask jobs``: our commands within a host application's own, on its database and with its tasks."""

from __future__ import annotations

from typing import Any

import click
from flask import current_app
from flask.cli import with_appcontext

from jobplatform.cli.database import Host, hosted
from jobplatform.cli.jobs import jobs as jobs_of_ours
from jobplatform.cli.root import COMMANDS, Commands, imported

#: What starts processes of its own, or looks after them. They read the environment alone, and know no host.
APART = ("demo", "up", "worker", "api", "prove", "healthcheck")


class HostedCommands(Commands):
    """Those about jobs directly (``flask jobs ls``), the others beside them (``flask jobs stats``)."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*jobs_of_ours.commands, *self._beside()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in jobs_of_ours.commands:
            return jobs_of_ours.commands[cmd_name]
        if cmd_name not in self._beside():
            return None
        return imported(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] in APART and not ctx.resilient_parsing:
            raise click.UsageError(f"{args[0]!r} runs apart from an application: `jobplatform {args[0]}`", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            own = [(name, command.get_short_help_str(100)) for name, command in jobs_of_ours.commands.items()]
            formatter.write_dl([*own, *((name, COMMANDS[name][1]) for name in self._beside())])

    @staticmethod
    def _beside() -> list[str]:
        return [name for name in COMMANDS if name not in (*APART, "jobs")]


@click.group("jobs", cls=HostedCommands)
@with_appcontext
@click.pass_context
def jobs(ctx: click.Context) -> None:
    """Background jobs: list, enqueue, watch, retry and cancel them; numbers, health, and what an operator does.

    Works on the database and with the tasks of this application.
    """
    mounted: Any = current_app.extensions["jobplatform"]
    ctx.with_resource(hosted(Host(mounted.sessions, mounted.tasks)))
