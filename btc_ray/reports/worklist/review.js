"use strict";
// The list: sorted, filtered, fifty rows at a time. What it lends to answers.js is returned at the end.
const worklist = (() => {
  const rows = JSON.parse(document.getElementById("rows").textContent);
  const classes = JSON.parse(document.getElementById("classes").textContent);
  const get = (id) => document.getElementById(id);
  const body = document.querySelector("#list tbody"), heads = [...document.querySelectorAll("#list th")];
  const PAGE = 50;
  const notes = new Map();  // row_id → the answer of whoever reads
  let key = "n", up = true, page = 0, found = rows;

  for (const row of rows) row.low = row.u.toLowerCase();
  const falling = new Set(["s", "d", "c"]);  // numbers of which the highest matter

  function make(tag, name, text) {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (text !== undefined) made.textContent = text;
    return made;
  }
  const percent = (value) => value === null ? "–" : (100 * value).toFixed(1) + " %";

  function picture(row) {
    const seen = make("div", "seen");
    if (!row.i) {
      seen.classList.add("none"); seen.title = row.e || "no picture"; seen.append(make("span", "", seen.title));
      return seen;
    }
    seen.style.aspectRatio = row.a || 1;
    const whole = make("img", "whole");
    whole.src = row.i; whole.alt = row.l + ", " + row.u.split(/[\/\\]|::/).pop();
    seen.append(whole);
    if (row.b) {
      const box = make("div", "box");
      [box.style.left, box.style.top, box.style.width, box.style.height] = row.b.map((part) => part + "%");
      if (row.h) { const heat = make("img"); heat.src = row.h; heat.alt = ""; box.append(heat); }
      seen.append(box);
    }
    return seen;
  }

  function probabilities(row) {
    const probs = make("div", "probs");
    classes.forEach((name, index) => {
      const item = make("div", name === row.l ? "best" : ""), bar = make("span"), fill = make("i");
      fill.style.width = 100 * row.p[index] + "%"; bar.append(fill);
      item.append(make("span", "", name), bar, make("span", "", percent(row.p[index]))); probs.append(item);
    });
    return probs;
  }

  function line(row) {
    const made = make("tr"), cells = [make("td"), make("td"), make("td", "n"), make("td"), make("td", "n"), make("td", "where")];
    cells[0].append(picture(row));
    cells[1].append(probabilities(row));
    cells[2].textContent = percent(row.s); cells[2].dataset.name = "Tumour";
    cells[3].append(make("span", "mark " + (row.k || ""), row.k || row.t));
    cells[4].textContent = row.d === null ? "–" : row.d.toPrecision(3); cells[4].dataset.name = "Distance";
    cells[5].append(make("bdi", "", row.u));
    if (row.f && row.f !== "cropped") cells[5].append(make("div", "quiet", row.f));
    if (notes.has(row.id)) cells[5].append(make("div", "noted", "answered: " + notes.get(row.id)));
    made.append(...cells);
    return made;
  }

  function draw() {
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    body.replaceChildren(...found.slice(page * PAGE, (page + 1) * PAGE).map(line));
    get("place").textContent = "page " + (page + 1) + " of " + pages;
    get("back").disabled = page === 0; get("next").disabled = page === pages - 1;
    get("found").textContent = found.length.toLocaleString("en") + " of " + rows.length.toLocaleString("en") + " rows";
    for (const head of heads) {
      const own = head.firstElementChild.dataset.key === key;
      if (own) head.setAttribute("aria-sort", up ? "ascending" : "descending"); else head.removeAttribute("aria-sort");
    }
    get("sortby").value = ["n", "s", "c", "d", "u"].includes(key) ? key : "n";
  }

  function compare(one, other) {
    const name = key === "n" && get("tier").value === "sample" ? "r" : key;  // the sample is read in the order in which it was drawn
    const a = one[name], b = other[name];
    if (a === b) return one.n - other.n;
    if (a === null) return 1;
    if (b === null) return -1;
    return (a < b ? -1 : 1) * (up ? 1 : -1);
  }

  function refresh() {
    const text = get("text").value.trim().toLowerCase(), label = get("label").value, decision = get("decision").value;
    const tier = get("tier").value, least = Number(get("least").value) / 100 || 0;
    found = rows.filter((row) => (!text || row.low.includes(text)) && (!label || row.l === label) && (!decision || row.k === decision)
      && (!tier || (tier === "sample" ? row.r !== null : row.t === tier)) && (row.s === null || row.s >= least));
    found.sort(compare);
    page = 0;
    draw();
  }

  function sortBy(wanted, turn) {
    up = wanted === key && turn ? !up : !falling.has(wanted);
    key = wanted;
    refresh();
  }

  for (const head of heads) head.firstElementChild.addEventListener("click", (event) => sortBy(event.target.dataset.key, true));
  get("sortby").addEventListener("change", (event) => sortBy(event.target.value, false));
  get("tools").addEventListener("input", (event) => { if (event.target.id !== "heat" && event.target.id !== "sortby") refresh(); });
  get("tools").addEventListener("submit", (event) => event.preventDefault());
  get("tools").addEventListener("reset", () => setTimeout(() => { document.body.classList.remove("plain"); key = "n"; up = true; refresh(); }));
  get("heat").addEventListener("change", (event) => document.body.classList.toggle("plain", !event.target.checked));
  const turn = (by) => { page += by; draw(); get("worklist").scrollIntoView(); };
  get("back").addEventListener("click", () => turn(-1));
  get("next").addEventListener("click", () => turn(1));
  refresh();
  return { rows, classes, notes, make, picture, probabilities, draw, found: () => found };
})();
