// @ts-check
// What tensors are filled with, and the digest of what shaders make of it.

/** @typedef {[shift: number, factor: number]} Round */
/** @type {Round[]} */
const ROUNDS = [
  [16, 0x7feb352d],
  [15, 0x846ca68b],
  [16, 1],
];

/**
 * Words that no one knows without the seed: gpu/probes.py makes the same ones.
 * @param {number} seed
 * @param {number} count
 */
export function pattern(seed, count) {
  const words = new Uint32Array(count);
  for (let index = 0; index < count; index++) {
    let word = (index + seed) >>> 0;
    for (const [shift, factor] of ROUNDS) word = Math.imul(word ^ (word >>> shift), factor) >>> 0;
    words[index] = word;
  }
  return words;
}

/**
 * The four words whose bytes a write fills a tensor with: never zero, as padding is.
 * @param {number} seed
 */
export const scalars = (seed) =>
  new Uint32Array(4).fill(((pattern(seed, 1)[0] & 0xff) | 1) * 0x01010101);

/**
 * SHA-256 in hexadecimal.
 * @param {BufferSource} bytes
 */
export async function digest(bytes) {
  const found = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return [...found].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
