"""After something was asked of the API: back to the page where the form was, with what became of it."""

from __future__ import annotations

from typing import Any

from flask import redirect

from jobplatform.pages.going_back import safe_back
from jobplatform.pages.inner_api import Answer
from jobplatform.pages.notices import notify


def done(answer: Answer, words: str, there: str | None = None, *, refusal: str = "") -> Any:
    """To ``there``, or back, whatever the address was: filters and all. ``refusal`` in place of the API's complaint."""
    response = redirect(there if there and answer.ok else safe_back(), 303)
    notify(response, words if answer.ok else refusal or answer.complaint, "done" if answer.ok else "refused")
    return response
