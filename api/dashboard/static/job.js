// A job's progress and results: states come as events, results are read when there are new ones.

import { costText, element } from "./text.js";

const find = (id) => document.getElementById(id);
const source = find("job").dataset.source;
const REFRESH_MS = 1000;
const STEPS = [1.005, 1.5, 2.5, 5]; // upper ends of the matrix's colours
const SIGNS = { waiting: "…", queued: "…", running: "▶", done: "✓", failed: "✕", cancelled: "–" };

let items = []; // by number
const cells = new Map(); // by number
let events = null;
let waiting = 0; // the timer of the next reading

async function read() {
  waiting = 0;
  const answer = await fetch(`${source}/results.json`, { headers: { Accept: "application/json" } });
  const document_ = await answer.json();
  if (!answer.ok) {
    say(document_.detail);
    return false;
  }
  items = document_.items;
  find("name").textContent = document_.job.name;
  document.title = `${document_.job.name} · Layout Planner`;
  drawMatrix();
  drawProgress(document_.job);
  drawFailures();
  return true;
}

/** Reads soon, but not for each of many changes. */
function readSoon() {
  if (!waiting) waiting = setTimeout(read, REFRESH_MS);
}

const say = (text) => {
  find("connection").textContent = text;
};

/** Follows the events. Each connection starts with all states, so that a break loses nothing. */
function follow() {
  events?.close();
  events = new EventSource(`${source}/events`);
  events.addEventListener("items", ({ data }) => {
    say("");
    for (const { number, state } of JSON.parse(data)) {
      const item = items[number];
      if (!item || item.state === state) continue;
      item.state = state;
      fill(item);
      if (state === "done" || state === "failed") readSoon();
    }
  });
  events.addEventListener("job", ({ data }) => drawProgress(JSON.parse(data)));
  events.addEventListener("end", async () => {
    events.close();
    clearTimeout(waiting);
    await read();
  });
  events.addEventListener("error", () => say("The connection is lost; trying again."));
}

function drawProgress({ total, counts, is_finished: isFinished }) {
  const count = (state) => counts[state] ?? 0;
  find("progress").max = Math.max(total, 1);
  find("progress").value = count("done") + count("failed") + count("cancelled");
  const others = ["running", "failed", "cancelled"].filter(count).map((state) => `${count(state)} ${state}`);
  const text = [`${count("done")} of ${total} done`, ...others].join(", ");
  if (find("counts").textContent !== text) find("counts").textContent = text;
  find("cancel").hidden = isFinished;
  find("retry").hidden = !isFinished || count("failed") + count("cancelled") === 0;
}

function drawFailures() {
  const failed = items.filter((item) => item.state === "failed");
  find("failed-part").hidden = failed.length === 0;
  find("failed").replaceChildren(...failed.map((item) =>
    element("li", {}, element("strong", {}, item.input), ` ${textOf(item.options)}: ${item.error}`)));
}

/** Options in words; what is left to its default is not said. */
function textOf({ profile, objective, texture_limits: texture, buffer_limit: buffer, without_layouts: without }) {
  return [
    profile,
    objective,
    ...(texture ? [`textures to ${texture.join(",")}`] : []),
    ...(buffer === null ? [] : [`buffers under ${buffer}`]),
    ...(without.length ? [`without ${without.join(", ")}`] : []),
  ].join(", ");
}

function drawMatrix() {
  const columns = new Map(items.map((item) => [keyOf(item.options), item.options]));
  const rows = Map.groupBy(items, (item) => `${item.input_sha256} ${item.input}`);
  cells.clear();
  find("options").replaceChildren(element("tr", {},
    element("th", { scope: "col" }, "Model"),
    ...[...columns.values()].map((options) => element("th", { scope: "col", class: "number" }, textOf(options)))));
  find("models").replaceChildren(...[...rows.values()].map((row) => {
    const byColumn = new Map(row.map((item) => [keyOf(item.options), item]));
    return element("tr", {},
      element("th", { scope: "row" }, row[0].input),
      ...[...columns.keys()].map((key) => {
        const cell = element("td", { class: "number" });
        const item = byColumn.get(key);
        if (item) {
          cells.set(item.number, cell);
          fill(item);
        }
        return cell;
      }));
  }));
}

const keyOf = (options) => JSON.stringify(options);

function fill({ number, state, result, plan_id: plan }) {
  const cell = cells.get(number);
  if (!cell) return;
  if (!result) {
    cell.className = `number ${state}`;
    cell.replaceChildren(element("span", { "aria-hidden": "true" }, SIGNS[state]), " ", state);
    return;
  }
  const { ratio, unit, baseline_repack_cost: before, repack_cost: after } = result;
  const step = ratio === null ? STEPS.length : STEPS.filter((end) => ratio > end).length;
  cell.className = `number r${step}`;
  const page = find("job").dataset.page.replace(/_$/, encodeURIComponent(plan));
  cell.replaceChildren(
    element("a", { href: page }, ratio === null ? "∞" : `${ratio.toFixed(2)}×`),
    element("small", {}, `${costText(before, unit)} → ${costText(after, unit)}`));
}

for (const action of ["cancel", "retry"]) {
  find(action).addEventListener("click", async () => {
    const answer = await fetch(`${source}/${action}`, { method: "POST" });
    if (!answer.ok) {
      say((await answer.json()).detail);
      return;
    }
    await read();
    follow();
  });
}

if (await read()) follow();
find("job").setAttribute("aria-busy", "false");
