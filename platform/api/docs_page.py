"""The document of the API for people: Swagger UI, from its package, where the installation wants it.

Everything comes from here: the page asks nobody else for anything, and a strict policy sees to it. It shows what
``/openapi.json`` says and no more, so it is as public; what is tried from it needs a token like any other request.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from importlib.util import find_spec

from flask import Response

from jobplatform.api.answers import unless_known
from jobplatform.api.mounted import mounted
from jobplatform.api.problems import not_found
from jobplatform.api.resource import Resource
from jobplatform.errors import SettingsError

docs_page = Resource("docs_page", __name__, description="This document, for people")

PAGE = "/docs"
STYLE, BUNDLE, START = "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js", "/docs/start.js"
PACKAGE = "flask_swagger_ui"
#: Seconds for which a browser need not ask again. It changes with the installation, so not for ever.
FRESH = 3600

#: The package's pictures are data in its style sheet; nothing else comes from anywhere but here.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def require_docs() -> None:
    """Raise :class:`SettingsError` where the page is wanted and its package is not there."""
    if find_spec(PACKAGE) is None:
        raise SettingsError(["JOBPLATFORM_DOCS=true needs Swagger UI: pip install 'jobplatform[docs]'"])


@docs_page.endpoint("GET", PAGE, None, refuses=(404,))
@docs_page.answers(200, content_type="text/html", description="A page that shows the OpenAPI document")
def show_docs() -> Response:
    """Show the OpenAPI document to people, and let them try it

    Where the installation wants it (`JOBPLATFORM_DOCS=true`); else there is nothing here.
    """
    return _answer(_ours, "page.html", "text/html; charset=utf-8")


@docs_page.endpoint("GET", STYLE, None, refuses=(404,))
@docs_page.may_answer(304, description="The client has it already", success=True)
@docs_page.answers(200, content_type="text/css", description="The page's style")
def show_style() -> Response:
    """Show the style of the page"""
    return _kept(_of_package, "swagger-ui.css", "text/css; charset=utf-8")


@docs_page.endpoint("GET", BUNDLE, None, refuses=(404,))
@docs_page.may_answer(304, description="The client has it already", success=True)
@docs_page.answers(200, content_type="text/javascript", description="What draws the page")
def show_bundle() -> Response:
    """Show what draws the page"""
    return _kept(_of_package, "swagger-ui-bundle.js", "text/javascript; charset=utf-8")


@docs_page.endpoint("GET", START, None, refuses=(404,))
@docs_page.may_answer(304, description="The client has it already", success=True)
@docs_page.answers(200, content_type="text/javascript", description="What the page begins with")
def show_start() -> Response:
    """Show what the page begins with"""
    return _kept(_ours, "start.js", "text/javascript; charset=utf-8")


def _kept(read: Callable[[str], bytes], name: str, content_type: str) -> Response:
    answer = _answer(read, name, content_type)
    answer.cache_control.public = True
    answer.cache_control.max_age = FRESH
    answer.add_etag()
    return unless_known(answer)


def _answer(read: Callable[[str], bytes], name: str, content_type: str) -> Response:
    if not mounted().docs:
        raise not_found()
    answer = Response(read(name), content_type=content_type)
    answer.headers["Content-Security-Policy"] = POLICY
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Referrer-Policy"] = "no-referrer"
    return answer


@cache
def _of_package(name: str) -> bytes:
    return (files(PACKAGE) / "dist" / name).read_bytes()


@cache
def _ours(name: str) -> bytes:
    return (files("jobplatform.api") / "static" / "docs" / name).read_bytes()
