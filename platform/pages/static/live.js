// Pages that stay up to date: the same page is fetched again, and its live parts take the place of the old ones.
//
// Nothing is replaced under somebody's hands: not where they type or press, not where text or rows are selected. What is
// unfolded stays unfolded, what was typed stays typed, the focus stays on what it was on and what is read where it was,
// and whoever wants none of this pauses it. What is not there any more goes, and a page that cannot be fetched says so.
// Aloud is said what a part has in `data-say`, when that is another than before: how a job stands, and not each line.
//
// A stream says when something has happened (`data-stream`). A list looks no more often than every `data-live` seconds
// however much happens, and now and then if nothing does: some of what it shows is only time that passes. Where there is
// no stream to be had it looks every `data-live` seconds.
import { sayAloud } from "./aloud.js";
import { finder } from "./places.js";
import { say } from "./rows.js";
import { sayAll } from "./times.js";

const KEY = "jobplatform.paused";
// After an event of a stream so long is waited for more of them, in milliseconds.
const GATHER = 400;
// While its stream is silent a list looks after so many times its seconds.
const SILENT = 3;
// After so many milliseconds a page is asked for again that could not be fetched.
const AGAIN = 5_000;
const OF_JOBS = ["pending", "running", "progress", "completed", "failed", "cancelled"].map((name) => `job.${name}`);

export function follow(main) {
  const seconds = Number(main.dataset.live ?? 0);
  const stream = main.dataset.stream;
  if (!seconds && !stream) return;
  const state = { paused: remembered(), timer: 0, due: 0, lookedAt: 0, source: null, busy: false, again: false };
  state.lookedAt = performance.now();
  state.button = makeSwitch(state, () => restart(main, state));
  main.append(state.button);
  holdStill();
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
    if (answer.status === 401 || answer.redirected) leave(main, state);
    else if (answer.status === 404) end(main, state, GONE);
    else if (answer.ok) adopt(main, new DOMParser().parseFromString(await answer.text(), "text/html"), state);
    sayTrouble(state, answer.status >= 500);
    if (answer.status >= 500) tryAgain(main, state);
  } catch {
    sayTrouble(state, true);
    tryAgain(main, state);
  } finally {
    state.busy = false;
  }
  if (state.again) {
    state.again = false;
    later(main, state, GATHER);
  }
}

// A list looks again anyway; a stream that is open says when there is something to see.
function tryAgain(main, state) {
  if (main.dataset.stream && !main.dataset.live && !state.paused && !document.hidden) later(main, state, AGAIN);
}

function adopt(main, fresh, state) {
  const hold = viewHolder(main);
  for (const old of main.querySelectorAll("[data-live-part]")) {
    const next = fresh.getElementById(old.id);
    if (inUse(old)) continue;
    if (next) replace(old, document.importNode(next, true));
    else remove(main, old);
  }
  const next = fresh.querySelector("main")?.dataset;
  if (!next?.stream && !next?.live) end(main, state);
  // A part that is new to the page (an error, the first log line) needs the whole of it once.
  const unknown = [...fresh.querySelectorAll("[data-live-part]")].filter((part) => !document.getElementById(part.id));
  for (const part of unknown) insert(main, fresh, document.importNode(part, true), part);
  sayAll(main);
  say();
  hold();
}

function insert(main, fresh, part, model) {
  let before = model.nextElementSibling;
  while (before && !sameHere(before)) before = before.nextElementSibling;
  const place = before ? sameHere(before) : null;
  if (place?.parentElement) place.parentElement.insertBefore(part, place);
  else main.append(part);
}

// The element of this page that stands where one of the new page does: itself by its id, or around one that has an id.
function sameHere(element) {
  if (element.id) return document.getElementById(element.id);
  const inner = element.querySelector("[data-live-part]");
  let found = inner ? document.getElementById(inner.id) : null;
  for (let at = inner; found && at !== element; at = at.parentElement) found = found.parentElement;
  return found;
}

// Whoever was in it goes on from the beginning of the page.
function remove(main, part) {
  const had = part.contains(document.activeElement);
  part.remove();
  if (had) main.focus({ preventScroll: true });
}

const GONE =
  "This is not there any more: it was deleted, its time to be kept is over, or you may not see it now. " +
  "What stands here is how it was last.";
const OVER = "Your session is over. Copy what you have typed, then load this page again to sign in.";

// The sign-in comes by itself, but not over something that somebody has typed.
function leave(main, state) {
  if (hasTyped(main)) end(main, state, OVER);
  else location.reload();
}

function end(main, state, words = "") {
  delete main.dataset.stream;
  delete main.dataset.live;
  state.source?.close();
  state.source = null;
  main.querySelector(".live-bar")?.remove();
  if (!words) return;
  const notice = document.createElement("p");
  notice.className = "notice told warn";
  notice.textContent = words;
  main.prepend(notice);
  sayAloud(words);
}

// What a mouse or a finger is on just now: an element that is replaced between down and up is not clicked.
let held = null;

function holdStill() {
  const release = () => setTimeout(() => (held = null));
  document.addEventListener("pointerdown", (event) => (held = event.target));
  document.addEventListener("pointerup", release);
  document.addEventListener("pointercancel", release);
}

function inUse(part) {
  const active = document.activeElement;
  if (part.contains(active) && active.matches("input:not([type=checkbox]), textarea, select")) return true;
  if (part.querySelector("input[type=checkbox]:checked")) return true;
  if (held && part.contains(held)) return true;
  const selection = getSelection();
  return Boolean(selection && !selection.isCollapsed && part.contains(selection.anchorNode));
}

const FIELDS = "input:not([type=hidden]):not([type=checkbox]):not([type=search]), textarea, select";

function isTyped(field) {
  if (!field.matches("select")) return field.value !== field.defaultValue;
  const chosen = [...field.options].findIndex((option) => option.defaultSelected);
  return field.selectedIndex !== Math.max(0, chosen);
}

function hasTyped(within) {
  return [...within.querySelectorAll(FIELDS)].some((field) => isTyped(field) && !field.matches("[data-submits]"));
}

function replace(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  const find = old.contains(document.activeElement) ? finder(document.activeElement, old) : null;
  for (const field of [...old.querySelectorAll(FIELDS)].filter(isTyped)) {
    const same = field.id && fresh.querySelector(`#${CSS.escape(field.id)}`);
    if (!same) continue;
    same.value = field.value;
    // The form goes on saying what was shown when somebody began to type: what has changed since is not to be undone.
    const seen = field.form?.elements.namedItem("seen");
    const next = same.form?.elements.namedItem("seen");
    if (seen && next) next.value = seen.value;
  }
  for (const unfolded of old.querySelectorAll("details[id]")) {
    const same = fresh.querySelector(`#${CSS.escape(unfolded.id)}`);
    if (same) same.open = unfolded.open;
  }
  const scroll = scroller(old);
  old.replaceWith(fresh);
  scroll(fresh);
  if (find) focusOn(find(fresh) ?? fresh, fresh);
  if (fresh.dataset.say !== old.dataset.say) sayAloud(fresh.dataset.say);
}

// Boxes that scroll are where they were. Where the end is read, that is the new end.
function scroller(old) {
  const places = [old, ...old.querySelectorAll("[tabindex='0']")].map((box) => ({
    find: finder(box, old),
    top: box.scrollTop,
    left: box.scrollLeft,
    follows: box.matches("[data-tail]") && box.scrollHeight - box.scrollTop - box.clientHeight < 8,
  }));
  return (fresh) => {
    for (const tail of fresh.querySelectorAll("[data-tail]")) tail.scrollTop = tail.scrollHeight;
    for (const { find, top, left, follows } of places) if (!follows) find(fresh)?.scrollTo(left, top);
  };
}

// What is read stays where it is in the window, however much comes in above it. At the top that is what is new.
function viewHolder(main) {
  const inView = scrollY ? [...main.querySelectorAll("a[href], button, summary, h2[id]")].filter(isInView) : [];
  const places = inView.map((one) => ({ find: finder(one, main), top: one.getBoundingClientRect().top }));
  return () => {
    for (const { find, top } of places) {
      const same = find(main);
      if (same) return scrollBy({ top: same.getBoundingClientRect().top - top, behavior: "instant" });
    }
  };
}

function isInView(element) {
  const { top, bottom, height } = element.getBoundingClientRect();
  return height > 0 && top >= 0 && bottom <= innerHeight;
}

// Where what somebody was on is gone, they are in the part in which it was.
function focusOn(element, part) {
  if (element === part && part.tabIndex < 0) part.tabIndex = -1;
  element.focus({ preventScroll: true });
}

function makeSwitch(state, changed) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button small live-switch live-bar";
  const show = () => {
    button.setAttribute("aria-pressed", String(state.paused));
    button.textContent = state.paused ? "Paused" : state.trouble ? "No answer" : "Live";
    button.title = state.paused
      ? "Go on updating this page"
      : state.trouble
        ? "The page could not be updated; it is tried again"
        : "Stop updating this page";
    button.classList.toggle("trouble", Boolean(state.trouble) && !state.paused);
  };
  state.show = show;
  button.addEventListener("click", () => {
    state.paused = !state.paused;
    remember(state.paused);
    show();
    changed();
  });
  show();
  return button;
}

function sayTrouble(state, trouble) {
  if (trouble && !state.trouble) sayAloud("This page could not be updated. It is tried again.");
  state.trouble = trouble;
  state.show();
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
