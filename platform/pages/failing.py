"""What goes wrong in a page is answered with a page."""

from __future__ import annotations

from typing import Any

from flask import request

from jobplatform.api.requests import current_request_id
from jobplatform.pages.going_back import safe_back
from jobplatform.pages.problems import AbsentError, as_page_error
from jobplatform.pages.rendering import render
from jobplatform.pages.shell import current_shell


def answer_error(error: Exception) -> Any:
    """Whatever a view let through."""
    if isinstance(error, AbsentError):
        return error
    found = as_page_error(error)
    return render(
        "error.html",
        status=found.status,
        title=found.title,
        detail=found.detail,
        request_id=current_request_id(),
        then=_then(),
        again=found.status >= 500 and request.method == "GET",
    )


def _then() -> str:
    """Where somebody was who has to sign in first, as the sign-in takes it."""
    shell = current_shell()
    here = safe_back("") if request.method == "POST" else ""
    return here.removeprefix(shell.cookie_path.rstrip("/"))
