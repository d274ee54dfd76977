"""Rules of health for one workspace: an operator makes them, and only workspaces that have some are looked at."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from jobplatform.errors import InvalidLimitError, Problem, refuse
from jobplatform.models import WorkspaceAlertRule, visit
from jobplatform.queue.callers import checks_arguments
from jobplatform.queue.health.rules import PLAIN, AlertRule, list_rules, rate_problems, unknown_rule
from jobplatform.queue.snapshot import says_it_cannot_see
from jobplatform.settings import QUEUE_NAME

#: Rules of one workspace: each is a comparison a minute.
MOST_RULES = 50


@checks_arguments(InvalidLimitError)
def list_workspace_rules(session: Session, workspace_id: uuid.UUID) -> dict[str, AlertRule]:
    """The rules of a workspace by name; those that are switched off too."""
    visit(session, workspace_id)
    mine = WorkspaceAlertRule.workspace_id == workspace_id
    statement = select(WorkspaceAlertRule).where(mine).order_by(WorkspaceAlertRule.name)
    rows = session.scalars(statement, execution_options={"populate_existing": True})
    return {row.name: _rule(row) for row in rows}


@checks_arguments(InvalidLimitError)
@says_it_cannot_see("rule", "name")
def set_workspace_rule(
    session: Session,
    workspace_id: uuid.UUID,
    name: str,
    *,
    metric: str | None = None,
    queue: str | None = None,
    task: str | None = None,
    above: float | None = None,
    enabled: bool | None = None,
) -> AlertRule:
    """Have a rule count for one workspace, or change it. Answers with what counts from the next look on.

    ``name`` is one of the whole platform's rules, of which the rest is taken unless it is said otherwise, or one of
    your own with ``metric`` and ``above``. What is not named stays. Raises :class:`InvalidLimitError`.
    """
    visit(session, workspace_id)
    row = session.get(WorkspaceAlertRule, (workspace_id, name), with_for_update=True, populate_existing=True)
    base = _rule(row) if row is not None else list_rules(session).get(name)
    named = _problems_of_name(session, name, known=base is not None, metric=metric)
    refuse(InvalidLimitError, [*named, *_problems_of(queue, task)])
    if base is None and above is None:
        raise InvalidLimitError([Problem("/above", "say above which number")])
    rule = AlertRule(
        name=name,
        metric=metric or (base.metric if base else ""),
        above=above if above is not None else base.above if base else 0.0,
        queue=queue or (base.queue if base else None),
        task=task or (base.task if base else None),
        enabled=enabled if enabled is not None else row is None or row.enabled,
    )
    refuse(InvalidLimitError, rate_problems(rule.metric, above))
    if row is None:
        refuse(InvalidLimitError, _problems_of_number(session, workspace_id))
    _write(session, workspace_id, rule)
    return rule


@checks_arguments(InvalidLimitError)
@says_it_cannot_see("rule", "name")
def clear_workspace_rule(session: Session, workspace_id: uuid.UUID, name: str) -> bool:
    """Take a rule back: an alert that it has raised is over at the next look. Says whether there was one."""
    visit(session, workspace_id)
    row = session.get(WorkspaceAlertRule, (workspace_id, name), with_for_update=True, populate_existing=True)
    if row is None:
        return False
    session.delete(row)
    session.flush()
    return True


def _write(session: Session, workspace_id: uuid.UUID, rule: AlertRule) -> None:
    values: dict[str, Any] = {
        "metric": rule.metric,
        "queue": rule.queue,
        "task": rule.task,
        "above": rule.above,
        "enabled": rule.enabled,
    }
    statement = insert(WorkspaceAlertRule).values(workspace_id=workspace_id, name=rule.name, **values)
    session.execute(statement.on_conflict_do_update(index_elements=["workspace_id", "name"], set_=values))


def _rule(row: WorkspaceAlertRule) -> AlertRule:
    return AlertRule(row.name, row.metric, row.above, row.queue, row.task, row.enabled)


def _problems_of_name(session: Session, name: str, *, known: bool, metric: str | None) -> list[Problem]:
    if name in PLAIN:
        return [Problem("/name", "this is about the installation and not about a workspace")]
    if known or metric is not None:
        return []
    said = unknown_rule(name, list(list_rules(session)))
    return [Problem("/name", f"{said}; one of its own says its metric too")]


def _problems_of(queue: str | None, task: str | None) -> list[Problem]:
    named = {"/queue": queue, "/task": task}
    return [
        Problem(path, "is not a name of one")
        for path, value in named.items()
        if value is not None and not QUEUE_NAME.match(value)
    ]


def _problems_of_number(session: Session, workspace_id: uuid.UUID) -> list[Problem]:
    """Two that are made at once may be one too many; it is a bound and not a promise."""
    mine = WorkspaceAlertRule.workspace_id == workspace_id
    count = session.scalar(select(func.count()).select_from(WorkspaceAlertRule).where(mine)) or 0
    if count < MOST_RULES:
        return []
    return [Problem("/name", f"a workspace may have {MOST_RULES} rules, and this one has; clear one first")]
