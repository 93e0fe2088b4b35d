// @ts-check
// What a model's plans minimised, over time: a line for each way in which it was planned.

import { axis, createChart, one } from "./chart.js";
import { dataOf, element, find, pageOf } from "./dom.js";
import { costText } from "./text.js";

/** @import { Colour, Option } from "./chart.js" */
/** @import { Unit } from "./text.js" */
/**
 * A plan in time: see `Point` in trend.py.
 * @typedef {object} Point
 * @property {string} id
 * @property {string} created
 * @property {number} after
 * @property {number} repack_cost
 * @property {boolean} is_regression
 */
/** @typedef {{ name: string, unit: Unit, points: Point[] }} Series */

/** @type {("solid" | "dashed" | "dotted" | number[])[]} */
const LINES = ["solid", "dashed", "dotted", [8, 3, 2, 3]];
const COLOURS = ["accent", "warn", "good", "soft"];

/** @param {HTMLElement} host */
export async function drawTrend(host) {
  const query = new URLSearchParams({ model: dataOf(host, "model") });
  const answer = await fetch(`${dataOf(host, "source")}?${query}`);
  /** @type {Series[]} */
  const series = await answer.json();
  const { chart } = createChart(host, (colour) => option(series, colour));
  chart.on("click", ({ data }) => {
    if (isMarked(data)) location.assign(pageOf(host, data.id));
  });
  describe(host, series);
}

/**
 * Whether this is what `point` made, and not another part of the chart.
 * @param {unknown} data
 * @returns {data is ReturnType<typeof point>}
 */
const isMarked = (data) => typeof data === "object" && data !== null && "id" in data;

/**
 * @param {Series[]} series
 * @param {Colour} colour
 * @returns {Option}
 */
function option(series, colour) {
  const units = [...new Set(series.map((s) => s.unit))];
  return {
    aria: { enabled: true },
    grid: { left: 8, right: 16, top: 40, bottom: 8, containLabel: true },
    legend: { top: 0, bottom: "auto", textStyle: { color: colour("ink") }, type: "scroll" },
    tooltip: {
      trigger: "item",
      formatter: (item) => {
        const { seriesName, data } = one(item);
        return isMarked(data) ? `${seriesName}\n${data.text}` : "";
      },
    },
    xAxis: axis(colour, { type: "time" }),
    yAxis: units.map((unit, n) =>
      axis(colour, {
        type: "value",
        ...(n > 0 && { splitLine: { show: false } }),
        axisLabel: { formatter: (/** @type {number} */ value) => costText(value, unit) },
      }),
    ),
    series: series.map((s, n) => ({
      name: s.name,
      type: "line",
      step: "end",
      yAxisIndex: units.indexOf(s.unit),
      color: colour(COLOURS[n % COLOURS.length]),
      lineStyle: { type: LINES[n % LINES.length], width: 2 },
      data: s.points.map((p) => point(p, s.unit, colour)),
    })),
  };
}

/**
 * @param {Point} p
 * @param {Unit} unit
 * @param {Colour} colour
 */
function point(p, unit, colour) {
  const repacks =
    p.repack_cost === p.after ? "" : `, ${costText(p.repack_cost, unit)} of it by repacks`;
  const text = `${new Date(p.created).toLocaleString()}: ${costText(p.after, unit)}${repacks}`;
  const marked = { symbol: "triangle", symbolSize: 15, itemStyle: { color: colour("bad") } };
  return {
    value: [p.created, p.after],
    id: p.id,
    text: p.is_regression ? `${text}, a regression` : text,
    ...(p.is_regression ? marked : { symbol: "circle", symbolSize: 6 }),
  };
}

/**
 * @param {HTMLElement} host
 * @param {Series[]} series
 */
function describe(host, series) {
  const found = series.flatMap((s) =>
    s.points.filter((p) => p.is_regression).map((p) => ({ ...s, ...p })),
  );
  const plans = series.reduce((sum, s) => sum + s.points.length, 0);
  const count = `${found.length} ${found.length === 1 ? "regression" : "regressions"}:`;
  find("trend-text").textContent =
    `${plans} plans; ${found.length === 0 ? "no regression" : count}`;
  find("regressions").append(
    ...found
      .slice(-5)
      .reverse()
      .map(({ id, created, name, after, unit }) =>
        element(
          "li",
          { class: "regression" },
          "▲ ",
          element("a", { href: pageOf(host, id) }, new Date(created).toLocaleString()),
          ` ${name}: ${costText(after, unit)}`,
        ),
      ),
  );
}
