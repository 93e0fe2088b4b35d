// @ts-check
// The drawing of a graph: places come from the server, ECharts draws, moves and zooms.

import { createChart, one } from "./chart.js";
import { HEXAGON, look } from "./representations.js";
import { costText, shortName } from "./text.js";

const LABEL_FROM = 62; // pixels that a node is wide before its name can be read
const CODE_FROM = 24; // and before its code can
const FAINT = 0.15;
const WIDEST = 6; // pixels of the dearest transition's edge
const LEAST_ZOOM = 0.5;
const MOST_ZOOM = 60;
const MARK = 17; // pixels of the dearest transition's wedge
const LEAST_MARK = 6; // and of any, however small the nodes are
const MARGIN = 24; // pixels
const LETTER = 0.6; // width of a letter against its height
const LARGEST = 1.3; // of a node, against its own size, before anybody zooms
const THINNER = { names: 1, codes: 0.6, none: 0.4 }; // lines, where nodes are small

const SYMBOLS = { pill: "roundRect", box: "rect", hexagon: `path://${HEXAGON}` };

/** @import { GraphSeriesOption } from "./vendor/echarts-6.1.0/echarts.esm.min.js" */
/** @import { Colour, Option } from "./chart.js" */
/** @import { Edge, Mark, Node, PlannedGraph, Side, Transition } from "./model.js" */
/** @typedef {NonNullable<GraphSeriesOption["data"]>[number]} GraphNode */
/** @typedef {{ zoom: number, center: [x: number, y: number] | null }} View */
/**
 * What of a graph is shown.
 * @typedef {object} Shown
 * @property {Side} side
 * @property {number[] | null} found nodes that are not faded, or null for all
 * @property {number | null} node the chosen one
 */

/** @type {View} */
const WHOLE = { zoom: 1, center: null };

export class GraphDrawing {
  /** @type {PlannedGraph} */
  #graph;
  /** @type {Side} */
  #side = "after";
  /** @type {Set<number> | null} */
  #found = null;
  /** @type {number | null} */
  #selected = null;
  #chart;
  #redraw;
  /** @type {Mark[]} */
  #marks = [];
  /** @type {View} */
  #view = WHOLE;
  /** @type {keyof typeof THINNER} */
  #detail = "none";

  /**
   * Draws a graph. `onSelect(node)` is called with the node of a click, or null beside all nodes.
   * @param {HTMLElement} host
   * @param {PlannedGraph} graph
   * @param {Shown} shown
   * @param {(node: number | null) => void} onSelect
   */
  constructor(host, graph, shown, onSelect) {
    this.host = host;
    this.#graph = graph;
    this.#begin(graph, shown);
    const { chart, redraw } = createChart(host, (colour) => this.#option(colour));
    this.#chart = chart;
    this.#redraw = redraw;
    chart.on("click", ({ dataType, dataIndex }) => {
      if (dataType === "edge") onSelect(this.#graph.edges[dataIndex].source);
      else if (dataType === "node") onSelect(this.#nodeAt(dataIndex));
    });
    chart.getZr().on("click", ({ target }) => {
      if (!target) onSelect(null);
    });
    chart.on("graphroam", () => this.#roamed());
    new ResizeObserver(() => this.#refine()).observe(host);
  }

  /**
   * Draws another graph: all of it, or the surroundings of a node.
   * @param {PlannedGraph} graph
   * @param {Shown} shown
   */
  show(graph, shown) {
    this.#begin(graph, shown);
    this.#redraw();
  }

  /**
   * @param {PlannedGraph} graph
   * @param {Shown} shown
   */
  #begin(graph, { side, found, node }) {
    this.#graph = graph;
    this.#side = side;
    this.#found = setOf(found);
    this.#selected = node;
    this.#view = WHOLE;
    if (node !== null) this.#view = this.#around(graph.nodes[node]);
    this.#detail = this.#readableDetail();
  }

  /**
   * Shows a side of the same graph, from the same place, and fades all but these nodes, if any.
   * @param {Side} side
   * @param {number[] | null} found
   */
  turn(side, found) {
    this.#side = side;
    this.#found = setOf(found);
    this.#redraw();
  }

  /**
   * Marks a node; it is brought to the middle if asked for.
   * @param {number | null} node
   * @param {{ reveal?: boolean }} options
   */
  select(node, { reveal = false } = {}) {
    this.#selected = node;
    this.#move(node !== null && reveal ? this.#around(this.#graph.nodes[node]) : this.#view);
  }

  /** @param {number} factor */
  zoomBy(factor) {
    const zoom = Math.min(MOST_ZOOM, Math.max(LEAST_ZOOM, this.#view.zoom * factor));
    this.#move({ ...this.#view, zoom });
  }

  fit() {
    this.#move(WHOLE);
  }

  /**
   * @param {Node} node
   * @returns {View}
   */
  #around({ x, y }) {
    return { zoom: Math.max(this.#view.zoom, this.#readable()), center: [x, y] };
  }

  /** Pixels of a pixel of the drawing, at zoom 1: all of it fits, and little is not blown up. */
  #scale() {
    const { clientWidth, clientHeight } = this.host;
    const { width, height } = this.#graph;
    const fitting = Math.min(
      (clientWidth - 2 * MARGIN) / width,
      (clientHeight - 2 * MARGIN) / height,
    );
    return Math.max(0.01, Math.min(fitting, LARGEST));
  }

  /** Where ECharts is to put the box around the nodes' centres, in the graph's own proportions. */
  #box() {
    const { width, height, node_width: w, node_height: h } = this.#graph;
    const scale = this.#scale();
    const [across, down] = [Math.max(width - w, 1) * scale, Math.max(height - h, 1) * scale];
    const { clientWidth, clientHeight } = this.host;
    return {
      left: (clientWidth - across) / 2,
      top: (clientHeight - down) / 2,
      width: across,
      height: down,
    };
  }

  #readable() {
    return (LABEL_FROM * 1.9) / (this.#graph.node_width * this.#scale());
  }

  /** Reads where the reader went, and draws again where names became readable or ceased to be. */
  #roamed() {
    const series = { seriesIndex: 0 };
    /** @param {number} x */
    const at = (x) => this.#chart.convertToPixel(series, [x, 0])[0];
    const { clientWidth, clientHeight } = this.host;
    const [x, y] = this.#chart.convertFromPixel(series, [clientWidth / 2, clientHeight / 2]);
    this.#view = { zoom: (at(1000) - at(0)) / 1000 / this.#scale(), center: [x, y] };
    this.#refine();
  }

  #refine() {
    const detail = this.#readableDetail();
    if (detail === this.#detail) return;
    this.#detail = detail;
    this.#redraw();
  }

  /**
   * The node that an item of the drawing stands for: itself, or the reader of a transition.
   * @param {number} item
   */
  #nodeAt(item) {
    const mark = this.#marks[item - this.#graph.nodes.length];
    return mark ? this.#graph.edges[mark.edge].target : item;
  }

  /** What of a node's text there is room for. */
  #readableDetail() {
    const width = this.#graph.node_width * this.#scale() * this.#view.zoom;
    return width >= LABEL_FROM ? "names" : width >= CODE_FROM ? "codes" : "none";
  }

  /** @param {View} view */
  #move(view) {
    this.#view = view;
    this.#detail = this.#readableDetail();
    this.#redraw();
  }

  /**
   * @param {Colour} colour
   * @returns {Option}
   */
  #option(colour) {
    const graph = this.#graph;
    const view = this.#view;
    const scale = this.#scale();
    const size = [graph.node_width * scale, graph.node_height * scale];
    const dearest = Math.max(
      ...graph.sides.flatMap((s) => graph.views[s].transitions.map((t) => t.cost)),
      0,
    );
    const fontSize = Math.min(13, Math.max(7, size[1] * view.zoom * 0.42));
    this.#marks = graph.marks(this.#side);
    const letters = Math.floor((size[0] * view.zoom) / (fontSize * LETTER));
    return {
      tooltip: { formatter: (item) => this.#tip(one(item).dataType, one(item).dataIndex) },
      thumbnail: {
        show: view.zoom > 1.5,
        width: "18%",
        height: "16%",
        left: 8,
        bottom: 8,
        itemStyle: { color: colour("card"), borderColor: colour("line") },
        windowStyle: { borderColor: colour("accent"), color: colour("accent"), opacity: 0.2 },
      },
      series: [
        {
          type: "graph",
          layout: "none",
          ...this.#box(),
          roam: true,
          scaleLimit: { min: LEAST_ZOOM, max: MOST_ZOOM },
          nodeScaleRatio: 1,
          zoom: view.zoom,
          center: view.center ?? undefined,
          symbolSize: size,
          label: {
            show: this.#detail !== "none",
            fontSize,
          },
          emphasis: { scale: false, lineStyle: { width: WIDEST } },
          edgeLabel: { show: false },
          data: [
            ...graph.nodes.map((node, index) => this.#node(node, index, letters, colour)),
            ...this.#marks.map((mark) => this.#marker(mark, dearest, scale, colour)),
          ],
          links: graph.edges.map((edge, index) => this.#edge(edge, index, dearest, colour)),
        },
      ],
    };
  }

  /**
   * @param {Node} node
   * @param {number} index
   * @param {number} letters
   * @param {Colour} colour
   */
  #node(node, index, letters, colour) {
    const shown = look(this.#graph.representation(index, this.#side));
    const isSelected = index === this.#selected;
    const isFaint = this.#found !== null && !this.#found.has(index) && !isSelected;
    return {
      id: String(index),
      name: node.name,
      x: node.x,
      y: node.y,
      symbol: SYMBOLS[shown.shape],
      itemStyle: {
        color: shown.colour,
        opacity: isFaint ? FAINT : 1,
        borderColor: colour("ink"),
        borderWidth: isSelected ? 2 : 0,
        shadowColor: colour("ink"),
        shadowBlur: isSelected ? 16 : 0,
      },
      label: {
        color: shown.ink,
        opacity: isFaint ? FAINT : 1,
        // A string would be taken for a template.
        formatter: () =>
          this.#detail === "codes" ? shown.code : labelOf(node, shown.code, letters),
      },
    };
  }

  /**
   * @param {Edge} edge
   * @param {number} index
   * @param {number} dearest
   * @param {Colour} colour
   */
  #edge(edge, index, dearest, colour) {
    const transition = this.#graph.repacks[this.#side][index];
    const touches = this.#selected === edge.source || this.#selected === edge.target;
    const isFaint =
      this.#found !== null &&
      !touches &&
      !this.#found.has(edge.source) &&
      !this.#found.has(edge.target);
    const thin = THINNER[this.#detail];
    const width = transition
      ? thin * Math.max(2, WIDEST * Math.sqrt(transition.cost / (dearest || 1)))
      : touches
        ? 2
        : 1;
    // What leads to another column crosses much: it stays in the background.
    const opacity = isFaint ? FAINT : edge.is_folded && !touches ? 0.35 : transition ? 1 : 0.8;
    return {
      source: edge.source,
      target: edge.target,
      lineStyle: {
        color: colour(transition ? "transition" : touches ? "ink" : "edge"),
        width: edge.is_folded ? Math.min(width, 2) : width,
        opacity,
        // An edge that passes operators by is bent around them.
        curveness: edge.is_folded ? 0.06 : edge.layers > 1 ? 0.18 : 0,
      },
    };
  }

  /**
   * A wedge on the edge of a transition: its place, and its size by cost.
   * @param {Mark} mark
   * @param {number} dearest
   * @param {number} scale
   * @param {Colour} colour
   * @returns {GraphNode}
   */
  #marker({ edge, transition, x, y }, dearest, scale, colour) {
    const { source, target } = this.#graph.edges[edge];
    const isFaint = this.#found !== null && !this.#found.has(source) && !this.#found.has(target);
    const size = (MARK / 2) * (1 + Math.sqrt(transition.cost / (dearest || 1)));
    return {
      x,
      y,
      symbol: "triangle",
      symbolRotate: 180,
      symbolSize: Math.max(scale * size, LEAST_MARK / this.#view.zoom),
      itemStyle: { color: colour("transition"), opacity: isFaint ? FAINT : 1 },
      label: {
        show: this.#detail === "names" && !isFaint,
        formatter: costText(transition.cost, this.#graph.unit),
        position: "right",
        color: colour("ink"),
        textBorderColor: colour("paper"),
        textBorderWidth: 3,
        fontSize: 11,
      },
    };
  }

  /**
   * @param {string | undefined} kind
   * @param {number} item
   */
  #tip(kind, item) {
    const graph = this.#graph;
    const side = this.#side;
    const mark = kind === "node" ? this.#marks[item - graph.nodes.length] : undefined;
    const index = mark ? mark.edge : item;
    if (mark || kind === "edge") {
      const { tensor } = graph.edges[index];
      const { name, shape, dtype } = graph.tensors[tensor];
      const repack = graph.repacks[side][index];
      const text = `${name}  ${shape} ${dtype}`;
      return repack ? `${text}\n${repackText(graph, repack)}` : text;
    }
    const shown = look(graph.representation(index, side));
    const tensor = graph.tensorOf(index);
    const made = tensor ? `\n${tensor.name}  ${tensor.shape} ${tensor.dtype}` : "";
    return `${index}: ${graph.nodes[index].name}${made}\n${shown.name}`;
  }
}

/** @param {number[] | null} nodes */
const setOf = (nodes) => (nodes === null ? null : new Set(nodes));

/**
 * A node's name, cut to so many letters, and the code of its representation.
 * @param {Node} node
 * @param {string} code
 * @param {number} letters
 */
function labelOf(node, code, letters) {
  const name = shortName(node.name);
  const room = Math.max(1, letters - code.length - 1);
  return `${name.length > room ? `${name.slice(0, room - 1)}…` : name} ${code}`;
}

/**
 * A transition in words.
 * @param {PlannedGraph} graph
 * @param {Transition} transition
 */
export function repackText(graph, { source, target, cost }) {
  /** @param {number} index */
  const name = (index) => graph.representations[index];
  return `${name(source)} → ${name(target)}, ${costText(cost, graph.unit)}`;
}
