"""Resources: rates and limits of what jobs use outside, pauses, and what is not to be asked just now."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from flask import Response, request

from jobplatform.api.editing import tag_of_rate, tag_of_resource_limit
from jobplatform.models import RateLimit, ResourceLimits
from jobplatform.pages.acting import done
from jobplatform.pages.console.limits import (
    RATE,
    RESOURCE_LIMIT,
    beside_what_is_now,
    limits_in_form,
    typed_in_form,
    values_in_form,
    wrong_with,
)
from jobplatform.pages.console.pausing import pause_it, resume_it
from jobplatform.pages.rendering import render
from jobplatform.pages.seen import ANOTHER, seen
from jobplatform.pages.shell import Section, ask, looking, url
from jobplatform.queue import pages

NAMES = (*RATE, "resource")
LIMIT_NAMES = (*RESOURCE_LIMIT, "resource")


def make_resources() -> Section:
    section = Section("resources", __name__)
    section.page("/resources")(list_resources)
    section.action("/resources", "limit")(make_rate)
    section.action("/resources/rate", "limit")(change_rate)
    section.action("/resources/rate/delete", "limit")(delete_rate)
    section.action("/resources/limit", "limit")(make_limit)
    section.action("/resources/limit/change", "limit")(change_limit)
    section.action("/resources/limit/clear", "limit")(clear_limit)
    section.action("/resources/pause", "pause")(pause)
    section.action("/resources/resume", "pause")(resume)
    return section


def list_resources() -> Response:
    return _page()


def make_rate() -> Any:
    """One that is there already is not replaced: whoever wants that changes it."""
    name = _name()
    with looking() as session:
        taken = any(line.resource == name and line.rate for line in pages.resource_lines(session))
    if not name or taken:
        said = f"{name} has a rate already." if taken else "Say which resource."
        return _page("", {"resource": said}, 422)
    answer = ask("PUT", _path(name), limits_in_form(RATE), is_new=True)
    if answer.status == ANOTHER:
        return _page("", {"resource": f"{name} has a rate already."}, 422)
    if not answer.ok:
        return _page("", wrong_with(answer, NAMES), answer.status)
    return done(answer, f"{name} has a rate now.", url("resources.list_resources"))


def change_rate() -> Any:
    """What has been used already stays used."""
    answer = ask("PUT", _path(_name()), limits_in_form(RATE), if_match=seen())
    if not answer.ok:
        return _page(_name(), wrong_with(answer, RATE), answer.status)
    return done(answer, f"The rate of {_name()} counts from the next claim on.")


def delete_rate() -> Any:
    return done(ask("DELETE", _path(_name())), f"Jobs may use {_name()} as often as they like.")


def make_limit() -> Any:
    """The same as of a rate: one that is there already is changed, and not replaced."""
    name = _name()
    with looking() as session:
        taken = any(line.resource == name and line.limit for line in pages.resource_lines(session))
    if not name or taken:
        said = f"{name} has a limit already." if taken else "Say which resource."
        return _page(wrong_limit={"resource": said}, status=422)
    answer = ask("PUT", _limit_path(name), limits_in_form(RESOURCE_LIMIT), is_new=True)
    if answer.status == ANOTHER:
        return _page(wrong_limit={"resource": f"{name} has a limit already."}, status=422)
    if not answer.ok:
        return _page(wrong_limit=wrong_with(answer, LIMIT_NAMES), status=answer.status)
    has = "no limit now, whatever its kind or the code has" if answer.body["maxRunning"] is None else "a limit now"
    return done(answer, f"{name} has {has}.", url("resources.list_resources"))


def change_limit() -> Any:
    """An empty field is no limit, whatever its kind or the code has. What runs goes on."""
    answer = ask("PUT", _limit_path(_name()), limits_in_form(RESOURCE_LIMIT), if_match=seen())
    if not answer.ok:
        return _page(_name(), wrong_limit=wrong_with(answer, RESOURCE_LIMIT), status=answer.status)
    return done(answer, f"The limit of {_name()} counts from the next claim on.")


def clear_limit() -> Any:
    said = f"Of {_name()} counts what the code declares, or its kind has."
    return done(ask("DELETE", _limit_path(_name())), said)


def pause() -> Any:
    return pause_it("resource", _name())


def resume() -> Any:
    return resume_it("resource", _name())


def _name() -> str:
    """In the form rather than in the address: names of resources have all kinds of characters."""
    return request.form.get("resource", "").strip()


def _path(name: str) -> str:
    return f"/operator/rate-limits/{quote(name, safe='')}"


def _limit_path(name: str) -> str:
    return f"/operator/resource-limits/{quote(name, safe='')}"


def _page(
    of: str = "",
    wrong: dict[str, str] | None = None,
    status: int = 200,
    *,
    wrong_limit: dict[str, str] | None = None,
) -> Response:
    """``of``: the resource whose form is shown again, as it was typed; empty for a new one."""
    with looking() as session:
        lines = pages.resource_lines(session)
    # What has none (any more), as a form that was made up has none, is shown as a new one.
    of = of if any(line.resource == of and (line.rate if wrong else line.limit) for line in lines) else ""
    if status == ANOTHER:
        now = next((line for line in lines if line.resource == of), None)
        wrong = wrong and _beside(RATE, now.rate if now else None)
        wrong_limit = wrong_limit and _beside(RESOURCE_LIMIT, now.limit if now else None)
    typed = typed_in_form((*NAMES, *RESOURCE_LIMIT), status) if wrong or wrong_limit else {}
    return render(
        "resources.html",
        status=status,
        lines=lines,
        fields=RATE,
        limit=RESOURCE_LIMIT,
        of=of,
        typed=typed,
        wrong=wrong or {},
        wrong_limit=wrong_limit or {},
        tag_of_rate=tag_of_rate,
        tag_of_limit=tag_of_resource_limit,
    )


def _beside(names: Iterable[str], now: RateLimit | ResourceLimits | None) -> dict[str, str]:
    if now is None:
        return {"": f"{_name()} has none any more; with what you typed it can be made anew."}
    return beside_what_is_now(values_in_form(names), {name: getattr(now, name) for name in names})
