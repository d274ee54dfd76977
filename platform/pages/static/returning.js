// After a form its page comes back: somebody goes on from where they were, and what became of it is in sight and said.
import { sayAloud } from "./aloud.js";
import { findPlace, markOfRow, placeOf, rowOf } from "./places.js";

const KEY = "jobplatform.left";
// A screen reader that is told of something while it reads the title of a page does not say it.
const HEAR = 500;

export function leaveFrom(form, submitter) {
  const at = form.contains(document.activeElement) ? document.activeElement : (submitter ?? form);
  const opener = at.closest(".pop")?.querySelector("summary");
  keep({
    path: location.pathname,
    top: scrollY,
    places: [at, opener].filter(Boolean).map(placeOf),
    row: rowOf(at),
    within: idsAround(at),
  });
}

export function comeBack(main) {
  const left = take();
  const notice = main.querySelector(".notice.told");
  if (notice) setTimeout(() => sayAloud(notice.textContent), HEAR);
  if (left?.path !== location.pathname) return;
  scrollTo({ top: left.top, behavior: "instant" });
  const place = stillThere(left, main);
  if (place.tabIndex < 0) place.tabIndex = -1;
  place.focus({ preventScroll: true });
  if (place.matches("a, button, input, select, summary")) place.scrollIntoView({ block: "nearest" });
}

// The same; else, rather than what stands there now and does something else, what its row is about, or what it was in.
function stillThere(left, main) {
  const candidates = [
    ...left.places.map((place) => findPlace(place, document)),
    left.row && markOfRow(left.row, main),
    ...left.within.map((id) => document.getElementById(id)),
  ];
  return candidates.find((one) => one && !one.disabled && one.checkVisibility()) ?? main;
}

function idsAround(element) {
  const ids = [];
  for (let at = element.parentElement?.closest("[id]"); at; at = at.parentElement?.closest("[id]")) ids.push(at.id);
  return ids;
}

function keep(left) {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(left));
  } catch {
    // Then they begin at the top.
  }
}

function take() {
  try {
    const left = JSON.parse(sessionStorage.getItem(KEY));
    sessionStorage.removeItem(KEY);
    return left;
  } catch {
    return null;
  }
}
