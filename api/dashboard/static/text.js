// @ts-check
// Figures and names as the pages write them.

/** @typedef {"ns" | "bytes"} Unit */

/** @type {Record<Unit, [scale: number, name: string][]>} */
const SCALES = {
  ns: [
    [1e9, "s"],
    [1e6, "ms"],
    [1e3, "µs"],
    [1, "ns"],
  ],
  bytes: [
    [1e9, "GB"],
    [1e6, "MB"],
    [1e3, "kB"],
    [1, "B"],
  ],
};

/**
 * A cost in the unit's multiple that reads best.
 * @param {number} cost
 * @param {Unit} unit
 * @param {number} [digits] after the point
 */
export function costText(cost, unit, digits = 1) {
  const found = SCALES[unit].find(([scale]) => Math.abs(cost) >= scale);
  if (found) return `${(cost / found[0]).toFixed(digits)} ${found[1]}`;
  return cost === 0 ? "0" : `${cost.toPrecision(2)} ${SCALES[unit].at(-1)?.[1]}`;
}

/**
 * A measured time, to as many digits as measurements of it agree in.
 * @param {number} ns
 */
export const timeText = (ns) => costText(ns, "ns", ns < 1000 ? 0 : 3);

/** @typedef {{ median: number, low: number, high: number | null }} Gain high is null for no end */

/**
 * A gain and its interval, as in `1.042 (1.038 to 1.047)`.
 * @param {Gain} gain
 */
export function gainText({ median, low, high }) {
  if (low === 0 || high === null) return `${median.toFixed(3)} (too few runs)`;
  return `${median.toFixed(3)} (${low.toFixed(3)} to ${high.toFixed(3)})`;
}

/**
 * A part of a whole in percent, with its sign if it is a change.
 * @param {number} part
 * @param {boolean} [isChange]
 */
export function percentText(part, isChange = false) {
  const percent = Number((100 * part).toFixed(1)) || 0; // never "-0.0"
  return `${isChange && percent > 0 ? "+" : ""}${percent.toFixed(1)} %`;
}

/**
 * The middle of some numbers, of which there is one at least.
 * @param {number[]} numbers
 */
export function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}

/**
 * An operator's name without its family and overload: `aten.view_copy.default` is `view_copy`.
 * @param {string} name
 */
export function shortName(name) {
  return name
    .replace(/^(aten|et_vk|dim_order_ops|quantized_decomposed)\./, "")
    .replace(/\.default$/, "");
}
