// Pages that stay up to date: the same page is fetched again, and its live parts take the place of the old ones.
//
// Nothing is replaced under somebody's hands: not where they type, not where text or rows are selected. What is unfolded
// stays unfolded, the focus stays on what it was on, and whoever wants none of this pauses it.
import { say } from "./rows.js";
import { sayAll } from "./times.js";

const KEY = "jobplatform.paused";
// After an event of a stream so long is waited for more of them, in milliseconds.
const GATHER = 400;

export function follow(main) {
  const seconds = Number(main.dataset.live ?? 0);
  const stream = main.dataset.stream;
  if (!seconds && !stream) return;
  const state = { paused: remembered(), timer: 0, source: null, busy: false, again: false };
  const button = makeSwitch(state, () => restart(main, state));
  main.append(button);
  document.addEventListener("visibilitychange", () => restart(main, state));
  restart(main, state);
}

function restart(main, state) {
  clearTimeout(state.timer);
  state.source?.close();
  state.source = null;
  if (state.paused || document.hidden) return;
  if (main.dataset.stream) listen(main, state);
  else later(main, state, Number(main.dataset.live) * 1000);
}

function later(main, state, milliseconds) {
  clearTimeout(state.timer);
  state.timer = setTimeout(async () => {
    await refresh(main, state);
    if (main.dataset.live && !main.dataset.stream && !state.paused && !document.hidden) {
      later(main, state, Number(main.dataset.live) * 1000);
    }
  }, milliseconds);
}

function listen(main, state) {
  state.source = new EventSource(main.dataset.stream);
  const heard = () => later(main, state, GATHER);
  for (const name of ["pending", "running", "progress", "log", "completed", "failed", "cancelled"]) {
    state.source.addEventListener(`job.${name}`, heard);
  }
  state.source.onerror = () => {
    // Ended for good (the job has), or refused: one more look tells which.
    if (state.source?.readyState === EventSource.CLOSED) later(main, state, 1_500);
  };
}

async function refresh(main, state) {
  if (state.busy) {
    state.again = true;
    return;
  }
  state.busy = true;
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
  if (main.dataset.stream && !fresh.querySelector("main")?.dataset.stream) end(main, state);
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
