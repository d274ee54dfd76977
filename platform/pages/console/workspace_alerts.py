"""Alerts of one workspace: what is wrong with it, and the rules that count for it by itself."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote
from uuid import UUID

from flask import Response, request

from jobplatform.api.editing import tag_of_rule
from jobplatform.pages.acting import done
from jobplatform.pages.console.limits import typed_in_form, wrong_with
from jobplatform.pages.console.rules import MEASURES, fires_above, looks_at, now_of_rule, said_of_rule, unit_of
from jobplatform.pages.problems import nothing_here
from jobplatform.pages.rendering import render
from jobplatform.pages.seen import ANOTHER, seen
from jobplatform.pages.shell import Section, ask, looking, url
from jobplatform.queue import RULE_NAME, find_workspace, list_workspace_alerts, list_workspace_rules, pages

ALL = "/workspaces/<uuid:workspace_id>/alerts"
ONE = ALL + "/<name>"
CHANGED = ("above",)
FIELDS = ("name", "metric", "queue", "task", "above")


def add_workspace_alerts_to(section: Section) -> None:
    section.page(ALL)(show_workspace_alerts)
    section.action(ALL, "alert.change")(make_workspace_rule)
    section.action(ONE, "alert.change")(change_workspace_rule)
    section.action(ONE + "/switch", "alert.change")(switch_workspace_rule)
    section.action(ONE + "/delete", "alert.change")(delete_workspace_rule)


def show_workspace_alerts(workspace_id: UUID) -> Response:
    return _page(workspace_id)


def make_workspace_rule(workspace_id: UUID) -> Any:
    """One that is there already is not replaced: whoever wants that changes it."""
    name = request.form.get("name", "").strip()
    wrong = _wrong_name(workspace_id, name)
    if wrong:
        return _page(workspace_id, "", {"name": wrong}, 422)
    said = {key: value for key, value in said_of_rule(FIELDS[1:]).items() if value is not None}
    answer = ask("PUT", _path(workspace_id, name), said, is_new=True)
    if answer.status == ANOTHER:
        return _page(workspace_id, "", {"name": f"There is a rule {name} already."}, 422)
    if not answer.ok:
        return _page(workspace_id, "", wrong_with(answer, FIELDS), answer.status)
    there = url("alerts.show_workspace_alerts", workspace_id=workspace_id)
    return done(answer, f"{name} counts for this workspace by itself.", there)


def change_workspace_rule(workspace_id: UUID, name: str) -> Any:
    answer = ask("PUT", _path(workspace_id, name), said_of_rule(CHANGED), if_match=seen())
    if not answer.ok:
        return _page(workspace_id, name, wrong_with(answer, CHANGED), answer.status)
    return done(answer, f"{name} fires above the new number from the next look on.")


def switch_workspace_rule(workspace_id: UUID, name: str) -> Any:
    on = request.form.get("enabled") == "true"
    answer = ask("PUT", _path(workspace_id, name), {"enabled": on})
    return done(answer, f"{name} counts again." if on else f"Nobody is told of {name} any more.")


def delete_workspace_rule(workspace_id: UUID, name: str) -> Any:
    answer = ask("DELETE", _path(workspace_id, name))
    refusal = f"There is no rule {name} any more." if answer.status == 404 else ""
    return done(answer, f"{name} does not count for this workspace by itself any more.", refusal=refusal)


def _path(workspace_id: UUID, name: str) -> str:
    return f"/operator/workspaces/{workspace_id}/alert-rules/{quote(name, safe='')}"


def _wrong_name(workspace_id: UUID, name: str) -> str:
    if not RULE_NAME.match(name):
        return "A rule's name is letters, digits and underscores, with a letter first."
    with looking() as session:
        return f"There is a rule {name} already." if name in list_workspace_rules(session, workspace_id) else ""


def _page(workspace_id: UUID, of: str = "", wrong: dict[str, str] | None = None, status: int = 200) -> Response:
    """``of``: the rule whose form is shown again, as it was typed; empty for a new one."""
    with looking() as session:
        seen = find_workspace(session, workspace_id)
        if seen is None:
            raise nothing_here()
        rules = list_workspace_rules(session, workspace_id)
        alerts = list_workspace_alerts(session, workspace_id, resolved=True)
        known = [line.rule for line in pages.rule_lines(session) if line.compares]
    if status == ANOTHER:
        wrong = now_of_rule(rules[of]) if of in rules else {"": f"There is no rule {of} any more; it can be made anew."}
    return render(
        "workspace_alerts.html",
        status=status,
        seen=seen,
        rules=list(rules.values()),
        raised=[alert for alert in alerts if alert.resolved_at is None],
        over=[alert for alert in alerts if alert.resolved_at is not None],
        firing={alert.code for alert in alerts if alert.resolved_at is None},
        known=[rule for rule in known if rule.name not in rules],
        measures=MEASURES,
        # What has no line (any more), as a form that was made up has none, is shown as a new one.
        of=of if of in rules else "",
        typed=typed_in_form(FIELDS, status) | ({"name": of} if of and of not in rules else {}) if wrong else {},
        wrong=wrong or {},
        looks_at=looks_at,
        fires_above=fires_above,
        unit_of=unit_of,
        tag_of=tag_of_rule,
    )
