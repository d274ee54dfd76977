"""``jobplatform alerts``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any
from uuid import UUID

import click
from sqlalchemy.orm import Session

from jobplatform.cli.acting import audit
from jobplatform.cli.database import find_known_workspace, open_session
from jobplatform.cli.show import as_json_option, plain, print_json, print_table, tell
from jobplatform.errors import InvalidLimitError
from jobplatform.models import AlertRow, WorkspaceAlert
from jobplatform.queue import (
    METRICS,
    AlertRule,
    clear_rule,
    clear_workspace_rule,
    list_alerts,
    list_rules,
    list_workspace_alerts,
    list_workspace_rules,
    set_rule,
    set_workspace_rule,
)

workspace_option = click.option("-w", "--workspace", help="Of this one alone, by id or name. Default: of all.")


@click.group()
def alerts() -> None:
    """List what is wrong now, and change when that is said."""


@alerts.command()
@click.option("-a", "--all", "resolved", is_flag=True, help="Also those that are over, the last time of each.")
@workspace_option
@as_json_option
def ls(resolved: bool, workspace: str | None, as_json: bool) -> None:
    """List the alerts that a worker has raised. Exit code 1 when there is one."""
    with open_session() as session:
        found = _raised(session, workspace, resolved)
    if as_json:
        print_json(plain(found))
    else:
        rows = [(one.code, one.raised_at, one.resolved_at, one.message) for one in found]
        print_table(["alert", "raised", "over since", "why"], rows)
    if any(one.resolved_at is None for one in found):
        raise SystemExit(1)


@alerts.command()
@workspace_option
@as_json_option
def rules(workspace: str | None, as_json: bool) -> None:
    """List the rules by which alerts are raised."""
    with open_session() as session:
        found = _rules(session, workspace)
    if as_json:
        print_json(plain(list(found.values())))
    else:
        rows = [
            (rule.name, rule.metric, f"{rule.above:.15g}", rule.queue, rule.task, "yes" if rule.enabled else "no")
            for rule in found.values()
        ]
        print_table(["rule", "alert when", "is above", "queue", "task", "on"], rows)


@alerts.command("set")
@click.argument("rule")
@workspace_option
@click.option("--above", type=float, help="The threshold: seconds, jobs, or a rate from 0 to 1.")
@click.option("--on/--off", "enabled", default=None, help="Whether the rule counts.")
@click.option("--metric", type=click.Choice(list(METRICS)), help="Of a rule that the workspace alone has.")
@click.option("--queue", help="Of this queue alone; for a workspace.")
@click.option("--task", help="Of this task alone; for a workspace.")
@as_json_option
def set_(rule: str, workspace: str | None, as_json: bool, **options: Any) -> None:
    """Change RULE: it counts at once, everywhere. With -w it counts for one workspace, by itself."""
    changes = {name: value for name, value in options.items() if value is not None}
    if workspace is None:
        _require_known_everywhere(changes)
    with open_session() as session:
        try:
            workspace_id = _workspace_id(session, workspace)
            made = _set(session, workspace_id, rule, changes)
        except InvalidLimitError as error:
            raise click.UsageError("; ".join(problem.message for problem in error.problems)) from error
        audit(session, "rule.set", f"rule:{rule}", workspace_id, **changes)
    tell(as_json, f"rule {rule} is set", **asdict(made))


@alerts.command()
@click.argument("rule")
@workspace_option
@as_json_option
def clear(rule: str, workspace: str | None, as_json: bool) -> None:
    """Back to what is built in, or what the code declares. With -w the workspace has it no more by itself."""
    with open_session() as session:
        workspace_id = _workspace_id(session, workspace)
        if not _clear(session, workspace_id, rule):
            raise click.ClickException(f"nothing was set about {rule!r}; see `jobplatform alerts rules`")
        audit(session, "rule.clear", f"rule:{rule}", workspace_id)
        now = _rules(session, workspace).get(rule)
    tell(as_json, f"rule {rule} is as it was", name=rule, rule=now)


def _workspace_id(session: Session, workspace: str | None) -> UUID | None:
    return None if workspace is None else find_known_workspace(session, workspace)


def _raised(session: Session, workspace: str | None, resolved: bool) -> Sequence[AlertRow | WorkspaceAlert]:
    workspace_id = _workspace_id(session, workspace)
    if workspace_id is None:
        return list_alerts(session, resolved=resolved)
    return list_workspace_alerts(session, workspace_id, resolved=resolved)


def _rules(session: Session, workspace: str | None) -> Mapping[str, AlertRule]:
    workspace_id = _workspace_id(session, workspace)
    return list_rules(session) if workspace_id is None else list_workspace_rules(session, workspace_id)


def _set(session: Session, workspace_id: UUID | None, rule: str, changes: dict[str, Any]) -> AlertRule:
    if workspace_id is None:
        return set_rule(session, rule, **changes)
    return set_workspace_rule(session, workspace_id, rule, **changes)


def _clear(session: Session, workspace_id: UUID | None, rule: str) -> bool:
    return clear_rule(session, rule) if workspace_id is None else clear_workspace_rule(session, workspace_id, rule)


def _require_known_everywhere(changes: dict[str, Any]) -> None:
    if not changes:
        raise click.UsageError("say --above, --on or --off")
    if of_one := sorted({"metric", "queue", "task"} & set(changes)):
        raise click.UsageError(f"--{of_one[0]} is for one workspace (-w); rules for all are declared in code")
