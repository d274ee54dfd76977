"""``jobplatform alerts``."""

from __future__ import annotations

from dataclasses import asdict

import click

from jobplatform.cli.acting import audit
from jobplatform.cli.database import open_session
from jobplatform.cli.show import as_json_option, plain, print_json, print_table, tell
from jobplatform.errors import InvalidLimitError
from jobplatform.queue import clear_rule, list_alerts, list_rules, set_rule


@click.group()
def alerts() -> None:
    """List what is wrong now, and change when that is said."""


@alerts.command()
@click.option("-a", "--all", "resolved", is_flag=True, help="Also those that are over, the last time of each.")
@as_json_option
def ls(resolved: bool, as_json: bool) -> None:
    """List the alerts that a worker has raised. Exit code 1 when there is one."""
    with open_session() as session:
        found = list_alerts(session, resolved=resolved)
    if as_json:
        print_json(plain(found))
    else:
        rows = [(one.code, one.raised_at, one.resolved_at, one.message) for one in found]
        print_table(["alert", "raised", "over since", "why"], rows)
    if any(one.resolved_at is None for one in found):
        raise SystemExit(1)


@alerts.command()
@as_json_option
def rules(as_json: bool) -> None:
    """List the rules by which alerts are raised."""
    with open_session() as session:
        found = list_rules(session)
    if as_json:
        print_json(plain(list(found.values())))
    else:
        rows = [
            (rule.name, rule.metric, f"{rule.above:g}", rule.queue, rule.task, "yes" if rule.enabled else "no")
            for rule in found.values()
        ]
        print_table(["rule", "alert when", "is above", "queue", "task", "on"], rows)


@alerts.command("set")
@click.argument("rule")
@click.option("--above", type=float, help="The threshold: seconds, jobs, or a rate from 0 to 1.")
@click.option("--on/--off", "enabled", default=None, help="Whether the rule counts.")
@as_json_option
def set_(rule: str, above: float | None, enabled: bool | None, as_json: bool) -> None:
    """Change RULE: it counts at once, everywhere."""
    if above is None and enabled is None:
        raise click.UsageError("say --above, --on or --off")
    with open_session() as session:
        try:
            made = set_rule(session, rule, above=above, enabled=enabled)
        except InvalidLimitError as error:
            raise click.UsageError("; ".join(problem.message for problem in error.problems)) from error
        audit(session, "rule.set", f"rule:{rule}", above=above, enabled=enabled)
    tell(as_json, f"rule {rule} is set", **asdict(made))


@alerts.command()
@click.argument("rule")
@as_json_option
def clear(rule: str, as_json: bool) -> None:
    """Back to what is built in, or what the code declares."""
    with open_session() as session:
        if not clear_rule(session, rule):
            raise click.ClickException(f"nothing was set about {rule!r}; see `jobplatform alerts rules`")
        audit(session, "rule.clear", f"rule:{rule}")
        now = list_rules(session).get(rule)
    tell(as_json, f"rule {rule} is as it was", name=rule, rule=now)
