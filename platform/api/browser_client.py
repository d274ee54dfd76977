"""The client for browsers, served beside the API that it calls: an ES module, its types, and an element made with it.

The version in the path is that of what it exports. It changes when an import could break, and the old one stays.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from flask import Response

from jobplatform.api.answers import unless_known
from jobplatform.api.resource import Resource

browser_client = Resource("browser_client", __name__, description="The client for browsers")

MODULE = "/client/v1/jobplatform.js"
TYPES = "/client/v1/jobplatform.d.ts"
ELEMENT = "/client/v1/job-progress.js"
#: Seconds for which a browser need not ask again. It changes with the installation, so not for ever.
FRESH = 3600


@browser_client.endpoint("GET", MODULE, None)
@browser_client.may_answer(304, description="The client has it already", success=True)
@browser_client.answers(200, content_type="text/javascript", description="An ES module: watchJob, createClient, …")
def module() -> Response:
    """Show the client for browsers"""
    return _file("jobplatform.js", "text/javascript; charset=utf-8")


@browser_client.endpoint("GET", TYPES, None)
@browser_client.may_answer(304, description="The client has it already", success=True)
@browser_client.answers(200, content_type="text/plain", description="The types of the ES module, for TypeScript")
def types() -> Response:
    """Show the types of the client for browsers"""
    return _file("jobplatform.d.ts", "text/plain; charset=utf-8")


@browser_client.endpoint("GET", ELEMENT, None)
@browser_client.may_answer(304, description="The client has it already", success=True)
@browser_client.answers(200, content_type="text/javascript", description="An ES module that defines <job-progress>")
def element() -> Response:
    """Show the element that shows a job"""
    return _file("job-progress.js", "text/javascript; charset=utf-8")


def _file(name: str, content_type: str) -> Response:
    answer = Response(_text(name), content_type=content_type)
    answer.cache_control.public = True
    answer.cache_control.max_age = FRESH
    answer.add_etag()
    return unless_known(answer)


@cache
def _text(name: str) -> str:
    return (files("jobplatform.api") / "static" / "v1" / name).read_text(encoding="utf-8")
