"""The ES module in a real browser, against a real server and a real worker."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobplatform.client import Client
from jobplatform.testing import WorkerProcess, wait_until
from tests.api.conftest import MintToken, mint
from tests.api.servers import ROOT, Server
from tests.browser.react import needs_react

__all__ = ["mint"]

WATCH = """
async ({ url, token }) => {
  window.seen = [];
  window.job = await window.jobplatform.watchJob(url, {
    token,
    onChange: (job, event) => window.seen.push([event.name, event.data.epoch ?? null, event.data.line ?? null]),
  });
  window.done = true;
}
"""
LISTEN = """
({ url, token }) => {
  window.messages = [];
  const source = new EventSource(`${url}?token=${token}`);
  source.onmessage = (message) => {
    window.messages.push(JSON.parse(message.data).status);
    if (["COMPLETED", "FAILED", "CANCELLED"].includes(window.messages.at(-1))) source.close();
  };
}
"""
HOOK = """
async ({ url, token }) => {
  for (const src of ["/react.js", "/react-dom.js"]) {
    const script = document.createElement("script");
    await new Promise((onload) => document.head.append(Object.assign(script, { src, onload })));
  }
  window.rendered = [];
  const { useJob } = window.jobplatform.reactHooks(React);
  function Shown() {
    const job = useJob(url, { token: () => token });
    window.rendered.push(job.status);
    return job.status;
  }
  ReactDOM.createRoot(document.getElementById("hook")).render(React.createElement(Shown));
}
"""
MODULE = ROOT / "platform" / "api" / "static" / "v1" / "jobplatform.js"
PAGE = '<!doctype html><script type="module">import * as all from "/it.js"; window.jobplatform = all;</script>'
#: A server that answers what it was told to, and pauses that are noted and take no time.
SCRIPTED = """
async (answers) => {
  const asked = [], pauses = [], changes = [], errors = [];
  addEventListener("error", (event) => { errors.push(event.message); event.preventDefault(); });
  const wait = window.setTimeout;
  window.setTimeout = (act, milliseconds) => {
    if (milliseconds === 30_000) return 0;  // how long a stream may be silent
    pauses.push(milliseconds);
    return wait(act, 0);
  };
  const fetch = async (url) => {
    asked.push(url);
    const [status, headers, body] = answers.shift();
    return new Response(body, { status, headers });
  };
  const onChange = (job) => { changes.push(job.status); throw new Error("the page's own"); };
  const job = await window.jobplatform.watchJob("/job", { fetch, onChange });
  return { asked, pauses, changes, errors, status: job.status };
}
"""


@pytest.fixture
def serve(database_url: str, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def serve(**environ: str) -> Server:
        servers.append(Server(database_url, tmp_path, application="tests.browser.page:app", **environ))
        servers[-1].start()
        return servers[-1]

    yield serve
    for server in servers:
        server.destroy()


@pytest.fixture
def worker(jobplatform_worker: Callable[..., WorkerProcess]) -> WorkerProcess:
    return jobplatform_worker("tests.api.stream_tasks:tasks", ready=False)


def open_page(chromium: Any, server: Server) -> Any:
    page = chromium.new_page()
    page.goto(server.url)
    wait_for(page, "window.ready")
    return page


def wait_for(page: Any, condition: str) -> None:
    """Playwright's own way to wait is an `eval` in the page, which the page forbids."""
    wait_until(lambda: page.evaluate(f"Boolean({condition})"), what=f"the page to say {condition}", seconds=60)


def story(lines: int) -> list[list[Any]]:
    told: list[list[Any]] = [["job.pending", 0, None]]
    for epoch, end in ((1, "job.pending"), (2, "job.completed")):
        told.append(["job.running", epoch, None])
        told += [["job.log", epoch, line + 1] for line in range(lines)]
        told.append([end, epoch, None])
    return told


@needs_react
def test_a_page_watches_a_job_while_the_server_is_killed_and_started_again(
    chromium: Any, serve: Callable[..., Server], worker: WorkerProcess, mint: MintToken, workspace_id: uuid.UUID
) -> None:
    """By the module, by the React hook, and by an EventSource with the token in its URL."""
    server = serve()
    worker.wait_for("worker ready")
    page = open_page(chromium, server)
    with Client(f"{server.url}/api", mint(workspace_id), workspace_id) as client:
        job = client.enqueue("talk", {"lines": 20, "pause": 0.1})
        names = {"url": job.raw["statusUrl"], "token": client.token_for(job.id)}
        page.evaluate("(names) => { (" + WATCH + ")(names); }", names)
        page.evaluate(HOOK, names)
        page.evaluate(LISTEN, {**names, "url": f"/api/jobs/stream/{job.id}"})
        wait_for(page, "window.seen.length > 8 && window.messages.length > 1")

        server.kill()
        server.start()

        wait_for(page, "window.done && window.messages.includes('COMPLETED')")
        wait_for(page, "window.rendered.includes('completed')")

    seen = [told for told in page.evaluate("window.seen") if told[0] != "job.progress"]
    watched = page.evaluate("window.job")
    assert seen == story(20)
    assert (watched["status"], watched["result"], len(watched["log"])) == ("completed", {"lines": 20}, 40)
    # What comes together is rendered together: not every state has to be seen.
    assert page.evaluate("[window.rendered[0], window.rendered.at(-1)]") == [None, "completed"]
    messages = page.evaluate("window.messages.filter((status, at, all) => status !== all[at - 1])")
    assert messages == ["QUEUED", "EXECUTING", "QUEUED", "EXECUTING", "COMPLETED"]


def test_a_page_asks_where_there_is_no_place_for_a_stream_and_says_what_is_refused(
    chromium: Any, serve: Callable[..., Server], mint: MintToken, workspace_id: uuid.UUID
) -> None:
    server = serve(JOBPLATFORM_MAX_STREAMS="1")
    page = open_page(chromium, server)
    token = mint(workspace_id)
    with Client(f"{server.url}/api", token, workspace_id) as client:
        occupied, job = client.enqueue("talk"), client.enqueue("talk")
        stream = client.stream(occupied.id)
        next(stream)
        page.evaluate("(names) => { (" + WATCH + ")(names); }", {"url": job.raw["statusUrl"], "token": token})
        wait_for(page, "window.seen.length")

        ended = page.evaluate(
            """async ({ workspace, token, id }) => {
              const client = window.jobplatform.createClient("/api", workspace, { token });
              const listed = [];
              for await (const job of client.list({ limit: "1" })) listed.push(job.id);
              const refused = await client.get("nonsense").catch((error) => error);
              const cancelled = await client.cancel(id);
              const made = await client.enqueue("talk", {}, { priority: 5 });
              const later = await client.enqueue("talk", {}, { delayMs: 3600000 });
              const advanced = await client.runNow(later.id);
              const changed = await client.change(later.id, { priority: 7, runAfter: "2031-01-01T00:00:00Z" });
              const ended = await client.runNow(id).catch((error) => error);
              const guarded = (priority, ifStill) =>
                client.change(later.id, { priority }, { ifStill }).catch((error) => error);
              const still = await guarded(8, changed);
              const meanwhile = await guarded(9, changed);
              const untagged = await guarded(9, later);
              return [
                listed.length, refused.name, refused.status, cancelled.status, made.priority,
                advanced.id === later.id && advanced.runAfter < later.runAfter, ended.status,
                changed.priority, changed.runAfter > later.runAfter,
                still.priority, meanwhile.status, untagged.name, (await client.get(later.id)).priority,
              ];
            }""",
            {"workspace": str(workspace_id), "token": token, "id": job.id},
        )
        wait_for(page, "window.done")
        stream.close()  # type: ignore[attr-defined]  # it is a generator's

    assert ended == [2, "ApiError", 404, "cancelled", 5, True, 409, 7, True, 8, 412, "TypeError", 8]
    assert page.evaluate("window.job.status") == "cancelled"
    assert page.evaluate("window.seen.map((told) => told[0])") == ["job.pending", "job.cancelled"]


def test_an_enqueue_says_whether_the_job_was_there_already_or_was_replaced(
    chromium: Any, serve: Callable[..., Server], mint: MintToken, workspace_id: uuid.UUID
) -> None:
    server = serve()
    page = open_page(chromium, server)

    made = page.evaluate(
        """async ({ workspace, token }) => {
          const client = window.jobplatform.createClient("/api", workspace, { token });
          const made = [];
          for (const ifActive of ["refuse", "return", "replace"]) {
            made.push(await client.enqueue("talk", {}, { uniqueKey: "one", delayMs: 3600000, ifActive }));
          }
          return made.map((job) => [job.id === made[0].id, job.deduplicated, job.replaced]);
        }""",
        {"workspace": str(workspace_id), "token": mint(workspace_id)},
    )

    assert made == [[True, False, False], [True, True, False], [True, False, True]]


def test_an_answer_that_is_lost_is_asked_for_again_and_the_job_is_there_once(
    chromium: Any, serve: Callable[..., Server], mint: MintToken, workspace_id: uuid.UUID
) -> None:
    server = serve()
    page = open_page(chromium, server)
    token = mint(workspace_id)

    job_id, sent = page.evaluate(
        """async ({ workspace, token }) => {
          let sent = 0;
          const losing = async (url, init) => {
            const answer = await fetch(url, init);
            sent += 1;
            if (sent === 1) throw new TypeError("the connection is lost");
            return answer;
          };
          const client = window.jobplatform.createClient("/api", workspace, { token, fetch: losing });
          return [(await client.enqueue("talk")).id, sent];
        }""",
        {"workspace": str(workspace_id), "token": token},
    )

    with Client(f"{server.url}/api", token, workspace_id) as client:
        assert [job.id for job in client.list_jobs()] == [job_id]
    assert sent == 2


@pytest.mark.parametrize(
    ("method", "answers", "tries", "asked", "status"),
    [
        ("POST", [503, 502, 504], {}, 4, None),
        ("POST", [503, 503], {"tries": 2}, 2, 503),
        ("POST", [429], {}, 1, 429),
        ("GET", [429], {}, 2, None),
        ("POST", [422], {}, 1, 422),
        ("POST", [409], {}, 1, 409),
        ("POST", ["under way"], {}, 2, None),
        ("GET", ["no one", "no one"], {"tries": 2}, 2, "TypeError"),
    ],
)
def test_what_may_pass_is_asked_again_with_the_same_key(
    chromium: Any, method: str, answers: list[int | str], tries: dict[str, int], asked: int, status: int | str | None
) -> None:
    page = alone(chromium)

    keys, refused = page.evaluate(
        """async ({ method, answers, tries }) => {
          const keys = [];
          const wait = window.setTimeout;
          window.setTimeout = (act) => wait(act, 0);
          const fetch = async (url, { headers }) => {
            keys.push(headers["Idempotency-Key"] ?? null);
            const said = answers.shift() ?? 200;
            if (said === "no one") throw new TypeError("nobody answers");
            const type = said === "under way" ? "urn:problem:request-under-way" : "urn:problem:another";
            return new Response(JSON.stringify({ type, job: {} }), { status: said === "under way" ? 409 : said });
          };
          const client = window.jobplatform.createClient("/api", "w", { fetch, ...tries });
          const asks = method === "GET" ? client.get("j") : client.cancel("j");
          return [keys, await asks.then(() => null, (error) => error.status ?? error.name)];
        }""",
        {"method": method, "answers": answers, "tries": tries},
    )

    assert (len(keys), refused) == (asked, status)
    assert len(set(keys)) == 1
    assert (keys[0] is None) == (method == "GET")


def alone(chromium: Any) -> Any:
    """A page with the module and no server."""
    page = chromium.new_page()
    page.route("**/*", lambda route: route.fulfill(body=PAGE, content_type="text/html"))
    page.route("**/it.js", lambda route: route.fulfill(path=MODULE, content_type="text/javascript"))
    page.goto("http://jobs.test/")
    wait_for(page, "window.jobplatform")
    return page


def test_a_server_that_wants_to_be_left_alone_is(chromium: Any) -> None:
    page = alone(chromium)
    running = '{"status": "running", "progress": null, "result": null, "error": null}'
    answers = [
        [429, {"Retry-After": "7"}, "{}"],
        [503, {"Retry-After": "10"}, "{}"],
        [429, {"Retry-After": "9"}, "{}"],
        [502, {}, "<h1>Bad Gateway</h1>"],
        [200, {}, running],
        [200, {}, 'event: job.completed\nid: 2\ndata: {"jobId": "j", "epoch": 1, "status": "completed"}\n\n'],
    ]

    done = page.evaluate(SCRIPTED, answers)

    stream, look = "/job/events", "/job?wait=20"
    # Who may not ask for a stream may not ask for anything else; where there is only no place for one it may.
    assert done["asked"] == [stream, stream, look, stream, look, stream]
    assert [pause >= least for pause, least in zip(done["pauses"], (7_000, 9_000, 0), strict=True)] == [True] * 3
    assert done["pauses"][2] < 7_000
    # What is wrong with the page ends nothing, and is said where it is looked for.
    assert (done["changes"], done["status"]) == (["running", "completed"], "completed")
    assert len(done["errors"]) == 2
