// What a person with a screen reader, a keyboard, a phone or tired eyes would stumble over. Returns a sentence for each.
() => {
  const found = [];
  const all = (selector) => [...document.querySelectorAll(selector)];
  const seen = (element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true });
  const what = (element) => element.outerHTML.replace(/\s+/g, " ").slice(0, 110);

  const nameOf = (element) => {
    const by = (element.getAttribute("aria-labelledby") ?? "").split(" ").filter(Boolean);
    if (by.length) return by.map((id) => document.getElementById(id)?.textContent ?? "").join(" ").trim();
    const own = element.getAttribute("aria-label") ?? element.getAttribute("title");
    if (own) return own.trim();
    if (element.labels?.length) return [...element.labels].map((label) => label.textContent).join(" ").trim();
    const title = element.querySelector?.(":scope > title");
    return (title ?? element).textContent.trim();
  };

  for (const element of all("a[href], button, summary")) {
    if (seen(element) && !nameOf(element)) found.push(`it has no name: ${what(element)}`);
  }
  for (const element of all("input:not([type=hidden]), select, textarea, progress")) {
    if (seen(element) && !nameOf(element)) found.push(`it has no label: ${what(element)}`);
  }
  for (const element of all("[role=img]")) if (!nameOf(element)) found.push(`it has no name: ${what(element)}`);
  for (const element of all("svg:not([role=img])")) {
    if (element.getAttribute("aria-hidden") !== "true") found.push(`it is neither named nor hidden: ${what(element)}`);
  }
  for (const element of all("[tabindex]")) if (element.tabIndex > 0) found.push(`it jumps the line: ${what(element)}`);
  for (const element of all("[aria-labelledby], [aria-describedby]")) {
    for (const name of ["aria-labelledby", "aria-describedby"]) {
      for (const id of (element.getAttribute(name) ?? "").split(" ").filter(Boolean)) {
        if (!document.getElementById(id)) found.push(`${name} leads to nothing: ${what(element)}`);
      }
    }
  }
  const ids = all("[id]").map((element) => element.id);
  for (const id of new Set(ids.filter((one, at) => ids.indexOf(one) !== at))) found.push(`two things are called ${id}`);
  for (const table of all("table")) {
    for (const cell of table.querySelectorAll("thead th")) {
      if (!cell.hasAttribute("scope") && cell.textContent.trim()) found.push(`a heading of nothing: ${what(cell)}`);
    }
  }
  for (const box of all("*")) {
    const style = getComputedStyle(box);
    const scrolls = /auto|scroll/.test(style.overflowX) && box.scrollWidth > box.clientWidth + 1;
    const reached = box.tabIndex >= 0 || box.querySelector("a[href], button, input, select, textarea, [tabindex]");
    if (scrolls && seen(box) && !reached && box !== document.body) {
      found.push(`a keyboard cannot scroll it: ${what(box)}`);
    }
  }

  for (const box of innerWidth <= 640 ? all("body *:not(.menu)") : []) {
    const scrolls = /auto|scroll/.test(getComputedStyle(box).overflowX) && box.scrollWidth > box.clientWidth + 1;
    if (scrolls && seen(box) && !box.closest(".numbers")) found.push(`it scrolls sideways on a phone: ${what(box)}`);
  }
  for (const value of all("tbody :is(td, th), .log .line > *")) {
    if (getComputedStyle(value).display === "none") found.push(`it is left out on this screen: ${what(value)}`);
  }
  // There a value stands below the name of its column, which its cell says.
  for (const cell of all("table.list:not(.numbers *) tbody td:not([colspan], .do, .pick, .main, :first-child)")) {
    const heading = cell.closest("table").querySelectorAll("thead th")[cell.cellIndex]?.textContent;
    if (cell.dataset.th !== heading) found.push(`it stands below ${heading} and says ${cell.dataset.th}: ${what(cell)}`);
  }

  if (!document.documentElement.lang) found.push("the page does not say its language");
  if (!document.title.trim()) found.push("the page has no title");
  if (all("main").length !== 1) found.push("there is not one main part");
  const headings = all("h1, h2, h3, h4").filter(seen);
  if (headings.filter((one) => one.tagName === "H1").length !== 1) found.push("there is not one h1");
  headings.reduce((before, one) => {
    const level = Number(one.tagName[1]);
    if (level > before + 1) found.push(`a heading is left out before ${what(one)}`);
    return level;
  }, 0);
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  if (wide > 1) found.push(`the page is ${wide} px wider than its window`);

  // Contrast, as it is drawn: each text against the colours that lie behind it.
  const parse = (text) => {
    const [red, green, blue, alpha = 1] = (text.match(/[\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
    return { red, green, blue, alpha };
  };
  const over = (top, below) => ({
    red: top.red * top.alpha + below.red * (1 - top.alpha),
    green: top.green * top.alpha + below.green * (1 - top.alpha),
    blue: top.blue * top.alpha + below.blue * (1 - top.alpha),
    alpha: 1,
  });
  const groundOf = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
    const canvas = matchMedia("(prefers-color-scheme: dark)").matches ? 18 : 255;
    return layers.reverse().reduce((below, top) => over(top, below), { red: canvas, green: canvas, blue: canvas, alpha: 1 });
  };
  const light = ({ red, green, blue }) => {
    const [r, g, b] = [red, green, blue].map((one) => {
      const share = one / 255;
      return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [high, low] = [light(one), light(other)].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const told = new Set();
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.textContent.trim() || !seen(element) || element.closest("title, desc, script, progress, .unseen, .skip, option")) continue;
    if (element.closest("button:disabled, input:disabled")) continue;
    const style = getComputedStyle(element);
    const size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const colour = parse(element.ownerSVGElement ? style.fill : style.color);
    const ground = groundOf(element.ownerSVGElement ?? element);
    const ratio = contrast(over(colour, ground), ground);
    const key = `${element.className} ${style.color}`;
    if (ratio < (isLarge ? 3 : 4.5) && !told.has(key)) {
      told.add(key);
      found.push(`the contrast is ${ratio.toFixed(2)}: ${what(element)}`);
    }
  }
  return found;
}
