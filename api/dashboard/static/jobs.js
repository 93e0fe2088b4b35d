// The jobs, the newest first.

import { element } from "./text.js";

const MOST = 100;
const table = document.getElementById("jobs");

function rowOf({ id, name, created, total, counts, cancelled, is_finished: isFinished }) {
  const state = cancelled ? "cancelled" : isFinished ? "finished" : "running";
  return element("tr", {},
    element("th", { scope: "row" }, element("a", { href: table.dataset.page.replace(/_$/, encodeURIComponent(id)) }, name)),
    element("td", { class: "number" }, String(total)),
    element("td", { class: "number" }, String(counts.done ?? 0)),
    element("td", { class: "number" }, String(counts.failed ?? 0)),
    element("td", {}, state),
    element("td", {}, new Date(created).toLocaleString()));
}

const answer = await fetch(`${table.dataset.source}?limit=${MOST}`, { headers: { Accept: "application/json" } });
const document_ = await answer.json();
if (answer.ok) {
  table.tBodies[0].replaceChildren(...document_.jobs.map(rowOf));
  const { total } = document_;
  document.getElementById("said").textContent = total === 0 ? "There is no job yet." : total > MOST ? `The latest ${MOST} of ${total}.` : "";
} else {
  document.getElementById("said").textContent = document_.detail;
}
table.setAttribute("aria-busy", "false");
