"""Many jobs at once: what would be done is shown, agreed to, done by workers, and watched."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, get_args
from uuid import UUID

from flask import Response, redirect, request

from jobplatform.api.auditing import audit
from jobplatform.api.schemas.jobs import JobChangeSchema
from jobplatform.errors import SearchError
from jobplatform.pages.console.searching import explained
from jobplatform.pages.console.typed import change_of_job, typed_change, wrong_with_change
from jobplatform.pages.going_back import safe_back
from jobplatform.pages.notices import notify
from jobplatform.pages.problems import PageError, nothing_here
from jobplatform.pages.rendering import render
from jobplatform.pages.shell import Section, current_shell, current_visit, looking, require, url
from jobplatform.queue import JobChange, pages

_CHANGE = JobChangeSchema()
DEEDS: tuple[pages.BulkDeed, ...] = get_args(pages.BulkDeed)


def make_bulk() -> Section:
    section = Section("bulk", __name__)
    section.page("/bulk")(list_actions)
    section.page("/bulk/preview")(preview)
    section.action("/bulk/begin", None)(begin_from_form)
    section.page("/bulk/<uuid:action_id>")(show_action)
    section.action("/bulk/<uuid:action_id>/stop", None)(stop)
    return section


def list_actions() -> Response:
    with looking() as session:
        actions = pages.list_bulk(session, limit=50)
    return render("bulk_actions.html", actions=actions)


def preview() -> Response:
    return _page(_deed(request.args.get("deed", "")), request.args.get("q", ""))


def _page(deed: pages.BulkDeed, q: str, wrong: dict[str, str] | None = None, status: int = 200) -> Response:
    """``wrong``: with what was to be different, which is shown again as it was typed."""
    require(f"job.{deed}")
    search = _search(q)
    with looking() as session, _understood():
        found = pages.preview_bulk(session, deed, search)
    typed = typed_change(request.form) if wrong else {}
    return render(
        "bulk_preview.html", status=status, deed=deed, search=search, found=found, typed=typed, wrong=wrong or {}
    )


def begin_from_form() -> Any:
    deed = _deed(request.form.get("deed", ""))
    seen = request.form.get("expected", "")
    expected = int(seen) if seen.isdecimal() and len(seen) < 18 else None
    q = request.form.get("q", "")
    if deed != "change":
        return begin(deed, q, expected)
    if wrong := wrong_with_change(request.form, _complaints()):
        return _page(deed, q, wrong, 422)
    return begin(deed, q, expected, _CHANGE.load(change_of_job(request.form)))


def begin(deed: pages.BulkDeed, q: str, expected: int | None, change: JobChange | None = None) -> Any:
    """Have workers do it, and show how far they are."""
    require(f"job.{deed}")
    search = _search(q)
    with current_shell().mounted.transaction() as session, _understood():
        actor = current_visit().visitor.name
        action = pages.begin_bulk(session, deed, search, actor=actor, expected=expected, change=change)
        told: dict[str, Any] = {"arguments": action.arguments} if change else {}
        audit(session, f"bulk.{deed}", f"bulk:{action.id}", search=search.text, expected=expected, **told)
        action_id = action.id
    return redirect(url("bulk.show_action", action_id=action_id), 303)


def show_action(action_id: UUID) -> Response:
    with looking() as session:
        action = pages.find_bulk(session, action_id)
    if action is None:
        raise nothing_here()
    return render("bulk_action.html", action=action)


def stop(action_id: UUID) -> Any:
    with current_shell().mounted.transaction() as session:
        action = pages.find_bulk(session, action_id)
        if action is None:
            raise nothing_here()
        require(f"job.{action.deed}")
        stopped = pages.stop_bulk(session, action_id)
        if stopped:
            audit(session, "bulk.stop", f"bulk:{action_id}")
    answer = redirect(safe_back(url("bulk.show_action", action_id=action_id)), 303)
    notify(answer, "No more jobs are taken." if stopped else "It had ended already.", "done" if stopped else "refused")
    return answer


def _complaints() -> dict[str, str]:
    """What the API would say of the form."""
    found = _CHANGE.validate(change_of_job(request.form))
    return {name: " ".join(messages) for name, messages in found.items()}


def _deed(text: str) -> pages.BulkDeed:
    for deed in DEEDS:
        if text == deed:
            return deed
    raise PageError(400, "Nothing to do", f"{text!r} is not one of {', '.join(DEEDS)}.")


def _search(q: str) -> pages.Search:
    with _understood():
        return pages.parse_search(q)


@contextlib.contextmanager
def _understood() -> Iterator[None]:
    """A search that cannot be, or that finds nothing to which this can be done, is answered with what is wrong."""
    try:
        yield
    except SearchError as error:
        raise PageError(400, "Nothing to do", explained(error)) from None
