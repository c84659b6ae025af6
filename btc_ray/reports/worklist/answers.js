"use strict";
// The reader's answers: one image after another in a dialog, by key; kept in this browser, saved as answers.csv.
(() => {
  const { rows, classes, notes, make, picture, probabilities } = worklist;
  const told = JSON.parse(document.getElementById("told").textContent);  // run, model_id, not_a_head, unsure, columns
  const get = (id) => document.getElementById(id);
  const KEPT = "btc-ray answers " + told.run + " " + told.model_id, READER = "btc-ray reader";
  const dialog = get("reading"), number = (value) => value.toLocaleString("en");
  let order = [], at = 0, memory = {}, lasting = true;

  // A page opened from a file may be refused a store, or find it full: answers then last as long as the page, which says so.
  function keep(name, value) {
    try { localStorage.setItem(name, value); } catch { lasting = false; get("lost").hidden = false; }
  }
  function kept(name) {
    try { return localStorage.getItem(name); } catch { return null; }
  }
  // reader → row_id → { a: answer, t: time, and of the row u: uri, x: content_sha256, l: label }. Read again before every change: the page
  // may be open twice.
  function all() {
    if (!lasting) return memory;
    try { return JSON.parse(kept(KEPT)) || memory; } catch { return memory; }
  }
  const reader = () => get("reader").value.trim();
  const mine = () => Object.hasOwn(all(), reader()) ? all()[reader()] : {};

  function change(row, answer) {
    const whole = all(), own = Object.hasOwn(whole, reader()) ? whole[reader()] : {};
    if (answer === null) delete own[row.id];
    else own[row.id] = { a: answer, t: new Date().toISOString(), u: row.u, x: row.x, l: row.l };
    memory = Object.fromEntries([...Object.entries(whole).filter(([name]) => name !== reader()), [reader(), own]]);
    keep(KEPT, JSON.stringify(memory));
    tell();
  }

  // What the page says of how far the reader is, over all its rows and, in the dialog, over those he goes through.
  function tell() {
    notes.clear();
    for (const [row, one] of Object.entries(mine())) notes.set(Number(row), one.a);
    const far = rows.filter((row) => notes.has(row.id)).length;
    get("done").max = Math.max(1, rows.length); get("done").value = far;
    get("far").textContent = number(far) + " of " + number(rows.length) + " answered";
    get("save").disabled = !Object.values(all()).some((own) => Object.keys(own).length);
  }

  // --- one image after another -----------------------------------------------------------------------------------------------------

  const choices = [];  // key, answer of a row, button
  function choice(key, words, answer) {
    const button = make("button"), name = make("span");
    button.type = "button";
    if (key) { button.append(make("kbd", "", key.toUpperCase())); button.setAttribute("aria-keyshortcuts", key); }
    button.append(name);
    button.addEventListener("click", () => give(answer));
    choices.push({ key, words, answer, button, name });
    get("choices").append(button);
  }
  choice("r", (row) => "right: " + row.l, (row) => row.l);
  classes.forEach((name, place) => choice(place < 9 ? String(place + 1) : "", () => name, () => name));
  choice("n", () => told.not_a_head, () => told.not_a_head);
  choice("u", () => told.unsure, () => told.unsure);

  function show() {
    const row = order[at], answer = notes.get(row.id), far = order.filter((one) => notes.has(one.id)).length;
    get("which").textContent = "Image " + number(at + 1) + " of " + number(order.length);
    get("gone").max = order.length; get("gone").value = far;
    get("reached").textContent = number(far) + " of " + number(order.length) + " answered";
    get("view").replaceChildren(picture(row));
    const file = make("p", "quiet where");
    file.append(make("bdi", "", row.u));
    get("about").replaceChildren(probabilities(row), file);
    choices.forEach((one, place) => {
      one.name.textContent = one.words(row);
      one.button.setAttribute("aria-pressed", String(answer !== undefined && place > 0 && one.answer(row) === answer));
    });
    get("forget").disabled = answer === undefined;
  }

  const open = () => order.findIndex((row) => !notes.has(row.id));

  function give(answer) {
    const row = order[at], words = answer(row);
    change(row, words);
    // The next without an answer, after this one and then from the beginning.
    const later = order.findIndex((one, place) => place > at && !notes.has(one.id));
    const next = later < 0 ? open() : later;
    if (next >= 0) at = next;
    get("said").textContent = next < 0 ? words + ". All " + number(order.length) + " are answered: save answers.csv." : words + " – noted.";
    show();
  }

  function move(by) {
    at = Math.min(Math.max(at + by, 0), order.length - 1);
    get("said").textContent = "";
    show();
  }

  function forget() {
    if (!notes.has(order[at].id)) return;
    change(order[at], null);
    get("said").textContent = "answer taken back";
    show();
  }

  const acts = { ArrowLeft: () => move(-1), ArrowRight: () => move(1), Backspace: forget, s: save };
  document.addEventListener("keydown", (event) => {
    if (!dialog.open || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key, chosen = choices.find((one) => one.key && one.key === key);
    if (!chosen && !Object.hasOwn(acts, key)) return;
    event.preventDefault();
    if (chosen) give(chosen.answer); else acts[key]();
  });

  get("read").addEventListener("click", () => {
    get("nobody").hidden = Boolean(reader());
    if (!reader()) { get("reader").focus(); return; }
    order = worklist.found();
    if (!order.length) return;
    at = Math.max(open(), 0);
    get("said").textContent = "";
    dialog.showModal();
    show();
  });
  dialog.addEventListener("close", () => worklist.draw());
  get("earlier").addEventListener("click", () => move(-1));
  get("later").addEventListener("click", () => move(1));
  get("forget").addEventListener("click", forget);
  get("leave").addEventListener("click", () => dialog.close());
  for (const id of ["save", "store"]) get(id).addEventListener("click", save);

  // --- the file --------------------------------------------------------------------------------------------------------------------

  // A cell that a spreadsheet would take for a formula begins with an apostrophe, as dataset/answers.py knows (OWASP, CSV Injection).
  function cell(value) {
    const text = String(value ?? ""), harmless = /^'*[=+\-@\t\r]/.test(text) ? "'" + text : text;
    return /[",\r\n]/.test(harmless) ? '"' + harmless.replaceAll('"', '""') + '"' : harmless;
  }

  function save() {
    const lines = [told.columns];
    for (const [name, own] of Object.entries(all())) {
      for (const [row, one] of Object.entries(own)) lines.push([row, one.u, one.x, one.l, one.a, name, one.t, told.run, told.model_id]);
    }
    if (lines.length === 1) return;
    const link = make("a");
    link.href = URL.createObjectURL(new Blob([lines.map((line) => line.map(cell).join(",") + "\r\n").join("")], { type: "text/csv" }));
    link.download = "answers.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    get("said").textContent = number(lines.length - 1) + " answers saved as answers.csv";
  }

  get("reader").value = kept(READER) || "";
  get("reader").addEventListener("input", () => { keep(READER, reader()); get("nobody").hidden = true; tell(); worklist.draw(); });
  addEventListener("storage", (event) => { if (event.key === KEPT) { tell(); worklist.draw(); } });
  tell();
  worklist.draw();
})();
