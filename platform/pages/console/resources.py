"""Resources: rates of what jobs use outside, pauses, and what is not to be asked just now."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from flask import Response, request

from jobplatform.pages.acting import done
from jobplatform.pages.console.limits import RATE, limits_in_form, typed_in_form, wrong_with
from jobplatform.pages.console.pausing import pause_it, resume_it
from jobplatform.pages.rendering import render
from jobplatform.pages.shell import Section, ask, looking, url
from jobplatform.queue import pages

NAMES = (*RATE, "resource")


def make_resources() -> Section:
    section = Section("resources", __name__)
    section.page("/resources")(list_resources)
    section.action("/resources", "limit")(make_rate)
    section.action("/resources/rate", "limit")(change_rate)
    section.action("/resources/rate/delete", "limit")(delete_rate)
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
    answer = ask("PUT", _path(name), limits_in_form(RATE))
    if not answer.ok:
        return _page("", wrong_with(answer, NAMES), answer.status)
    return done(answer, f"{name} has a rate now.", url("resources.list_resources"))


def change_rate() -> Any:
    """What has been used already stays used."""
    answer = ask("PUT", _path(_name()), limits_in_form(RATE))
    if not answer.ok:
        return _page(_name(), wrong_with(answer, RATE), answer.status)
    return done(answer, f"The rate of {_name()} counts from the next claim on.")


def delete_rate() -> Any:
    return done(ask("DELETE", _path(_name())), f"Jobs may use {_name()} as often as they like.")


def pause() -> Any:
    return pause_it("resource", _name())


def resume() -> Any:
    return resume_it("resource", _name())


def _name() -> str:
    """In the form rather than in the address: names of resources have all kinds of characters."""
    return request.form.get("resource", "").strip()


def _path(name: str) -> str:
    return f"/operator/rate-limits/{quote(name, safe='')}"


def _page(of: str = "", wrong: dict[str, str] | None = None, status: int = 200) -> Response:
    """``of``: the resource whose form is shown again, as it was typed; empty for a new one."""
    with looking() as session:
        lines = pages.resource_lines(session)
    # What has no line, as a form that was made up has none, is shown as a new one.
    of = of if any(line.resource == of for line in lines) else ""
    typed = typed_in_form(NAMES) if wrong else {}
    return render("resources.html", status=status, lines=lines, fields=RATE, of=of, typed=typed, wrong=wrong or {})
