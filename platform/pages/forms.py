"""That a form which is sent is one of ours: sent from a page of this site, with a text that only such a page has."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from urllib.parse import urlsplit

from flask import Response, g, request

from jobplatform.pages.problems import PageError
from jobplatform.pages.shell import current_shell

FIELD = "form_token"
_COOKIE = "jobplatform_form"
_CONTEXT = b"jobplatform form v1"


def form_token() -> str:
    """What every form sends along. It belongs to the session, or to the browser where there is none of ours."""
    return hmac.new(_binding().encode(), _CONTEXT, hashlib.sha256).hexdigest()


def require_own_form() -> None:
    """Refuse what was sent from elsewhere, or without the text."""
    said = request.form.get(FIELD, "").encode(errors="replace")
    if not _comes_from_here() or not hmac.compare_digest(said, form_token().encode()):
        raise PageError(
            403,
            "That form is out of date",
            "It was opened in another session or on another site. Go back, copy what you have typed, load that page "
            "again and send it from there.",
        )


def keep_binding(response: Response) -> Response:
    """Give the browser the cookie that its forms belong to, where one was made for this answer."""
    made = g.get("jobplatform_form_cookie")
    if made:
        response.set_cookie(
            _COOKIE, made, httponly=True, samesite="Strict", secure=request.is_secure, path=current_shell().cookie_path
        )
    return response


def _binding() -> str:
    session = request.cookies.get(current_shell().cookie, "")
    if session and current_shell().access is None:
        return session
    return request.cookies.get(_COOKIE) or _new_cookie()


def _new_cookie() -> str:
    if "jobplatform_form_cookie" not in g:
        g.jobplatform_form_cookie = secrets.token_urlsafe(24)
    return str(g.jobplatform_form_cookie)


def _comes_from_here() -> bool:
    """Browsers say where a request comes from in a header that no page can write. Older ones say the origin."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("Origin")
    try:
        return origin is None or urlsplit(origin).netloc == request.host
    except ValueError:
        return False
