"""Plans: what counts for every workspace on one, wherever that has no value of its own."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from flask import Response, request

from jobplatform.api.editing import tag_of_plan
from jobplatform.pages.acting import done
from jobplatform.pages.console.limits import (
    LIMITS,
    beside_what_is_now,
    limits_in_form,
    typed_in_form,
    values_in_form,
    wrong_with,
)
from jobplatform.pages.rendering import render
from jobplatform.pages.seen import ANOTHER, seen
from jobplatform.pages.shell import Section, ask, looking, url
from jobplatform.queue import list_plans

ONE = "/workspaces/plans/<name>"
NAMES = (*LIMITS, "name")


def add_plans_to(section: Section) -> None:
    section.page("/workspaces/plans")(show_plans)
    section.action("/workspaces/plans", "limit")(make_plan)
    section.action(ONE, "limit")(change_plan)
    section.action(ONE + "/delete", "limit")(delete_plan)


def show_plans() -> Response:
    return _page()


def make_plan() -> Any:
    """One that is there already is not replaced: whoever wants that changes it."""
    name = request.form.get("name", "").strip()
    with looking() as session:
        taken = any(plan.name == name for plan in list_plans(session))
    there = f"There is a plan {name} already."
    said = there if taken else "A plan's name has no / in it." if "/" in name else ""
    if said or not name:
        return _page("", {"name": said or "A plan needs a name."}, 422)
    answer = ask("PUT", _path(name), limits_in_form(), is_new=True)
    if answer.status == ANOTHER:
        return _page("", {"name": there}, 422)
    if not answer.ok:
        return _page("", wrong_with(answer, NAMES), answer.status)
    return done(answer, f"There is a plan {name} now.", url("workspaces.show_plans"))


def change_plan(name: str) -> Any:
    answer = ask("PATCH", _path(name), limits_in_form(), if_match=seen())
    if answer.status == 404:
        return _page("", {"": f"There is no plan {name} any more; with what you typed it can be made anew."}, 404, name)
    if not answer.ok:
        return _page(name, wrong_with(answer), answer.status)
    return done(answer, f"{name} counts at once for every workspace on it.")


def delete_plan(name: str) -> Any:
    return done(ask("DELETE", _path(name)), f"{name} is deleted.")


def _path(name: str) -> str:
    return f"/operator/plans/{quote(name, safe='')}"


def _page(of: str = "", wrong: dict[str, str] | None = None, status: int = 200, name: str = "") -> Response:
    """``of``: the plan whose form is shown again, as it was typed; empty for a new one, which may have a ``name``."""
    with looking() as session:
        plans = list_plans(session)
    if status == ANOTHER:
        now = {plan.name: {field: getattr(plan, field) for field in LIMITS} for plan in plans}
        wrong = beside_what_is_now(values_in_form(), now.get(of, {}))
    typed = typed_in_form(NAMES, status) if wrong else {}
    return render(
        "plans.html",
        status=status,
        plans=plans,
        fields=LIMITS,
        of=of,
        typed=typed | {"name": name} if name else typed,
        wrong=wrong or {},
        tag_of=tag_of_plan,
    )
