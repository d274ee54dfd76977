"""Plans: what counts for every workspace on one, wherever that has no value of its own."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from flask import Response, request

from jobplatform.pages.acting import done
from jobplatform.pages.console.limits import LIMITS, limits_in_form
from jobplatform.pages.rendering import render
from jobplatform.pages.shell import Section, ask, looking, url
from jobplatform.queue import list_plans

ONE = "/workspaces/plans/<name>"


def add_plans_to(section: Section) -> None:
    section.page("/workspaces/plans")(show_plans)
    section.action("/workspaces/plans", "limit")(make_plan)
    section.action(ONE, "limit")(change_plan)
    section.action(ONE + "/delete", "limit")(delete_plan)


def show_plans() -> Response:
    return _page({}, "")


def make_plan() -> Any:
    """One that is there already is not replaced: whoever wants that changes it."""
    name = request.form.get("name", "").strip()
    with looking() as session:
        taken = any(plan.name == name for plan in list_plans(session))
    if not name or taken:
        return _page(request.form, f"There is a plan {name} already." if taken else "A plan needs a name.", 422)
    answer = ask("PUT", _path(name), limits_in_form())
    if not answer.ok:
        return _page(request.form, answer.complaint, answer.status)
    return done(answer, f"There is a plan {name} now.", url("workspaces.show_plans"))


def change_plan(name: str) -> Any:
    return done(ask("PATCH", _path(name), limits_in_form()), f"{name} counts at once for every workspace on it.")


def delete_plan(name: str) -> Any:
    return done(ask("DELETE", _path(name)), f"{name} is deleted.")


def _path(name: str) -> str:
    return f"/operator/plans/{quote(name, safe='')}"


def _page(form: Any, complaint: str, status: int = 200) -> Response:
    with looking() as session:
        plans = list_plans(session)
    return render("plans.html", status=status, plans=plans, fields=LIMITS, form=form, complaint=complaint)
