"""What goes wrong in a page is answered with a page."""

from __future__ import annotations

from typing import Any

from jobplatform.api.requests import current_request_id
from jobplatform.pages.problems import AbsentError, as_page_error
from jobplatform.pages.rendering import render


def answer_error(error: Exception) -> Any:
    """Whatever a view let through."""
    if isinstance(error, AbsentError):
        return error
    found = as_page_error(error)
    return render(
        "error.html", status=found.status, title=found.title, detail=found.detail, request_id=current_request_id()
    )
