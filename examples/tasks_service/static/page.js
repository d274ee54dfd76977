// Starts runs and follows each of them live, with React and the hook of the platform's own module. No build step.
import { reactHooks } from "/client/v1/jobplatform.js";

const { createElement: h, useState } = React;
const { useJob } = reactHooks(React);

const WORDS = { pending: "QUEUED", running: "EXECUTING", completed: "COMPLETED", failed: "FAILED", cancelled: "CANCELLED" };

function Page() {
  const [runs, setRuns] = useState([]);
  return h(
    React.Fragment,
    null,
    h("h1", null, "Tasks"),
    h(NewRun, { onStarted: (run) => setRuns((others) => [run, ...others]) }),
    runs.length ? null : h("p", { className: "empty" }, "Nothing has been started on this page yet."),
    runs.map((run) => h(Run, { key: run.id, ...run })),
  );
}

function NewRun({ onStarted }) {
  const [story, setStory] = useState("42");
  const [pages, setPages] = useState(5);
  const [fails, setFails] = useState(false);
  const [refused, setRefused] = useState("");
  async function start(event) {
    event.preventDefault();
    const payload = { story_id: story, pages: Number(pages), fails };
    const answer = await fetch("/runs", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ taskId: "analyze-story", payload }),
    }).catch(() => Response.error());
    const said = await answer.json().catch(() => ({ error: "The run could not be started. Try again shortly." }));
    setRefused(answer.ok ? "" : said.error);
    if (answer.ok) onStarted({ ...said, title: `analyze-story ${story}` });
  }
  return h(
    "form",
    { onSubmit: start },
    h("label", null, "Story ", h("input", { name: "story", value: story, onChange: (e) => setStory(e.target.value) })),
    h(
      "label",
      null,
      h("input", { name: "pages", type: "number", min: 1, required: true, value: pages, onChange: (e) => setPages(e.target.value) }),
      " pages",
    ),
    h(
      "label",
      null,
      h("input", { name: "fails", type: "checkbox", checked: fails, onChange: (e) => setFails(e.target.checked) }),
      " cannot be read",
    ),
    h("button", null, "Start"),
    refused ? h("p", { className: "refused", role: "alert" }, refused) : null,
  );
}

function Run({ title, statusUrl, token }) {
  const job = useJob(statusUrl, { token });
  const { current = 0, total = 1, message = "" } = job.progress ?? {};
  return h(
    "section",
    { className: "run" },
    h("h2", null, title),
    h("p", { className: `status ${job.status ?? ""}`, role: "status" }, WORDS[job.status] ?? "…"),
    job.status === "running" ? h("progress", { value: current, max: total, "aria-label": `How far ${title} is` }) : null,
    job.status === "running" ? h("p", { className: "message" }, message) : null,
    job.log.length ? h("ol", null, job.log.map((line) => h("li", { key: `${line.epoch}.${line.line}` }, line.message))) : null,
    job.error ? h("p", { className: "refused" }, job.error.message) : null,
    job.status === "completed" ? h("pre", null, JSON.stringify(job.result, null, 2)) : null,
  );
}

ReactDOM.createRoot(document.getElementById("page")).render(h(Page));
