// What the pages do beyond links and forms. Everything works without it; with it, pages stay up to date by themselves.
import { follow } from "./live.js";
import { comeBack, leaveFrom } from "./returning.js";
import { pickRows } from "./rows.js";
import { keepTimes } from "./times.js";

// A form that cannot be taken back asks first, and what an impatient hand sends twice is sent once.
const sent = new WeakSet();
const IMPATIENT = 3_000;
document.addEventListener("submit", (event) => {
  const form = event.target;
  const words = event.submitter?.dataset.ask ?? form.dataset.ask;
  if (sent.has(form) || (words && !window.confirm(words))) {
    event.preventDefault();
    return;
  }
  if (form.method === "post" || form.querySelector("[data-submits]")) leaveFrom(form, event.submitter);
  if (form.method !== "post") return;
  sent.add(form);
  setTimeout(() => sent.delete(form), IMPATIENT);
});

// A choice that stands for itself needs no button.
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submits]")) event.target.form.requestSubmit();
});
// What opens below its button closes with Escape.
document.addEventListener("keydown", (event) => {
  const open = event.key === "Escape" && document.querySelector(".pop[open]");
  if (!open) return;
  open.open = false;
  open.querySelector("summary").focus();
});

const main = document.querySelector("main");
keepTimes();
pickRows();
comeBack(main);

// A form that comes back says what is wrong with it where somebody looks: it may stand far down its page.
const wrong = document.querySelector("main form [aria-invalid=true]") ?? document.querySelector("main form .notice.refused");
if (wrong?.matches(".notice")) wrong.scrollIntoView({ block: "center" });
else wrong?.focus();

for (const one of document.querySelectorAll("[data-without-script]")) one.hidden = true;

// Where the menu is a row that is wider than the window, the page one is on is in sight.
const menu = document.querySelector(".menu");
const here = menu?.querySelector("[aria-current]");
if (here) menu.scrollLeft = here.offsetLeft - menu.offsetLeft - (menu.clientWidth - here.offsetWidth) / 2;

follow(main);
for (const tail of document.querySelectorAll("[data-tail]")) tail.scrollTop = tail.scrollHeight;
