// Moments in words, kept up to date; the exact moment, in the reader's own time zone, is the title.
const UNITS = [
  [86_400, "d"],
  [3_600, "h"],
  [60, "min"],
  [1, "s"],
];

export function keepTimes() {
  sayAll();
  setInterval(sayAll, 5_000);
}

export function sayAll(within = document) {
  for (const element of within.querySelectorAll("time[data-ago]")) {
    const at = new Date(element.dateTime);
    const text = ago((Date.now() - at) / 1000);
    if (element.textContent !== text) element.textContent = text;
    element.title = at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });
  }
}

function ago(seconds) {
  const distance = Math.abs(seconds);
  if (distance < 5) return "just now";
  const [size, name] = UNITS.find(([unit]) => distance >= unit);
  const words = `${Math.floor(distance / size)} ${name}`;
  return seconds > 0 ? `${words} ago` : `in ${words}`;
}
