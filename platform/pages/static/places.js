// Where somebody is on a page, as words by which the same place is found again: in the same page with newer parts, or in
// the next one.

// In its row, where there are several like it. Null for what nothing tells from others.
export function placeOf(element) {
  const alike = selectorOf(element);
  return alike && { alike, row: rowOf(element) };
}

export function findPlace(place, within) {
  if (!place) return null;
  const found = [...within.querySelectorAll(place.alike)];
  return found.length > 1 ? found.find((one) => rowOf(one) === place.row) : found[0];
}

// How the same element is found in the new part, which may be it itself.
export function finder(element, part) {
  if (element === part) return (fresh) => fresh;
  const place = placeOf(element);
  return (fresh) => findPlace(place, fresh);
}

function selectorOf(element) {
  if (element.id) return `#${CSS.escape(element.id)}`;
  const name = element.getAttribute("name");
  if (name) return `[name="${CSS.escape(name)}"][value="${CSS.escape(element.getAttribute("value") ?? "")}"]`;
  const link = element.getAttribute("href");
  if (link) return `a[href="${CSS.escape(link)}"]`;
  const summary = element.matches("summary") && element.closest("details[id]");
  if (summary) return `#${CSS.escape(summary.id)} > summary`;
  const form = element.matches("button") && element.closest("form[action]");
  if (form) return `form[action="${CSS.escape(form.getAttribute("action"))}"] button`;
  const label = element.getAttribute("aria-label");
  return label ? `[aria-label="${CSS.escape(label)}"]` : null;
}

const ROWS = "tr, li, article, section";

// By what a row is about: its first link, or its first word.
export function rowOf(element) {
  return wordsOf(markOf(element.closest(ROWS)));
}

// What says in the row of that name what it is about.
export function markOfRow(row, within) {
  return [...within.querySelectorAll(ROWS)].map(markOf).find((mark) => mark && wordsOf(mark) === row);
}

function markOf(row) {
  return row?.querySelector("a[href], .strong, h2");
}

function wordsOf(mark) {
  return mark?.getAttribute("href") ?? mark?.textContent;
}
