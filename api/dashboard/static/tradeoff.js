// @ts-check
// What less of something would cost: the corners of a trade-off, and the line below which no plan is.

import { axis, createChart, one } from "./chart.js";
import { dataOf } from "./dom.js";
import { costText } from "./text.js";

/** @import { Colour, Option } from "./chart.js" */
/** @import { Unit } from "./text.js" */
/**
 * See `CornerReport` in outline.py.
 * @typedef {object} Corner
 * @property {number} objective_cost
 * @property {number} extra
 * @property {number} amount
 */
/** @typedef {{ criterion: string, corners: Corner[] }} Outline */

/** @param {NodeListOf<HTMLElement>} hosts elements that each have a chart of one criterion */
export async function drawTradeoffs(hosts) {
  if (hosts.length === 0) return;
  const answer = await fetch(dataOf(hosts[0], "source"));
  if (!answer.ok) return; // The tables hold the same.
  /** @type {{ unit: Unit, outlines: Outline[] }} */
  const { unit, outlines } = await answer.json();
  for (const host of hosts) {
    const found = outlines.find(({ criterion }) => criterion === dataOf(host, "criterion"));
    if (found) createChart(host, (colour) => option(found, unit, colour));
  }
}

/**
 * @param {Outline} outline
 * @param {Unit} unit
 * @param {Colour} colour
 * @returns {Option}
 */
function option({ criterion, corners }, unit, colour) {
  const isCounted = criterion === "transitions";
  /** @param {number} amount */
  const amountText = (amount) => (isCounted ? `${amount} ${criterion}` : costText(amount, "bytes"));
  return {
    aria: {
      enabled: true,
      label: { description: `${corners.length} points; the table below holds all.` },
    },
    grid: { left: 20, right: 64, top: 16, bottom: 8, containLabel: true },
    tooltip: {
      trigger: "item",
      formatter: (item) => {
        const { amount, objective_cost } = corners[one(item).dataIndex];
        return `${amountText(amount)}\n${costText(objective_cost, unit)}`;
      },
    },
    xAxis: axis(colour, {
      type: "value",
      scale: true,
      splitNumber: 4,
      ...(isCounted && { minInterval: 1 }),
      axisLabel: {
        hideOverlap: true,
        formatter: (/** @type {number} */ amount) =>
          isCounted ? String(amount) : costText(amount, "bytes"),
      },
    }),
    yAxis: axis(colour, {
      type: "value",
      scale: true,
      axisLabel: { formatter: (/** @type {number} */ cost) => costText(cost, unit) },
    }),
    series: [
      {
        type: "line",
        color: colour("accent"),
        symbol: "circle",
        symbolSize: 9,
        data: corners.map(({ amount, objective_cost }) => [amount, objective_cost]),
      },
    ],
  };
}
