// @ts-check
// A chart that keeps to its element's size and to the page's theme.

import * as echarts from "./vendor/echarts-6.1.0/echarts.esm.min.js";

/** @typedef {echarts.EChartsOption} Option */
/** @typedef {(name: string) => string} Colour a colour of the page, by its name there */
/** @typedef {{ axisLabel?: object, [other: string]: unknown }} AxisOption */

/**
 * The page's colours, by name, as its style sheet has them now.
 * @returns {Colour}
 */
export function colours() {
  /** @type {Map<string, string>} */
  const found = new Map();
  return (name) => {
    const colour = found.get(name) ?? resolved(name);
    found.set(name, colour);
    return colour;
  };
}

/**
 * A colour as one theme has it: the style sheet gives those of both.
 * @param {string} name
 */
function resolved(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

/**
 * Draws into an element. `option(colour)` gives the chart's options in the present colours, and is
 * asked again when they change.
 * @param {HTMLElement} element
 * @param {(colour: Colour) => Option} option
 */
export function createChart(element, option) {
  const chart = echarts.init(element);
  const redraw = () => chart.setOption(base(option(colours())), { notMerge: true });
  redraw();
  const isFitting = () =>
    chart.getWidth() === element.clientWidth && chart.getHeight() === element.clientHeight;
  new ResizeObserver(() => {
    if (isFitting()) return;
    chart.resize();
    redraw(); // The options may depend on the size.
  }).observe(element);
  addEventListener("themechange", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  return { chart, redraw };
}

/**
 * @param {Option} option
 * @returns {Option}
 */
function base(option) {
  const colour = colours();
  return {
    animation: false,
    textStyle: { color: colour("ink"), fontFamily: "system-ui, sans-serif" },
    ...option,
    // Text that is drawn is never parsed as HTML, as a tooltip of elements would be.
    tooltip: {
      renderMode: "richText",
      backgroundColor: colour("card"),
      borderColor: colour("field"),
      textStyle: { color: colour("ink") },
      confine: true,
      ...option.tooltip,
    },
  };
}

/**
 * What a tooltip is of, where it is of one item.
 * @template T
 * @param {T | T[]} item
 */
export const one = (item) => (Array.isArray(item) ? item[0] : item);

/**
 * An axis in the page's colours.
 * @param {Colour} colour
 * @param {AxisOption} options
 */
export function axis(colour, options) {
  return {
    axisLine: { lineStyle: { color: colour("line") } },
    splitLine: { lineStyle: { color: colour("line") } },
    ...options,
    axisLabel: { color: colour("soft"), ...options.axisLabel },
  };
}
