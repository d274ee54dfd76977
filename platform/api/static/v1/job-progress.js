// <job-progress src="statusUrl" token="jpj_…">: one job, live, in any page. It needs no build step and no inline style.
// How to use it is in docs/howto/watch-a-job.md.

import { watchJob } from "./jobplatform.js";

const WORDS = { pending: "Waiting", running: "Running", completed: "Done", failed: "Failed", cancelled: "Cancelled" };
const WAITING = "Loading";
const LOST = "Cannot be shown";

const STYLE = `
  :host { display: block; max-width: 32rem; font: 0.9375rem/1.4 system-ui, sans-serif; color: var(--job-text, inherit) }
  :host([hidden]) { display: none }
  .head { display: flex; justify-content: space-between; gap: 1rem; margin-bottom: 0.375rem }
  .label { font-weight: 600; overflow-wrap: anywhere }
  .amount { font-variant-numeric: tabular-nums; white-space: nowrap }
  .track { height: 0.5rem; border-radius: 0.25rem; overflow: hidden; background: var(--job-track, #8886) }
  .fill { height: 100%; width: 0; border-radius: inherit; background: var(--job-fill, #2563eb); transition: width 0.2s }
  .message { margin: 0.375rem 0 0; min-height: 1.4em; overflow-wrap: anywhere }
  .track[data-status="completed"] .fill { background: var(--job-done, #15803d) }
  .track[data-status="failed"] .fill { background: var(--job-failed, #b91c1c) }
  .track[data-status="cancelled"] .fill { background: var(--job-cancelled, #6b7280) }
  .track.unknown .fill { width: 35%; animation: to-and-fro 1.6s ease-in-out infinite alternate }
  @keyframes to-and-fro { to { transform: translateX(185%) } }
  @media (prefers-reduced-motion: reduce) { .fill { transition: none; animation: none !important } }
`;

/** Says what becomes of a job: events `job-change` for all of it and `job-end` once, with the job as `detail`. */
class JobProgress extends HTMLElement {
  static observedAttributes = ["src", "token", "label"];
  #parts;
  #stop;
  #scheduled = false;

  /** A token, or a function that has a fresh one; in place of the attribute, which stays readable in the page. */
  tokenSource;
  /** What is known of the job; null before anything is. */
  job = null;

  connectedCallback() {
    this.#parts ??= drawn(this.attachShadow({ mode: "open" }));
    this.#show();
    this.#schedule();
  }

  disconnectedCallback() {
    this.#stop?.abort();
  }

  attributeChangedCallback(name, before, after) {
    if (!this.#parts || before === after) return;
    if (name === "label") this.#show();
    else this.#schedule();
  }

  // Two attributes that change together are one change.
  #schedule() {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#watch();
    });
  }

  async #watch() {
    this.#stop?.abort();
    const source = this.getAttribute("src");
    this.job = null;
    this.#show();
    if (!source || !this.isConnected) return;
    const stop = (this.#stop = new AbortController());
    const token = this.tokenSource ?? this.getAttribute("token") ?? undefined;
    const onChange = (job) => {
      if (stop.signal.aborted) return;
      this.job = job;
      this.#show();
      this.#tell("job-change");
    };
    try {
      await watchJob(source, { token, signal: stop.signal, onChange });
      if (!stop.signal.aborted) this.#tell("job-end");
    } catch (failure) {
      if (stop.signal.aborted) return;
      this.#show(failure);
      this.dispatchEvent(new CustomEvent("job-lost", { detail: failure, bubbles: true, composed: true }));
    }
  }

  #tell(name) {
    this.dispatchEvent(new CustomEvent(name, { detail: this.job, bubbles: true, composed: true }));
  }

  #show(failure) {
    const { label, amount, track, fill, message } = this.#parts;
    const { status = null, progress = null, error = null } = this.job ?? {};
    const name = this.getAttribute("label");
    const word = failure ? LOST : (WORDS[status] ?? WAITING);
    const share = status === "completed" ? 1 : shareOf(progress);
    label.textContent = name ? `${name}: ${word.toLowerCase()}` : word;
    amount.textContent = amountOf(progress, share);
    message.textContent = failure ? sentence(failure) : (error?.message ?? progress?.message ?? "");
    track.dataset.status = failure ? "failed" : (status ?? "");
    track.classList.toggle("unknown", !failure && status === "running" && share === null);
    track.setAttribute("aria-label", name || "Progress");
    track.setAttribute("aria-valuetext", [word, amount.textContent].filter(Boolean).join(", "));
    if (share === null) track.removeAttribute("aria-valuenow");
    else track.setAttribute("aria-valuenow", String(Math.round(share * 100)));
    fill.style.width = share === null ? "" : `${share * 100}%`;
  }
}

function drawn(root) {
  const style = new CSSStyleSheet();
  style.replaceSync(STYLE);
  root.adoptedStyleSheets = [style];
  const head = part("div", "head");
  const parts = { label: part("span", "label"), amount: part("span", "amount"), track: part("div", "track") };
  const fill = part("div", "fill");
  const message = part("p", "message");
  parts.track.setAttribute("role", "progressbar");
  parts.track.setAttribute("aria-valuemin", "0");
  parts.track.setAttribute("aria-valuemax", "100");
  // What it says is read out when it changes; a number that runs is not.
  parts.label.setAttribute("aria-live", "polite");
  head.append(parts.label, parts.amount);
  parts.track.append(fill);
  root.append(head, parts.track, message);
  return { ...parts, fill, message };
}

function part(tag, name) {
  const element = document.createElement(tag);
  element.className = name;
  element.setAttribute("part", name);
  return element;
}

function shareOf(progress) {
  const { current, total } = progress ?? {};
  if (typeof current !== "number" || typeof total !== "number" || total <= 0) return null;
  return Math.max(0, Math.min(1, current / total));
}

function amountOf(progress, share) {
  const { current, total } = progress ?? {};
  if (typeof current !== "number") return "";
  const counted = current.toLocaleString();
  if (typeof total !== "number") return counted;
  return `${counted} of ${total.toLocaleString()} (${Math.floor((share ?? 0) * 100)} %)`;
}

function sentence(failure) {
  return failure?.problem?.detail ?? failure?.message ?? String(failure);
}

if (!customElements.get("job-progress")) customElements.define("job-progress", JobProgress);

export { JobProgress };
