// A chart that keeps to its element's size and to the page's theme.

import * as echarts from "./vendor/echarts-6.1.0/echarts.esm.min.js";

/** The page's colours, by name, as its style sheet has them now. */
export function colours() {
  const style = getComputedStyle(document.documentElement);
  const found = new Map();
  return (name) => {
    if (!found.has(name)) found.set(name, style.getPropertyValue(`--${name}`).trim());
    return found.get(name);
  };
}

/**
 * Draws into an element. `option(colour)` gives the chart's options in the present colours, and is
 * asked again when they change.
 */
export function createChart(element, option) {
  const chart = echarts.init(element);
  const redraw = () => chart.setOption(base(option(colours())), { notMerge: true });
  redraw();
  const isFitting = () =>
    chart.getWidth() === element.clientWidth && chart.getHeight() === element.clientHeight;
  // The options may depend on the size, so that they are asked for again, too.
  new ResizeObserver(() => isFitting() || (chart.resize(), redraw())).observe(element);
  addEventListener("themechange", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  return { chart, redraw };
}

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

/** An axis in the page's colours. */
export function axis(colour, options) {
  return {
    axisLine: { lineStyle: { color: colour("line") } },
    axisLabel: { color: colour("soft"), ...options.axisLabel },
    splitLine: { lineStyle: { color: colour("line") } },
    ...Object.fromEntries(Object.entries(options).filter(([name]) => name !== "axisLabel")),
  };
}
