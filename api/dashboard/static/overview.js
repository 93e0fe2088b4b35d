// @ts-check
// The overview works without this: filters then wait for their button, and no trend is drawn.

import { fieldsOf, find } from "./dom.js";

const form = find("filters", HTMLFormElement);
const search = find("search", HTMLInputElement);
const TYPING_MS = 350;
const DEFAULTS = new Map([
  ["sort", "created"],
  ["order", "desc"],
  ["size", "25"],
]);

/** Submits without the fields that say nothing, so that addresses stay short. */
function submit() {
  const query = new URLSearchParams(
    fieldsOf(form).filter(([name, value]) => value !== DEFAULTS.get(name)),
  );
  location.assign(`${form.getAttribute("action")}?${query}`);
}

/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;
form.addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
form.addEventListener("change", (event) => {
  if (event.target instanceof HTMLSelectElement) submit();
});
search.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(() => {
    sessionStorage.setItem("typing", "name");
    submit();
  }, TYPING_MS);
});
// Who was typing goes on typing.
if (sessionStorage.getItem("typing") === "name") {
  sessionStorage.removeItem("typing");
  search.focus();
  search.setSelectionRange(search.value.length, search.value.length);
}

const trend = document.getElementById("trend");
if (trend) {
  const { drawTrend } = await import("./trend.js");
  await drawTrend(trend);
}
