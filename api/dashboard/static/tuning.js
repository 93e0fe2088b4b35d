// @ts-check
// A tuning as it goes on: read again and again while the page is looked at, until it ends.

import { dataOf, element, find } from "./dom.js";
import { outputsText, Plans } from "./plans.js";
import { gainText, percentText, timeText } from "./text.js";

/** @import { Plan } from "./plans.js" */
/** @import { Gain } from "./text.js" */
/**
 * @typedef {object} Round
 * @property {number} number
 * @property {number} measured
 * @property {number} new_calls
 * @property {number} least
 * @property {number} saving
 */
/**
 * @typedef {object} Finalist
 * @property {string} name
 * @property {Gain} gain
 * @property {Gain | null} wall_gain
 * @property {number} predicted_gain
 * @property {boolean} is_faster
 */
/**
 * @typedef {object} Progress
 * @property {string} stage
 * @property {Plan[]} plans
 * @property {Round[]} rounds
 * @property {Finalist[]} finalists
 * @property {string | null} winner
 * @property {number} device_seconds
 * @property {string | null} ended
 */
/** @typedef {{ tuning: { updated: string }, progress: Progress }} Detail */

const host = find("tuning");
const source = dataOf(host, "source");
const BASELINE = dataOf(host, "baseline");
const REFRESH_MS = 1500;
const chart = new Plans(find("chart"), BASELINE);

let shown = ""; // what the page shows, as it was answered
let isOver = false;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let waiting; // the timer of the next reading

/** Reads, and again later; nobody looks at a page that is hidden. */
async function follow() {
  waiting = undefined;
  await read();
  host.setAttribute("aria-busy", "false");
  followLater();
}

function followLater() {
  if (isOver || document.hidden || waiting !== undefined) return;
  waiting = setTimeout(follow, REFRESH_MS);
}

async function read() {
  try {
    const answer = await fetch(source, { headers: { Accept: "application/json" } });
    const text = await answer.text();
    if (answer.ok) {
      say("connection", "");
      if (text !== shown) draw(JSON.parse(text));
      shown = text;
      return;
    }
    isOver = answer.status === 404; // It was deleted: it will not come back.
    say("connection", JSON.parse(text).detail);
  } catch {
    say("connection", "The connection is lost; trying again.");
  }
}

/**
 * Changes a text only where it is another, so that what is new alone is read out.
 * @param {string} id
 * @param {string} text
 */
function say(id, text) {
  if (find(id).textContent !== text) find(id).textContent = text;
}

/** @param {Detail} detail */
function draw({ tuning, progress }) {
  const { stage, plans, rounds, finalists, winner, ended, device_seconds: seconds } = progress;
  isOver = ended !== null;
  const told = new Date(tuning.updated).toLocaleString();
  say("stage", isOver ? `Ended: ${ended}` : stage || "Nothing was told yet.");
  say("connection", `${isOver ? "Ended" : "Last heard of"} ${told}.`);
  const won = finalists.find(({ name }) => name === winner && name !== BASELINE);
  say("winner", winner ?? "–");
  say("gain", won ? gainText(won.gain) : "–");
  say("count", String(plans.length));
  say("round-count", String(rounds.length));
  say("seconds", secondsText(seconds));

  const baseline = plans.find(({ name }) => name === BASELINE);
  find("plans").replaceChildren(
    ...plans.map((plan, index) => planRow(plan, index, baseline, plan.name === winner)),
  );
  chart.show(plans);
  find("rounds").replaceChildren(...rounds.map(roundRow));
  find("finalists-part").hidden = finalists.length === 0;
  const best = finalists.toSorted((a, b) => b.gain.median - a.gain.median);
  find("finalists").replaceChildren(...best.map((each) => finalistRow(each, each === won)));
}

/** @param {number} seconds */
const secondsText = (seconds) =>
  seconds < 120 ? `${seconds.toFixed(0)} s` : `${(seconds / 60).toFixed(0)} min`;

/**
 * @param {Plan} plan
 * @param {number} index
 * @param {Plan | undefined} baseline
 * @param {boolean} isWinner
 */
function planRow(plan, index, baseline, isWinner) {
  const { name, round, transitions, predicted_ns: predicted, ns, verdict } = plan;
  const isCompared = baseline?.ns && ns && plan !== baseline;
  return element(
    "tr",
    { class: isWinner && "chosen" },
    element("td", { class: "number" }, String(index + 1)),
    element(
      "th",
      { scope: "row" },
      name,
      ...(isWinner ? [element("small", {}, " the winner")] : []),
    ),
    element("td", { class: "number" }, String(round)),
    element("td", { class: "number" }, String(transitions)),
    element("td", { class: "number" }, predicted === null ? "–" : timeText(predicted)),
    element("td", { class: "number" }, ns ? timeText(ns) : "–"),
    element("td", { class: "number" }, isCompared ? (baseline.ns / ns).toFixed(3) : "–"),
    element("td", { class: verdict !== "right" && "failed" }, outputsText(plan)),
  );
}

/** @param {Round} round */
function roundRow({ number, measured, new_calls: calls, least, saving }) {
  return element(
    "tr",
    {},
    element("th", { scope: "row", class: "number" }, String(number)),
    element("td", { class: "number" }, String(measured)),
    element("td", { class: "number" }, String(calls)),
    element("td", { class: "number" }, timeText(least)),
    element("td", { class: "number" }, percentText(saving)),
  );
}

/**
 * @param {Finalist} finalist
 * @param {boolean} isWinner
 */
function finalistRow(finalist, isWinner) {
  const { name, gain, wall_gain: wall, predicted_gain: predicted, is_faster: isFaster } = finalist;
  const verdict = isWinner ? "the winner" : isFaster ? "faster" : "not proven faster";
  return element(
    "tr",
    { class: isWinner && "chosen" },
    element("th", { scope: "row" }, name),
    element("td", { class: "number" }, gainText(gain)),
    element("td", { class: "number" }, wall === null ? "–" : gainText(wall)),
    element("td", { class: "number" }, predicted.toFixed(3)),
    element("td", {}, verdict),
  );
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    clearTimeout(waiting);
    waiting = undefined;
  } else if (!isOver && waiting === undefined) {
    waiting = setTimeout(follow);
  }
});
await follow();
