// @ts-check
// The plans of a tuning in the order in which they were measured, as a chart.

import { axis, createChart, one } from "./chart.js";
import { costText, timeText } from "./text.js";

/** @import { Colour, Option } from "./chart.js" */
/**
 * A plan that was measured: see `TunedPlan` in device_models.py.
 * @typedef {object} Plan
 * @property {string} name
 * @property {number} round
 * @property {number} transitions
 * @property {number | null} predicted_ns
 * @property {"right" | "wrong" | "crash" | "time-out" | "away" | "unreadable"} verdict
 * @property {number} ns
 * @property {number | null} error
 * @property {string} said
 */

/**
 * What became of a plan's outputs, in words.
 * @param {Plan} plan
 */
export function outputsText({ verdict, error, said }) {
  const how = error === null ? "" : `, off by ${error.toPrecision(2)}`;
  const text = verdict === "wrong" ? `${verdict}${how}` : verdict;
  return said ? `${text}: ${said}` : text;
}

export class Plans {
  /** @type {ReturnType<typeof createChart> | null} */
  #made = null;
  /** @type {Plan[]} */
  #plans = [];

  /**
   * @param {HTMLElement} host
   * @param {string} baseline the name of ExecuTorch's plan
   */
  constructor(host, baseline) {
    this.host = host;
    this.baseline = baseline;
  }

  /** @param {Plan[]} plans */
  show(plans) {
    this.#plans = plans;
    this.host.hidden = !plans.some(({ ns, predicted_ns: predicted }) => ns || predicted !== null);
    if (this.host.hidden) return;
    if (this.#made) this.#made.redraw();
    else this.#made = createChart(this.host, (colour) => this.#option(colour));
  }

  /**
   * @param {Colour} colour
   * @returns {Option}
   */
  #option(colour) {
    const plans = this.#plans;
    const baseline = plans.find(({ name }) => name === this.baseline);
    const line = baseline?.ns
      ? [{ yAxis: baseline.ns, label: { formatter: this.baseline, color: colour("ink") } }]
      : [];
    return {
      aria: {
        enabled: true,
        label: { description: `${plans.length} plans in order; the table below holds them.` },
      },
      grid: { left: 34, right: 16, top: 36, bottom: 30, containLabel: true },
      legend: {
        top: 0,
        bottom: "auto",
        selectedMode: false,
        textStyle: { color: colour("ink") },
        data: ["measured", "predicted"],
      },
      tooltip: { trigger: "item", formatter: (item) => this.#textOf(one(item).dataIndex) },
      xAxis: axis(colour, {
        type: "category",
        name: "plan",
        nameLocation: "middle",
        nameGap: 26,
        nameTextStyle: { color: colour("ink") },
        data: plans.map((_, n) => String(n + 1)),
        axisLabel: { hideOverlap: true },
      }),
      yAxis: axis(colour, {
        type: "value",
        scale: true,
        axisLabel: { formatter: (/** @type {number} */ value) => costText(value, "ns") },
      }),
      series: [
        {
          type: "line",
          name: "predicted",
          color: colour("warn"),
          symbol: "emptyDiamond",
          symbolSize: 8,
          lineStyle: { type: "dotted", width: 1.5 },
          data: plans.map(({ predicted_ns: predicted }) => predicted),
        },
        {
          type: "line",
          name: "measured",
          color: colour("accent"),
          symbolSize: 8,
          data: plans.map(({ ns, verdict }) => ({
            // A plan that failed took no time that means anything.
            value: ns || null,
            symbol: verdict === "right" ? "circle" : "triangle",
            ...(verdict !== "right" && { itemStyle: { color: colour("bad") } }),
          })),
          markLine: {
            symbol: "none",
            silent: true,
            lineStyle: { color: colour("soft"), type: "dashed" },
            label: { position: "insideEndTop" },
            data: line,
          },
        },
      ],
    };
  }

  /** @param {number} index */
  #textOf(index) {
    const plan = this.#plans[index];
    if (!plan) return "";
    const { name, round, transitions, predicted_ns: predicted, ns } = plan;
    return [
      `${index + 1}: ${name}`,
      `round ${round}, ${transitions} repacks`,
      ...(predicted === null ? [] : [`predicted ${timeText(predicted)}`]),
      ...(ns ? [`measured ${timeText(ns)}`] : []),
      outputsText(plan),
    ].join("\n");
  }
}
