// What the pages do beyond links and forms. Everything works without it; with it, pages stay up to date by themselves.
import { follow } from "./live.js";
import { pickRows } from "./rows.js";
import { keepTimes } from "./times.js";

// A form that cannot be taken back asks first.
document.addEventListener("submit", (event) => {
  const words = event.submitter?.dataset.ask ?? event.target.dataset.ask;
  if (words && !window.confirm(words)) event.preventDefault();
});

// A choice that stands for itself needs no button.
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submits]")) event.target.form.requestSubmit();
});
for (const button of document.querySelectorAll("[data-without-script]")) button.hidden = true;

keepTimes();
pickRows();
follow(document.querySelector("main"));
for (const tail of document.querySelectorAll("[data-tail]")) tail.scrollTop = tail.scrollHeight;
