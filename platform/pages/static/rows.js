// Rows that are picked: all of a page at once, and how many there are.
export function pickRows() {
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-select-all]")) {
      for (const box of boxes()) box.checked = event.target.checked;
    }
    if (event.target.matches("[data-select-all], [name=job]")) say();
  });
  say();
}

export function say() {
  const all = document.querySelector("[data-select-all]");
  if (!all) return;
  all.hidden = false;
  const picked = boxes().filter((box) => box.checked).length;
  all.checked = picked > 0 && picked === boxes().length;
  all.indeterminate = picked > 0 && !all.checked;
  const words = document.querySelector("[data-selected-count]");
  if (words) words.textContent = picked ? `${picked} selected:` : "Selected jobs:";
  for (const button of document.querySelectorAll(".actions button[name=deed]")) button.disabled = !picked;
}

function boxes() {
  return [...document.querySelectorAll("input[name=job]")];
}
