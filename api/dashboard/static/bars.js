// @ts-check
// Transitions of both sides by cost, dearest first.

import { axis, createChart, one } from "./chart.js";
import { repackText } from "./graph.js";
import { costText, shortName } from "./text.js";

/** @import { Colour, Option } from "./chart.js" */
/** @import { PlannedGraph, Side, Transition } from "./model.js" */

const MOST = 20;
const ROW = 24; // pixels

/**
 * The transitions of a side, dearest first.
 * @param {PlannedGraph} graph
 * @param {Side} side
 */
export function byCost(graph, side) {
  return [...graph.views[side].transitions].sort((a, b) => b.cost - a.cost);
}

/**
 * What a transition repacks and for whom, in short.
 * @param {PlannedGraph} graph
 * @param {Transition} transition
 */
export function labelOf(graph, { tensor, users }) {
  const [first, ...others] = users.map((user) => shortName(graph.nodes[user].name));
  return `${graph.tensors[tensor].name} → ${first}${others.length ? ` +${others.length}` : ""}`;
}

export class Bars {
  /** @type {ReturnType<typeof createChart> | null} */
  #made = null;
  /** @type {Transition[]} */
  #rows = [];

  /**
   * @param {HTMLElement} host
   * @param {(transition: Transition) => void} onSelect
   */
  constructor(host, onSelect) {
    this.host = host;
    this.onSelect = onSelect;
  }

  /**
   * @param {PlannedGraph} graph
   * @param {Side} side
   */
  show(graph, side) {
    this.#rows = byCost(graph, side).slice(0, MOST);
    this.host.hidden = this.#rows.length === 0;
    if (this.host.hidden) return;
    this.host.style.height = `${70 + ROW * this.#rows.length}px`;
    if (this.#made) {
      this.#made.chart.resize();
      this.#made.redraw();
      return;
    }
    this.#made = createChart(this.host, (colour) => this.#option(graph, colour));
    this.#made.chart.on("click", ({ dataIndex }) => this.onSelect(this.#rows[dataIndex]));
  }

  /**
   * @param {PlannedGraph} graph
   * @param {Colour} colour
   * @returns {Option}
   */
  #option(graph, colour) {
    const rows = this.#rows;
    return {
      aria: {
        enabled: true,
        label: {
          description: `The ${rows.length} dearest transitions; the table below holds all.`,
        },
      },
      grid: { left: 20, right: 64, top: 8, bottom: 8, containLabel: true },
      tooltip: {
        trigger: "item",
        formatter: (item) => repackText(graph, rows[one(item).dataIndex]),
      },
      xAxis: axis(colour, {
        type: "value",
        splitNumber: 4,
        axisLabel: {
          hideOverlap: true,
          formatter: (/** @type {number} */ cost) => costText(cost, graph.unit),
        },
      }),
      yAxis: axis(colour, {
        type: "category",
        inverse: true,
        data: rows.map((transition) => labelOf(graph, transition)),
        axisLabel: { width: Math.min(260, this.host.clientWidth * 0.4), overflow: "truncate" },
      }),
      series: [
        {
          type: "bar",
          color: colour("transition"),
          data: rows.map(({ cost }) => cost),
          barMaxWidth: 15,
          label: {
            show: true,
            position: "right",
            color: colour("ink"),
            formatter: ({ value }) => costText(Number(value), graph.unit),
          },
        },
      ],
    };
  }
}
