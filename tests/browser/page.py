"""A host application with a page that watches a job, as strict about scripts as a page can be."""

from __future__ import annotations

from flask import Flask, Response, request, send_file

from jobplatform.api import JobPlatform
from tests.api.stream_tasks import tasks
from tests.browser.react import SCRIPTS

app = Flask(__name__)
JobPlatform(app, tasks)

#: Nothing inline, nothing from elsewhere.
POLICY = "default-src 'none'; script-src 'self'; connect-src 'self'"

PAGE = '<!doctype html><title>A job</title><div id="hook"></div><script type="module" src="/page.js"></script>'

SCRIPT = """
import { watchJob, reactHooks, createClient, ApiError } from "/api/client/v1/jobplatform.js";

window.jobplatform = { watchJob, reactHooks, createClient, ApiError };

window.ready = true;
"""


@app.after_request
def be_strict(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = POLICY
    return response


@app.get("/")
def page() -> str:
    return PAGE


@app.get("/element")
def element() -> str:
    return '<!doctype html><title>A job</title><script type="module" src="/api/client/v1/job-progress.js"></script>'


@app.get("/react.js")
@app.get("/react-dom.js")
def react() -> Response:
    return send_file(SCRIPTS[request.path])


@app.get("/page.js")
def script() -> Response:
    return Response(SCRIPT, content_type="text/javascript")
