// @ts-check
// How well a device is known: it is asked for when the page is there, since it may take seconds.
// The program that is chosen is in the address.

import { dataOf, element, find } from "./dom.js";
import { againstPredicted, errorOf, overTime, Points } from "./points.js";
import { median, percentText, shortName, timeText } from "./text.js";

/** @import { Run } from "./points.js" */
/** @typedef {{ calls: number, median_error: number | null, worst_tenth: number | null }} Errors */
/**
 * @typedef {object} Operator
 * @property {string} operator
 * @property {number} share
 * @property {number} calls
 * @property {Errors} interpolated
 * @property {Errors} estimated
 */
/**
 * @typedef {object} Untried
 * @property {string} operator
 * @property {Record<string, string>} representations
 * @property {number} guess
 * @property {number} least
 */
/** @typedef {{ program: string, predicted: number, saving: number, untried: Untried[] }} Next */
/** @typedef {{ runs: Run[], operators: Operator[], next: Next[] }} Fit */

const points = new Points(find("points"), againstPredicted);
const drift = new Points(find("drift"), overTime);
const program = find("program", HTMLSelectElement);

/**
 * The device's fit; null where it is not to be had, which is said.
 * @param {string} source
 * @returns {Promise<Fit | null>}
 */
async function read(source) {
  try {
    const answer = await fetch(source, { headers: { Accept: "application/json" } });
    const document_ = await answer.json();
    if (answer.ok) return document_;
    fail(document_.detail);
  } catch {
    fail("the service did not answer: see that it runs, and load the page again");
  }
  return null;
}

/** @param {string} why */
function fail(why) {
  find("fit-said").classList.add("failed");
  find("fit-said").textContent = `How well the device is known cannot be shown: ${why}`;
}

/** @param {Fit} fit */
function draw(fit) {
  find("fit-said").textContent = "";
  const programs = [...new Set(fit.runs.map(({ program: name }) => name))].filter(Boolean).sort();
  program.append(...programs.map((name) => element("option", { value: name }, name)));
  const chosen = new URLSearchParams(location.search).get("program") ?? "";
  program.value = programs.includes(chosen) ? chosen : "";
  find("choice").hidden = programs.length < 2;
  program.addEventListener("change", () => {
    const query = new URLSearchParams(program.value ? { program: program.value } : {});
    history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
    show(fit);
  });
  find("operators-part").hidden = false;
  find("operators").replaceChildren(...fit.operators.map(operatorRow));
  show(fit);
}

/**
 * Shows what is of the program that is chosen.
 * @param {Fit} fit
 */
function show({ runs, next }) {
  /** @param {{ program: string }} of */
  const isShown = (of) => program.value === "" || of.program === program.value;
  const shown = runs.filter(isShown).sort((a, b) => timeOf(b) - timeOf(a));
  find("runs").replaceChildren(...shown.map(runRow));

  const predicted = shown.filter((run) => run.predicted !== null);
  find("points").hidden = predicted.length === 0;
  find("points-text").textContent = summary(shown);
  if (predicted.length) points.show(predicted, runs);

  const dated = shown.filter((run) => run.created !== null);
  find("drift-part").hidden = dated.length === 0;
  if (dated.length) drift.show(dated, runs);

  const wanted = next.filter(isShown);
  find("next-part").hidden = wanted.length === 0;
  find("next").replaceChildren(...wanted.flatMap(nextOf));
}

/** @param {Run} run */
const timeOf = ({ created }) => (created === null ? 0 : Date.parse(created));

/** @param {Run[]} runs */
function summary(runs) {
  const errors = runs.flatMap((run) => errorOf(run) ?? []).map(Math.abs);
  if (errors.length === 0) {
    return "No run can be predicted yet: that takes runs of other plans. Measure more of them.";
  }
  const without = runs.length - errors.length;
  return [
    `Each run as runs of other plans predict it. Off by ${percentText(median(errors))} in the `,
    `median, by ${percentText(Math.max(...errors))} at most.`,
    without ? ` ${without} of ${runs.length} runs cannot be predicted by others.` : "",
  ].join("");
}

/** @param {Run} run */
function runRow(run) {
  const { source, created, measured, predicted, speed } = run;
  const error = errorOf(run);
  const added = created === null ? "–" : new Date(created).toLocaleString();
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, source),
    element("td", {}, run.program || "–"),
    element("td", {}, added),
    element("td", { class: "number" }, timeText(measured)),
    element("td", { class: "number" }, predicted === null ? "–" : timeText(predicted)),
    element("td", { class: "number" }, error === null ? "–" : percentText(error, true)),
    element("td", { class: "number" }, percentText(speed, true)),
  );
}

/** @param {Operator} operator */
function operatorRow({ operator, share, calls, interpolated, estimated }) {
  return element(
    "tr",
    {},
    element("th", { scope: "row", title: operator }, shortName(operator)),
    element("td", { class: "number" }, percentText(share)),
    element("td", { class: "number" }, String(calls)),
    ...[interpolated, estimated].flatMap((errors) => [
      element("td", { class: "number" }, String(errors.calls)),
      ...[errors.median_error, errors.worst_tenth].map((error) =>
        element("td", { class: "number" }, error === null ? "–" : percentText(error)),
      ),
    ]),
  );
}

/** @param {Next} next */
function nextOf({ program: name, predicted, saving, untried }) {
  return [
    element("h3", {}, name),
    element(
      "p",
      {},
      `A plan that tries these is predicted to take ${timeText(predicted)}, and could save `,
      element("strong", {}, timeText(saving)),
      " at best.",
    ),
    element(
      "div",
      { class: "scroll tall", tabindex: 0, role: "region", "aria-label": `Calls of ${name}` },
      element(
        "table",
        { class: "list" },
        element(
          "thead",
          {},
          element(
            "tr",
            {},
            element("th", { scope: "col" }, "Operator"),
            element("th", { scope: "col" }, "Representations"),
            element("th", { scope: "col", class: "number" }, "Guess"),
            element("th", { scope: "col", class: "number" }, "Least"),
          ),
        ),
        element("tbody", {}, ...untried.map(untriedRow)),
      ),
    ),
  ];
}

/** @param {Untried} untried */
function untriedRow({ operator, representations, guess, least }) {
  const places = Object.entries(representations).map(([place, name]) => `${place}: ${name}`);
  return element(
    "tr",
    {},
    element("th", { scope: "row", title: operator }, shortName(operator)),
    element("td", {}, places.join(", ")),
    element("td", { class: "number" }, timeText(guess)),
    element("td", { class: "number" }, timeText(least)),
  );
}

const fit = await read(dataOf(find("fit"), "source"));
find("fit-progress").hidden = true;
if (fit) draw(fit);
find("fit").setAttribute("aria-busy", "false");
