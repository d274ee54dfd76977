"""Templates: with everything escaped, and an error for whatever a page names and nobody gave."""

from __future__ import annotations

import datetime
import functools
from importlib import resources
from typing import Any

from flask import Response, request
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from jobplatform.pages import words
from jobplatform.pages.assets import asset_url
from jobplatform.pages.forms import FIELD, form_token
from jobplatform.pages.going_back import safe_back
from jobplatform.pages.notices import take_notice
from jobplatform.pages.shell import current_shell, may, url, visit_or_none
from jobplatform.redaction import redact_text, redacted
from jobplatform.wording import plural


def render(template: str, *, status: int = 200, **values: Any) -> Response:
    """A page of this shell as an answer."""
    return Response(_environment().get_template(template).render(_about_request() | values), status, content_type=HTML)


HTML = "text/html; charset=utf-8"


@functools.cache
def _environment() -> Environment:
    folder = resources.files("jobplatform.pages") / "templates"
    environment = Environment(
        loader=FileSystemLoader(str(folder)),
        # Everywhere and always. No template and no function says that a text is safe: see tests/pages.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=words.number,
        as_typed=words.as_typed,
        in_form=words.in_form,
        percent=words.percent,
        duration=words.duration,
        ago=words.ago,
        moment=words.moment,
        iso=words.iso,
        local=words.local,
        readable=words.readable,
        short_id=words.short_id,
        plural=plural,
        key=words.key,
        changes=words.changes,
        compact=lambda value: words.compact(redacted(value)),
        pretty=lambda value: words.pretty(redacted(value)),
        redact=lambda text: redact_text(text) if text else "",
    )
    environment.globals.update(
        url=url, asset=asset_url, may=may, form_token=form_token, FIELD=FIELD, path=_here, now=_now, home=_home
    )
    return environment


def _about_request() -> dict[str, Any]:
    shell, visit = current_shell(), visit_or_none()
    theme = request.cookies.get("jobplatform_theme", "system")
    return {
        "shell": shell,
        "visitor": visit.visitor if visit else None,
        "brand": (visit.workspace_name if visit else "") or shell.title,
        "read_only": shell.options.read_only or bool(visit and visit.visitor.may == "read_only"),
        "notice": None if request.headers.get("X-Live") else take_notice(),
        "theme": theme if theme in ("light", "dark") else "system",
        "nav_values": _nav_values(),
        "endpoint": (request.endpoint or "").removeprefix(f"{shell.mounted_as}."),
    }


def _nav_values() -> dict[str, Any]:
    """What every address of these pages has in it: in a portal, whose it is."""
    tenant_id = (request.view_args or {}).get("tenant_id")
    return {"tenant_id": tenant_id} if tenant_id else {}


def _home() -> str:
    """The first page, or the sign-in of somebody of whom it is not known yet which that is."""
    shell, tenant_id = current_shell(), (request.view_args or {}).get("tenant_id")
    if shell.for_operators or tenant_id:
        return shell.home_of(tenant_id)
    return url("signing_in.sign_in")


def _here() -> str:
    """This page, for forms that come back to it; where a form is shown again, the page that it came from."""
    if request.method == "POST":
        return safe_back()
    query = f"?{request.query_string.decode(errors='replace')}" if request.query_string else ""
    return request.script_root + request.path + query


def _now() -> datetime.datetime:
    """For "3 min ago" alone: what counts is decided by the database's clock."""
    return datetime.datetime.now(datetime.UTC)
