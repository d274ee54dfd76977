"""Alerts that are raised, the rules by which they are, and what the doctor finds."""

from __future__ import annotations

import datetime
from typing import Any
from uuid import UUID

from flask import Response
from marshmallow import fields, validate
from sqlalchemy.exc import DBAPIError, OperationalError

from jobplatform.api.access.principals import Scope
from jobplatform.api.answers import respond
from jobplatform.api.editing import tag_of_rule
from jobplatform.api.mounted import mounted
from jobplatform.api.operator.setting import Setting
from jobplatform.api.problems import invalid
from jobplatform.api.resource import EDITABLE, EDITED, PUT, Resource
from jobplatform.api.schemas.fields import CamelSchema, Digits, Flag, Moment
from jobplatform.errors import JobPlatformError, Problem
from jobplatform.models import HealthRule, WorkspaceAlertRule
from jobplatform.queue import (
    METRICS,
    AlertRule,
    Finding,
    Severity,
    clear_rule,
    clear_workspace_rule,
    examine_queue,
    examine_schema,
    examine_server,
    find_rule,
    list_alerts,
    list_rules,
    list_workspace_alerts,
    list_workspace_rules,
    set_rule,
    set_workspace_rule,
)

alerts = Resource("alerts", __name__, description="Alerts, their rules, and what is wrong with the installation")

ALERTS = "/operator/alerts"
RULES = "/operator/alert-rules"
RULE = RULES + "/<name>"
ALERTS_OF_ONE = "/operator/workspaces/<uuid:workspaceId>/alerts"
RULES_OF_ONE = "/operator/workspaces/<uuid:workspaceId>/alert-rules"
RULE_OF_ONE = RULES_OF_ONE + "/<name>"
DOCTOR = "/operator/doctor"

LONGEST_PATIENCE = 86_400


class RaisedAlertSchema(CamelSchema):
    """Something that is wrong, or was: the last time of each."""

    code = fields.String(required=True)
    message = fields.String(required=True)
    raised_at = Moment(required=True)
    resolved_at = Moment(required=True, allow_none=True)


class RaisedAlertsSchema(CamelSchema):
    """Alerts, those that are raised first."""

    items = fields.List(fields.Nested(RaisedAlertSchema), required=True)


class AlertsQuerySchema(CamelSchema):
    """Which alerts."""

    resolved = fields.Boolean(load_default=False, metadata={"description": "Also those that are over."})


class AlertRuleSchema(CamelSchema):
    """Alert when ``metric``, of a queue or a task or of everything, is above ``above``."""

    name = fields.String(required=True)
    metric = fields.String(required=True)
    above = fields.Float(required=True)
    queue = fields.String(required=True, allow_none=True)
    task = fields.String(required=True, allow_none=True)
    enabled = fields.Boolean(required=True)


class AlertRulesSchema(CamelSchema):
    """Every rule by name, as it counts now: built in, declared in code, or changed by an operator."""

    items = fields.List(fields.Nested(AlertRuleSchema), required=True)


class RuleChangeSchema(CamelSchema):
    """A change of a rule. What is not named stays."""

    above = fields.Float(
        validate=validate.Range(0, 1e12), metadata={"description": "Seconds, jobs, or a rate from 0 to 1"}
    )
    enabled = Flag()


class WorkspaceRuleSchema(CamelSchema):
    """A rule for one workspace, or a change of it. What is not named stays, or is as for the whole platform."""

    metric = fields.String(validate=validate.OneOf(list(METRICS)), metadata={"description": "Of a rule of its own"})
    queue = fields.String(validate=validate.Length(1, 100))
    task = fields.String(validate=validate.Length(1, 100))
    above = fields.Float(
        validate=validate.Range(0, 1e12), metadata={"description": "Seconds, jobs, or a rate from 0 to 1"}
    )
    enabled = Flag()


class FindingSchema(CamelSchema):
    """What is wrong, what it means, and the command that answers it."""

    severity = fields.String(required=True, validate=validate.OneOf([one.value for one in Severity]))
    code = fields.String(required=True)
    seen = fields.String(required=True)
    means = fields.String(required=True)
    command = fields.String(required=True)


class DoctorSchema(CamelSchema):
    """What is wrong with the installation. ``healthy``: nothing but what is only to be known."""

    healthy = fields.Boolean(required=True)
    findings = fields.List(fields.Nested(FindingSchema), required=True)


class DoctorQuerySchema(CamelSchema):
    """How patient the doctor is."""

    patience_seconds = Digits(
        load_default=300,
        validate=validate.Range(1, LONGEST_PATIENCE),
        metadata={"description": "How long a transaction may be open before it is a finding."},
    )


_ALERTS, _RULES, _DOCTOR = RaisedAlertsSchema(), AlertRulesSchema(), DoctorSchema()
_RULE = Setting[AlertRule]("rule", HealthRule, AlertRuleSchema(), find_rule, tag_of_rule)
_RULE_OF_ONE = Setting[AlertRule](
    "rule",
    WorkspaceAlertRule,
    AlertRuleSchema(),
    lambda session, workspace_id, name: list_workspace_rules(session, workspace_id).get(name),
    tag_of_rule,
)

AN_ALERT = {
    "code": "backlog",
    "message": "312 jobs are ready and wait for a slot",
    "raisedAt": "2026-01-05T09:00:00.000000Z",
    "resolvedAt": None,
}
A_RULE = {"name": "backlog", "metric": "ready", "above": 500.0, "queue": None, "task": None, "enabled": True}
A_FINDING = {
    "severity": "warning",
    "code": "old_snapshot",
    "seen": "pid 4711 (psql) has a transaction open for 42 minutes",
    "means": "vacuum cannot remove what was deleted since, and claims get slower",
    "command": "select pg_terminate_backend(4711)",
}


@alerts.endpoint("GET", ALERTS, Scope.OPERATOR)
@alerts.query(AlertsQuerySchema)
@alerts.answers(200, RaisedAlertsSchema, example={"items": [AN_ALERT]})
def list_raised_alerts(query: dict[str, Any]) -> Response:
    """List the alerts that workers have raised"""
    with mounted().reading() as session:
        return respond(_ALERTS, {"items": list_alerts(session, resolved=query["resolved"])})


@alerts.endpoint("GET", RULES, Scope.OPERATOR)
@alerts.answers(200, AlertRulesSchema, example={"items": [A_RULE]})
def list_alert_rules() -> Response:
    """List the rules by which alerts are raised"""
    with mounted().reading() as session:
        return respond(_RULES, {"items": list(list_rules(session).values())})


@alerts.endpoint("GET", RULE, Scope.OPERATOR, refuses=(404,))
@alerts.answers(200, AlertRuleSchema, example=A_RULE, headers=EDITABLE)
def show_alert_rule(name: str) -> Response:
    """Show a rule by which alerts are raised"""
    return _RULE.show(name)


@alerts.endpoint("PATCH", RULE, Scope.OPERATOR, refuses=(400, 412, 413, 415))
@alerts.body(RuleChangeSchema, example={"above": 500})
@alerts.answers(200, AlertRuleSchema, example=A_RULE, headers=EDITABLE)
@alerts.headers(*EDITED)
def change_alert_rule(body: dict[str, Any], name: str) -> Response:
    """Change the threshold of a rule, or switch it off and on; it counts at once, everywhere

    Rules of your own are declared in code, and changed here.
    """
    if not body:
        raise invalid([Problem("", "Say above or enabled.")])
    return _RULE.set("rule.set", lambda session: set_rule(session, name, **body), body, name)


@alerts.endpoint("DELETE", RULE, Scope.OPERATOR, refuses=(404, 412))
@alerts.answers(204)
@alerts.headers(*EDITED)
def clear_alert_rule(name: str) -> Response:
    """Back to what is built in, or what the code declares"""
    return _RULE.clear("rule.clear", clear_rule, name)


@alerts.endpoint("GET", ALERTS_OF_ONE, Scope.OPERATOR)
@alerts.query(AlertsQuerySchema)
@alerts.answers(200, RaisedAlertsSchema, example={"items": [AN_ALERT]})
def list_alerts_of_workspace(query: dict[str, Any], workspace_id: UUID) -> Response:
    """List the alerts about one workspace, by its own rules"""
    with mounted().reading() as session:
        return respond(_ALERTS, {"items": list_workspace_alerts(session, workspace_id, resolved=query["resolved"])})


@alerts.endpoint("GET", RULES_OF_ONE, Scope.OPERATOR)
@alerts.answers(200, AlertRulesSchema, example={"items": [A_RULE]})
def list_rules_of_workspace(workspace_id: UUID) -> Response:
    """List the rules of one workspace; without any, it is not looked at by itself"""
    with mounted().reading() as session:
        return respond(_RULES, {"items": list(list_workspace_rules(session, workspace_id).values())})


@alerts.endpoint("GET", RULE_OF_ONE, Scope.OPERATOR, refuses=(404,))
@alerts.answers(200, AlertRuleSchema, example=A_RULE, headers=EDITABLE)
def show_rule_of_workspace(workspace_id: UUID, name: str) -> Response:
    """Show a rule that counts for one workspace by itself"""
    return _RULE_OF_ONE.show(workspace_id, name)


@alerts.endpoint("PUT", RULE_OF_ONE, Scope.OPERATOR, refuses=(400, 412, 413, 415))
@alerts.body(WorkspaceRuleSchema, required=False, example={"above": 50})
@alerts.answers(200, AlertRuleSchema, example=A_RULE, headers=EDITABLE)
@alerts.headers(*PUT)
def set_rule_of_workspace(body: dict[str, Any], workspace_id: UUID, name: str) -> Response:
    """Have a rule count for one workspace, or change it

    `name` is a rule of the whole platform (`stuck`, `failing`, `backlog`, or one that code declares), which is taken
    over with what is said differently; or one of its own, with `metric` and `above`. Alerts are told to the
    application's hook and to the webhooks of the workspace that want `alert.raised` and `alert.resolved`.
    """
    return _RULE_OF_ONE.set(
        "rule.set", lambda session: set_workspace_rule(session, workspace_id, name, **body), body, workspace_id, name
    )


@alerts.endpoint("DELETE", RULE_OF_ONE, Scope.OPERATOR, refuses=(404, 412))
@alerts.answers(204)
@alerts.headers(*EDITED)
def clear_rule_of_workspace(workspace_id: UUID, name: str) -> Response:
    """Take back a rule of one workspace; an alert that it has raised is over at the next look"""
    return _RULE_OF_ONE.clear("rule.clear", clear_workspace_rule, workspace_id, name)


@alerts.endpoint("GET", DOCTOR, Scope.OPERATOR)
@alerts.query(DoctorQuerySchema)
@alerts.answers(200, DoctorSchema, example={"healthy": False, "findings": [A_FINDING]})
def examine_installation(query: dict[str, Any]) -> Response:
    """Find what is wrong with the installation, and say what to do

    As `jobplatform doctor`, with the rights of the API's login: what that may not look at is a finding too.
    """
    found = _examine(datetime.timedelta(seconds=query["patience_seconds"]))
    healthy = all(one.severity is Severity.INFO for one in found)
    return respond(_DOCTOR, {"healthy": healthy, "findings": found})


def _examine(patience: datetime.timedelta) -> list[Finding]:
    """Each part in a transaction of its own, so that one that fails keeps nothing from the others."""
    found = _findings(lambda session: examine_server(session, patience=patience))
    schema = _findings(examine_schema)
    return [*found, *schema, *([] if schema else _findings(examine_queue))]


def _findings(examine: Any) -> list[Finding]:
    try:
        with mounted().transaction() as session:
            return list(examine(session))
    except (DBAPIError, JobPlatformError) as error:
        if isinstance(error, OperationalError):
            raise
        seen = f"something could not be looked at: {str(getattr(error, 'orig', error)).strip()}"
        means = "the rest of this examination is missing"
        return [Finding(Severity.ERROR, "not_examined", seen, means, "jobplatform doctor")]
