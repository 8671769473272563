"use strict";
// Everything foreign stays text: what is shown is the page's own markup, fetched again.
const filter = document.getElementById("filter");
const state = document.getElementById("live");
const sorted = new Map();
// (Without the name and password that an address may hold: browsers fetch none with them.)
const here = location.origin + location.pathname + location.search;
const copies = () => Array.from(document.querySelectorAll("button.copy"));
let timer = null, fetching = false, again = false, took = 0;
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

function prepare() {
  for (const table of document.querySelectorAll("table[data-sortable]")) {
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
  if (navigator.clipboard) for (const text of document.querySelectorAll("pre.edit")) {
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
  apply();
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
    let changed = false;
    for (const old of document.querySelectorAll("[data-live]")) {
      const found = fresh.getElementById(old.id);
      if (found && found.innerHTML !== old.dataset.seen) {
        const seen = found.innerHTML;
        old.replaceChildren(...found.childNodes);
        old.dataset.seen = seen;
        changed = true;
      }
    }
    if (changed) prepareOnce();
    countOn();
    if (copy >= 0) copies()[copy]?.focus();
    if (part && focused !== undefined) {
      document.querySelectorAll("#" + part + " thead th")[focused]?.querySelector("button")?.focus();
    }
    state.textContent = "live";
    state.className = "allowed word";
  } catch {
    state.textContent = "no answer: what is shown may be old";
    state.className = "denied word";
  }
  took = performance.now() - begun;
  fetching = false;
  if (again) { again = false; soon(); }
}

function prepareOnce() {
  for (const table of document.querySelectorAll("table[data-sortable]")) {
    if (table.querySelector("thead button")) table.tHead.querySelectorAll("button").forEach((button) => button.replaceWith(button.textContent));
  }
  copies().forEach((button) => button.remove());
  prepare();
}

// Where much is shown and much happens, the page is idle for most of the time all the same.
function soon() {
  if (timer !== null || document.hidden) return;
  timer = setTimeout(() => { timer = null; refresh(); }, Math.max(400, 3 * took));
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
prepare();
new EventSource(location.origin + "/decisions/stream").addEventListener("decision", soon);
setInterval(soon, 5000);
document.addEventListener("visibilitychange", soon);
soon();
