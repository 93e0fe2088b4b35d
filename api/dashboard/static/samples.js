// @ts-check
// The times of a calibration as they come: bytes that are moved, and how long that takes.

import { axis, createChart, one } from "./chart.js";
import { costText, timeText } from "./text.js";

/** @import { Colour, Option } from "./chart.js" */
/** @typedef {{ kind: string, name: string, bytes: number, ns: number }} Sample */

const KINDS = ["float repack", "int8 repack", "read", "write"];
const COLOURS = ["accent", "warn", "good", "bad"];
const SYMBOLS = ["circle", "triangle", "rect", "diamond"];

/** Draws samples into an element, and more as they come. */
export class Samples {
  /** @type {Sample[]} */
  #samples = [];
  /** @type {ReturnType<typeof createChart> | null} */
  #made = null;

  /** @param {HTMLElement} host */
  constructor(host) {
    this.host = host;
  }

  /** @param {Sample[]} samples those that are new */
  add(samples) {
    this.#samples.push(...samples);
    this.host.hidden = false;
    if (this.#made) this.#made.redraw();
    else this.#made = createChart(this.host, (colour) => drawing(this.#samples, colour));
  }
}

/**
 * @param {Sample[]} samples
 * @param {Colour} colour
 * @returns {Option}
 */
function drawing(samples, colour) {
  /**
   * @param {string} name
   * @param {"bytes" | "ns"} unit
   */
  const scale = (name, unit) =>
    axis(colour, {
      type: "log",
      name,
      nameLocation: "middle",
      nameTextStyle: { color: colour("ink") },
      axisLabel: {
        hideOverlap: true,
        formatter: (/** @type {number} */ value) => costText(value, unit, 0),
      },
    });
  const description = `Times of ${samples.length} repacks, reads and writes over the bytes they move.`;
  return {
    aria: { enabled: true, label: { description } },
    grid: { left: 34, right: 24, top: 40, bottom: 34, containLabel: true },
    legend: { top: 0, bottom: "auto", textStyle: { color: colour("ink") }, data: KINDS },
    tooltip: {
      trigger: "item",
      formatter: (item) => {
        const { data } = one(item);
        return isPoint(data) ? data.text : "";
      },
    },
    xAxis: { ...scale("bytes moved", "bytes"), nameGap: 28 },
    yAxis: { ...scale("time", "ns"), nameGap: 52 },
    series: KINDS.map((kind, index) => ({
      type: /** @type {const} */ ("scatter"),
      name: kind,
      color: colour(COLOURS[index]),
      symbol: SYMBOLS[index],
      symbolSize: 5,
      data: samples
        .filter((sample) => sample.kind === kind)
        .map(({ name, bytes, ns }) => ({
          value: [bytes, ns],
          text: `${name}\n${costText(bytes, "bytes")}, ${timeText(ns)}`,
        })),
    })),
  };
}

/**
 * @param {unknown} data
 * @returns {data is { text: string }}
 */
const isPoint = (data) => typeof data === "object" && data !== null && "text" in data;
