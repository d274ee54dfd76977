// What a screen reader says when it has said what it is at. Of everything that changes by itself only this is told.
export function sayAloud(words) {
  document.getElementById("said").textContent = words;
}
