// @ts-check
// The jobs, the newest first.

import { dataOf, element, find, pageOf } from "./dom.js";

/** @import { Job } from "./job.js" */

const MOST = 100;
const table = find("jobs", HTMLTableElement);

/** @param {Job} job */
function rowOf({ id, name, created, total, counts, cancelled, is_finished: isFinished }) {
  const state = cancelled ? "cancelled" : isFinished ? "finished" : "running";
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, element("a", { href: pageOf(table, id) }, name)),
    element("td", { class: "number" }, String(total)),
    element("td", { class: "number" }, String(counts.done ?? 0)),
    element("td", { class: "number" }, String(counts.failed ?? 0)),
    element("td", {}, state),
    element("td", {}, new Date(created).toLocaleString()),
  );
}

const answer = await fetch(`${dataOf(table, "source")}?limit=${MOST}`, {
  headers: { Accept: "application/json" },
});
const document_ = await answer.json();
if (answer.ok) {
  table.tBodies[0].replaceChildren(...document_.jobs.map(rowOf));
  const { total } = document_;
  find("said").textContent =
    total === 0 ? "There is no job yet." : total > MOST ? `The latest ${MOST} of ${total}.` : "";
} else {
  find("said").textContent = document_.detail;
}
table.setAttribute("aria-busy", "false");
