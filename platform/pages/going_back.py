"""Back to where a form was: an address that was sent along, and is believed only as far as it is one of ours."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import request
from werkzeug.exceptions import HTTPException

from jobplatform.pages.shell import current_shell, url


def safe_back(fallback: str | None = None) -> str:
    """Where the form was: a path of these pages, whatever was sent."""
    shell = current_shell()
    sent, here = _sent(), shell.cookie_path
    path = sent.partition("?")[0]
    is_ours = path == here or path.startswith(here.rstrip("/") + "/")
    if is_ours and is_plain(sent):
        return sent
    if fallback is not None:
        return fallback
    return url(shell.home) if shell.for_operators else url("start.choose_workspace")


def is_plain(address: str) -> bool:
    """Whether browsers read it as it stands."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return not (parts.scheme or parts.netloc or "\\" in address or any(ord(one) < 32 for one in address))


def _sent() -> str:
    try:
        return request.form.get("back", "")
    except HTTPException:
        # Of a form that is too large nothing is read, and the page that says so asks as well.
        return ""
