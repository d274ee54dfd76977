"""After something was asked of the API: back to the page where the form was, with what became of it."""

from __future__ import annotations

from typing import Any, Final

from flask import redirect, request

from jobplatform.api.once import WELL_FORMED
from jobplatform.pages.going_back import safe_back
from jobplatform.pages.inner_api import Answer
from jobplatform.pages.notices import notify
from jobplatform.pages.problems import PageError

NO_KEY: Final = (
    "What the form says in its field once is not the key that it was shown with. Send it as the page has it."
)


def key_of_form() -> str | None:
    """By which the same form that is sent twice does its work once. Raises :class:`PageError` for what is no key."""
    said = request.form.get("once") or None
    if said is not None and not WELL_FORMED.fullmatch(said):
        raise PageError(400, "That form was changed", NO_KEY)
    return said


def done(answer: Answer, words: str, there: str | None = None, *, refusal: str = "") -> Any:
    """To ``there``, or back, whatever the address was: filters and all. ``refusal`` in place of the API's complaint."""
    response = redirect(there if there and answer.ok else safe_back(), 303)
    notify(response, words if answer.ok else refusal or answer.complaint, "done" if answer.ok else "refused")
    return response


def refused(words: str) -> Any:
    """Back, without anything having been asked."""
    response = redirect(safe_back(), 303)
    notify(response, words, "refused")
    return response
