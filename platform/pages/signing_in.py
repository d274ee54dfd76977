"""Signing in: a token is pasted once and exchanged for a session; and signing out."""

from __future__ import annotations

from typing import Any

from flask import Response, current_app, redirect, request

from jobplatform.api.access.principals import Principal
from jobplatform.api.access.tokens import is_job_token, presented_id, verify_token
from jobplatform.api.mounted import Reach
from jobplatform.api.requests import current_request_id
from jobplatform.models import Role
from jobplatform.pages.forms import require_own_form
from jobplatform.pages.going_back import is_plain, safe_back
from jobplatform.pages.notices import notify
from jobplatform.pages.rendering import render
from jobplatform.pages.sessions import begin_session, opens_pages
from jobplatform.pages.shell import Section, Shell, current_shell, url
from jobplatform.queue import record
from jobplatform.wording import plural

REFUSED = "This is not a token that opens these pages. It may have expired or been revoked."
THEMES = ("system", "light", "dark")


def make_signing_in() -> Section:
    """Each shell has its own: a blueprint is registered in one place."""
    section = Section("signing_in", __name__)
    section.open("/sign-in", "GET")(sign_in)
    section.open("/sign-in", "POST")(take_token)
    section.action("/sign-out", None)(sign_out)
    section.open("/theme", "POST")(choose_theme)
    return section


def sign_in() -> Response:
    return _form()


def take_token() -> Any:
    require_own_form()
    shell = current_shell()
    text = "".join(request.form.get("token", "").split())
    principal = _verify(shell, text)
    home = _shell_of(principal) if principal else None
    if principal is None or home is None:
        return _refuse(shell, request.remote_addr or "")
    return _begin(home, principal)


def sign_out() -> Any:
    shell = current_shell()
    answer = redirect(url("signing_in.sign_in"), 303)
    answer.delete_cookie(shell.cookie, path=shell.cookie_path)
    notify(answer, "You are signed out.")
    return answer


def choose_theme() -> Any:
    """Kept in a cookie that says nothing about anybody."""
    require_own_form()
    wanted = request.form.get("theme", "")
    answer = redirect(safe_back(), 303)
    if wanted in THEMES[1:]:
        shell = current_shell()
        answer.set_cookie("jobplatform_theme", wanted, max_age=31_536_000, samesite="Lax", path=shell.cookie_path)
    else:
        answer.delete_cookie("jobplatform_theme", path=current_shell().cookie_path)
    return answer


def _form(status: int = 200, complaint: str = "") -> Response:
    return render("sign_in.html", status=status, complaint=complaint, next=request.values.get("next", ""))


def _refuse(shell: Shell, address: str) -> Response:
    """Only who has no token is made to wait: else anybody could keep out everybody who has one, who may even have the
    same address, a proxy's.
    """
    wait = shell.attempts.wait_for(address)
    if not wait:
        shell.attempts.note_failure(address)
        return _form(403, REFUSED)
    answer = _form(429, f"Too many attempts. Try again in {plural(int(wait) + 1, 'second')}.")
    answer.headers["Retry-After"] = str(int(wait) + 1)
    return answer


def _verify(shell: Shell, text: str) -> Principal | None:
    if is_job_token(text):
        return None
    with shell.mounted.transaction(Reach(token_id=presented_id(text))) as session:
        found = verify_token(session, text)
    return found if found is not None and opens_pages(found.scopes) else None


def _shell_of(principal: Principal) -> Shell | None:
    """The pages that a token opens: these, or the other ones of this application that have the same database."""
    here = current_shell()
    shells = [found for found in current_app.blueprints.values() if isinstance(found, Shell)]
    for found in (here, *shells):
        is_ours = found.mounted is here.mounted and found.access is None
        if is_ours and found.for_operators == principal.is_operator:
            return found
    return None


def _begin(home: Shell, principal: Principal) -> Any:
    assert principal.token_id is not None
    with home.mounted.transaction(Reach(token_id=principal.token_id)) as session:
        text = begin_session(session, principal.token_id, home.session_lasts)
    if text is None:
        return _form(403, REFUSED)
    _write_down(home, principal)
    answer = redirect(_first_page(home, principal), 303)
    answer.set_cookie(
        home.cookie,
        text,
        max_age=int(home.session_lasts.total_seconds()),
        httponly=True,
        samesite="Lax",
        secure=request.is_secure,
        path=home.cookie_path,
    )
    return answer


def _write_down(home: Shell, principal: Principal) -> None:
    reach = Reach(Role.OPERATOR) if principal.is_operator else Reach(Role.API, principal.workspace_id)
    with home.mounted.transaction(reach) as session:
        record(
            session,
            actor=principal.name,
            action="session.begin",
            target=f"token:{principal.token_id}",
            workspace_id=principal.workspace_id,
            token_id=principal.token_id,
            request_id=current_request_id(),
            details={"pages": home.name},
        )


def _first_page(home: Shell, principal: Principal) -> str:
    wanted = request.form.get("next", "")
    is_path = wanted.startswith("/") and not wanted.startswith("//") and is_plain(wanted)
    if home is current_shell() and is_path:
        return home.cookie_path.rstrip("/") + wanted
    return home.home_of(principal.workspace_id)
