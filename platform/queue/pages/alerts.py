"""Alerts: what is wrong, of all and of single workspaces, and by which rules that is told."""

from __future__ import annotations

import datetime
import uuid
from dataclasses import dataclass
from typing import Final

from sqlalchemy.orm import Session

from jobplatform.queue.health.rules import PLAIN, AlertRule, changed_rules, list_rules, without_threshold
from jobplatform.queue.statement import run

#: Alerts about single workspaces that are shown: where there are more, it is all of them that has to be looked at.
MOST_RAISED: Final = 100

RAISED: Final = f"""
select a.workspace_id, w.name, a.code, a.message, a.raised_at
from jobplatform.workspace_alerts a
left join jobplatform.workspaces w on w.id = a.workspace_id
where a.resolved_at is null
order by a.raised_at desc, a.workspace_id, a.code
limit {MOST_RAISED}
"""


@dataclass(frozen=True, slots=True)
class RuleLine:
    """A rule as it counts now. ``changed``: by an operator, who can take that back. ``compares`` is off for those that
    have no threshold: they can be switched off, and that is all.
    """

    rule: AlertRule
    changed: bool
    compares: bool


@dataclass(frozen=True, slots=True)
class WorkspaceAlertLine:
    """What is wrong with one workspace, by a rule of its own. ``name`` is the workspace's, if it has one."""

    workspace_id: uuid.UUID
    name: str | None
    code: str
    message: str
    raised_at: datetime.datetime


def rule_lines(session: Session) -> list[RuleLine]:
    """Every rule there is, also those without a threshold that nobody has changed."""
    rules, changed = list_rules(session), changed_rules(session)
    untouched = [without_threshold(name) for name in PLAIN if name not in rules]
    return [
        RuleLine(rule, changed=rule.name in changed, compares=rule.name not in PLAIN)
        for rule in (*rules.values(), *untouched)
    ]


def workspace_alert_lines(session: Session) -> list[WorkspaceAlertLine]:
    """The alerts that are raised about single workspaces, newest first, on a Session that sees all of them."""
    return [WorkspaceAlertLine(*row) for row in run(session, RAISED)]
