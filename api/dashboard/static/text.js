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
 */
export function costText(cost, unit) {
  const found = SCALES[unit].find(([scale]) => Math.abs(cost) >= scale);
  if (found) return `${(cost / found[0]).toFixed(1)} ${found[1]}`;
  return cost === 0 ? "0" : `${cost.toPrecision(2)} ${SCALES[unit].at(-1)?.[1]}`;
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
