"""A host application with a page that watches a job, as strict about scripts as a page can be."""

from __future__ import annotations

from flask import Flask, Response

from jobplatform.api import JobPlatform
from tests.api.stream_tasks import tasks

app = Flask(__name__)
JobPlatform(app, tasks)

#: Nothing inline, nothing from elsewhere.
POLICY = "default-src 'none'; script-src 'self'; connect-src 'self'"

PAGE = '<!doctype html><title>A job</title><script type="module" src="/page.js"></script>'

SCRIPT = """
import { watchJob, reactHooks, createClient, ApiError } from "/api/client/v1/jobplatform.js";

window.jobplatform = { watchJob, reactHooks, createClient, ApiError };

// As much of React as a hook of a few lines can see: state that is kept between renders, and effects that run once.
window.fakeReact = (render) => {
  let state, effect, cleanup;
  const React = {
    useState(initial) {
      state ??= { value: initial };
      return [state.value, (next) => {
        state.value = typeof next === "function" ? next(state.value) : next;
        render(component());
      }];
    },
    useEffect(run) {
      if (effect) return;
      effect = run;
      cleanup = run();
    },
  };
  let component;
  return { React, mount: (use) => { component = use; render(use()); }, unmount: () => cleanup() };
};
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


@app.get("/page.js")
def script() -> Response:
    return Response(SCRIPT, content_type="text/javascript")
