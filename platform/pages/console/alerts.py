"""Alerts: what is wrong now and was lately, and the rules by which that is told."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from flask import Response, request

from jobplatform.api.editing import tag_of_rule
from jobplatform.pages.acting import done
from jobplatform.pages.console.limits import typed_in_form, wrong_with
from jobplatform.pages.console.overview import lead_of
from jobplatform.pages.console.rules import fires_above, looks_at, now_of_rule, said_of_rule, unit_of
from jobplatform.pages.console.workspace_alerts import add_workspace_alerts_to
from jobplatform.pages.rendering import render
from jobplatform.pages.seen import ANOTHER, seen
from jobplatform.pages.shell import Section, ask, looking
from jobplatform.queue import list_alerts, pages

ONE = "/alerts/rules/<name>"
FIELDS = ("above",)


def make_alerts() -> Section:
    section = Section("alerts", __name__)
    section.page("/alerts")(show_alerts)
    section.action(ONE, "alert.change")(change_rule)
    section.action(ONE + "/switch", "alert.change")(switch_rule)
    section.action(ONE + "/clear", "alert.change")(clear_rule)
    add_workspace_alerts_to(section)
    return section


def show_alerts() -> Response:
    return _page()


def change_rule(name: str) -> Any:
    answer = ask("PATCH", _path(name), said_of_rule(FIELDS), if_match=seen())
    if not answer.ok:
        return _page(name, wrong_with(answer, FIELDS), answer.status)
    return done(answer, f"{name} fires above the new number from now on.")


def switch_rule(name: str) -> Any:
    on = request.form.get("enabled") == "true"
    answer = ask("PATCH", _path(name), {"enabled": on})
    return done(answer, f"{name} counts again." if on else f"Nobody is told of {name} any more.")


def clear_rule(name: str) -> Any:
    answer = ask("DELETE", _path(name))
    refusal = f"Of {name} nothing is changed any more." if answer.status == 404 else ""
    return done(answer, f"{name} is as it was before anybody changed it.", refusal=refusal)


def _path(name: str) -> str:
    return f"/operator/alert-rules/{quote(name, safe='')}"


def _page(of: str = "", wrong: dict[str, str] | None = None, status: int = 200) -> Response:
    """``of``: the rule whose form is shown again, as it was typed."""
    with looking() as session:
        rules = pages.rule_lines(session)
        raised = pages.raised_alerts(session)
        elsewhere = pages.workspace_alert_lines(session)
        over = [alert for alert in list_alerts(session, resolved=True) if alert.resolved_at is not None]
    is_gone = bool(of) and all(line.rule.name != of for line in rules)
    if is_gone:
        wrong = {"": f"There is no rule {of} any more."}
    elif status == ANOTHER:
        wrong = next((now_of_rule(line.rule) for line in rules if line.rule.name == of), wrong)
    return render(
        "alerts.html",
        status=status,
        raised=raised,
        firing={alert.code for alert in raised},
        elsewhere=elsewhere,
        over=over,
        rules=rules,
        of=of,
        is_gone=is_gone,
        typed=typed_in_form(FIELDS, status) if wrong else {},
        wrong=wrong or {},
        lead_of=lead_of,
        looks_at=looks_at,
        fires_above=fires_above,
        unit_of=unit_of,
        tag_of=tag_of_rule,
    )
