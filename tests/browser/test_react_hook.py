"""The React hook under the real React, with streams that say what a test has them say."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from tests.api.servers import ROOT
from tests.browser.react import SCRIPTS, needs_react
from tests.browser.test_es_module import wait_for

pytestmark = needs_react

FILES = {**SCRIPTS, "/it.js": ROOT / "platform" / "api" / "static" / "v1" / "jobplatform.js"}
PAGE = """
<!doctype html><div id="root"></div><script src="/react.js"></script><script src="/react-dom.js"></script>
<script type="module">import { reactHooks } from "/it.js"; window.useJob = reactHooks(React).useJob;</script>
"""
#: A component with a token of the kind that is asked for, and what it has rendered and asked for.
COMPONENT = """
(kind) => {
  window.rendered = [];
  window.asked = [];
  window.streams = [];
  const fetch = async (url, { headers, signal }) => {
    window.asked.push([url, headers.Authorization]);
    if (headers.Authorization === "Bearer refused") return new Response("{}", { status: 401 });
    return new Response(new ReadableStream({
      start(stream) {
        window.streams.push(stream);
        signal.addEventListener("abort", () => stream.error(signal.reason));
      },
    }));
  };
  function Shown({ url, token }) {
    const job = window.useJob(url, { fetch, token: kind === "function" ? () => token : token });
    window.rendered.push([url, job.status, job.failure?.status ?? null]);
    return job.status;
  }
  const root = ReactDOM.createRoot(document.getElementById("root"));
  window.show = (url, token) => root.render(React.createElement(Shown, { url, token }));
}
"""


def open_component(chromium: Any, kind: str) -> Any:
    page = chromium.new_page()
    page.route("**/*", lambda route: route.fulfill(body=PAGE, content_type="text/html"))
    page.route("**/*.js", lambda route: route.fulfill(path=FILES[urlsplit(route.request.url).path]))
    page.goto("http://jobs.test/")
    wait_for(page, "window.useJob")
    page.evaluate(COMPONENT, kind)
    return page


def show(page: Any, url: str, token: str) -> None:
    page.evaluate("([url, token]) => window.show(url, token)", [url, token])


def say(page: Any, stream: int, status: str) -> None:
    """Have a stream say it, and wait until the component shows it."""
    event = f"event: job.{status}\nid: {status}\ndata: {json.dumps({'jobId': 'j', 'status': status})}\n\n"
    page.evaluate(
        "([at, event]) => window.streams[at].enqueue(new TextEncoder().encode(event))",
        [stream, event],
    )
    wait_for(page, f"window.rendered.at(-1)[1] === '{status}'")


def test_a_token_function_written_in_the_component_is_one_connection_and_the_newest_is_asked(chromium: Any) -> None:
    page = open_component(chromium, "function")
    show(page, "/a", "first")
    wait_for(page, "window.streams.length")
    for status in ("pending", "running", "pending", "running"):
        say(page, 0, status)
    asked = page.evaluate("window.asked")

    show(page, "/a", "second")
    wait_for(page, "window.rendered.length === 6")
    page.evaluate("window.streams[0].close()")
    wait_for(page, "window.streams.length === 2")
    say(page, 1, "completed")

    assert asked == [["/a/events", "Bearer first"]]
    assert page.evaluate("window.asked") == [["/a/events", "Bearer first"], ["/a/events", "Bearer second"]]


def test_the_state_of_another_job_is_never_shown_as_this_one_s(chromium: Any) -> None:
    page = open_component(chromium, "string")
    show(page, "/a", "t")
    wait_for(page, "window.streams.length")
    say(page, 0, "running")

    show(page, "/b", "t")
    wait_for(page, "window.streams.length === 2")
    say(page, 1, "pending")

    rendered = page.evaluate("window.rendered")
    assert {status for url, status, _ in rendered if url == "/b"} == {None, "pending"}


def test_a_job_that_a_token_may_not_see_is_asked_for_again_with_the_next_one(chromium: Any) -> None:
    page = open_component(chromium, "string")
    show(page, "/a", "refused")
    wait_for(page, "window.rendered.at(-1)[2] === 401")

    show(page, "/a", "renewed")
    wait_for(page, "window.streams.length")
    say(page, 0, "running")

    assert page.evaluate("window.asked") == [["/a/events", "Bearer refused"], ["/a/events", "Bearer renewed"]]
    assert page.evaluate("window.rendered.at(-1)") == ["/a", "running", None]
