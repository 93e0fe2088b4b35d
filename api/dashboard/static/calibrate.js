// @ts-check
// Calibrates the device that the page is looked at with, and hands in what was measured.

import { dataOf, fieldsOf, find, ours, pageOf } from "./dom.js";
import { Gate, Thermometer } from "./pace.js";
import { Samples } from "./samples.js";
import { percentText } from "./text.js";
import { Bench, Gpu, median, NoMemoryError } from "./webgpu.js";

/** @import { Measured, Shape } from "./webgpu.js" */
/** @typedef {{ name: string, shapes: number[][], probes: number, library: string }} Sweep */
/** @typedef {{ number: number, probes: Measured[] }} MeasuredShape */
/**
 * @typedef {object} Calibrated
 * @property {string} device
 * @property {string} profile
 * @property {number} median_error
 * @property {number} p90_error
 * @property {number} samples
 * @property {number} left_out
 */

const form = find("begin", HTMLFormElement);
const SOURCE = dataOf(form, "source");
const REFERENCE = `${SOURCE}/sweeps/quick/3`; // what throttling is seen by
const REPEATS = Number(dataOf(form, "repeats"));
const chart = new Samples(find("samples"));
const gate = new Gate();
let stage = ""; // what is done now, whether or not it is held up
const parameters = new URLSearchParams(location.search);

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  form.hidden = true;
  find("progress-part").hidden = false;
  try {
    await calibrate(Object.fromEntries(fieldsOf(form)));
  } catch (error) {
    show("problem", error instanceof Error ? error.message : String(error));
    form.hidden = false;
  }
  find("stop").hidden = true;
});

find("stop").addEventListener("click", () => {
  if (gate.isStopped) gate.goOn();
  else gate.stop();
  find("stop").textContent = gate.isStopped ? "Go on" : "Stop";
  tellHold();
});

document.addEventListener("visibilitychange", () => {
  if (!form.hidden) return;
  tellHold();
  keepAwake();
});

function tellHold() {
  if (gate.isStopped) show("stage", "Stopped. What was measured so far is kept on this page.");
  else show("stage", document.hidden ? "Waits while the page is hidden." : stage);
}

/** A screen that goes dark hides the page. Browsers may refuse, and let go when it is hidden. */
async function keepAwake() {
  if (!document.hidden) await navigator.wakeLock?.request("screen").catch(() => undefined);
}

/** @param {Record<string, string>} asked the device, the sweep, and how to time */
async function calibrate({ device, sweep: name, timing }) {
  show("problem", "");
  find("stop").hidden = false;
  await keepAwake();
  const gpu = await Gpu.open(timing === "queue" ? timing : undefined);
  if (gpu === null) throw new Error("This browser gives pages no GPU through WebGPU.");
  gpu.device.lost.then(({ reason, message }) => {
    if (reason !== "destroyed") show("problem", `The GPU was lost: ${message}`);
  });
  describe(gpu);
  /** @type {{ session: string, seed: number }} */
  const { session, seed } = await post("", { device, sweep: name });
  /** @type {Sweep} */
  const sweep = await get(`${SOURCE}/sweeps/${name}`);
  const thermometer = await thermometerOf(gpu, sweep.library);
  const progress = find("progress", HTMLProgressElement);
  progress.max = sweep.shapes.length + 1;
  /** @type {MeasuredShape[]} */
  const shapes = [];
  let leftOut = 0;
  for (const [number, shape] of sweep.shapes.entries()) {
    const what = shape.join(" × ");
    say(`Measuring tensors of ${what}: ${number + 1} of ${sweep.shapes.length}.`);
    /** @type {Shape} */
    const document = await get(`${SOURCE}/sweeps/${name}/${number}`);
    const probes = await measured(gpu, document, sweep.library, seed, thermometer);
    leftOut += sweep.probes - probes.length;
    if (probes.length > 0) shapes.push({ number, probes });
    chart.add(samplesOf(document, probes));
    progress.value = number + 1;
    if (leftOut > 0) show("left-out", `${leftOut} left out: this browser's limits or memory.`);
  }

  say("Handing in what was measured.");
  const samples = { session, ...descriptionOf(gpu), shapes };
  /** @type {{ again: string, seed: number, probes: { number: number, key: string }[] }} */
  const wanted = await post("/samples", samples);
  say("Measuring some of it again, as the service asked.");
  const replays = [];
  for (const [number, of] of Map.groupBy(wanted.probes, (probe) => probe.number)) {
    const keys = new Set(of.map(({ key }) => key));
    /** @type {Shape} */
    const document = await get(`${SOURCE}/sweeps/${name}/${number}`);
    const { again, library } = { again: wanted.seed, library: sweep.library };
    const probes = await measured(gpu, document, library, again, thermometer, keys);
    replays.push({ number, probes });
  }
  /** @type {Calibrated} */
  const made = await post("/profiles", { ...samples, again: wanted.again, replays });
  progress.value = progress.max;
  tell(made);
  gpu.device.destroy();
}

/**
 * The probes of a shape, measured; none where the device has too little memory.
 * @param {Gpu} gpu
 * @param {Shape} shape
 * @param {string} library
 * @param {number} seed
 * @param {Thermometer | null} thermometer
 * @param {Set<string>} [keys] of the probes that are wanted, else all
 */
async function measured(gpu, shape, library, seed, thermometer, keys) {
  const bench = new Bench(gpu, shape, library);
  try {
    await gate.pass();
    await bench.prepare(seed, keys);
    const digests = await bench.check();
    return await gate.undisturbed(async () => {
      await thermometer?.wait(() => say("Waits for the device, which is slower than it was."));
      return bench.measure(REPEATS, digests);
    });
  } catch (error) {
    if (error instanceof NoMemoryError) return [];
    throw error;
  } finally {
    bench.close();
  }
}

/**
 * None for a driver on the CPU, which has no clock of its own.
 * @param {Gpu} gpu
 * @param {string} library
 */
async function thermometerOf(gpu, library) {
  if (gpu.info.isFallbackAdapter) return null;
  const bench = new Bench(gpu, await get(REFERENCE), library);
  const [first] = bench.probes;
  await bench.prepare(0, new Set([first.key]));
  return Thermometer.of(bench);
}

/** @param {Gpu} gpu */
function descriptionOf({ info, limits, timing, resolution }) {
  const { vendor, architecture, device, description, isFallbackAdapter: is_fallback } = info;
  const adapter = { vendor, architecture, device, description, is_fallback };
  return { adapter, limits, timing, resolution_ns: resolution };
}

/** @param {Gpu} gpu */
function describe({ info, timing, resolution }) {
  const { vendor, architecture, device, description } = info;
  const name = description || [vendor, architecture, device].filter(Boolean).join(" ");
  find("adapter").textContent = `${name}${info.isFallbackAdapter ? " (runs on the CPU)" : ""}`;
  const steps = `${Math.round(resolution).toLocaleString("en")} ns`;
  find("timing").textContent =
    timing === "timestamps"
      ? `timestamp queries, in steps of ${steps}`
      : `batches timed by the queue, in steps of ${steps}: less exact than timestamps`;
}

/**
 * @param {Shape} shape
 * @param {Measured[]} measured
 */
function samplesOf(shape, measured) {
  const known = new Map(shape.probes.map((probe) => [probe.key, probe]));
  return measured.flatMap(({ key, ns }) => {
    const probe = known.get(key);
    if (!probe) return [];
    const tensor = shape.tensors[probe.target ?? probe.source ?? 0];
    const isInt8 = /:4/.test(tensor.representation);
    const kind = probe.kind === "repack" ? `${isInt8 ? "int8" : "float"} repack` : probe.kind;
    const name = `${key.replace(">", " → ")} of ${shape.shape.join(" × ")}`;
    return [{ kind, name, bytes: probe.bytes, ns: median(ns) }];
  });
}

/** @param {Calibrated} made */
function tell({ device, profile, median_error, p90_error, samples, left_out }) {
  say(`Done: ${device} has its profile.`);
  find("result").hidden = false;
  find("fit").textContent =
    `Fitted to ${samples} times; for shapes that were held out, predictions are off by ` +
    `${percentText(median_error)} in the median, 90 % of them by less than ` +
    `${percentText(p90_error)}. ${left_out} of the sweep's times were left out.`;
  find("profile").textContent = profile;
  find("device-link", HTMLAnchorElement).href = pageOf(find("device-link"), device);
}

/** @param {string} text */
function say(text) {
  stage = text;
  if (gate.isOpen) show("stage", text);
}

/**
 * @param {string} id
 * @param {string} text
 */
function show(id, text) {
  find(id).textContent = text;
  find(id).hidden = text === "";
}

/** @returns {Record<string, string>} */
function headers() {
  const link = parameters.get("link");
  return { Accept: "application/json", ...ours(), ...(link && { "Calibration-Link": link }) };
}

/**
 * @param {string} path
 * @returns {Promise<any>}
 */
const get = async (path) => answered(await fetch(path, { headers: headers() }));

/**
 * @param {string} path
 * @param {object} body
 * @returns {Promise<any>}
 */
const post = async (path, body) =>
  answered(
    await fetch(SOURCE + path, {
      method: "POST",
      headers: { "Content-Type": "application/json", ...headers() },
      body: JSON.stringify(body),
    }),
  );

/** @param {Response} answer */
async function answered(answer) {
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.detail);
  return found;
}

// What keeps a page from calibrating is said before anybody begins.

const missing = isSecureContext
  ? "gpu" in navigator
    ? ""
    : "This browser has no WebGPU, or it is turned off."
  : "A browser gives a page its GPU over https alone, or from its own machine (localhost).";
show("missing", missing);
find("start", HTMLButtonElement).disabled = missing !== "";

find("link", HTMLFormElement)?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const device = Object.fromEntries(fieldsOf(form)).device ?? "";
  try {
    /** @type {{ url: string, qr: string, seconds: number | null }} */
    const { url, qr, seconds } = await post("/links", { device });
    find("qr", HTMLImageElement).src = qr;
    find("url", HTMLAnchorElement).href = url;
    find("url").textContent = url;
    find("until").hidden = seconds === null;
    find("local").hidden = !/^(localhost|127\..*|\[::1\])$/.test(location.hostname);
    find("linked").hidden = false;
    show("link-problem", "");
  } catch (error) {
    show("link-problem", error instanceof Error ? error.message : String(error));
  }
});
