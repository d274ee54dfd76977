// Pages that stay up to date: the same page is fetched again, and its live parts take the place of the old ones.
//
// Nothing is replaced under somebody's hands: not where they type, not where text or rows are selected. What is unfolded
// stays unfolded, the focus stays on what it was on, and whoever wants none of this pauses it.
//
// A stream says when something has happened (`data-stream`). A list looks no more often than every `data-live` seconds
// however much happens, and now and then if nothing does: some of what it shows is only time that passes. Where there is
// no stream to be had it looks every `data-live` seconds.
import { say } from "./rows.js";
import { sayAll } from "./times.js";

const KEY = "jobplatform.paused";
// After an event of a stream so long is waited for more of them, in milliseconds.
const GATHER = 400;
// While its stream is silent a list looks after so many times its seconds.
const SILENT = 3;
const OF_JOBS = ["pending", "running", "progress", "completed", "failed", "cancelled"].map((name) => `job.${name}`);

export function follow(main) {
  const seconds = Number(main.dataset.live ?? 0);
  const stream = main.dataset.stream;
  if (!seconds && !stream) return;
  const state = { paused: remembered(), timer: 0, due: 0, lookedAt: 0, source: null, busy: false, again: false };
  state.lookedAt = performance.now();
  const button = makeSwitch(state, () => restart(main, state));
  main.append(button);
  document.addEventListener("visibilitychange", () => {
    restart(main, state);
    if (main.dataset.live && !state.paused && !document.hidden) later(main, state, GATHER);
  });
  restart(main, state);
}

function restart(main, state) {
  clearTimeout(state.timer);
  state.timer = 0;
  state.source?.close();
  state.source = null;
  if (state.paused || document.hidden) return;
  if (main.dataset.stream) listen(main, state);
  // What happened between the page and its stream is seen then.
  if (main.dataset.live) later(main, state, leastPause(main));
}

// A look that is due earlier stands: events that never end must not put it off for ever.
function later(main, state, milliseconds) {
  const due = performance.now() + milliseconds;
  if (state.timer && state.due <= due) return;
  clearTimeout(state.timer);
  state.due = due;
  state.timer = setTimeout(async () => {
    state.timer = 0;
    await refresh(main, state);
    if (main.dataset.live && !state.paused && !document.hidden) {
      const listens = state.source?.readyState === EventSource.OPEN;
      later(main, state, leastPause(main) * (listens ? SILENT : 1));
    }
  }, milliseconds);
}

function leastPause(main) {
  return Number(main.dataset.live ?? 0) * 1000;
}

function listen(main, state) {
  state.source = new EventSource(main.dataset.stream);
  const heard = () => later(main, state, Math.max(GATHER, state.lookedAt + leastPause(main) - performance.now()));
  // Lists show no lines of logs.
  const names = main.dataset.live ? [...OF_JOBS, "changed", "stream.reset"] : [...OF_JOBS, "job.log"];
  for (const name of names) state.source.addEventListener(name, heard);
  state.source.onerror = () => {
    // Ended for good (the job has), or refused (too many): one more look tells which, and a list goes on looking.
    if (state.source?.readyState === EventSource.CLOSED) later(main, state, 1_500);
  };
}

async function refresh(main, state) {
  if (state.busy) {
    state.again = true;
    return;
  }
  state.busy = true;
  state.lookedAt = performance.now();
  try {
    const answer = await fetch(location.href, { headers: { "X-Live": "1" }, cache: "no-store" });
    if (answer.status === 401 || answer.redirected) location.reload();
    else if (answer.ok) adopt(main, new DOMParser().parseFromString(await answer.text(), "text/html"), state);
  } catch {
    // The next look comes anyway.
  } finally {
    state.busy = false;
  }
  if (state.again) {
    state.again = false;
    later(main, state, GATHER);
  }
}

function adopt(main, fresh, state) {
  for (const old of main.querySelectorAll("[data-live-part]")) {
    const next = fresh.getElementById(old.id);
    if (next && !inUse(old)) replace(old, document.importNode(next, true));
  }
  const next = fresh.querySelector("main")?.dataset;
  if (!next?.stream && !next?.live) end(main, state);
  // A part that is new to the page (an error, the first log line) needs the whole of it once.
  const unknown = [...fresh.querySelectorAll("[data-live-part]")].filter((part) => !document.getElementById(part.id));
  for (const part of unknown) insert(main, fresh, document.importNode(part, true), part);
  sayAll(main);
  say();
}

function insert(main, fresh, part, model) {
  let before = model.nextElementSibling;
  while (before && !document.getElementById(before.id)) before = before.nextElementSibling;
  const place = before ? document.getElementById(before.id) : null;
  if (place?.parentElement) place.parentElement.insertBefore(part, place);
  else main.append(part);
}

function end(main, state) {
  delete main.dataset.stream;
  delete main.dataset.live;
  state.source?.close();
  state.source = null;
  main.querySelector(".live-bar")?.remove();
}

function inUse(part) {
  const active = document.activeElement;
  if (part.contains(active) && active.matches("input:not([type=checkbox]), textarea, select")) return true;
  if (part.querySelector("input[type=checkbox]:checked")) return true;
  const selection = getSelection();
  return Boolean(selection && !selection.isCollapsed && part.contains(selection.anchorNode));
}

function replace(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  const focused = old.contains(document.activeElement) ? address(document.activeElement) : null;
  for (const unfolded of old.querySelectorAll("details[id]")) {
    const same = fresh.querySelector(`#${CSS.escape(unfolded.id)}`);
    if (same) same.open = unfolded.open;
  }
  const tails = [...old.querySelectorAll("[data-tail]")].map((tail) => ({
    top: tail.scrollTop,
    atEnd: tail.scrollHeight - tail.scrollTop - tail.clientHeight < 8,
  }));
  const left = old.scrollLeft;
  old.replaceWith(fresh);
  fresh.scrollLeft = left;
  fresh.querySelectorAll("[data-tail]").forEach((tail, at) => {
    tail.scrollTop = !tails[at] || tails[at].atEnd ? tail.scrollHeight : tails[at].top;
  });
  if (focused) (focused === true ? fresh : fresh.querySelector(focused))?.focus({ preventScroll: true });
}

// How the same element is found again in the new part.
function address(element) {
  if (element.matches("[data-live-part]")) return true;
  if (element.id) return `#${CSS.escape(element.id)}`;
  const link = element.getAttribute("href");
  if (link) return `a[href="${CSS.escape(link)}"]`;
  const form = element.closest("form[action]");
  if (form) return `form[action="${CSS.escape(form.getAttribute("action"))}"] button`;
  const summary = element.closest("details[id]");
  if (summary) return `#${CSS.escape(summary.id)} > summary`;
  const label = element.getAttribute("aria-label");
  return label ? `[aria-label="${CSS.escape(label)}"]` : null;
}

function makeSwitch(state, changed) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button small live-switch live-bar";
  const show = () => {
    button.setAttribute("aria-pressed", String(state.paused));
    button.textContent = state.paused ? "Paused" : "Live";
    button.title = state.paused ? "Go on updating this page" : "Stop updating this page";
  };
  button.addEventListener("click", () => {
    state.paused = !state.paused;
    remember(state.paused);
    show();
    changed();
  });
  show();
  return button;
}

function remembered() {
  try {
    return localStorage.getItem(KEY) === "yes";
  } catch {
    return false;
  }
}

function remember(paused) {
  try {
    localStorage.setItem(KEY, paused ? "yes" : "no");
  } catch {
    // Then it is forgotten with the page.
  }
}
