// @ts-check
// A plan's page: what is chosen is in the address, and every part of the page follows it.

import { Bars, byCost } from "./bars.js";
import { dataOf, element, find } from "./dom.js";
import { GraphDrawing, repackText } from "./graph.js";
import { PlannedGraph } from "./model.js";
import { HEXAGON, look } from "./representations.js";
import { costText, shortName } from "./text.js";
import { drawTradeoffs } from "./tradeoff.js";

const ROWS = 200;

/** @import { Side, Transition } from "./model.js" */
/**
 * What is chosen.
 * @typedef {object} State
 * @property {number} delegate
 * @property {Side} side
 * @property {string} find
 * @property {number | null} node
 * @property {string | null} only a representation, by its name
 */

const LARGEST = Number(dataOf(find("plan"), "largest"));
const searched = find("find", HTMLInputElement);
const more = find("more", HTMLButtonElement);
// A plan of one delegate has nothing to choose from.
/** @type {HTMLSelectElement | null} */
const delegates = document.querySelector("select#delegate");
/** @type {NodeListOf<HTMLInputElement>} */
const sides = document.querySelectorAll("[name=side]");
const state = read();
/** @type {PlannedGraph} */
let graph; // from when the first one is drawn
/** @type {GraphDrawing | undefined} */
let drawing;
let shownRows = ROWS;
const bars = new Bars(find("bars"), (transition) => choose(readerOf(transition), true));

/** @returns {State} */
function read() {
  const query = new URLSearchParams(location.search);
  /** @param {string} name */
  const number = (name) => (/^\d+$/.test(query.get(name) ?? "") ? Number(query.get(name)) : null);
  return {
    delegate: number("delegate") ?? LARGEST,
    side: query.get("side") === "before" ? "before" : "after",
    find: query.get("find") ?? "",
    node: number("node"),
    only: query.get("only"),
  };
}

/** @param {State} state */
function addressOf(state) {
  const query = new URLSearchParams();
  if (state.delegate !== LARGEST) query.set("delegate", String(state.delegate));
  if (state.side !== "after") query.set("side", state.side);
  if (state.find) query.set("find", state.find);
  if (state.node !== null) query.set("node", String(state.node));
  if (state.only) query.set("only", state.only);
  return query.size ? `?${query}` : location.pathname;
}

const write = () => history.replaceState(null, "", addressOf(state));
/** @param {number} node */
const hrefOf = (node) => addressOf({ ...state, node });

async function load() {
  find("plan").setAttribute("aria-busy", "true");
  await draw();
  find("plan").setAttribute("aria-busy", "false");
  performance.mark("drawn");
}

async function draw() {
  const answer = await fetch(`${dataOf(find("plan"), "source")}?delegate=${state.delegate}`);
  if (!answer.ok) {
    const { detail } = await answer.json();
    find("graph").textContent = `The graph cannot be shown: ${detail}`;
    return;
  }
  graph = new PlannedGraph(await answer.json());
  if (!graph.sides.includes(state.side)) state.side = "after";
  const isOneSided = graph.sides.length === 1;
  for (const id of ["sides", "before-column"]) find(id).hidden = isOneSided;
  find("one-side").hidden = !isOneSided;
  if (state.node !== null && state.node >= graph.nodes.length) state.node = null;
  const shown = { side: state.side, found: found(), node: state.node };
  if (drawing) drawing.show(graph, shown);
  else drawing = new GraphDrawing(find("graph"), graph, shown, (node) => choose(node, false));
  showSide();
  showMatches();
}

function showSide() {
  for (const input of sides) input.checked = input.value === state.side;
  bars.show(graph, state.side);
  showLegend();
  showTransitions();
  showOperators();
  showDetails();
}

/** @param {Side} side */
function turn(side) {
  state.side = side;
  write();
  drawing?.turn(side, found());
  showSide();
  showMatches();
}

// What is found

function found() {
  if (state.find) return graph.search(state.find);
  if (state.only) {
    return graph.nodes.flatMap((_, n) =>
      String(graph.representation(n, state.side)) === state.only ? [n] : [],
    );
  }
  return null;
}

function showFound() {
  drawing?.turn(state.side, found());
  shownRows = ROWS;
  showMatches();
  showOperators();
}

function showMatches() {
  find("matches").textContent = state.find ? `${found()?.length} found` : "";
}

// The chosen operator

/**
 * @param {number | null} node
 * @param {boolean} reveal whether to bring it to the middle
 */
function choose(node, reveal) {
  state.node = node;
  write();
  drawing?.select(node, { reveal });
  showDetails();
  /** @type {NodeListOf<HTMLElement>} */
  const rows = document.querySelectorAll("#operators tr");
  for (const row of rows) row.classList.toggle("chosen", row.dataset.node === String(node));
  find("spoken").textContent = node === null ? "" : spoken(node);
}

/** @param {number} node */
function spoken(node) {
  const repacks = graph.incoming[node].filter((edge) => graph.repacks[state.side][edge]).length;
  const made = graph.representation(node, state.side) ?? "no representation";
  const name = shortName(graph.nodes[node].name);
  return `Operator ${node}, ${name}, ${made}, ${repacks} inputs repacked`;
}

function showDetails() {
  const panel = find("details");
  const chosen = state.node;
  panel.hidden = chosen === null;
  if (chosen === null) return;
  const node = graph.nodes[chosen];
  panel.replaceChildren(
    element(
      "button",
      { type: "button", class: "close", "aria-label": "Close", onclick: () => choose(null, false) },
      "×",
    ),
    element("h3", {}, `${chosen}: ${node.name}`),
    element(
      "dl",
      {},
      ...graph.sides.flatMap((side) => [
        element("dt", {}, side),
        element("dd", {}, swatch(graph.representation(chosen, side))),
      ]),
      ...(node.cost === null
        ? []
        : [
            element("dt", {}, "costs"),
            element("dd", {}, `${costText(node.cost, graph.unit)} itself, after planning`),
          ]),
      ...graph.incoming[chosen].flatMap((edge) =>
        described("reads", edge, graph.edges[edge].source),
      ),
      ...graph.outgoing[chosen].flatMap((edge) =>
        described("makes", edge, graph.edges[edge].target),
      ),
    ),
  );
}

/**
 * An edge of the chosen operator, and what is at its other end.
 * @param {"reads" | "makes"} word
 * @param {number} index
 * @param {number} other
 */
function described(word, index, other) {
  const { tensor } = graph.edges[index];
  const { name, shape, dtype } = graph.tensors[tensor];
  const repack = graph.repacks[state.side][index];
  return [
    element("dt", {}, word),
    element(
      "dd",
      {},
      `${name} ${shape} ${dtype} ${word === "reads" ? "from" : "for"} `,
      linkTo(other),
      ...(repack
        ? [element("div", { class: "regression" }, `↻ ${repackText(graph, repack)}`)]
        : []),
    ),
  ];
}

/** @param {number} node */
function linkTo(node) {
  return element(
    "a",
    {
      href: hrefOf(node),
      onclick: (event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        choose(node, true);
      },
    },
    `${node}: ${shortName(graph.nodes[node].name)}`,
  );
}

/**
 * A representation's colour and shape, and its name.
 * @param {string | null} name
 */
function swatch(name) {
  const { colour, shape, name: text } = look(name);
  const outline =
    shape === "hexagon"
      ? drawn("path", { d: HEXAGON, fill: colour })
      : drawn("rect", { width: 30, height: 16, rx: shape === "pill" ? 7 : 0, fill: colour });
  const svg = drawn("svg", { viewBox: "0 0 30 16", width: 24, height: 13, "aria-hidden": "true" });
  svg.append(outline);
  return element("span", {}, svg, " ", text);
}

/**
 * @param {"svg" | "path" | "rect"} tag
 * @param {Record<string, string | number>} attributes
 */
function drawn(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  return made;
}

// Legend and tables

function showLegend() {
  find("legend").replaceChildren(
    ...graph.counts(state.side).map(([name, count]) => {
      const key = String(name);
      const button = element(
        "button",
        {
          type: "button",
          "aria-pressed": String(state.only === key),
          onclick: () => {
            state.only = state.only === key ? null : key;
            state.find = searched.value = "";
            write();
            showLegend();
            showFound();
          },
        },
        swatch(name),
        element("small", {}, String(count)),
      );
      return element("li", {}, button);
    }),
    element("li", {}, repackButton()),
  );
}

function repackButton() {
  const { transitions } = graph.views[state.side];
  const sum = transitions.reduce((total, t) => total + t.cost, 0);
  return element(
    "button",
    { type: "button", disabled: transitions.length === 0, onclick: () => step(1) },
    element("span", { class: "regression", "aria-hidden": "true" }, "━▶"),
    `${transitions.length} ${transitions.length === 1 ? "transition" : "transitions"}`,
    element("small", {}, costText(sum, graph.unit)),
  );
}

/** @param {Transition} transition */
const readerOf = (transition) => transition.users[0] ?? graph.maker(transition);

function showTransitions() {
  find("transitions").replaceChildren(
    ...byCost(graph, state.side).map((transition) => {
      const maker = graph.maker(transition);
      /** @param {number} index */
      const name = (index) => graph.representations[index];
      return element(
        "tr",
        {},
        element(
          "td",
          {},
          graph.tensors[transition.tensor].name,
          " ",
          element("small", {}, graph.tensors[transition.tensor].shape),
        ),
        element("td", {}, `${name(transition.source)} → ${name(transition.target)}`),
        element("td", {}, ...(maker === null ? ["–"] : [linkTo(maker)])),
        element(
          "td",
          {},
          ...transition.users.flatMap((user, n) => (n ? [", ", linkTo(user)] : [linkTo(user)])),
        ),
        element("td", { class: "number" }, costText(transition.cost, graph.unit)),
      );
    }),
  );
}

function showOperators() {
  const nodes = found() ?? graph.nodes.map((_, node) => node);
  find("operators").replaceChildren(...nodes.slice(0, shownRows).map(operatorRow));
  const left = nodes.length - shownRows;
  more.hidden = left <= 0;
  more.textContent = `Show ${Math.min(ROWS, left)} more of ${left}`;
}

/** @param {number} node */
function operatorRow(node) {
  const made = graph.sides.map((side) => graph.representation(node, side));
  const isChanged = made.length > 1 && made[0] !== made[1];
  const tensor = graph.tensorOf(node);
  return element(
    "tr",
    { "data-node": node, class: node === state.node ? "chosen" : undefined },
    element("td", { class: "number" }, String(node)),
    element(
      "td",
      {},
      element(
        "a",
        {
          href: hrefOf(node),
          onclick: (event) => {
            if (event.ctrlKey || event.metaKey || event.shiftKey) return;
            event.preventDefault();
            choose(node, true);
            find("graph").focus();
          },
        },
        graph.nodes[node].name,
      ),
    ),
    element(
      "td",
      {},
      ...(tensor
        ? [`${tensor.name} `, element("small", {}, `${tensor.shape} ${tensor.dtype}`)]
        : []),
    ),
    ...made.map((name, n) =>
      element("td", { class: isChanged && n > 0 ? "changed" : undefined }, swatch(name)),
    ),
  );
}

// Keys

/**
 * The next or previous transition in the order of its reader.
 * @param {1 | -1} by
 */
function step(by) {
  const stops = [...new Set(graph.views[state.side].transitions.map(readerOf))].sort(
    (a, b) => a - b,
  );
  if (stops.length === 0) return;
  const at = stops.findIndex((node) => node >= (state.node ?? -1));
  const here = at < 0 ? stops.length : at;
  const isOn = stops[here] === state.node;
  const next = by > 0 ? here + (isOn ? 1 : 0) : here - 1;
  choose(stops[(next + stops.length) % stops.length], true);
}

/**
 * @param {number[][]} edges
 * @param {"source" | "target"} end
 */
function along(edges, end) {
  const start = state.node ?? 0;
  const edge = edges[start]?.[0];
  choose(edge === undefined || state.node === null ? start : graph.edges[edge][end], true);
}

/** @param {1 | -1} by */
function beside(by) {
  if (state.node === null) return choose(0, true);
  const { x, y } = graph.nodes[state.node];
  const row = graph.nodes
    .flatMap((node, n) => (node.y === y ? [[node.x, n]] : []))
    .sort((a, b) => a[0] - b[0]);
  const next = row[row.findIndex(([at, n]) => at === x && n === state.node) + by];
  if (next) choose(next[1], true);
}

/** @type {Record<string, () => void>} */
const KEYS = {
  ArrowDown: () => along(graph.outgoing, "target"),
  ArrowUp: () => along(graph.incoming, "source"),
  ArrowLeft: () => beside(-1),
  ArrowRight: () => beside(1),
  n: () => step(1),
  p: () => step(-1),
  "+": () => drawing?.zoomBy(1.4),
  "=": () => drawing?.zoomBy(1.4),
  "-": () => drawing?.zoomBy(1 / 1.4),
  0: () => drawing?.fit(),
  Escape: () => choose(null, false),
};

find("graph").addEventListener("keydown", (event) => {
  const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!action || !graph || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  action();
});
find("in").addEventListener("click", KEYS["+"]);
find("out").addEventListener("click", KEYS["-"]);
find("fit").addEventListener("click", KEYS[0]);
more.addEventListener("click", () => {
  shownRows += ROWS;
  showOperators();
});
searched.addEventListener("input", () => {
  state.find = searched.value;
  state.only = null;
  write();
  showLegend();
  showFound();
});
searched.addEventListener("keydown", (event) => {
  const nodes = event.key === "Enter" ? found() : null;
  if (!nodes?.length) return;
  const after = nodes.find((node) => node > (state.node ?? -1));
  choose(after ?? nodes[0], true);
});
for (const input of sides) {
  input.addEventListener("change", () => turn(input.value === "before" ? "before" : "after"));
}
delegates?.addEventListener("change", () => {
  Object.assign(state, { delegate: Number(delegates.value), node: null, find: "", only: null });
  searched.value = "";
  write();
  load();
});

searched.value = state.find;
if (delegates) delegates.value = String(state.delegate);
await Promise.all([load(), drawTradeoffs(document.querySelectorAll(".tradeoff"))]);
