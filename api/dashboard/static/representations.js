// @ts-check
// How representations look. Within a shape, colours can be told apart in every common colour
// blindness (Okabe and Ito's, and Tol's for int8), and they are never alone: textures are pills,
// buffers boxes, packed int8 hexagons, and a code says the rest.

/** The outline of packed int8, as the path of an SVG. */
export const HEXAGON = "M2,0L28,0L30,8L28,16L2,16L0,8Z";

/** @type {Record<string, [colour: string, code: string]>} */
const LOOKS = {
  "texture:WIDTH_PACKED": ["#56b4e9", "T·W"],
  "texture:HEIGHT_PACKED": ["#009e73", "T·H"],
  "texture:CHANNELS_PACKED": ["#e69f00", "T·C"],
  "buffer:WIDTH_PACKED": ["#0072b2", "B·W"],
  "buffer:HEIGHT_PACKED": ["#44aa99", "B·H"],
  "buffer:CHANNELS_PACKED": ["#d55e00", "B·C"],
  "buffer:4C1W": ["#882255", "4C1W"],
  "buffer:CONV2D": ["#332288", "CONV2D"],
  "buffer:4W4C": ["#f0e442", "4W4C"],
  "buffer:4H4W": ["#999933", "4H4W"],
  "buffer:4W": ["#aa4499", "4W"],
  "buffer:4C": ["#bbbbbb", "4C"],
};
const UNSET = { name: "left to the runtime", colour: "#8a949e", code: "–" };

/** @typedef {"pill" | "box" | "hexagon"} Shape */
/** @typedef {{ name: string, colour: string, code: string, ink: string, shape: Shape }} Look */

/**
 * Name, colour, short code and shape of a representation; null stands for one not set.
 * @param {string | null} name
 * @returns {Look}
 */
export function look(name) {
  if (name === null) return { ...UNSET, ink: inkOn(UNSET.colour), shape: "box" };
  const [colour, code] = LOOKS[name] ?? [UNSET.colour, name];
  return { name, colour, code, ink: inkOn(colour), shape: shapeOf(name) };
}

/**
 * @param {string} name
 * @returns {Shape}
 */
function shapeOf(name) {
  const [storage, layout] = name.split(":");
  if (storage === "texture") return "pill";
  return layout.endsWith("_PACKED") ? "box" : "hexagon";
}

/**
 * Black or white, whichever has more contrast on a colour.
 * @param {string} colour
 */
function inkOn(colour) {
  const [r, g, b] = [1, 3, 5].map((at) => {
    const channel = parseInt(colour.slice(at, at + 2), 16) / 255;
    return channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4;
  });
  const luminance = 0.2126 * r + 0.7152 * g + 0.0722 * b;
  return luminance > 0.179 ? "#000000" : "#ffffff";
}
