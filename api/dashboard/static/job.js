// @ts-check
// A job's progress and results: states come as events, results are read when there are new ones.

import { dataOf, element, find, ours, pageOf } from "./dom.js";
import { costText } from "./text.js";

/** @import { Unit } from "./text.js" */
/** @typedef {"waiting" | "queued" | "running" | "done" | "failed" | "cancelled"} State */
/**
 * @typedef {object} Job
 * @property {string} id
 * @property {string} name
 * @property {string} created
 * @property {number} total
 * @property {Partial<Record<State, number>>} counts
 * @property {boolean} cancelled
 * @property {boolean} is_finished
 */
/** @typedef {Pick<Job, "total" | "counts" | "is_finished">} Progress */
/**
 * @typedef {object} Options
 * @property {string} profile
 * @property {string | null} [device]
 * @property {string | null} [gpu]
 * @property {string} objective
 * @property {number[] | null} texture_limits
 * @property {number | null} buffer_limit
 * @property {string[]} without_layouts
 * @property {string | null} [runtime]
 * @property {"vulkan" | "webgpu" | null} [target]
 * @property {Record<string, boolean>} [compile_options]
 * @property {string[]} [limits]
 */
/**
 * @typedef {object} Result
 * @property {boolean} is_proven
 * @property {number} gap
 * @property {number | null} objective_ratio
 * @property {Unit} unit
 * @property {number} baseline_objective_cost
 * @property {number} objective_cost
 * @property {number} baseline_transitions
 * @property {number} transitions
 */
/**
 * @typedef {object} Item
 * @property {number} number
 * @property {string} input
 * @property {string} input_sha256
 * @property {Options} options
 * @property {State} state
 * @property {string | null} error
 * @property {Result | null} result
 * @property {string | null} plan_id
 */

/**
 * @typedef {object} Opportunity
 * @property {string} operator
 * @property {string} operand
 * @property {string} representation
 * @property {number} share
 * @property {{source: string, share: number, is_exact: boolean}[]} models
 */
/** @typedef {{options: Options, ranking: {opportunities: Opportunity[]}}} Ranked */

const host = find("job");
const progress = find("progress", HTMLProgressElement);
const source = dataOf(host, "source");
const REFRESH_MS = 1000;
const MOST_OPPORTUNITIES = 30;
const MOST_MODELS = 5;
const STEPS = [1.005, 1.5, 2.5, 5]; // upper ends of the matrix's colours
/** @type {Record<State, string>} */
const SIGNS = { waiting: "…", queued: "…", running: "▶", done: "✓", failed: "✕", cancelled: "–" };

/** @type {Item[]} */
let items = []; // by number
/** @type {Set<string>} */
let mixed = new Set(); // devices for which limits or GPU are not the same in all items
/** @type {Map<number, HTMLTableCellElement>} */
const cells = new Map(); // by number
/** @type {EventSource | null} */
let events = null;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let waiting; // the timer of the next reading

async function read() {
  waiting = undefined;
  const answer = await fetch(`${source}/results.json`, { headers: { Accept: "application/json" } });
  const document_ = await answer.json();
  if (!answer.ok) {
    say(document_.detail);
    return false;
  }
  items = document_.items;
  mixed = mixedDevices();
  find("name").textContent = document_.job.name;
  document.title = `${document_.job.name} · Layout Planner`;
  drawMatrix();
  drawGains();
  find("unproven").hidden = items.every(({ result }) => result?.is_proven ?? true);
  drawProgress(document_.job);
  drawFailures();
  return true;
}

/** Reads soon, but not for each of many changes. */
function readSoon() {
  waiting ??= setTimeout(read, REFRESH_MS);
}

/** @param {string} text */
const say = (text) => {
  find("connection").textContent = text;
};

/** Follows the events. Each connection starts with all states, so that a break loses nothing. */
function follow() {
  events?.close();
  const opened = new EventSource(`${source}/events`);
  events = opened;
  opened.addEventListener("items", ({ data }) => {
    say("");
    /** @type {Pick<Item, "number" | "state">[]} */
    const changes = JSON.parse(data);
    for (const { number, state } of changes) {
      const item = items[number];
      if (!item || item.state === state) continue;
      item.state = state;
      fill(item);
      if (state === "done" || state === "failed") readSoon();
    }
  });
  opened.addEventListener("job", ({ data }) => drawProgress(JSON.parse(data)));
  opened.addEventListener("end", async () => {
    opened.close();
    clearTimeout(waiting);
    await read();
    await readOpportunities();
  });
  opened.addEventListener("error", () => say("The connection is lost; trying again."));
}

/** Ranked once the job has ended: it reads every plan's report. */
async function readOpportunities() {
  const answer = await fetch(`${source}/opportunities`, {
    headers: { Accept: "application/json" },
  });
  if (!answer.ok) return;
  /** @type {Ranked[]} */
  const found = await answer.json();
  const rows = found
    .flatMap(({ options, ranking }) => ranking.opportunities.map((row) => ({ options, row })))
    .sort((a, b) => b.row.share - a.row.share)
    .slice(0, MOST_OPPORTUNITIES);
  find("help-part").hidden = rows.length === 0;
  find("help").replaceChildren(
    ...rows.map(({ options, row }) =>
      element(
        "tr",
        {},
        element("th", { scope: "row" }, row.operator),
        element("td", {}, row.operand),
        element("td", {}, row.representation),
        element("td", {}, textOf(options)),
        element("td", { class: "number" }, percent(row.share)),
        element("td", {}, modelsOf(row)),
      ),
    ),
  );
}

/** @param {Opportunity} opportunity */
function modelsOf({ models }) {
  const named = models
    .slice(0, MOST_MODELS)
    .map((model) => `${model.source} ${model.is_exact ? "" : "≥ "}${percent(model.share)}`);
  const more = models.length - MOST_MODELS;
  return [...named, ...(more > 0 ? [`and ${more} more`] : [])].join(", ");
}

/** @param {number} share */
const percent = (share) => `${(100 * share).toFixed(1)}%`;

/** @param {Progress} progress */
function drawProgress({ total, counts, is_finished: isFinished }) {
  /** @param {State} state */
  const count = (state) => counts[state] ?? 0;
  progress.max = Math.max(total, 1);
  progress.value = count("done") + count("failed") + count("cancelled");
  /** @type {State[]} */
  const shown = ["running", "failed", "cancelled"];
  const others = shown.filter(count).map((state) => `${count(state)} ${state}`);
  const text = [`${count("done")} of ${total} done`, ...others].join(", ");
  if (find("counts").textContent !== text) find("counts").textContent = text;
  find("cancel").hidden = isFinished;
  find("retry").hidden = !isFinished || count("failed") + count("cancelled") === 0;
}

function drawFailures() {
  const failed = items.filter((item) => item.state === "failed");
  find("failed-part").hidden = failed.length === 0;
  find("failed").replaceChildren(
    ...failed.map((item) =>
      element(
        "li",
        {},
        element("strong", {}, item.input),
        ` ${textOf(item.options)}: ${item.error}`,
      ),
    ),
  );
}

/**
 * Options in words, without those that are left to their default.
 * @param {Options} options
 */
const textOf = (options) => [options.device ?? "", restOf(options)].filter(Boolean).join(", ");

function mixedDevices() {
  /** @type {Map<string, Set<string>>} */
  const found = new Map();
  for (const { options } of items) {
    const { device, gpu, texture_limits: texture, buffer_limit: buffer } = options;
    if (!device) continue;
    const limits = found.get(device) ?? new Set();
    found.set(device, limits.add(JSON.stringify([gpu, texture, buffer])));
  }
  return new Set([...found].flatMap(([device, limits]) => (limits.size > 1 ? [device] : [])));
}

/**
 * Options in words but for the device. With one, the profile prices what was not measured alone,
 * and limits and GPU are the device's own, unless there are others as well.
 * @param {Options} options
 */
function restOf({
  profile,
  device,
  gpu,
  objective,
  texture_limits: texture,
  buffer_limit: buffer,
  without_layouts: without,
  runtime,
  target,
  compile_options: compiled = {},
  limits = [],
}) {
  const isOwn = device && !mixed.has(device);
  return [
    ...(device && profile === "default" ? [] : [profile]),
    objective,
    ...(gpu && !isOwn ? [gpu] : []),
    ...(texture && !isOwn ? [`textures to ${texture.join(",")}`] : []),
    ...(buffer === null || isOwn ? [] : [`buffers under ${buffer}`]),
    ...(runtime ? [`ExecuTorch ${runtime}`] : []),
    ...(target ? [`for ${target}`] : []),
    ...Object.entries(compiled).map(([name, on]) => (on ? name : `${name}=false`)),
    ...(without.length ? [`without ${without.join(", ")}`] : []),
    ...limits,
  ].join(", ");
}

function drawMatrix() {
  const columns = new Map(items.map((item) => [keyOf(item.options), item.options]));
  const rows = Map.groupBy(items, (item) => `${item.input_sha256} ${item.input}`);
  cells.clear();
  find("options").replaceChildren(
    element(
      "tr",
      {},
      element("th", { scope: "col" }, "Model"),
      ...[...columns.values()].map((options) =>
        element("th", { scope: "col", class: "number" }, textOf(options)),
      ),
    ),
  );
  find("models").replaceChildren(
    ...[...rows.values()].map((row) => {
      const byColumn = new Map(row.map((item) => [keyOf(item.options), item]));
      return element(
        "tr",
        {},
        element("th", { scope: "row" }, row[0].input),
        ...[...columns.keys()].map((key) => {
          const cell = element("td", { class: "number" });
          const item = byColumn.get(key);
          if (item) {
            cells.set(item.number, cell);
            fill(item);
          }
          return cell;
        }),
      );
    }),
  );
}

/** Of a job for several devices, which gains what; plans without a device are one more. */
function drawGains() {
  const devices = new Set(items.map(({ options }) => options.device ?? null));
  find("gains-part").hidden = devices.size < 2;
  if (devices.size < 2) return;
  const inputs = Map.groupBy(items, (item) => `${item.input_sha256} ${item.input}`);
  find("gains").replaceChildren(...[...inputs.values()].flatMap((group) => group.map(gainRow)));
}

/** @param {Item} item */
function gainRow({ input, options, state, result, plan_id: plan }) {
  const { device } = options;
  const isDone = result !== null && plan !== null;
  return element(
    "tr",
    {},
    element(
      "th",
      { scope: "row" },
      isDone ? element("a", { href: pageOf(host, plan) }, input) : input,
    ),
    element("td", {}, device ? element("a", { href: deviceOf(device) }, device) : "none"),
    element("td", {}, restOf(options)),
    ...(isDone
      ? [
          ...[result.baseline_objective_cost, result.objective_cost].map((cost) =>
            element("td", { class: "number" }, costText(cost, result.unit)),
          ),
          element("td", { class: "number" }, ratioText(result.objective_ratio)),
          element("td", {}, proofOf(result)),
        ]
      : [element("td", { colspan: 4, class: state }, state)]),
  );
}

/** @param {string} name */
const deviceOf = (name) => dataOf(host, "devices").replace(/_$/, encodeURIComponent(name));

/** @param {Result} result */
const proofOf = (result) =>
  result.is_proven
    ? element("span", { class: "proof optimal" }, "optimal")
    : element("span", { class: "proof feasible" }, gapText(result));

/** @param {Result} result */
const gapText = ({ gap }) => `not proven, gap ${(100 * gap).toFixed(gap < 0.1 ? 1 : 0)}%`;

/** @param {number | null} ratio */
const ratioText = (ratio) => (ratio === null ? "∞" : `${ratio.toFixed(2)}×`);

/** @param {Options} options */
const keyOf = (options) => JSON.stringify(options);

/** @param {Item} item */
function fill({ number, state, result, plan_id: plan }) {
  const cell = cells.get(number);
  if (!cell) return;
  if (!result || plan === null) {
    cell.className = `number ${state}`;
    cell.replaceChildren(element("span", { "aria-hidden": "true" }, SIGNS[state]), " ", state);
    return;
  }
  const { objective_ratio: ratio, unit } = result;
  const { baseline_objective_cost: before, objective_cost: after } = result;
  const step = ratio === null ? STEPS.length : STEPS.filter((end) => ratio > end).length;
  cell.className = `number r${step}`;
  cell.replaceChildren(
    element("a", { href: pageOf(host, plan) }, ratioText(ratio)),
    ...(result.is_proven
      ? []
      : [element("small", {}, element("span", { "aria-hidden": "true" }, "◐ "), gapText(result))]),
    element("small", {}, `${costText(before, unit)} → ${costText(after, unit)}`),
    element("small", {}, `${result.baseline_transitions} → ${result.transitions} repacks`),
  );
}

for (const action of ["cancel", "retry"]) {
  find(action).addEventListener("click", async () => {
    const answer = await fetch(`${source}/${action}`, { method: "POST", headers: ours() });
    if (!answer.ok) {
      say((await answer.json()).detail);
      return;
    }
    await read();
    follow();
  });
}

if (await read()) follow();
host.setAttribute("aria-busy", "false");
