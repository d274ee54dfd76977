"""One sentence for the next page: what was just done, or why not. Kept by the browser, as nothing else is at hand."""

from __future__ import annotations

import base64
import binascii
import json
from typing import NamedTuple

from flask import Response, g, request
from werkzeug.wrappers import Response as AnyResponse

from jobplatform.pages.shell import current_shell
from jobplatform.queue import safe_text

_COOKIE = "jobplatform_notice"
LONGEST = 600


class Notice(NamedTuple):
    """``kind``: done, or refused."""

    text: str
    kind: str


def notify(answer: AnyResponse, text: str, kind: str = "done") -> None:
    """Say it on the page that comes next."""
    said = base64.urlsafe_b64encode(json.dumps([text[:LONGEST], kind]).encode()).decode()
    answer.set_cookie(
        _COOKIE,
        said,
        max_age=60,
        httponly=True,
        samesite="Lax",
        secure=request.is_secure,
        path=current_shell().cookie_path,
    )


def take_notice() -> Notice | None:
    """What there is to say now, once. It is shown as text, whoever has written it."""
    said = request.cookies.get(_COOKIE, "")
    if not said:
        return None
    g.jobplatform_notice_taken = True
    try:
        text, kind = json.loads(base64.urlsafe_b64decode(said))
    except (ValueError, binascii.Error, TypeError, RecursionError):
        return None
    return Notice(safe_text(str(text), LONGEST), "refused" if kind == "refused" else "done")


def forget_notice(answer: Response) -> Response:
    """An ``after_request`` function. Parts that are fetched by scripts leave the notice where it is."""
    if g.get("jobplatform_notice_taken") and not answer.headers.getlist("Set-Cookie"):
        answer.delete_cookie(_COOKIE, path=current_shell().cookie_path)
    return answer
