"use strict";
// Everything foreign stays text: what is shown is the page's own markup, fetched again.
const filter = document.getElementById("filter");
const state = document.getElementById("live");
const sorted = new Map();
// The parts that change, by their ids, as they were served last.
const served = new Map();
// (Without the name and password that an address may hold: browsers fetch none with them.)
const here = location.origin + location.pathname + location.search;
const copies = () => Array.from(document.querySelectorAll("button.copy"));
let events = null, timer = null, fetching = false, again = false, took = 0;
// The host's clock, by this one: what is counted here began there.
let ahead = 0;

function apply() {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of document.querySelectorAll("#containers tbody tr")) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
    shown += row.hidden ? 0 : 1;
  }
  document.getElementById("shown").textContent = words.length ? shown + " shown" : "";
}

function sort(table, column, direction) {
  const body = table.tBodies[0];
  const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
  const rows = Array.from(body.rows, (row) => [key(row), row]);
  const order = new Intl.Collator("en", { numeric: true }).compare;
  rows.sort((one, other) => direction * order(one[0], other[0]));
  body.append(...rows.map((pair) => pair[1]));
  Array.from(table.tHead.rows[0].cells).forEach((cell, index) => {
    if (index !== column) cell.removeAttribute("aria-sort");
    else cell.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
  });
}

// Makes that work which needs scripts, in all of the page or in a part that is new.
function prepare(root) {
  for (const table of root.querySelectorAll("table[data-sortable]")) {
    Array.from(table.tHead.rows[0].cells).forEach((cell, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = cell.textContent;
      button.addEventListener("click", () => {
        const direction = cell.getAttribute("aria-sort") === "ascending" ? -1 : 1;
        sorted.set(table.dataset.sortable, [column, direction]);
        sort(table, column, direction);
      });
      cell.replaceChildren(button);
    });
    const order = sorted.get(table.dataset.sortable);
    if (order) sort(table, order[0], order[1]);
  }
  // Browsers lend the clipboard to pages of this host and of https alone.
  if (navigator.clipboard) for (const text of root.querySelectorAll("pre.edit")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    });
    text.after(button);
  }
}

function age(seconds) {
  for (const [unit, length, most] of [["second", 1, 120], ["minute", 60, 120], ["hour", 3600, 48], ["day", 86400, Infinity]]) {
    const count = Math.max(0, Math.floor(seconds / length));
    if (count < most) return count + " " + unit + (count === 1 ? "" : "s");
  }
}

// The engine's sentence is as old as its last reading.
function countOn() {
  const now = Date.now() + ahead;
  for (const part of document.querySelectorAll("[data-since]")) {
    const text = age((now - Date.parse(part.dataset.since)) / 1000);
    if (part.textContent !== text) part.textContent = text;
  }
}

async function refresh() {
  if (fetching) { again = true; return; }
  fetching = true;
  const begun = performance.now();
  try {
    const answer = await fetch(here, { headers: { accept: "text/html" }, cache: "no-store" });
    ahead = Date.parse(answer.headers.get("date")) - Date.now() || 0;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (!fresh.getElementById("containers")) throw new Error("not the page");
    const focused = document.activeElement?.closest("[data-live] th")?.cellIndex;
    const part = document.activeElement?.closest("[data-live]")?.id;
    const copy = copies().indexOf(document.activeElement);
    for (const old of document.querySelectorAll("[data-live]")) {
      const found = fresh.getElementById(old.id);
      if (!found || found.innerHTML === served.get(old.id)) continue;
      served.set(old.id, found.innerHTML);
      old.replaceChildren(...found.childNodes);
      prepare(old);
    }
    apply();
    countOn();
    if (copy >= 0) copies()[copy]?.focus();
    if (part && focused !== undefined) {
      document.querySelectorAll("#" + part + " thead th")[focused]?.querySelector("button")?.focus();
    }
    state.textContent = events.readyState === EventSource.CLOSED ? "live, every 5 s" : "live";
    state.className = "allowed word";
  } catch {
    state.textContent = "no answer: what is shown may be old";
    state.className = "denied word";
  }
  took = performance.now() - begun;
  fetching = false;
  if (again) { again = false; soon(); }
}

// Where more listen than may, a browser does not try again by itself.
function listen() {
  if (events && events.readyState !== EventSource.CLOSED) return;
  events = new EventSource(location.origin + "/decisions/stream");
  events.addEventListener("decision", soon);
}

// Where much is shown and much happens, the page is idle for most of the time all the same, and never old for long.
function soon() {
  if (timer !== null || document.hidden) return;
  timer = setTimeout(() => { timer = null; refresh(); }, Math.min(Math.max(400, 3 * took), 10000));
}

filter.closest(".tools").hidden = false;
filter.addEventListener("input", apply);
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== filter && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    filter.focus();
  } else if (event.key === "Escape" && document.activeElement === filter) {
    filter.value = "";
    apply();
  }
});
for (const part of document.querySelectorAll("[data-live]")) served.set(part.id, part.innerHTML);
prepare(document);
listen();
setInterval(() => { listen(); soon(); }, 5000);
document.addEventListener("visibilitychange", soon);
soon();
