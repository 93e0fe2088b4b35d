// @ts-check
// A device's runs as points: measured against predicted, and how they drift over time.

import { axis, createChart, one } from "./chart.js";
import { costText, percentText, timeText } from "./text.js";

/** @import { Colour, Option } from "./chart.js" */
/**
 * A run, measured and predicted: see `FittedRun` in device_models.py.
 * @typedef {object} Run
 * @property {string} source
 * @property {string} program
 * @property {string | null} created
 * @property {number} measured
 * @property {number | null} predicted
 * @property {number} speed
 */
/**
 * Draws runs; a program looks the same whichever others are shown, by its place in all of them.
 * @typedef {(host: HTMLElement, runs: Run[], programs: string[], colour: Colour) => Option} Drawing
 */

const COLOURS = ["accent", "warn", "good", "bad", "soft"];
const SYMBOLS = ["circle", "triangle", "rect", "diamond"];
const DAY = 86_400_000; // milliseconds
const MINUTES = 600_000;
const WIDE = 10; // times the least: beyond this, an axis of times is logarithmic

/**
 * How far the prediction is off, as a part of what was measured; null where there is none.
 * @param {Run} run
 */
export const errorOf = ({ measured, predicted }) =>
  predicted === null || measured === 0 ? null : predicted / measured - 1;

/** @param {Run} run */
export const programOf = ({ program }) => program || "unnamed program";

/** Draws runs into an element, and others when they are chosen. */
export class Points {
  /** @type {ReturnType<typeof createChart> | null} */
  #made = null;
  /** @type {Run[]} */
  #runs = [];
  /** @type {string[]} */
  #programs = [];

  /**
   * @param {HTMLElement} host
   * @param {Drawing} drawing
   */
  constructor(host, drawing) {
    this.host = host;
    this.drawing = drawing;
  }

  /**
   * @param {Run[]} runs
   * @param {Run[]} all those that can be shown
   */
  show(runs, all) {
    this.#runs = runs;
    this.#programs = [...new Set(all.map(programOf))];
    if (this.#made) this.#made.redraw();
    else {
      this.#made = createChart(this.host, (colour) =>
        this.drawing(this.host, this.#runs, this.#programs, colour),
      );
    }
  }
}

/**
 * What was measured, over what was predicted; on the diagonal they are equal.
 * @type {Drawing}
 */
export function againstPredicted(host, runs, programs, colour) {
  const times = runs.flatMap(({ measured, predicted }) => [measured, predicted ?? measured]);
  const [least, most] = [Math.min(...times), Math.max(...times)];
  const isWide = least > 0 && most / least > WIDE;
  const ends = isWide ? [least / 1.2, most * 1.2] : [least - most / 20, most * 1.05];
  const range = [Math.max(ends[0], isWide ? least / 1.2 : 0), ends[1]];
  /** @param {string} name */
  const scale = (name) =>
    axis(colour, {
      type: isWide ? "log" : "value",
      name,
      nameLocation: "middle",
      nameTextStyle: { color: colour("ink") },
      min: range[0],
      max: range[1],
      axisLabel: {
        hideOverlap: true,
        showMinLabel: false,
        showMaxLabel: false,
        formatter: (/** @type {number} */ value) => costText(value, "ns"),
      },
    });
  return {
    ...around(host, runs, colour, "Runs: measured against predicted times."),
    xAxis: { ...scale("predicted"), nameGap: 28 },
    yAxis: { ...scale("measured"), nameGap: 68 },
    series: [
      {
        type: "line",
        name: "equal",
        silent: true,
        symbol: "none",
        color: colour("edge"),
        lineStyle: { type: "dashed", width: 1.5 },
        data: range.map((end) => [end, end]),
      },
      ...byProgram(runs, programs, colour, (run) => [run.predicted, run.measured]),
    ],
  };
}

/**
 * How much slower than the median run each was, over the time when it was added.
 * @type {Drawing}
 */
export function overTime(host, runs, programs, colour) {
  const times = runs.flatMap(({ created }) => (created === null ? [] : Date.parse(created)));
  const span = Math.max(...times) - Math.min(...times);
  return {
    ...around(host, runs, colour, "Runs: how much longer than the median run, over time."),
    xAxis: axis(colour, {
      type: "time",
      splitLine: { show: false },
      axisLabel: {
        hideOverlap: true,
        formatter: (/** @type {number} */ value) => whenText(value, span),
      },
    }),
    yAxis: axis(colour, {
      type: "value",
      axisLabel: { formatter: (/** @type {number} */ value) => percentText(value, true) },
    }),
    series: byProgram(runs, programs, colour, (run) => [run.created, run.speed]),
  };
}

/**
 * A point in time as an axis over so many milliseconds has it.
 * @param {number} time
 * @param {number} span
 */
const whenText = (time, span) =>
  span > 2 * DAY
    ? new Date(time).toLocaleDateString(undefined, { day: "numeric", month: "short" })
    : new Date(time).toLocaleTimeString(undefined, {
        hour: "numeric",
        minute: "2-digit",
        ...(span < MINUTES && { second: "2-digit" }),
      });

/**
 * What both drawings have.
 * @param {HTMLElement} host
 * @param {Run[]} runs
 * @param {Colour} colour
 * @param {string} description
 * @returns {Option}
 */
function around(host, runs, colour, description) {
  const programs = [...new Set(runs.map(programOf))];
  return {
    aria: { enabled: true, label: { description: `${description} The table of runs holds them.` } },
    grid: {
      left: 34,
      right: 24,
      top: programs.length > 1 ? 40 : 16,
      bottom: 30,
      containLabel: true,
    },
    // Programs are chosen above, so that the choice is in the address.
    legend: {
      show: programs.length > 1,
      top: 0,
      bottom: "auto",
      type: "scroll",
      selectedMode: false,
      itemWidth: 12,
      itemHeight: 10,
      textStyle: { color: colour("ink"), width: host.clientWidth * 0.6, overflow: "truncate" },
      data: programs,
    },
    tooltip: {
      trigger: "item",
      formatter: (item) => {
        const { data } = one(item);
        return isPoint(data) ? data.text : "";
      },
    },
  };
}

/**
 * Whether this is a run's point, and not another part of the chart.
 * @param {unknown} data
 * @returns {data is { text: string }}
 */
const isPoint = (data) => typeof data === "object" && data !== null && "text" in data;

/**
 * @param {Run[]} runs
 * @param {string[]} programs
 * @param {Colour} colour
 * @param {(run: Run) => [x: number | string | null, y: number]} place
 */
function byProgram(runs, programs, colour, place) {
  return [...Map.groupBy(runs, programOf)].map(([name, group]) => ({
    type: /** @type {const} */ ("scatter"),
    name,
    color: colour(COLOURS[programs.indexOf(name) % COLOURS.length]),
    symbol: SYMBOLS[programs.indexOf(name) % SYMBOLS.length],
    symbolSize: 9,
    data: group
      .map((run) => ({ run, value: place(run) }))
      .filter(({ value }) => value[0] !== null)
      .map(({ run, value }) => ({ value, text: textOf(run) })),
  }));
}

/** @param {Run} run */
function textOf(run) {
  const { source, created, measured, predicted, speed } = run;
  const error = errorOf(run);
  return [
    source,
    programOf(run),
    ...(created === null ? [] : [new Date(created).toLocaleString()]),
    `measured ${timeText(measured)}`,
    ...(predicted === null || error === null
      ? []
      : [`predicted ${timeText(predicted)}, ${percentText(error, true)}`]),
    `${percentText(speed, true)} against the median run`,
  ].join("\n");
}
