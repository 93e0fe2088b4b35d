// A model's repack cost over time, a line for each way in which it was planned.

import { axis, createChart } from "./chart.js";
import { costText, element } from "./text.js";

const LINES = ["solid", "dashed", "dotted", [8, 3, 2, 3]];
const COLOURS = ["accent", "warn", "good", "soft"];

export async function drawTrend(host) {
  const answer = await fetch(`${host.dataset.source}?model=${encodeURIComponent(host.dataset.model)}`);
  const series = await answer.json();
  const { chart } = createChart(host, (colour) => option(series, colour));
  chart.on("click", ({ data }) => data?.id && open(data.id));
  const open = (id) => location.assign(pageOf(host, id));
  describe(host, series);
}

const pageOf = (host, id) => host.dataset.page.replace(/_$/, encodeURIComponent(id));

function option(series, colour) {
  const units = [...new Set(series.map((s) => s.unit))];
  return {
    aria: { enabled: true },
    grid: { left: 8, right: 16, top: 40, bottom: 8, containLabel: true },
    legend: { top: 0, bottom: "auto", textStyle: { color: colour("ink") }, type: "scroll" },
    tooltip: { trigger: "item", formatter: ({ seriesName, data }) => `${seriesName}\n${data.text}` },
    xAxis: axis(colour, { type: "time" }),
    yAxis: units.map((unit, n) => axis(colour, {
      type: "value",
      ...(n > 0 && { splitLine: { show: false } }),
      axisLabel: { formatter: (value) => costText(value, unit) },
    })),
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

function point(p, unit, colour) {
  const text = `${new Date(p.created).toLocaleString()}: ${costText(p.after, unit)}`;
  const marked = { symbol: "triangle", symbolSize: 15, itemStyle: { color: colour("bad") } };
  return {
    value: [p.created, p.after],
    id: p.id,
    text: p.is_regression ? `${text}, a regression` : text,
    ...(p.is_regression ? marked : { symbol: "circle", symbolSize: 6 }),
  };
}

function describe(host, series) {
  const found = series.flatMap((s) => s.points.filter((p) => p.is_regression).map((p) => [s, p]));
  const plans = series.reduce((sum, s) => sum + s.points.length, 0);
  document.getElementById("trend-text").textContent =
    `${plans} plans; ${found.length === 0 ? "no regression" : `${found.length} ${found.length === 1 ? "regression" : "regressions"}:`}`;
  document.getElementById("regressions").append(...found.slice(-5).reverse().map(([s, p]) =>
    element("li", { class: "regression" }, "▲ ",
      element("a", { href: pageOf(host, p.id) }, new Date(p.created).toLocaleString()),
      ` ${s.name}: ${costText(p.after, s.unit)}`)));
}
