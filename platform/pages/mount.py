"""The pages in an application: the operator's console and the tenant's portal, each under its own prefix."""

from __future__ import annotations

from flask import Flask, Response

from jobplatform.api.mounted import Mounted
from jobplatform.api.requests import accompany_requests
from jobplatform.api.streams.stopping import end_streams_when_told_to_stop
from jobplatform.pages.access import guard
from jobplatform.pages.assets import make_assets
from jobplatform.pages.console import NAVIGATION, make_console_sections
from jobplatform.pages.failing import answer_error
from jobplatform.pages.forms import keep_binding
from jobplatform.pages.inner_api import InnerApi
from jobplatform.pages.nothing import make_nothing
from jobplatform.pages.notices import forget_notice
from jobplatform.pages.portal import NAVIGATION as PORTAL_NAVIGATION
from jobplatform.pages.portal import make_portal_sections
from jobplatform.pages.shell import PagesOptions, Shell, current_shell
from jobplatform.pages.signing_in import make_signing_in
from jobplatform.pages.visitors import Access

#: Statuses that a page answers with a page, also where the application has an answer of its own. Not 404: where there
#: are no pages, the application says so.
_STATUSES = (400, 405, 413, 415)


def mount_pages(
    app: Flask,
    mounted: Mounted,
    *,
    console_prefix: str = "/console",
    portal_prefix: str = "/w",
    access: Access | None = None,
    options: PagesOptions | None = None,
) -> None:
    """Serve the pages in ``app``. An empty prefix leaves that part out.

    Closed by default: without ``access``, somebody comes in only with a token of ours. ``mounted`` is what the API in
    the same application works with, so that both count the same followers.
    """
    options, api = options or PagesOptions(), InnerApi(mounted)
    if console_prefix:
        register(app, make_console(mounted, api, access, options), console_prefix)
    if portal_prefix:
        register(app, make_portal(mounted, api, access, options), portal_prefix)


def make_console(mounted: Mounted, api: InnerApi, access: Access | None, options: PagesOptions) -> Shell:
    return Shell(
        "console",
        mounted,
        title="Jobs",
        for_operators=True,
        home="overview.show_overview",
        navigation=NAVIGATION,
        sections=[make_signing_in(), make_assets(), *make_console_sections(), make_nothing()],
        api=api,
        access=access,
        options=options,
    )


def make_portal(mounted: Mounted, api: InnerApi, access: Access | None, options: PagesOptions) -> Shell:
    return Shell(
        "portal",
        mounted,
        title="Activity",
        for_operators=False,
        home="syncs.show_syncs",
        navigation=PORTAL_NAVIGATION,
        sections=[make_signing_in(), make_assets(), *make_portal_sections(), make_nothing()],
        api=api,
        access=access,
        options=options,
    )


def register(app: Flask, shell: Shell, prefix: str) -> None:
    """The same for every shell: guard, headers, errors."""
    accompany_requests(shell)
    shell.before_request(guard)
    shell.after_request(_protect)
    shell.after_request(keep_binding)
    shell.after_request(forget_notice)
    for status in _STATUSES:
        shell.register_error_handler(status, answer_error)
    shell.register_error_handler(Exception, answer_error)
    app.register_blueprint(shell, url_prefix=prefix)
    end_streams_when_told_to_stop(shell)


def _protect(answer: Response) -> Response:
    """Nothing but our own files runs, is shown or is asked; nobody frames it unless told so."""
    shell = current_shell()
    frames = "'none'" if shell.for_operators else shell.options.frame_ancestors or "'none'"
    answer.headers["Content-Security-Policy"] = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        f"form-action 'self'; base-uri 'none'; frame-ancestors {frames}"
    )
    if frames == "'none'":
        answer.headers["X-Frame-Options"] = "DENY"
    # Not no-referrer: a form would be sent without an origin, which is what one from elsewhere looks like.
    answer.headers["Referrer-Policy"] = "same-origin"
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    answer.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    answer.headers["Permissions-Policy"] = "camera=(), geolocation=(), microphone=()"
    return answer
